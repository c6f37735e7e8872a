"""What an evaluation found, with everything needed to know what the numbers are. Imports no torch."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vmr.errors import VmrError
from vmr.eval.metrics.columns import ColumnInfo, column_info
from vmr.eval.report.environment import Commit, Hardware, commit, hardware, versions
from vmr.eval.report.examples import Example
from vmr.eval.report.reference import ReferenceRow
from vmr.files import require_writable, write_atomically
from vmr.from_json import from_json
from vmr.retrieval.manifest import Failure

SCHEMA = "vmr-report/2"
DIRECTIONS = {"text_to_video": "text to video", "video_to_text": "video to text"}

# One line each in the file: a thousand ranks, one a line, would hide what a person looks for.
_LONG = ("ranks", "text_ids", "video_ids")


@dataclass(frozen=True)
class ProtocolInfo:
    """Which protocol was followed: its name, version and hash identify it; `note` says what it is easily taken for."""

    name: str
    version: int
    hash: str
    title: str
    note: str


@dataclass(frozen=True)
class Report:
    """One evaluation. Raises VmrError where its parts do not fit together or a number is not finite.

    Attributes:
        scores: a column for each kind of score (see `columns`), each a mapping such as `text_to_video/R@1` -> percent.
        columns: what each column is; by default as `column_info` says.
        intervals: for the same metrics, the bounds of the 95 % bootstrap interval over queries.
        ranks: column -> direction -> the rank, from 1, of each query: the texts of `text_ids`, the videos of
            `video_ids`.
        text_ids, video_ids: the captions that were asked with, and the ids of the videos that have one, in order.
        num_videos, num_texts: what was scored; the `_asked` ones are what the data set holds, and `failures` names
            every video between the two.
        limit: how many videos of the data set were asked for, where not all were; such a report is `partial`.
        alarms: why the scores may be no result at all, a sentence each.
        reference: published results on the same protocol.
        examples: column -> the worst and the best text-to-video queries.
        commit: of the checkout of vmr, None where it runs from an installed package.
        date: ISO 8601, UTC.
    """

    dataset: str
    encoder: str
    about: str
    fingerprint: str
    num_frames: int
    sampling: str
    reader: str
    num_videos: int
    num_videos_asked: int
    num_texts: int
    num_texts_asked: int
    failures: tuple[Failure, ...]
    scores: dict[str, dict[str, float]]
    rerank_depth: int = 0
    protocol: ProtocolInfo | None = None
    limit: int | None = None
    alarms: tuple[str, ...] = ()
    columns: dict[str, ColumnInfo] = field(default_factory=dict)
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    reference: tuple[ReferenceRow, ...] = ()
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    command: str = field(default_factory=lambda: " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    commit: Commit | None = field(default_factory=commit)
    hardware: Hardware = field(default_factory=hardware)
    versions: dict[str, str] = field(default_factory=versions)
    text_ids: tuple[str, ...] = ()
    video_ids: tuple[str, ...] = ()
    ranks: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        infos = {kind: self.columns.get(kind) or column_info(kind, self.rerank_depth) for kind in self.scores}
        for name in ("columns", "intervals", "ranks", "examples"):
            _require_known(name, getattr(self, name), self.scores)
        for kind, metrics in self.scores.items():
            _require_finite(f"scores.{kind}", metrics)
            _require_known(f"intervals.{kind}", self.intervals.get(kind, {}), metrics)
            for side in (0, 1):
                bounds = {metric: interval[side] for metric, interval in self.intervals.get(kind, {}).items()}
                _require_finite(f"intervals.{kind}", bounds)
            self._check_ranks(kind)
        object.__setattr__(self, "columns", infos)

    def _check_ranks(self, kind: str) -> None:
        queries = {"text_to_video": self.text_ids, "video_to_text": self.video_ids}
        for direction, ranks in self.ranks.get(kind, {}).items():
            if direction not in queries:
                raise VmrError(f"ranks.{kind}: unknown direction '{direction}': known: {', '.join(queries)}")
            if len(ranks) != len(queries[direction]):
                raise VmrError(f"ranks.{kind}.{direction}: {len(ranks)} ranks of {len(queries[direction])} queries")
            if min(ranks, default=1) < 1:
                raise VmrError(f"ranks.{kind}.{direction}: rank {min(ranks)}: ranks count from 1")

    @property
    def complete(self) -> bool:
        """Whether every video that was asked for was scored."""
        return not self.failures

    @property
    def partial(self) -> bool:
        """Whether only a part of the data set was asked for: a smoke run, no result."""
        return self.limit is not None

    @property
    def coverage(self) -> str:
        """What the scores are over, in words."""
        missing = f" ({len(self.failures)} missing or unreadable)" if self.failures else ""
        return (
            f"{self.num_videos} of {self.num_videos_asked} videos{missing}, "
            f"{self.num_texts} of {self.num_texts_asked} texts"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types, with the schema's name."""
        return {"schema": SCHEMA, "partial": self.partial, **asdict(self)}

    def save(self, path: str | Path) -> None:
        """Writes the report as JSON, the whole file or nothing; makes the folder where there is none."""
        write_text(path, _as_json(self.as_dict()))

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """The report that `save` wrote. Raises VmrError, one line, for anything that is not one."""
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise VmrError(f"{path}: cannot read this report: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise VmrError(f"{path}: not a report: {error}") from None
        schema = content.pop("schema", None) if isinstance(content, dict) else None
        if schema is None:
            raise VmrError(f"{path}: not a report: it names no schema; vmr-eval --out writes reports")
        if schema != SCHEMA:
            raise VmrError(f"{path}: a report of schema {schema}, expected {SCHEMA}: evaluate again")
        partial = content.pop("partial", None)
        try:
            report: Report = from_json(cls, content, "")
        except VmrError as error:
            raise VmrError(f"{path}: a damaged report: {error}: evaluate again") from None
        if partial is not report.partial:
            raise VmrError(f"{path}: a damaged report: partial is {partial}, limit is {report.limit}: evaluate again")
        return report


def write_text(path: str | Path, text: str) -> None:
    """Writes a file of text, whole or not at all; makes its folder where there is none."""
    require_writable(path)
    write_atomically(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _as_json(content: Mapping[str, Any]) -> str:
    items = (
        f' "{key}": ' + json.dumps(value, indent=None if key in _LONG else 1, allow_nan=False).replace("\n", "\n ")
        for key, value in content.items()
    )
    return "{\n" + ",\n".join(items) + "\n}\n"


def _require_known(name: str, keys: Iterable[str], known: Iterable[str]) -> None:
    unknown = [key for key in keys if key not in set(known)]
    if unknown:
        raise VmrError(f"{name} names '{unknown[0]}', which the scores do not hold (they hold {', '.join(known)})")


def _require_finite(name: str, numbers: Mapping[str, float]) -> None:
    for metric, value in numbers.items():
        if not math.isfinite(value):
            raise VmrError(f"{name}: {metric} is {value}: a report holds finite numbers only")
