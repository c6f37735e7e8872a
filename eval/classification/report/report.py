"""The report of an evaluation of a classifier: its numbers, and what is needed to interpret them. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vmr.data.views.spec import ViewSpec
from vmr.errors import VmrError
from vmr.eval.classification.report.reference import PublishedAccuracy
from vmr.eval.metrics.accuracy import Average, stored_rows
from vmr.eval.report.environment import Commit, Hardware, command_line, commit, hardware, now, versions
from vmr.eval.report.report import ProtocolInfo
from vmr.eval.report.saved import SavedReport, require_finite, require_known
from vmr.from_json import IN_MEMORY
from vmr.retrieval.results import Failure, VideoRemark
from vmr.targets import Target

if TYPE_CHECKING:
    from vmr.eval.classification.report.compare import ClassificationComparison

Join = Literal["path", "clip", "basename"]
"""What counts as one video: `path`, one path with its folders; `clip`, each trimmed clip of it by itself; `basename`,
all files whose names are equal up to the first dot, of which the first in the list counts, as in OpenGVLab/VideoMamba;
if it cannot be read, the video is lost."""

MAIN = "views"
"""The column of the result itself; the other columns are controls."""


@dataclass(frozen=True)
class Cost:
    """What a classifier costs.

    Attributes:
        parameters: how many numbers its network has learnt.
        operations: multiply-accumulates of one view, counted completely; see `vmr.models.classification.cost`.
        network: kind and sizes of the network, as in `vmr.models.classification.config.NetworkConfig`.
    """

    parameters: int
    operations: int
    network: dict[str, Any]


@dataclass(frozen=True)
class ColumnResult:
    """The result of each video in one column, in the order of `ClassificationReport.videos`.

    Attributes:
        top: the numbers of the best classes of each video, at most five, the best first; () for a regression.
        probabilities: their probabilities, in [0, 1].
        ranks: the rank, from 1, of the right class, for one label for each video; else ().
        scores: all scores of each video, for several labels or a regression; else ().
    """

    top: tuple[tuple[int, ...], ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    ranks: tuple[int, ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class ClassificationReport(SavedReport):
    """One evaluation of a classifier.

    `report["top-1"]` is a metric of the column `views`, `report["static/top-1"]` a metric of a control.

    Attributes:
        dataset: name of the data set.
        model: name of the classifier.
        about: one line on what the classifier can and cannot do.
        fingerprint: the classifier's fingerprint.
        target: what it predicts.
        classes: names of the classes that competed, by number; () for a regression.
        views: the views of each video; the rule of frames is the user's choice, the classifier's, or the protocol's.
        views_of_protocol: whether these are the protocol's numbers of segments and crops.
        average: what was averaged over the views.
        join: what counted as one video.
        reader: the library that decoded the videos.
        num_videos: videos that were scored.
        num_videos_asked: videos that the data set holds.
        failures: every video that should have been scored but could not be, with the reason; one that was scored
            without some of its trimmed parts is named for each of them.
        remarks: what was noticed about videos that were scored: damage, and times that were mended.
        scores: for each column its metrics: `top-1`, `top-5`, `mean class accuracy` or `mAP` in percent, or `MSE`.
        intervals: for the same metrics, the bounds of the 95 % bootstrap interval over videos.
        videos: the videos that were scored.
        labels: for each of them the numbers of its classes: one, or several; () for a regression.
        values: for each of them the number to be predicted; () unless the target is a regression.
        results: for each column the result of each video.
        notes: what there is to know about the data, such as how its classes were matched and what differs from the
            published list; one line each.
        protocol: which rules were followed.
        limit: how many videos of the data set should be scored; None for all. A report with a limit is `partial`.
        alarms: reasons why the scores may be meaningless, one sentence each.
        reference: published results on the same protocol.
        cost: what the classifier costs; None if its network is not known.
        command: the command line of the process.
        date: when the report was made, ISO 8601, UTC.
        commit: commit of the checkout of vmr; None if vmr runs from an installed package.
        hardware: the machine.
        versions: of Python and of the libraries.
        video_files: name of a video -> its file, for the pictures of an HTML page; in memory only.

    Raises:
        VmrError: the parts contradict each other, or a number is not finite.
    """

    SCHEMA: ClassVar[str] = "vmr-classification-report/1"
    LONG: ClassVar[tuple[str, ...]] = ("classes", "videos", "labels", "values", "results")

    dataset: str
    model: str
    about: str
    fingerprint: str
    target: Target
    classes: tuple[str, ...]
    views: ViewSpec
    views_of_protocol: bool
    average: Average
    join: Join
    reader: str
    num_videos: int
    num_videos_asked: int
    failures: tuple[Failure, ...]
    remarks: tuple[VideoRemark, ...]
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    videos: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    results: dict[str, ColumnResult]
    protocol: ProtocolInfo
    notes: tuple[str, ...] = ()
    limit: int | None = None
    alarms: tuple[str, ...] = ()
    reference: tuple[PublishedAccuracy, ...] = ()
    cost: Cost | None = None
    command: str = field(default_factory=command_line)
    date: str = field(default_factory=now)
    commit: Commit | None = field(default_factory=commit)
    hardware: Hardware = field(default_factory=hardware)
    versions: dict[str, str] = field(default_factory=versions)
    video_files: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False, metadata=IN_MEMORY)

    def __post_init__(self) -> None:
        require_known("results", self.results, self.scores)
        if MAIN not in self.scores or self.scores.keys() != self.results.keys():
            raise VmrError(f"the columns of scores and results must be the same, and one must be {MAIN}")
        if not len(self.videos) == self.num_videos == len(self.values if self.target == "regression" else self.labels):
            raise VmrError(f"{len(self.videos)} names, {len(self.labels)} labels of {self.num_videos} videos")
        outside = [number for numbers in self.labels for number in numbers if not 0 <= number < len(self.classes)]
        if outside:
            raise VmrError(f"a label is {outside[0]}, but there are {len(self.classes)} classes")
        for column, metrics in self.scores.items():
            require_finite(f"scores.{column}", metrics)
            require_known(f"intervals.{column}", self.intervals.get(column, {}), metrics)
            self._check_result(column)

    def _check_result(self, column: str) -> None:
        result = self.results[column]
        wanted = {"single": ("top", "probabilities", "ranks"), "multi": ("top", "probabilities", "scores")}
        for name in wanted.get(self.target, ("scores",)):
            if len(getattr(result, name)) != self.num_videos:
                raise VmrError(f"results.{column}.{name}: {len(getattr(result, name))} of {self.num_videos} videos")
        if min(result.ranks, default=1) < 1:
            raise VmrError(f"results.{column}.ranks: rank {min(result.ranks)}: ranks count from 1")
        if any(not 0 <= number < len(self.classes) for row in result.top for number in row):
            raise VmrError(f"results.{column}.top names a class that there is not")

    @property
    def coverage(self) -> str:
        """How much of the data set was scored, in words."""
        scored = set(self.videos)
        num_parts = sum(failure.video in scored for failure in self.failures)
        lost = {"missing or unreadable": len(self.failures) - num_parts, "unreadable parts of others": num_parts}
        words = ", ".join(f"{number} {what}" for what, number in lost.items() if number)
        missing = f" ({words})" if words else ""
        num_damaged = sum(remark.kind == "damage" for remark in self.remarks)
        damaged = f", {num_damaged} files read with damage" if num_damaged else ""
        return f"{self.num_videos} of {self.num_videos_asked} videos{missing}{damaged}"

    def __getitem__(self, metric: str) -> float:
        """Return a metric.

        Args:
            metric: such as `top-1` of the column `views`, or `static/top-1` of another column.

        Raises:
            VmrError: the report has no such metric.
        """
        known = dict(self.scores[MAIN])
        known |= {f"{column}/{name}": value for column, row in self.scores.items() for name, value in row.items()}
        if metric not in known:
            raise VmrError(f"this report has no metric {metric!r}: it has {', '.join(known)}")
        return known[metric]

    def metric_rows(self, column: str = MAIN) -> NDArray[Any]:
        """Return for each video what its metrics are computed from; see `vmr.eval.metrics.accuracy.metric_rows`."""
        result = self.results[column]
        labels = np.array([row[0] for row in self.labels]) if self.target == "single" else self.labels
        return stored_rows(self.target, labels, self.values, result.ranks, result.scores)

    def compare(self, other: "ClassificationReport", *, force: bool = False) -> "ClassificationComparison":
        """Compare another report with this one, video by video; differences are `other` minus this report.

        Arguments, result and errors are those of `vmr.eval.classification.report.compare.compare_classification`.
        """
        from vmr.eval.classification.report.compare import compare_classification

        return compare_classification(self, other, force=force)

    def to_markdown(self) -> str:
        """Return the report as Markdown, without the results of single videos."""
        from vmr.eval.classification.report.markdown import to_markdown

        return to_markdown(self)

    def to_html(self, video_files: Mapping[str, Path] | None = None) -> str:
        """Return the report as one HTML page that needs no other file.

        Args:
            video_files: name of a video -> its file, for the pictures of the worst classes; default, the files that the
                report has in memory. A video without a file is shown as a placeholder.

        Raises:
            MissingExtraError: a package of the extra `report` is not installed.
        """
        from vmr.eval.classification.report.html import to_html

        return to_html(self, self.video_files if video_files is None else video_files)
