"""`vmr-eval`: score an encoder on a data set, and compare two such scores."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveInt

from vmr.checks import require_extra
from vmr.cli.common import fail, refuse, run
from vmr.cli.eval_compare import compare
from vmr.cli.output import print_failures, print_remarks, print_report
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.eval.report.report import Report
    from vmr.eval.task import EvalOptions

WAIT_AT_MOST = timedelta(days=7)  # how long the processes of torchrun wait for the slowest one


@dataclass(frozen=True)
class ScoreOptions:
    """Which scores to compute, and how.

    Attributes:
        rerank: how many candidates of each query to score again by matching, in an extra column; default, 128 for
            shapes if the encoder can match, else none
        normalise: add columns of DSL and QB-Norm scores, which use the other test queries
        index: an index of the videos that the same encoder built; its vectors are scored instead of new ones
        index_kind: approximate kind of index, a list of kinds [ivf_sq8, hnsw], or any factory string of FAISS; each
            gets an extra column, which shows how much recall it loses
        limit: score only this many videos, the first ones; the report is marked as partial
        memory: how much memory the process may take while it matches, such as 4GiB
    """

    rerank: NonNegativeInt | None = None
    normalise: bool = False
    index: str | None = None
    index_kind: list[str] | str = field(default_factory=list)
    limit: PositiveInt | None = None
    memory: str | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Which files are written.

    Attributes:
        out: a JSON report to write
        markdown: the same as Markdown
        html: the same as one page, with plots and the worst and best queries in pictures
        allow_missing: exit with status 0 even if some videos were missing or unreadable
    """

    out: str | None = None
    markdown: str | None = None
    html: str | None = None
    allow_missing: bool = False


@dataclass(frozen=True)
class CacheOptions:
    """Where features are kept.

    Attributes:
        cache: folder of features that were computed earlier; default, $VMR_CACHE or ~/.cache/vmr
        no_cache: embed everything again and keep nothing; an interrupted evaluation starts from the beginning
    """

    cache: str | None = None
    no_cache: bool = False

    def __post_init__(self) -> None:
        if self.no_cache and self.cache is not None:
            raise VmrError("--no-cache and --cache contradict each other: give one of them")


def score(
    dataset: str,
    video_dir: str | None = None,
    data_dir: str | None = None,
    encoder: str = "offline",
    estimate: bool = False,
    *,
    scores: ScoreOptions,
    outputs: OutputOptions,
    caching: CacheOptions,
    decode: DecodeOptions,
) -> None:
    """Score an encoder by retrieval, text to video and video to text. `vmr-eval compare A B` compares two reports.

    Args:
        dataset: an annotation file [{"video": ..., "caption": ...}, ...], a published data set such as msrvtt (vmr-data
            list lists them), a protocol file of your own (.yaml), or shapes, also shapes:order, shapes:passage,
            shapes:collision and shapes:twins (synthetic, rendered when first used)
        video_dir: with an annotation file, the folder its video names are relative to; default, the file's own
        data_dir: with a published data set or a protocol file, the folder of its videos and annotations, in any layout
        encoder: name or path of a model; vmr-info lists them
        estimate: print the time, memory and disk that re-ranking would take by this command, and stop
    """
    from vmr.eval.protocols.load import load_dataset

    _check_outputs(outputs)
    if estimate and scores.rerank == 0:
        raise VmrError("--rerank 0 re-ranks nothing, so there is nothing to estimate: leave out one of them")
    loaded = load_dataset(dataset, video_dir, data_dir)  # a misspelt name is reported before torch is imported

    import torch

    from vmr.eval.runner import evaluate
    from vmr.processes import joined
    from vmr.retrieval.feature_cache import FeatureCache

    options = _eval_options(scores, decode)
    if scores.index is not None and not scores.rerank and not loaded.data.needs_time:
        refuse(decode, "is of no use with --index: no video is decoded", ("num_workers", "timeout_s"))
    if estimate:
        from vmr.cli.eval_estimate import print_estimate

        print_estimate(loaded, encoder, options)
        return
    with joined(torch.device("cpu"), WAIT_AT_MOST) as processes:
        cache = None if caching.no_cache else FeatureCache(caching.cache)
        report = evaluate(
            loaded, encoder, options=options, index=scores.index, cache=cache, processes=processes, progress=True
        )
    if processes.is_main:
        _print_and_write(report, outputs)
    if not report.complete and not outputs.allow_missing:
        fail(f"the score is over {report.coverage}: repair the files listed above, or give --allow-missing")


def _check_outputs(outputs: OutputOptions) -> None:
    """Check before the work begins that the reports can be made and written."""
    from vmr.files import require_writable

    if outputs.html is not None:
        require_extra("report", "jinja2", "matplotlib", "PIL")
    for file in (outputs.out, outputs.markdown, outputs.html):
        if file is not None:
            require_writable(file)


def _eval_options(scores: ScoreOptions, decode: DecodeOptions) -> "EvalOptions":
    from vmr.eval.task import EvalOptions
    from vmr.memory import parse_bytes

    kinds = [scores.index_kind] if isinstance(scores.index_kind, str) else scores.index_kind
    return EvalOptions(
        rerank_depth=scores.rerank,
        normalise=scores.normalise,
        index_kinds=tuple(kinds),
        limit=scores.limit,
        memory_bytes=None if scores.memory is None else parse_bytes(scores.memory),
        decode=decode,
    )


def _print_and_write(report: "Report", outputs: OutputOptions) -> None:
    """Print the report, and write it in the requested formats, whatever the suffixes of the files."""
    from vmr.files import write_atomically

    print_failures(report.failures)
    print_remarks(report.remarks)
    print_report(report)
    for file, as_text in (
        (outputs.out, report.to_json),
        (outputs.markdown, report.to_markdown),
        (outputs.html, report.to_html),
    ):
        if file is not None:
            write_atomically(Path(file), as_text().encode())
            print(f"report: {file}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        run("vmr-eval compare", compare, ["a", "b"], "vmr-eval compare before.json after.json", arguments[1:])
    else:
        run("vmr-eval", score, [], "vmr-eval --dataset test.json --video-dir videos --out report.json", arguments)


if __name__ == "__main__":
    main()
