"""VideoMamba-tiny against video transformers of its size: seconds and memory per clip, as ratios.

    python -m benchmarks.encoder
    python -m benchmarks.encoder --frames 8 16 --json encoder.json --plot encoder.png
    python -m benchmarks.encoder --frames 8 16 32 --video-dir videos --skip 0.02

Every model has its own process. The models of a row run in turns, so that other work on the machine slows all of them,
and the fastest run of each counts. Memory is the growth of the peak when a clip is encoded, without the weights and the
clip. At 8 frames VideoMamba-tiny is also compared with itself with its scan in plain PyTorch.

With --video-dir, VideoMamba-tiny leaves out the patches that repeat earlier ones, and a row is the mean over 8 of the
videos of a folder, at evenly spaced ranks of what they keep, one clip at a time; finding what repeats counts. The peers
take the same time for every clip. Divided attention needs all patches; a joint ViT could leave them out as well.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.common import Work, environment, measure_in_turns
from benchmarks.kept_clips import NUM_CLIPS, KeptClips, choose_clips, describe
from benchmarks.peers import PATCH, JointVit, make_timesformer, run_with_textbook_scan
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.repeats import as_mask, find_repeats

IMAGE_SIZE = 224
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OURS = "VideoMamba-tiny"
PEERS = ("joint ViT", "TimeSformer")
TEXTBOOK = "textbook scan"  # our model with the scan computed step by step, as papers write it
SKIPPING = "without repetitions"  # our model on the patches that change
REFERENCE = "reference backend"  # our model on the plain PyTorch definition in vmr.ops
LOOPS = (TEXTBOOK, REFERENCE)
LOOP_FRAMES = 8  # with more frames the loops take too long


@dataclass(frozen=True)
class Result:
    """The time and memory of one model at one length and dtype.

    Attributes:
        model: its name.
        dtype: "float32" or "bfloat16".
        num_frames: frames of the clip.
        seconds: of the fastest run.
        runs: how many runs were timed.
        memory_mb: growth of the peak memory when a clip is encoded.
    """

    model: str
    dtype: str
    num_frames: int
    seconds: float
    runs: int
    memory_mb: float


def prepare(model: str, dtype: str, num_frames: int, kept: KeptClips | None) -> Work:
    """Make the work of one peer: a freshly initialised model encodes a clip of noise (1, T, 3, 224, 224).

    Args:
        model: its name.
        dtype: "float32" or "bfloat16".
        num_frames: frames of the clip.
        kept: for the model `SKIPPING`, clips of T frames that it encodes one after the other, without what repeats.

    Returns:
        The function to time.
    """
    torch.manual_seed(0)
    encoder = _make_encoder(model, num_frames)
    if isinstance(encoder, VideoMamba):
        encoder = encoder.cast_products(DTYPES[dtype]).pack_products()
    else:
        encoder = encoder.to(DTYPES[dtype])
    encoder.eval()
    video = torch.randn(1, num_frames, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=DTYPES[dtype])
    if model == SKIPPING:
        assert kept is not None and isinstance(encoder, VideoMamba)
        return _skipping(encoder, video, kept)

    @torch.no_grad()
    def encode() -> object:
        return run_with_textbook_scan(encoder, video) if model == TEXTBOOK else encoder(video)

    return encode


def _skipping(encoder: VideoMamba, video: torch.Tensor, kept: KeptClips) -> Work:
    """The pixels are those of noise, as for the peers; what repeats is found in the clips."""
    clips = torch.from_numpy(kept.clips)[:, None]  # one at a time, (1, T, 3, S, S)

    @torch.no_grad()
    def encode() -> None:
        for clip in clips:
            found = find_repeats(clip, kept.threshold, tubelet_size=1, patch_size=PATCH)
            encoder(video, as_mask(found.keep), carried=True)

    return encode


def measure(
    dtype: str, num_frames: int, *, seconds: float, threads: int, kept: KeptClips | None = None
) -> list[Result]:
    """Measure all models at one length and dtype.

    Args:
        dtype: "float32" or "bfloat16".
        num_frames: frames of the clip.
        kept: clips of that length, for a model that leaves out what repeats; None for no such model.
        seconds: for all models together, roughly.
        threads: torch's threads in each process.

    Returns:
        One result for each model that could run, ours first.
    """
    models = (OURS, *PEERS, *([SKIPPING] if kept else LOOPS if num_frames == LOOP_FRAMES else ()))
    measured = measure_in_turns(prepare, models, (dtype, num_frames, kept), seconds=seconds, threads=threads)
    clips = {SKIPPING: NUM_CLIPS}  # in one run
    return [
        Result(one.name, dtype, num_frames, one.best / clips.get(one.name, 1), len(one.seconds), one.extra_memory_mb)
        for one in measured
        if not one.absent
    ]


def table(results: Sequence[Result], threads: int) -> Table:
    """Make the table: a row for each length and dtype, with our seconds and memory and the others' ratios to ours.

    Args:
        results: of all lengths and dtypes.
        threads: for the title.

    Returns:
        The table.
    """
    title = f"{OURS}, one clip of {IMAGE_SIZE} px, {threads} threads; of the others: time / ours, memory / ours"
    out = Table(title=title, title_justify="left")
    models = [name for name in (SKIPPING, *PEERS, *LOOPS) if any(r.model == name for r in results)]
    for column in ("dtype", "frames", "s", "MB", *models):
        out.add_column(column, justify="right")
    for dtype, num_frames in dict.fromkeys((r.dtype, r.num_frames) for r in results):
        row = {r.model: r for r in results if (r.dtype, r.num_frames) == (dtype, num_frames)}
        ours = row[OURS]
        ratios = [_ratio(row.get(name), ours) for name in models]
        out.add_row(dtype, str(num_frames), f"{ours.seconds:.3f}", f"{ours.memory_mb:.0f}", *ratios)
        if SKIPPING in row:
            gains = [_ratio(row.get(name), row[SKIPPING]) for name in models[1:]]
            out.add_row("", f"/ {SKIPPING}", f"{row[SKIPPING].seconds:.3f}", "", "", *gains)
    return out


def plot(results: Sequence[Result], file: Path) -> None:
    """Draw seconds and memory against frames, all axes logarithmic.

    Args:
        results: of all lengths and dtypes.
        file: the picture to write; its suffix is the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    panels: dict[str, Callable[[Result], float]] = {
        "seconds per clip": lambda result: result.seconds,
        "memory per clip, MB": lambda result: result.memory_mb,
    }
    lengths = sorted({r.num_frames for r in results})
    for axes, (label, quantity) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        drawn = [model for model in (OURS, *PEERS, SKIPPING) if any(r.model == model for r in results)]
        for color, model in enumerate(drawn):
            for dtype, style in (("float32", "-"), ("bfloat16", "--")):
                line = [r for r in results if (r.model, r.dtype) == (model, dtype)]
                frames, values = [r.num_frames for r in line], [quantity(r) for r in line]
                axes.plot(frames, values, f"C{color}o{style}", label=f"{model}, {dtype}")
        axes.set(xscale="log", yscale="log", xlabel="frames", ylabel=label)
        axes.set_xticks(lengths, [str(frames) for frames in lengths])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(file, dpi=150)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print the table.

    Args:
        argv: the command line; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on each row, about (default: 20)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip", type=float, default=0.02, help="with --video-dir, the threshold (default: 0.02)")
    parser.add_argument("--video-dir", type=Path, help="also leave out what repeats in the videos of this folder")
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plot", type=Path, help="draw time and memory against frames here")
    args = parser.parse_args(argv)
    kept = (
        {frames: choose_clips(args.video_dir, args.skip, frames, IMAGE_SIZE) for frames in args.frames}
        if args.video_dir
        else {}
    )
    results = [
        result
        for dtype in args.dtypes
        for frames in args.frames
        for result in measure(dtype, frames, seconds=args.seconds, threads=args.threads, kept=kept.get(frames))
    ]
    Console().print(table(results, args.threads))
    if kept:
        print(describe(list(kept.values())))
    if args.json:
        shares = {frames: clips.shares.tolist() for frames, clips in kept.items()}
        record = {**environment(), "threads": args.threads, "results": [asdict(result) for result in results]}
        record |= {"skip": args.skip, "kept": shares} if kept else {}
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    if args.plot:
        plot(results, args.plot)


def _make_encoder(model: str, num_frames: int) -> nn.Module:
    if model == "joint ViT":
        return JointVit(num_frames, IMAGE_SIZE)
    if model == "TimeSformer":
        return make_timesformer(num_frames, IMAGE_SIZE)
    config = VideoMambaConfig.of_size("tiny", num_frames=num_frames, image_size=IMAGE_SIZE)
    return VideoMamba(config, backend="reference" if model == REFERENCE else "auto")


def _ratio(other: Result | None, ours: Result) -> str:
    if other is None:
        return "-"
    return f"{other.seconds / ours.seconds:.2f}, {other.memory_mb / ours.memory_mb:.2f}"


if __name__ == "__main__":
    main()
