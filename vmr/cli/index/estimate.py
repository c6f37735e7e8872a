"""`vmr-index build --estimate`: what a build would cost, measured on a sample of the videos."""

from collections.abc import Sequence

from vmr.cli.output import print_failures, print_table
from vmr.data.decoding.options import DecodeOptions


def print_estimate(
    folders: Sequence[str],
    encoder: str,
    window_s: float | None,
    stride_s: float | None,
    decode: DecodeOptions,
) -> None:
    """Print how long a build takes, how large the index gets, and how much memory is needed. Nothing is written.

    Args:
        folders: folders of videos.
        encoder: name or path of a model.
        window_s: seconds that one row covers; None for whole videos.
        stride_s: seconds from the start of one window to the next; None for half a window.
        decode: how videos are decoded.

    Raises:
        VmrError: there is no video, or none of the sample can be read.
    """
    import vmr
    from vmr.memory import format_bytes
    from vmr.progress import duration_in_words, spinner
    from vmr.retrieval.frames import frame_spec
    from vmr.retrieval.results import Failure
    from vmr.retrieval.segments import window_segmenter
    from vmr.retrieval.updating.estimate import estimate_build

    segmenter = window_segmenter(window_s, stride_s)
    found = vmr.find_videos(folders, decode)
    model = vmr.load_model(encoder)
    with spinner(True, "measuring a sample"):
        cost = estimate_build(found, [model], frame_spec(model), segmenter, decode)
    low_s, high_s = (cost.wall_s * (1 + sign * cost.spread) for sign in (-1, 1))
    speed = cost.video_s / cost.wall_s if cost.wall_s else 0.0
    about = f", {cost.num_unknown} of unknown length" if cost.num_unknown else ""
    failed = f", {len(cost.sample_failures)} cannot be read" if cost.sample_failures else ""
    rows = [
        ("videos", f"{cost.num_videos}, {duration_in_words(cost.video_s)} of video{about}"),
        ("measured", f"{cost.sample_videos} videos, {duration_in_words(cost.sample_s)} of video{failed}"),
        ("time", f"{duration_in_words(low_s)} to {duration_in_words(high_s)} on this machine, {speed:.3g} x real time"),
        ("CPU time", duration_in_words(cost.cpu_s)),
        ("index", f"{cost.num_rows:,} rows, {format_bytes(cost.index_bytes)}"),
        ("memory", f"{format_bytes(cost.memory_bytes)} of all processes"),
    ]
    print_table(f"an index of {', '.join(map(str, folders))} by {model.name}; nothing is written", ("", ""), rows)
    print_failures([Failure(failure.path, failure.reason) for failure in cost.sample_failures])
