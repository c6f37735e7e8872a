"""One training step of VideoMamba-tiny (forward, backward and AdamW) with our scan and with mamba.py's parallel scan.

    python -m benchmarks.train
    python -m benchmarks.train --frames 8 --batch 1 --json train.json

Each has its own process, and they run in turns. The time is that of the fastest step; the memory is the peak resident
set of the whole process, Python and torch included.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import Measurement, Work, environment, measure_in_turns
from benchmarks.peers import run_with_mambapy_scan
from vmr.models.videomamba.encoder import VideoEncoderOutput, VideoMamba, VideoMambaConfig

OURS, PEER = "vmr", "mamba.py's parallel scan"


def prepare(peer: str, num_frames: int, batch_size: int) -> Work:
    """Make the work of one peer: a step on clips of noise, with the mean square of the pooled vectors as loss.

    Args:
        peer: `OURS` or `PEER`.
        num_frames: frames of a clip.
        batch_size: clips in a batch.

    Returns:
        The function to time.
    """
    torch.manual_seed(0)
    model = VideoMamba(VideoMambaConfig.of_size("tiny", num_frames=num_frames)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    video = torch.randn(batch_size, num_frames, 3, 224, 224)

    def work() -> None:
        features = model(video) if peer == OURS else run_with_mambapy_scan(model, video)
        assert isinstance(features, VideoEncoderOutput)
        features.pooled.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def table(results: list[Measurement], title: str) -> Table:
    """Make the table of seconds, peak memory, and their ratios to ours.

    Args:
        results: ours first.
        title: of the table.

    Returns:
        The table.
    """
    out = Table(title=title, title_justify="left")
    for column in ("scan", "s a step", "x ours", "peak MB", "x ours"):
        out.add_column(column)
    for result in results:
        if result.absent:
            out.add_row(result.name, result.absent)
            continue
        times, memory = result.best / results[0].best, result.peak_memory_mb / results[0].peak_memory_mb
        out.add_row(result.name, f"{result.best:.3f}", f"{times:.1f}", f"{result.peak_memory_mb:.0f}", f"{memory:.1f}")
    return out


def main() -> None:
    """Run the benchmark, print the table, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=90.0, help="for all measurements together, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = (options.frames, options.batch)
    results = measure_in_turns(prepare, (OURS, PEER), sizes, seconds=options.seconds, threads=options.threads)
    title = f"VideoMamba-tiny, batch {options.batch}, {options.frames} frames of 224 px, {options.threads} threads"
    Console().print(table(results, title))
    if options.json:
        record = {"environment": environment(), "results": [asdict(one) for one in results]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
