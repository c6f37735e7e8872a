"""How much CPU time decoding some frames of a video takes, beside a plain decode of all of them.

    python -m benchmarks.decoding
    python -m benchmarks.decoding --seconds 20 --runs 5 FILE...

One frame a second is what `vmr-index build` takes of windows of 8 s with 8 frames. Frames are scaled to 398 x 224, as
for a model of 224 pixels; so `all decoded` costs more than a plain decode, which scales nothing. The ways to decode a
file are measured in turns, and each time is the shortest of its runs.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.build.footage import Footage
from benchmarks.common import environment
from vmr.data.decoding.cuts import shot_cuts
from vmr.data.decoding.ffmpeg.frame_index import SeekingDecoder
from vmr.data.decoding.sampling import grid_indices
from vmr.data.decoding.video import VideoReader

SIZES = ((640, 360), (1280, 720))
GOPS = (12, 60, 250)
SCALED = (224, 398)
FRAMES_PER_CALL = 64


def plain_decode(path: Path) -> None:
    """Decode all frames in one thread, and scale none."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for _ in container.decode(video=0):
            pass


def one_a_second(path: Path, num_threads: int = 1, leaves_out: bool = True, keyframes: bool = False) -> None:
    """Read the frames of a grid of one second, or the key frames nearest to it."""
    with VideoReader(path, num_threads=num_threads) as video:
        decoder = video._reader._decoder
        if isinstance(decoder, SeekingDecoder) and not leaves_out:
            decoder._can_skip = False
        count = max(1, round(video.duration_s))
        keys = video.key_indices if keyframes else None
        span = (0.0, video.duration_s)
        (indices,) = grid_indices(video.timestamps_s, video.duration_s, count, [span], video.duration_s, keys)
        _read(video, np.unique(indices))


def all_keys(path: Path) -> None:
    """Read all key frames."""
    with VideoReader(path) as video:
        _read(video, video.key_indices)


def cuts(path: Path) -> None:
    """Find the shots."""
    with VideoReader(path) as video:
        shot_cuts(video)


def _read(video: VideoReader, indices: np.ndarray) -> None:
    for start in range(0, len(indices), FRAMES_PER_CALL):
        video.frames_at(indices[start : start + FRAMES_PER_CALL].tolist(), SCALED)


WAYS: dict[str, Callable[[Path], None]] = {
    "plain decode": plain_decode,
    "1 a second, all decoded": lambda path: one_a_second(path, leaves_out=False),
    "1 a second": one_a_second,
    "1 a second, 2 threads": lambda path: one_a_second(path, num_threads=2),
    "nearest key frames": lambda path: one_a_second(path, keyframes=True),
    "all key frames": all_keys,
    "shot cuts": cuts,
}


def cpu_seconds(path: Path, runs: int) -> dict[str, float]:
    """Return the CPU seconds of each way, the least of some runs."""
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(runs):
        for name, way in WAYS.items():
            before = time.process_time()
            way(path)
            best[name] = min(best[name], time.process_time() - before)
    return best


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="videos; by default H.264 of two sizes and three GOPs")
    parser.add_argument("--seconds", type=int, default=60, help="length of the videos that are made")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    files = {path.name: path for path in arguments.files}
    if not files:
        made = [Footage(*size, gop, arguments.seconds) for size in SIZES for gop in GOPS]
        files = {footage.name: footage.file() for footage in made}
    table = Table("file", *WAYS, title="CPU time / plain decode of all frames (which is in seconds)")
    for name, path in files.items():
        seconds = cpu_seconds(path, arguments.runs)
        plain = seconds.pop("plain decode")
        table.add_row(name, f"{plain:.2f} s", *(f"{value / plain:.2f}" for value in seconds.values()))
    Console(width=160).print(table)
    print(environment())


if __name__ == "__main__":
    main()
