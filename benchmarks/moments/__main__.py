"""How well the best moment covers the clip that was asked for: `python -m benchmarks.moments --clips DIR`.

Real clips of 3 to 24 s are joined into videos, four to six each. Every clip is asked for by its sentence, in its own
video, and the best moment is compared with the seconds that the clip takes: the intersection over the union, 0 if they
have nothing in common. Constants of `vmr.retrieval.searching.moments` were chosen on the videos with even numbers.

`DIR` holds `clips.jsonl`, one clip a line: `id`, `video` (a path below DIR), `written_caption`, `caption_source` and
`dataset` ("label" and "ucf101" are left out). Its folder `originals` holds longer files of some clips, by their ids.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import vmr
from benchmarks.common import environment
from benchmarks.moments.joined import Part, read_clips, write_joined

BUILDS: Mapping[str, Mapping[str, Any]] = {
    "windows of 8 s": {},
    "windows of 4 s": {"window_s": 4.0},
    "shots": {"segments": "shots"},
    "whole videos": {"segments": "whole"},
}
BASELINE = "windows of 8 s, single"


def main() -> None:
    """Join videos, index them in several ways, and compare."""
    parser = argparse.ArgumentParser(description="How well a moment that is found covers what was asked for.")
    parser.add_argument("--clips", type=Path, required=True, help="folder of real clips")
    parser.add_argument("--count", type=int, default=60, help="how many videos to join")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="offline")
    parser.add_argument("--keep", type=Path, help="folder for the videos and indexes, used again if they are there")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    console = Console(width=140)
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        truth = _join(folder / "videos", options.clips, options.count, options.seed, console)
        covered = {}
        for name, build in BUILDS.items():
            console.print(f"building an index of {name}")
            index = vmr.build_index(folder / "videos", folder / name.replace(" ", "-"), options.encoder, **build)
            for kind, overlapping in (("single", True), ("merged", False)):
                covered[f"{name}, {kind}"] = _covered(index, truth, overlapping)
            index.close()
    console.print(_table(covered))
    record = {"environment": environment(), "iou": covered}
    console.print(record["environment"])
    if options.json:
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def _join(folder: Path, clips: Path, count: int, seed: int, console: Console) -> dict[str, list[Part]]:
    """Write the videos; return the parts of each, by name."""
    listed = folder.with_name("parts.json")
    if listed.exists():
        read = json.loads(listed.read_text(encoding="utf-8"))
        return {name: [Part(*part) for part in parts] for name, parts in read.items()}
    folder.mkdir(parents=True, exist_ok=True)
    known, truth = read_clips(clips), {}
    for number in range(count):
        console.print(f"joining video {number + 1} of {count}", end="\r")
        name = f"{number:03d}.mp4"
        truth[name] = write_joined(folder / name, known, np.random.default_rng([number, seed]))
    listed.write_text(json.dumps({name: [[*vars(part).values()] for part in parts] for name, parts in truth.items()}))
    return truth


def _covered(index: vmr.VideoIndex, truth: Mapping[str, Sequence[Part]], overlapping: bool) -> list[list[float]]:
    """The intersection over the union of each part and the best moment for it, by video."""
    ids = {Path(path).name: path for path in index.videos}
    found = []
    for name, parts in truth.items():
        where = f"path = {json.dumps(ids[name])}"
        found.append(
            [_iou(index.search(part.caption, 1, where=where, overlapping=overlapping)[0], part) for part in parts]
        )
    return found


def _iou(hit: vmr.Hit, part: Part) -> float:
    shared_s = min(hit.end_s, part.end_s) - max(hit.start_s, part.start_s)
    return max(0.0, shared_s) / (max(hit.end_s, part.end_s) - min(hit.start_s, part.start_s))


def _table(covered: Mapping[str, list[list[float]]]) -> Table:
    num_parts = sum(map(len, covered[BASELINE]))
    table = Table(title=f"mean IoU of {num_parts} clips with the best moment", title_justify="left")
    for column in ("moments", "all videos", "even: chosen on", "odd: held out", "odd, of single 8 s", "some overlap"):
        table.add_column(column, justify="left" if column == "moments" else "right")
    mean: Callable[[list[list[float]]], float] = lambda values: float(np.mean(np.concatenate(values)))  # noqa: E731
    for name, values in covered.items():
        even, odd = values[::2], values[1::2]
        ratio = mean(odd) / mean(covered[BASELINE][1::2])
        overlap = mean([[float(value > 0) for value in some] for some in values])
        table.add_row(name, *(f"{number:.3f}" for number in (mean(values), mean(even), mean(odd), ratio, overlap)))
    return table


if __name__ == "__main__":
    main()
