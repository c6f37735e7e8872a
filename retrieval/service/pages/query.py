"""What the address of the page says: a query, filters, and which moment is open."""

import re
from collections.abc import Mapping
from typing import Annotated, cast, get_args
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval.service.options import Limits
from vmr.retrieval.service.schemas import Source
from vmr.retrieval.storage.where import Where

LENGTH = r"\d+(\.\d+)?( ?(s|min|h))?"
"""How the page takes a length of a video: a number of seconds, or with a unit."""
DAY = r"\d{4}-\d\d(-\d\d)?"
"""How the page takes a day, or a month."""

_SECONDS = r"(\d{1,7}(?:\.\d{1,9})?)"
_MOMENT = f"{_SECONDS}-{_SECONDS}"
_OPEN = ("watch", "at", "moment")
_LIKE = ("like", "by", "file")
_FILTERS = {
    "folder": "in",
    "source": "of",
    "longer": "at least",
    "shorter": "at most",
    "after": "from",
    "before": "until",
    "found": "by",
    "where": "",
}
"""Name of a filter -> the word before it in a summary."""
_SHOWN = 60

Word = Annotated[str, Field(max_length=1000), AfterValidator(str.strip)]
Long = Annotated[str, Field(max_length=16_000), AfterValidator(str.strip)]


class PageQuery(BaseModel):
    """The parameters of the page's address. Each is a text, and empty where a field of a form was left empty.

    Attributes:
        q: what is looked for, in words.
        like: the number of a moment: more like this.
        by: the vector of a picture or clip that is searched by, see `vectors`.
        file: the name of that picture or clip.
        folder, source, longer, shorter, after, before: which videos are searched, see `condition`.
        found: "picture" or "text" for moments that were found by what is seen, or by their texts; empty for both.
        where: a further condition, in the language of `--where`.
        cursor: where the next page of results begins.
        watch: the number of the video that is open in the player.
        at: the moment in it, such as `12.5-20`, in seconds.
        moment: the number of that moment.
        part: "results" or "player" for only that part of the page.
    """

    model_config = ConfigDict(frozen=True)

    q: Word = ""
    like: Word = ""
    by: Long = ""
    file: Word = ""
    folder: Word = ""
    source: Word = ""
    longer: Word = ""
    shorter: Word = ""
    after: Word = ""
    before: Word = ""
    found: Word = ""
    where: Word = ""
    cursor: Annotated[str, Field(max_length=Limits().cursor_chars)] = ""
    watch: Word = ""
    at: Word = ""
    moment: Word = ""
    part: Word = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> tuple["PageQuery", str | None]:
        """Read the parameters of an address, whatever they are.

        Args:
            parameters: their texts by their names; words count more than a moment or a file that others are to be
                like, because a form holds these still when words are typed.

        Returns:
            What the address says, and what is wrong with it: parameters that are too long are left out, but of words
            the beginning stays, so that they can be made shorter.
        """
        given = {name: value for name, value in parameters.items() if name in cls.model_fields}
        if given.get("q", "").strip():
            given = {name: value for name, value in given.items() if name not in _LIKE}
        try:
            return cls.model_validate(given), None
        except ValidationError as error:
            limits = {str(each["loc"][0]): each.get("ctx", {}).get("max_length", 0) for each in error.errors()}
        said = [f"{name}: {len(given[name])} characters, but at most {most} are taken" for name, most in limits.items()]
        kept = {name: value for name, value in given.items() if name not in limits}
        if "q" in limits:
            kept["q"] = given["q"][: limits["q"]]
        return cls(**kept), "; ".join(said)

    @property
    def is_filtered(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, name) for name in _FILTERS)

    def condition(self) -> str | None:
        """Return the filters as one expression of the language of `--where`; None if there are none.

        Raises:
            VmrError: a filter is no length, no date or no condition.
        """
        if self.where:
            Where.parse(self.where)  # here, so that an error repeats what was typed
        parts = [f"({self.where})"] if self.where else []
        parts += [f"{name} = {_quoted(value)}" for name in ("folder", "source") if (value := getattr(self, name))]
        for name, comparison, pattern, example in (
            ("longer", "duration >=", LENGTH, "90, 90 s or 5 min"),
            ("shorter", "duration <=", LENGTH, "90, 90 s or 5 min"),
            ("after", "date >=", DAY, "2026-11-01 or 2026-11"),
            ("before", "date <=", DAY, "2026-11-01 or 2026-11"),
        ):
            value = getattr(self, name)
            if value and not re.fullmatch(pattern, value, re.ASCII):
                raise VmrError(f"{name}: {_shown(value)} is none; write it like {example}")
            parts += [f"{comparison} {value}"] if value else []
        return " and ".join(parts) or None

    def filters_in_words(self) -> str:
        """Return the filters in a few words, such as "at least 30 s, until 2026-11"; empty if there are none."""
        parts = [(word, getattr(self, name)) for name, word in _FILTERS.items()]
        return ", ".join(f"{word} {_shown(value)}".strip() for word, value in parts if value)

    def sources(self) -> list[Source] | None:
        """Return whether pictures or texts are searched; None for both.

        Raises:
            VmrError: `found` is neither.
        """
        if self.found and self.found not in get_args(Source):
            raise VmrError(f"found: {_shown(self.found)} is neither picture nor text")
        return [cast("Source", self.found)] if self.found else None

    def number(self, name: str) -> int | None:
        """Return `like`, `watch` or `moment` as a number; None if it is empty.

        Raises:
            VmrError: it is no number of a moment or a video.
        """
        value = getattr(self, name)
        if value and not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            raise VmrError(f"{name}: {_shown(value)} is no number of a {'video' if name == 'watch' else 'moment'}")
        return int(value) if value else None

    def moment_s(self) -> tuple[float, float] | None:
        """Return start and end of the moment that is open, in seconds; None if the address names none.

        Raises:
            VmrError: `at` is no moment.
        """
        if not self.at:
            return None
        match = re.fullmatch(_MOMENT, self.at, re.ASCII)
        if match is None:
            raise VmrError(f"at: {_shown(self.at)} is no moment; write it like 12.5-20")
        return float(match[1]), float(match[2])

    def address(self, **changes: object) -> str:
        """Return the address of the page with some parameters changed. Those that are empty or None are left out."""
        kept = {name: value for name, value in self if name not in (*_OPEN, "part", "cursor")}
        parameters = [(name, value) for name, value in (kept | changes).items() if value not in ("", None)]
        return f"/?{urlencode(parameters)}" if parameters else "/"

    def filters_only(self, **changes: object) -> str:
        """Return the address of another search with the same filters."""
        return self.address(**({"q": None, **dict.fromkeys(_LIKE)} | changes))

    def without_filters(self) -> str:
        """Return the address of the same search in all videos."""
        return self.address(**dict.fromkeys(_FILTERS))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shown(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
