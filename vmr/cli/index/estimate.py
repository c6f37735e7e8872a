"""`vmr-index build --estimate`: what a build would cost, measured on a sample of the videos."""

from collections.abc import Sequence
from pathlib import Path

from vmr.cli.index.windows import WindowOptions
from vmr.cli.output import print_failures, print_table
from vmr.data.decoding.options import DecodeOptions
from vmr.retrieval.updating.plan import UpdateOptions


def print_estimate(
    videos: Sequence[str],
    out: str,
    encoder: Sequence[str] | str | None,
    *,
    overwrite: bool,
    windows: WindowOptions,
    update: UpdateOptions,
    decode: DecodeOptions,
) -> None:
    """Print how long a build takes, how large the index gets, and how much memory is needed. Nothing is written.

    What an index at `out` holds already, and has not changed, is left out.

    Args:
        videos: folders and files.
        out: the folder of the index.
        encoder: names or paths of models; None for those of the index.
        overwrite: whether an index at `out` is to be made anew.
        windows: how videos are cut.
        update: how files are compared with the index.
        decode: how videos are decoded.

    Raises:
        VmrError: there is no video, or none of the sample can be read.
    """
    from vmr.memory import format_bytes
    from vmr.progress import duration_in_words, spinner
    from vmr.retrieval.results import Failure
    from vmr.retrieval.updating.estimate import estimate_build
    from vmr.retrieval.updating.update import files_to_embed, load_encoders

    segments = windows.checked()
    index = None if overwrite else Path(out)
    files, num_files = files_to_embed(index, videos, update, decode)
    if not files:
        print(f"{out}: nothing to embed, {num_files} videos are as the index has them")
        return
    models = load_encoders(index, encoder, segments, reader=decode.reader, progress=True)
    with spinner(True, "measuring a sample"):
        cost = estimate_build(files, models, segments, decode)
    low_s, high_s = (cost.wall_s * (1 + sign * cost.spread) for sign in (-1, 1))
    speed = cost.video_s / cost.wall_s if cost.wall_s else 0.0
    about = f", {cost.num_unknown} of unknown length" if cost.num_unknown else ""
    failed = f", {len(cost.sample_failures)} cannot be read" if cost.sample_failures else ""
    rows = [
        ("to embed", f"{cost.num_videos} of {num_files} videos, {duration_in_words(cost.video_s)} of video{about}"),
        ("measured", f"{cost.sample_videos} videos, {duration_in_words(cost.sample_s)} of video{failed}"),
        ("time", f"{duration_in_words(low_s)} to {duration_in_words(high_s)} on this machine, {speed:.3g} x real time"),
        ("CPU time", duration_in_words(cost.cpu_s)),
        ("index", f"{cost.num_rows:,} rows, {format_bytes(cost.index_bytes)}"),
        *([("tokens", f"{format_bytes(cost.tokens_bytes)} more with --keep-tokens")] if cost.tokens_bytes else []),
        ("memory", f"{format_bytes(cost.memory_bytes)} of all processes"),
    ]
    print_table(f"{out} by {', '.join(model.name for model in models)}; nothing is written", ("", ""), rows)
    print_failures([Failure(failure.path, failure.reason) for failure in cost.sample_failures])
