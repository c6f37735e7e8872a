"""`vmr-eval`: score an encoder on a data set, and compare two such scores."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from vmr.cli.common import fail, run
from vmr.cli.eval_compare import compare
from vmr.cli.output import print_failures, print_report
from vmr.errors import VmrError

PATIENCE = timedelta(days=7)  # for the slowest of the processes that torchrun starts

if TYPE_CHECKING:
    from vmr.eval.protocols.load import Loaded
    from vmr.eval.report.report import Report


def score(
    dataset: str,
    video_dir: str | None = None,
    data_dir: str | None = None,
    encoder: str = "offline",
    rerank: NonNegativeInt | None = None,
    normalise: bool = False,
    index: str | None = None,
    index_kind: list[str] = [],  # noqa: B006  jsonargparse shows it as the default, nobody changes it
    limit: PositiveInt | None = None,
    out: str | None = None,
    markdown: str | None = None,
    html: str | None = None,
    allow_missing: bool = False,
    memory: str | None = None,
    estimate: bool = False,
    cache: str | None = None,
    no_cache: bool = False,
    reader: str = "pyav",
    workers: PositiveInt | None = None,
    timeout: PositiveFloat = 120.0,
) -> None:
    """Score an encoder by retrieval, text to video and video to text. `vmr-eval compare A B` compares two reports.

    Args:
        dataset: an annotation file [{"video": ..., "caption": ...}, ...], a published data set such as msrvtt (vmr-data
            list lists them), or shapes, also shapes:order, shapes:passage, shapes:collision and shapes:twins
            (synthetic, rendered when first used)
        video_dir: with an annotation file, the folder its video names are relative to; default, the file's own
        data_dir: with a published data set, the folder that holds its videos and annotations, in any layout
        encoder: name or path of a model; vmr-info lists them
        rerank: how many candidates of each query to score again by matching, in a column of their own; default, 128 for
            shapes where the encoder can match, else none
        normalise: add columns of DSL and QB-Norm scores, which use the other test queries
        index: an index of the videos, built earlier with the same encoder, to score instead of embedding them
        index_kind: kinds of index, such as ivf_sq8, hnsw or any factory string of FAISS, to see what each loses
        limit: score the first so many videos only; the report is marked as partial
        out: a JSON report to write
        markdown: the same as Markdown
        html: the same as one page, with plots and the worst and best queries in pictures
        allow_missing: accept a score over the videos that could be read
        memory: how much memory the process may take while it matches, such as 4GiB
        estimate: say what re-ranking would take, and stop
        cache: folder of what was embedded earlier; default, $VMR_CACHE or ~/.cache/vmr
        no_cache: embed everything anew and keep nothing; an interrupted evaluation starts from the beginning
        reader: pyav, decord, torchcodec or torchcodec-cuda (on a GPU)
        workers: decoding processes; default, one a core
        timeout: seconds a file may go without delivering frames before it is given up
    """
    from vmr.eval.protocols.load import load_dataset
    from vmr.files import require_writable

    for file in (out, markdown, html):
        if file is not None:
            require_writable(file)
    if no_cache and cache is not None:
        raise VmrError("--no-cache and --cache contradict each other: give one of them")
    loaded = load_dataset(dataset, video_dir, data_dir)  # a misspelt name is told before torch is imported

    import torch

    from vmr.eval.runner import Options, evaluate
    from vmr.memory import parse_bytes
    from vmr.models.catalogue import load_model, shows_progress
    from vmr.processes import joined
    from vmr.progress import spinner
    from vmr.retrieval.feature_cache import FeatureCache
    from vmr.retrieval.index import open_index

    options = Options(
        rerank_depth=rerank,
        normalise=normalise,
        index_kinds=tuple(index_kind),
        limit=limit,
        memory_bytes=None if memory is None else parse_bytes(memory),
        reader=reader,
        num_workers=workers,
        timeout_s=timeout,
    )
    with spinner(not shows_progress(encoder), "loading the encoder"):
        model = load_model(encoder)
    if estimate:
        from vmr.cli.eval_estimate import print_estimate

        print_estimate(loaded, model, options)
        return
    with joined(torch.device("cpu"), PATIENCE) as among:
        report = evaluate(
            loaded.data,
            model,
            loaded.protocol,
            options,
            index=None if index is None else open_index(index, model),
            cache=None if no_cache else FeatureCache(cache),
            among=among,
            progress=True,
        )
    if among.is_main:
        _tell(report, loaded, out, markdown, html)
    if not report.complete and not allow_missing:
        fail(f"the score is over {report.coverage}: mend the files listed above, or give --allow-missing")


def _tell(report: "Report", loaded: "Loaded", out: str | None, markdown: str | None, html: str | None) -> None:
    """Prints the report, and writes it in the forms that were asked for."""
    print_failures(report.failures)
    print_report(report)
    if out is not None:
        report.save(out)
        print(f"report: {out}")
    if markdown is not None:
        from vmr.eval.report.markdown import to_markdown
        from vmr.eval.report.report import write_text

        write_text(markdown, to_markdown(report))
        print(f"report: {markdown}")
    if html is not None:
        from vmr.eval.report.html import save_html

        save_html(report, html, {video.id: video.path for video in loaded.data.videos if video.path is not None})
        print(f"report: {html}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        run("vmr-eval compare", compare, ["a", "b"], "vmr-eval compare before.json after.json", arguments[1:])
    else:
        run("vmr-eval", score, [], "vmr-eval --dataset test.json --video-dir videos --out report.json", arguments)


if __name__ == "__main__":
    main()
