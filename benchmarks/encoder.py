"""VideoMamba-tiny against video transformers of its size: seconds and memory per clip, as ratios.

    python -m benchmarks.encoder
    python -m benchmarks.encoder --frames 8 16 --json encoder.json --plot encoder.png

Every model has its own process. The models of a row run in turns, so that other work on the machine slows all of them,
and the fastest run of each counts. Memory is the growth of the peak when a clip is encoded, without the weights and the
clip. At 8 frames VideoMamba-tiny is also compared with itself with its scan in plain PyTorch.
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
from benchmarks.peers import JointVit, make_timesformer, run_with_textbook_scan
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig

IMAGE_SIZE = 224
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OURS = "VideoMamba-tiny"
PEERS = ("joint ViT", "TimeSformer")
TEXTBOOK = "textbook scan"  # our model with the scan computed step by step, as papers write it
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


def prepare(model: str, dtype: str, num_frames: int) -> Work:
    """Make the work of one peer: a freshly initialised model encodes a clip of noise (1, T, 3, 224, 224).

    Args:
        model: its name.
        dtype: "float32" or "bfloat16".
        num_frames: frames of the clip.

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

    @torch.no_grad()
    def encode() -> object:
        return run_with_textbook_scan(encoder, video) if model == TEXTBOOK else encoder(video)

    return encode


def measure(dtype: str, num_frames: int, *, seconds: float, threads: int) -> list[Result]:
    """Measure all models at one length and dtype.

    Args:
        dtype: "float32" or "bfloat16".
        num_frames: frames of the clip.
        seconds: for all models together, roughly.
        threads: torch's threads in each process.

    Returns:
        One result for each model that could run, ours first.
    """
    models = (OURS, *PEERS, *(LOOPS if num_frames == LOOP_FRAMES else ()))
    measured = measure_in_turns(prepare, models, (dtype, num_frames), seconds=seconds, threads=threads)
    return [
        Result(one.name, dtype, num_frames, one.best, len(one.seconds), one.extra_memory_mb)
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
    models = [name for name in (*PEERS, *LOOPS) if any(r.model == name for r in results)]
    for column in ("dtype", "frames", "s", "MB", *models):
        out.add_column(column, justify="right")
    for dtype, num_frames in dict.fromkeys((r.dtype, r.num_frames) for r in results):
        row = {r.model: r for r in results if (r.dtype, r.num_frames) == (dtype, num_frames)}
        ours = row[OURS]
        ratios = [_ratio(row.get(name), ours) for name in models]
        out.add_row(dtype, str(num_frames), f"{ours.seconds:.3f}", f"{ours.memory_mb:.0f}", *ratios)
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
        for color, model in enumerate((OURS, *PEERS)):
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
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plot", type=Path, help="draw time and memory against frames here")
    args = parser.parse_args(argv)
    results = [
        result
        for dtype in args.dtypes
        for num_frames in args.frames
        for result in measure(dtype, num_frames, seconds=args.seconds, threads=args.threads)
    ]
    Console().print(table(results, args.threads))
    if args.json:
        record = {**environment(), "threads": args.threads, "results": [asdict(result) for result in results]}
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
