"""Lists of labels without a header: a clip and its label a line, parted by a comma or by a space."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from vmr.data.annotations.text_files import read_lines
from vmr.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vmr.errors import AnnotationError

_SUFFIX = "|".join(suffix[1:] for suffix in VIDEO_SUFFIXES + IMAGE_SUFFIXES)
_AFTER_SUFFIX = rf"(?i:\.(?:{_SUFFIX}))"
_COMMA_AFTER_FILE = re.compile(rf"(.*{_AFTER_SUFFIX})\s*,(.*)")
_SPACE_AFTER_FILE = re.compile(rf"(.*{_AFTER_SUFFIX})[ \t]+([^\s,]+|\d+[ \t]+\S+)")
_LOOKED_AT = 1000  # lines from which the format is found


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list, not yet checked.

    Attributes:
        where: file and line, for messages.
        path: of the clip, as it is written.
        labels: names or numbers of classes, or one number of a regression, as they are written; () for no class.
        duration_s: the length of the video in seconds, in lists of trimmed clips.
        others: paths that may be meant as well, less usual ones last.
    """

    where: str
    path: str
    labels: tuple[str, ...]
    duration_s: float | None = None
    others: tuple[str, ...] = ()


def read_comma_list(file: Path) -> Iterator[Row]:
    """Read `path,label`, as for Kinetics, Breakfast, COIN and LVU.

    A path may hold commas: the label begins after the comma that follows a suffix of videos or pictures, or else after
    the last comma. A path or a label may be quoted. Several labels are parted by semicolons.

    Raises:
        AnnotationError: a line has no comma, no path or no label.
    """
    for where, line in _lines(file):
        path, rest = _split_at_comma(line, where)
        yield Row(where, _some(path, "path", where), labels_in(rest, where))


def read_trimmed_list(file: Path) -> Iterator[Row]:
    """Read `path,label,seconds`, where seconds is the length of the video, as for the trimmed clips of LVU.

    Raises:
        AnnotationError: a line does not have these values.
    """
    for where, line in _lines(file):
        path, rest = _split_at_comma(line, where, num_after=2)
        label, _, seconds = rest.rpartition(",")
        if not label:
            raise AnnotationError(f"{where} has no third value, the length in seconds: {line!r:.80}; use format comma")
        try:
            duration_s = float(seconds)
        except ValueError:
            duration_s = -1.0
        if not 0 < duration_s < float("inf"):
            raise AnnotationError(f"{where}: the length {seconds.strip()!r:.40} is no number of seconds above 0")
        yield Row(where, _some(path, "path", where), labels_in(label, where), duration_s=duration_s)


def read_space_list(file: Path) -> Iterator[Row]:
    """Read `path label`, parted by the last space or tab, as for SSv2 and ImageNet; a path may hold spaces.

    Raises:
        AnnotationError: a line has no space, or is parted by commas.
    """
    for where, line in _lines(file):
        path, label = _split_at_space(line, where)
        yield Row(where, _some(_unquoted(path), "path", where), labels_in(label, where))


def read_frames_list(file: Path) -> Iterator[Row]:
    """Read `folder frames label`, as for folders of frames of SSv2.

    The number of frames must be one, but is not used: the pictures that are in a folder count. Upstream believes it.

    Raises:
        AnnotationError: a line does not have these values.
    """
    for where, line in _lines(file):
        before, label = _split_at_space(line, where)
        path, number = _split_at_space(before, where) if re.search(r"\s", before) else (before, "")
        if not number.isdecimal() or not number.strip("0"):
            raise AnnotationError(
                f"{where}: {number or 'nothing'!r:.40} is no number of frames: expected `folder frames label`; "
                "a list of `path label` is format space"
            )
        yield Row(where, _some(_unquoted(path), "path", where), labels_in(label, where))


