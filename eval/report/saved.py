"""What reports of every kind share: how they are saved, read, and told apart. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from vmr.checks import check_path
from vmr.errors import VmrError
from vmr.eval.report.environment import Commit, Hardware
from vmr.files import write_atomically
from vmr.from_json import as_json, from_json
from vmr.retrieval.results import Failure, VideoRemark

TASKS = {"vmr-report": "retrieval", "vmr-classification-report": "classification"}
"""Name of a schema, without its version -> the task that such reports are about."""


class SavedReport:
    """Base of the dataclasses of reports. The attributes are those that shared parts of a report are made from.

    Attributes:
        SCHEMA: the name of the schema in the file, with its version.
        LONG: keys of the file that are written in one line each: a thousand lines of ranks would hide the scores.
        about: one line on what the model can and cannot do.
        fingerprint: the model's fingerprint.
        failures: what should have been scored but could not be, with the reason.
        remarks: what was noticed about videos that were scored.
        limit: how many videos of the data set should be scored; None for all.
        command: the command line of the process.
        date: when the report was made, ISO 8601, UTC.
        commit: commit of the checkout of vmr; None if vmr runs from an installed package.
        hardware: the machine.
        versions: of Python and of the libraries.
    """

    SCHEMA: ClassVar[str]
    LONG: ClassVar[tuple[str, ...]]

    about: str
    fingerprint: str
    failures: tuple[Failure, ...]
    remarks: tuple[VideoRemark, ...]
    limit: int | None
    command: str
    date: str
    commit: Commit | None
    hardware: Hardware
    versions: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether every requested video was scored."""
        return not self.failures

    @property
    def partial(self) -> bool:
        """Whether only a part of the data set was requested: a smoke run, not a result."""
        return self.limit is not None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types, with the name of its schema."""
        return {"schema": self.SCHEMA, "partial": self.partial, **as_json(self)}

    def to_json(self) -> str:
        """Return the text of a JSON file that `load` reads."""
        items = (
            f' "{key}": '
            + json.dumps(value, indent=None if key in self.LONG else 1, allow_nan=False).replace("\n", "\n ")
            for key, value in self.as_dict().items()
        )
        return "{\n" + ",\n".join(items) + "\n}\n"

    def to_markdown(self) -> str:
        """Return the report as Markdown, without what is long."""
        raise NotImplementedError

    def to_html(self, video_files: Mapping[str, Path] | None = None) -> str:
        """Return the report as one HTML page that needs no other file; see the reports themselves."""
        raise NotImplementedError

    def save(self, path: str | Path, *, video_files: Mapping[str, Path] | None = None) -> None:
        """Write the report atomically; its folder is created if it does not exist.

        Args:
            path: the file. Its suffix chooses the format: `.json`, which `load` reads, `.md` or `.html`.
            video_files: as in `to_html`.

        Raises:
            VmrError: the suffix is unknown, or the file cannot be written.
            MissingExtraError: a page needs a package of the extra `report` that is not installed.
        """
        suffix = Path(check_path("path", path)).suffix.lower()
        if suffix not in (".json", ".md", ".html"):
            raise VmrError(f"{path}: a report is saved as .json, .md or .html: give the file one of these suffixes")
        if suffix == ".json":
            text = self.to_json()
        else:
            text = self.to_markdown() if suffix == ".md" else self.to_html(video_files)
        write_atomically(Path(path), encoded(text))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a report that `save` wrote as JSON.

        Args:
            path: the file.

        Raises:
            VmrError: the file cannot be read, is not a report, has another schema, or is damaged.
        """
        content = _read(path)
        schema = content.pop("schema")
        if schema != cls.SCHEMA:
            task, expected = _task_of(schema), _task_of(cls.SCHEMA)
            if task not in (None, expected):
                raise VmrError(f"{path}: a report on {task}, expected one on {expected}")
            raise VmrError(f"{path}: a report of schema {schema}, expected {cls.SCHEMA}: evaluate again")
        partial = content.pop("partial", None)
        content.setdefault("remarks", [])  # of later versions only
        try:
            report: Self = from_json(cls, content, "")
        except VmrError as error:
            raise VmrError(f"{path}: a damaged report: {error}: evaluate again") from None
        if partial is not report.partial:
            raise VmrError(f"{path}: a damaged report: partial is {partial}, limit is {report.limit}: evaluate again")
        return report


def encoded(text: str) -> bytes:
    """Return the bytes of a report's file; names of videos and classes that are not Unicode are escaped.

    Args:
        text: the content of the file.
    """
    return text.encode(errors="backslashreplace")


def task_of_report(path: str | Path) -> str:
    """Return what a saved report is about: "retrieval" or "classification".

    Args:
        path: the file.

    Raises:
        VmrError: the file cannot be read, or is not a report.
    """
    schema = _read(path)["schema"]
    task = _task_of(schema)
    if task is None:
        raise VmrError(f"{path}: a report of schema {schema}, which this version does not know: evaluate again")
    return task


def require_known(name: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Raise VmrError if a part of a report names what its scores do not hold.

    Args:
        name: the part, for the message.
        keys: what it names.
        known: what there is.
    """
    unknown = [key for key in keys if key not in set(known)]
    if unknown:
        raise VmrError(f"{name} names '{unknown[0]}', which the scores do not hold (they hold {', '.join(known)})")


def require_finite(name: str, numbers: Mapping[str, float]) -> None:
    """Raise VmrError unless all numbers of a part of a report are finite.

    Args:
        name: the part, for the message.
        numbers: the numbers by name.
    """
    for metric, value in numbers.items():
        if not math.isfinite(value):
            raise VmrError(f"{name}: {metric} is {value}: a report holds finite numbers only")


def _task_of(schema: object) -> str | None:
    return TASKS.get(str(schema).partition("/")[0])


def _read(path: str | Path) -> dict[str, Any]:
    """The content of a report's file, which names a schema."""
    path = Path(check_path("path", path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VmrError(f"{path}: cannot read this report: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise VmrError(f"{path}: not a report: {error}") from None
    if not isinstance(content, dict) or content.get("schema") is None:
        raise VmrError(f"{path}: not a report: it names no schema; vmr-eval --out writes reports")
    return content
