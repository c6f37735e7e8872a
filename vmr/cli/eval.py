"""`vmr-eval`: score an encoder on a data set."""

from collections.abc import Sequence

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from vmr.cli.common import fail, run
from vmr.cli.output import print_failures, print_report


def score(
    dataset: str,
    video_dir: str | None = None,
    data_dir: str | None = None,
    encoder: str = "offline",
    rerank: NonNegativeInt | None = None,
    out: str | None = None,
    allow_missing: bool = False,
    reader: str = "pyav",
    workers: PositiveInt | None = None,
    timeout: PositiveFloat = 120.0,
) -> None:
    """Score an encoder by retrieval, text to video and video to text.

    Args:
        dataset: an annotation file [{"video": ..., "caption": ...}, ...], msrvtt (the 1k-A test split), or shapes, also
            shapes:order, shapes:passage, shapes:collision and shapes:twins (synthetic, rendered when first used)
        video_dir: with an annotation file, the folder its video names are relative to; default, the file's own
        data_dir: with a data set's name, the folder that holds its videos and annotations
        encoder: name or path of a model; vmr-info lists them
        rerank: how many candidates of each query to score again by matching, in a column of their own; default, 128 for
            shapes where the encoder can match, else none
        out: a JSON report to write
        allow_missing: accept a score over the videos that could be read
        reader: pyav, decord or torchcodec
        workers: decoding processes; default, one a core
        timeout: seconds a file may go without delivering frames before it is given up
    """
    from vmr.data.annotations import load_retrieval_set
    from vmr.data.files import require_writable

    if out is not None:
        require_writable(out)
    data = load_retrieval_set(dataset, video_dir, data_dir)  # a misspelt name is told before torch is imported

    from vmr.eval.runner import evaluate
    from vmr.models.catalogue import load_model, shows_progress
    from vmr.progress import spinner

    with spinner(not shows_progress(encoder), "loading the encoder"):
        model = load_model(encoder)
    report = evaluate(
        data, model, rerank_depth=rerank, reader=reader, num_workers=workers, timeout_s=timeout, progress=True
    )
    print_failures(report.failures)
    print_report(report)
    if out is not None:
        report.save(out)
        print(f"report: {out}")
    if not report.complete and not allow_missing:
        fail(f"the score is over {report.coverage}: mend the files listed above, or give --allow-missing")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-eval", score, [], "vmr-eval --dataset test.json --video-dir videos --out report.json", argv)
