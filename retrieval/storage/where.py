"""Selecting videos by an expression, such as `folder = "cam07" and duration > 5 min`.

    expression  = all {"or" all}
    all         = one {"and" one}
    one         = "not" one | "(" expression ")" | comparison
    comparison  = field operator value | field ["not"] "in" "(" value {"," value} ")"
    field       = "path" | "folder" | "source" | "duration" | "size" | "date" | "width" | "height" | "resolution"
                | "meta." KEY
    operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"

`~` compares with a pattern of `*`, `?` and `[...]`, where `*` stands for slashes as well. A comparison is true or
false: a video without the key is not equal to anything, and `!=` and `not` select it. What is compared becomes a
parameter of the query, never a part of its text.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from typing_extensions import Self

from vmr.errors import VmrError
from vmr.retrieval.storage.conditions import NAMES, Field, Sql, field_named

_TOKENS = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<date>\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?)?(?![\w.:-]))
    | (?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?:\s*(?:ms|s|min|h|p|[kKMGT]i?B|B)\b)?(?![\w.:-]))
    | (?P<word>[^\W\d][\w-]*(?:\.(?:[\w-]+|"[^"]*"|'[^']*'))?)
    | (?P<sign><=|>=|!=|[=<>~(),])
    | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~")
_MAX_CHARACTERS = 10_000
_MAX_COMPARISONS = 500  # SQLite takes at most 1000 conditions in a row
_MAX_DEPTH = 12  # and reads no deeper than 100 words
_SHOWN = 30


@dataclass(frozen=True)
class Where:
    """A condition on videos, made by `parse`.

    Attributes:
        text: the expression.
        condition: the same in SQL, over the tables `videos v` and `roots r`.
        parameters: the values of its question marks.
    """

    text: str
    condition: str
    parameters: tuple[str | int | float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression.

        Raises:
            VmrError: it is none; the message says where.
        """
        if not text.strip():
            raise VmrError(f'the expression is empty: compare {NAMES}, such as folder = "cam07"')
        if len(text) > _MAX_CHARACTERS:
            raise VmrError(f"the expression has {len(text)} characters, more than {_MAX_CHARACTERS}")
        return cls(text, *_Parser(text).parse())


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _Parser:
    """A parser by recursive descent: each rule of the grammar is a method, which returns its SQL."""

    def __init__(self, text: str) -> None:
        self._text, self._end = text, 0
        self._num_comparisons, self._depth = 0, 0
        self._token = self._next()

    def parse(self) -> Sql:
        found = self._expression()
        if self._token.kind != "end":
            raise self._error("and, or, or the end is expected here")
        return found

    def _expression(self) -> Sql:
        parts = [self._all()]
        while self._takes("word", "or"):
            parts.append(self._all())
        return Sql.joined("OR", parts)

    def _all(self) -> Sql:
        parts = [self._one()]
        while self._takes("word", "and"):
            parts.append(self._one())
        return Sql.joined("AND", parts)

    def _one(self) -> Sql:
        if self._depth == _MAX_DEPTH:
            raise self._error(f"this is nested more than {_MAX_DEPTH} deep")
        self._depth += 1
        if self._takes("word", "not"):
            found = self._one().negated()
        elif self._takes("sign", "("):
            found = self._expression()
            self._expect(")")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Sql:
        field = self._field()
        is_negated = self._takes("word", "not")
        if self._takes("word", "in"):
            self._expect("(")
            parts = [field.compare("=", self._value(field))]
            while self._takes("sign", ","):
                parts.append(field.compare("=", self._value(field)))
            self._expect(")")
            found = Sql.joined("OR", parts)
            return found.negated() if is_negated else found
        operator = self._token
        if is_negated or operator.kind != "sign" or operator.text not in _OPERATORS:
            raise self._error("in is expected here" if is_negated else f"{' '.join(_OPERATORS)} or in is expected here")
        self._token = self._next()
        value = self._value(field)
        if operator.text == "!=":
            return field.compare("=", value).negated()
        try:
            return field.compare(operator.text, value)
        except VmrError as error:
            raise self._error(str(error), operator) from error

    def _field(self) -> Field:
        name, _, key = self._token.text.partition(".")
        is_quoted = key[:1] in ('"', "'")
        field = field_named(name, key[1:-1] if is_quoted else key) if self._token.kind == "word" else None
        if field is None:
            raise self._error(f"{NAMES} is expected here")
        self._token = self._next()
        return field

    def _value(self, field: Field) -> Any:
        kind, text, _ = self._token
        if kind in ("sign", "end"):
            raise self._error("a value is expected here")
        if kind == "word" and text.lower() not in ("true", "false", "null"):
            raise self._error("a value is expected here; a text stands in quotes")
        self._num_comparisons += 1
        if self._num_comparisons > _MAX_COMPARISONS:
            raise self._error(f"these are more than {_MAX_COMPARISONS} comparisons")
        try:
            value = field.read(kind, re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "text" else text)
        except VmrError as error:
            raise self._error(str(error)) from error
        self._token = self._next()
        return value

    def _takes(self, kind: str, text: str) -> bool:
        """Go on to the next token if this one is as given."""
        is_it = (self._token.kind, self._token.text.lower()) == (kind, text)
        if is_it:
            self._token = self._next()
        return is_it

    def _expect(self, sign: str) -> None:
        if not self._takes("sign", sign):
            raise self._error(f"{sign} is expected here")

    def _next(self) -> _Token:
        match = _TOKENS.match(self._text, self._end)
        if match is None:
            rest = self._text[self._end :].lstrip()
            reason = "this text has no end" if rest[0] in "\"'" else "this is not understood"
            raise self._error(reason, _Token("", rest, len(self._text) - len(rest)))
        self._end = match.end()
        kind = str(match.lastgroup)
        return _Token(kind, match[kind], match.start(kind))

    def _error(self, reason: str, token: _Token | None = None) -> VmrError:
        start = (token or self._token).start
        rest = self._text[start:].strip()
        place = f"{self._text[start : start + _SHOWN]!r} (character {start + 1})" if rest else "its end"
        return VmrError(f"the expression is wrong at {place}: {reason}")
