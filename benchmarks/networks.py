"""All kinds of classifying networks at equal parameters: seconds of a clip and of a training step, as ratios.

    python -m benchmarks.networks
    python -m benchmarks.networks --size tiny --frames 4 8 --json networks.json
    python -m benchmarks.networks --cpu-time        # in one process, on a machine that is busy with other work

Every network has its own process. The networks of a row run in turns, so that other work on the machine slows all of
them, and the fastest run of each counts. A training step is forward, cross-entropy, backward and AdamW of one batch.
Memory is the growth of the peak in the first run, without the weights.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks.common import Work, environment, measure_in_one_process, measure_in_turns
from vmr.models.classification.config import Kind, NetworkConfig
from vmr.models.classification.cost import count_operations
from vmr.models.classification.matching import count_parameters, matched
from vmr.models.classification.networks import build_network

Mode = Literal["forward", "training step"]
OURS: Kind = "videomamba"
SIZES = {
    "nano": NetworkConfig(width=96, num_layers=8, image_size=64, patch_size=8, num_classes=24),
    "tiny": NetworkConfig(width=192, num_layers=24, image_size=224, num_classes=400),
}


@dataclass(frozen=True)
class Result:
    """The time and memory of one network at one length.

    Attributes:
        kind: of the network.
        mode: what was timed.
        num_frames: frames of a clip.
        seconds: of the fastest run.
        runs: how many runs were timed.
        memory_mb: growth of the peak memory in the first run; 0 where it was not measured.
        parameters: of the network.
        operations: multiply-accumulates of a clip, forward.
    """

    kind: Kind
    mode: Mode
    num_frames: int
    seconds: float
    runs: int
    memory_mb: float
    parameters: int
    operations: int


def prepare(kind: Kind, config: NetworkConfig, mode: Mode, batch_size: int) -> Work:
    """Make the work of one network on clips of noise.

    Args:
        kind: of the network.
        config: sizes of VideoMamba; the network gets as many parameters.
        mode: what to time.
        batch_size: clips.

    Returns:
        The function to time.
    """
    torch.manual_seed(0)
    network = build_network(matched(config, kind))
    video = torch.randn(batch_size, config.num_frames, 3, config.image_size, config.image_size)
    if mode == "forward":
        network.eval()
        return torch.no_grad()(lambda: network(video))
    labels = torch.randint(config.num_classes, (batch_size,))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        F.cross_entropy(network(video), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(
    config: NetworkConfig, mode: Mode, batch_size: int, *, seconds: float, threads: int, cpu_time: bool
) -> list[Result]:  # fmt: skip
    """Measure all networks at one length.

    Args:
        config: sizes of VideoMamba.
        mode: what to time.
        batch_size: clips.
        seconds: for all networks together, roughly.
        threads: torch's threads in each process.
        cpu_time: measure in this process on one thread, CPU seconds alone.

    Returns:
        One result for each kind, VideoMamba first.
    """
    kinds: tuple[Kind, ...] = get_args(Kind)
    arguments = (config, mode, batch_size)
    if cpu_time:
        measured = measure_in_one_process(prepare, kinds, arguments, seconds=seconds)
    else:
        measured = measure_in_turns(prepare, kinds, arguments, seconds=seconds, threads=threads)
    results = []
    for kind, one in zip(kinds, measured, strict=True):
        if one.absent:
            raise SystemExit(f"{kind}: {one.absent}")
        sizes = matched(config, kind)
        counts = count_parameters(sizes), count_operations(sizes).total
        results.append(Result(kind, mode, config.num_frames, one.best, len(one.seconds), one.extra_memory_mb, *counts))
    return results


def table(results: Sequence[Result], title: str) -> Table:
    """Make the table: a row for each length and mode, with VideoMamba's seconds and the others' ratios to them.

    Args:
        results: of all lengths and modes.
        title: of the table.

    Returns:
        The table.
    """
    out = Table(title=title, title_justify="left")
    kinds = list(dict.fromkeys(result.kind for result in results))
    for column in ("", "frames", "s", "MB", *kinds[1:]):
        out.add_column(column, justify="right")
    for mode, frames in dict.fromkeys((result.mode, result.num_frames) for result in results):
        ours, *others = (result for result in results if (result.mode, result.num_frames) == (mode, frames))
        ratios = [_ratio(one, ours) for one in others]
        out.add_row(mode, str(frames), f"{ours.seconds:.4f}", f"{ours.memory_mb:.0f}", *ratios)
        counted = [f"{one.operations / ours.operations:.2f}" for one in others]
        if mode == "forward":
            out.add_row("operations", str(frames), f"{ours.operations / 1e9:.2f} G", "", *counted)
    return out


def _ratio(other: Result, ours: Result) -> str:
    time = f"{other.seconds / ours.seconds:.2f}"
    return f"{time}, {other.memory_mb / ours.memory_mb:.2f}" if ours.memory_mb else time


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print the table.

    Args:
        argv: the command line; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="nano", help="of VideoMamba (default: nano)")
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--modes", nargs="+", choices=get_args(Mode), default=list(get_args(Mode)))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on each row, about (default: 20)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds, on one thread of one process")
    parser.add_argument("--json", type=Path, help="write all results here")
    args = parser.parse_args(argv)
    results = [
        result
        for mode in args.modes
        for frames in args.frames
        for result in measure(
            replace(SIZES[args.size], num_frames=frames), mode, args.batch_size,
            seconds=args.seconds, threads=args.threads, cpu_time=args.cpu_time,
        )
    ]  # fmt: skip
    clock = "CPU seconds on one thread" if args.cpu_time else f"seconds, {args.threads} threads"
    ours = f"VideoMamba {args.size}, batch {args.batch_size}, {clock}"
    console = Console(width=150)
    console.print(table(results, f"{ours}; others: time and memory / its"))
    first = [result for result in results if result.num_frames == args.frames[0] and result.mode == args.modes[0]]
    console.print("parameters: " + ", ".join(f"{result.kind} {result.parameters:,}" for result in first))
    if args.json:
        record = {
            **environment(),
            "threads": args.threads,
            "clock": clock,
            "results": [asdict(result) for result in results],
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
