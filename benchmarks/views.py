"""How much CPU time the views of a video take if it is decoded once for all of them, and if it is for each.

    python -m benchmarks.views
    python -m benchmarks.views --seconds 30 --runs 5 FILE...

The views are those of Kinetics-400: 4 choices of 16 frames, 3 crops of 224 x 224 pixels each. The ways are measured in
turns, and each time is the shortest of its runs. All give the same pixels, which is checked.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.build.footage import Footage
from benchmarks.common import environment
from vmr.data.decoding.resize import resize_bilinear
from vmr.data.decoding.video import VideoReader
from vmr.data.views.crops import Box, crop_boxes, resized_size
from vmr.data.views.frame_rules import view_indices
from vmr.data.views.spec import ViewSpec
from vmr.data.views.view_job import read_views

SPEC = ViewSpec(num_frames=16, size=224, num_segments=4, num_crops=3)
SIZES = ((340, 256), (640, 360), (1280, 720))
GOPS = (12, 250)


def for_each_view(path: Path) -> np.ndarray:
    """Open the video anew for each view, as a data set whose items are views does."""
    return np.stack([_crops(path, segment, [crop])[0] for segment, crop in np.ndindex(SPEC.num_segments, 3)])


def for_each_segment(path: Path) -> np.ndarray:
    """Open the video anew for each choice of frames, and crop it three times."""
    return np.concatenate([_crops(path, segment, [0, 1, 2]) for segment in range(SPEC.num_segments)])


def once(path: Path) -> np.ndarray:
    """Open the video once."""
    return read_views(str(path), SPEC)


def _crops(path: Path, segment: int, crops: list[int]) -> np.ndarray:
    """Some crops of one segment, (n, T, 3, S, S)."""
    with VideoReader(path) as video:
        sides = resized_size(video.height, video.width, SPEC.size)
        boxes = [crop_boxes(*sides, SPEC.size, SPEC.num_crops)[crop] for crop in crops]
        indices = view_indices(SPEC, video.num_frames)[segment].tolist()
        frames = [resize_bilinear(rgb, sides) for rgb in video.pictures(indices)]
    return np.stack([np.stack([_cut(frame, box) for frame in frames]) for box in boxes])


def _cut(frame: np.ndarray, box: Box) -> np.ndarray:
    top, left, height, width = box
    return frame[top : top + height, left : left + width].transpose(2, 0, 1)


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "decoded once": once,
    "for each segment (4)": for_each_segment,
    "for each view (12)": for_each_view,
}


def cpu_seconds(path: Path, runs: int) -> dict[str, float]:
    """Return the CPU seconds of each way, the least of some runs."""
    expected = once(path)
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(runs):
        for name, way in WAYS.items():
            before = time.process_time()
            views = way(path)
            best[name] = min(best[name], time.process_time() - before)
            if not np.array_equal(views, expected):
                raise SystemExit(f"{path}: the views {name} differ")
    return best


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="videos; by default H.264 of three sizes and two GOPs")
    parser.add_argument("--seconds", type=int, default=10, help="length of the videos that are made")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    files = {path.name: path for path in arguments.files}
    if not files:
        made = [Footage(*size, gop, arguments.seconds) for size in SIZES for gop in GOPS]
        files = {footage.name: footage.file() for footage in made}
    first, *others = WAYS
    table = Table("file", first, *others, title="CPU time of 12 views / of decoding once (which is in seconds)")
    for name, path in files.items():
        seconds = cpu_seconds(path, arguments.runs)
        table.add_row(name, f"{seconds[first]:.2f} s", *(f"{seconds[way] / seconds[first]:.1f}" for way in others))
    Console(width=120).print(table)
    print(environment())


if __name__ == "__main__":
    main()