def format_of_lines(file: Path) -> str:
    """Tell which of the lists of this module a file is, by its first thousand lines.

    Raises:
        AnnotationError: it is none of them, or some lines are parted by commas and others by spaces.
    """
    seen: dict[str, str] = {}
    for where, line in islice(_lines(file), _LOOKED_AT):
        kind = _format_of_line(line)
        if kind is None:
            raise AnnotationError(f"{where}: {line!r:.80} is no path and label, parted by a comma or a space")
        seen.setdefault(kind, where)
    if not seen:
        raise AnnotationError(f"{file}: an empty list: there are no clips with labels in it")
    commas, spaces = ("comma", "trimmed"), ("space", "frames")
    by_comma, by_space = ([seen[kind] for kind in kinds if kind in seen] for kinds in (commas, spaces))
    if by_comma and by_space:
        raise AnnotationError(
            f"{by_space[0]} is parted by a space, but line {by_comma[0].rpartition(' ')[2]} by a comma: "
            "use one in the whole list, or say which by format=comma or format=space"
        )
    plain, special = commas if by_comma else spaces
    return plain if plain in seen else special


def labels_in(text: str, where: str) -> tuple[str, ...]:
    """Split labels that are parted by semicolons."""
    labels = tuple(_unquoted(label.strip()) for label in text.split(";"))
    for label in labels:
        _some(label, "label", where)
    return labels


def _format_of_line(line: str) -> str | None:
    after_comma, after_space = _COMMA_AFTER_FILE.fullmatch(line), _SPACE_AFTER_FILE.fullmatch(line)
    if line.startswith('"') or (after_comma and not after_space):
        has_length = re.fullmatch(r".*,\s*[^,]+,\s*\d+(\.\d+)?\s*", after_comma[0] if after_comma else line)
        two_after = after_comma and after_comma[2].count(",") == 1
        return "trimmed" if has_length and (two_after or line.startswith('"')) else ("comma" if "," in line else None)
    if after_space:
        return "space" if re.search(r"\s", after_space[2]) is None else "frames"
    if "," in line:
        return "comma"
    if re.fullmatch(r"\S.*\s+\d+\s+\S+", line):
        return "frames"
    return "space" if re.search(r"\S\s+\S", line) else None


def _split_at_comma(line: str, where: str, num_after: int = 1) -> tuple[str, str]:
    """Split a line into the path and what follows it."""
    if '"' in line:
        try:
            path, *rest = next(csv.reader([line], strict=True, skipinitialspace=True))
        except csv.Error as error:
            raise AnnotationError(f"{where} is no row of a table: {error}: {line!r:.80}") from None
        after = ",".join(rest)
    elif match := _COMMA_AFTER_FILE.fullmatch(line):
        path, after = match[1], match[2]
    else:
        path, *rest = line.rsplit(",", num_after)
        after = ",".join(rest)
    if _SPACE_AFTER_FILE.fullmatch(line) and not _COMMA_AFTER_FILE.fullmatch(line):
        _wrong_separator(line, where, "a space", "space")
    if not after.strip():
        if "," in line:
            raise AnnotationError(f"{where}: {line!r:.80} has no label: expected `path,label`")
        _wrong_separator(line, where, "no comma", "space")
    return path.strip(), after.strip()


def _split_at_space(line: str, where: str) -> tuple[str, str]:
    before, *after = line.rsplit(None, 1)
    if _COMMA_AFTER_FILE.fullmatch(line) and not _SPACE_AFTER_FILE.fullmatch(line):
        _wrong_separator(line, where, "a comma", "comma")
    if not after:
        _wrong_separator(line, where, "no space", "comma")
    return before, after[0]


def _wrong_separator(line: str, where: str, found: str, format: str) -> NoReturn:
    raise AnnotationError(f"{where}: {found} parts path and label in {line!r:.80}: use format {format} if all are so")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines that hold something, each with file and line for messages."""
    for number, line in enumerate(read_lines(file), start=1):
        if text := line.strip():
            yield f"{file}: line {number}", text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _some(text: str, what: str, where: str) -> str:
    if not text:
        raise AnnotationError(f"{where}: has no {what}")
    return text
