"""The report of an evaluation: its numbers, and everything that is needed to interpret them. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vmr.errors import VmrError
from vmr.eval.metrics.columns import ColumnInfo, column_info
from vmr.eval.report.environment import Commit, Hardware, command_line, commit, hardware, now, versions
from vmr.eval.report.examples import Example
from vmr.eval.report.reference import ReferenceRow
from vmr.eval.report.saved import SavedReport, require_finite, require_known
from vmr.from_json import IN_MEMORY
from vmr.retrieval.results import Failure, VideoRemark

if TYPE_CHECKING:
    from vmr.eval.report.compare import Comparison

SCHEMA = "vmr-report/2"
DIRECTIONS = {"text_to_video": "text to video", "video_to_text": "video to text"}


@dataclass(frozen=True)
class ProtocolInfo:
    """Which protocol was followed.

    Attributes:
        name: its name for `vmr-eval --dataset`.
        version: increased when the rules of the protocol change.
        hash: hash of its rules; name, version and hash identify a protocol.
        title: its name in papers.
        note: a description, and similar protocols that it is easily confused with.
    """

    name: str
    version: int
    hash: str
    title: str
    note: str


@dataclass(frozen=True)
class Report(SavedReport):
    """One evaluation of retrieval.

    `report["text_to_video/R@1"]` is a metric of the column `embedding`, `report["vtm/text_to_video/R@1"]` a metric of
    another column.

    Attributes:
        dataset: name of the data set.
        encoder: name of the encoder.
        about: one line on what the encoder can and cannot do.
        fingerprint: the encoder's fingerprint.
        num_frames: frames taken of each video.
        sampling: the rule by which they were taken.
        reader: the library that decoded them.
        num_videos: videos that were scored.
        num_videos_asked: videos that the data set holds.
        num_texts: texts that were scored.
        num_texts_asked: texts that the data set holds.
        failures: every video that should have been scored but could not be, with the reason.
        remarks: what was noticed about videos that were scored: damage, and times that were mended.
        scores: for each column (see `columns`) its metrics, such as `text_to_video/R@1` in percent.
        rerank_depth: candidates of each query that were scored again by matching; 0 for none.
        protocol: which rules were followed; None if there was no protocol.
        limit: how many videos of the data set should be scored; None for all. A report with a limit is `partial`.
        alarms: reasons why the scores may be meaningless, one sentence each.
        columns: a description of each column; by default from `column_info`.
        intervals: for the same metrics, the bounds of the 95 % bootstrap interval over queries.
        reference: published results on the same protocol.
        examples: for each column, the worst and the best text-to-video queries.
        command: the command line of the process.
        date: when the report was made, ISO 8601, UTC.
        commit: commit of the checkout of vmr; None if vmr runs from an installed package.
        hardware: the machine.
        versions: of Python and of the libraries.
        text_ids: the captions that were queries, in order.
        video_ids: the ids of the videos that were queries, in order.
        ranks: for each column and direction, the rank, from 1, of each query of `text_ids` or `video_ids`.
        video_files: id of a video -> its file, for the pictures of an HTML page. They exist in memory only: they are
            not saved, and are ignored when reports are compared for equality.

    Raises:
        VmrError: the parts contradict each other, or a number is not finite.
    """

    SCHEMA: ClassVar[str] = SCHEMA
    LONG: ClassVar[tuple[str, ...]] = ("ranks", "text_ids", "video_ids")

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
    remarks: tuple[VideoRemark, ...] = ()
    rerank_depth: int = 0
    protocol: ProtocolInfo | None = None
    limit: int | None = None
    alarms: tuple[str, ...] = ()
    columns: dict[str, ColumnInfo] = field(default_factory=dict)
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    reference: tuple[ReferenceRow, ...] = ()
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    command: str = field(default_factory=command_line)
    date: str = field(default_factory=now)
    commit: Commit | None = field(default_factory=commit)
    hardware: Hardware = field(default_factory=hardware)
    versions: dict[str, str] = field(default_factory=versions)
    text_ids: tuple[str, ...] = ()
    video_ids: tuple[str, ...] = ()
    ranks: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    video_files: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False, metadata=IN_MEMORY)

    def __post_init__(self) -> None:
        infos = {kind: self.columns.get(kind) or column_info(kind, self.rerank_depth) for kind in self.scores}
        for name in ("columns", "intervals", "ranks", "examples"):
            require_known(name, getattr(self, name), self.scores)
        for kind, metrics in self.scores.items():
            require_finite(f"scores.{kind}", metrics)
            require_known(f"intervals.{kind}", self.intervals.get(kind, {}), metrics)
            for side in (0, 1):
                bounds = {metric: interval[side] for metric, interval in self.intervals.get(kind, {}).items()}
                require_finite(f"intervals.{kind}", bounds)
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
    def coverage(self) -> str:
        """How much of the data set was scored, in words."""
        missing = f" ({len(self.failures)} missing or unreadable)" if self.failures else ""
        num_damaged = sum(remark.kind == "damage" for remark in self.remarks)
        damaged = f", {num_damaged} of them read with damage" if num_damaged else ""
        return (
            f"{self.num_videos} of {self.num_videos_asked} videos{missing}{damaged}, "
            f"{self.num_texts} of {self.num_texts_asked} texts"
        )

    def __getitem__(self, metric: str) -> float:
        """Return a metric.

        Args:
            metric: such as `text_to_video/R@1` or `rsum` of the column `embedding`, or `vtm/text_to_video/R@1` of
                another column.

        Raises:
            VmrError: the report has no such metric.
        """
        known = dict(self.scores.get("embedding", {}))
        known |= {f"{kind}/{name}": value for kind, metrics in self.scores.items() for name, value in metrics.items()}
        if metric not in known:
            raise VmrError(f"this report has no metric {metric!r}: it has {', '.join(known)}")
        return known[metric]

    def compare(self, other: "Report", *, column: str | None = None, force: bool = False) -> "Comparison":
        """Compare another report with this one, query by query; differences are `other` minus this report.

        Arguments, result and errors are those of `vmr.eval.report.compare.compare`.
        """
        from vmr.eval.report.compare import compare

        return compare(self, other, column=column, force=force)

    def to_markdown(self) -> str:
        """Return the report as Markdown, without its ranks and examples."""
        from vmr.eval.report.markdown import to_markdown

        return to_markdown(self)

    def to_html(self, video_files: Mapping[str, Path] | None = None) -> str:
        """Return the report as one HTML page that needs no other file.

        Args:
            video_files: id of a video -> its file, for the pictures of the worst and best queries; default, the files
                that the report has in memory. A video without a file is shown as a placeholder.

        Raises:
            MissingExtraError: a package of the extra `report` is not installed.
        """
        from vmr.eval.report.html import to_html

        return to_html(self, self.video_files if video_files is None else video_files)
