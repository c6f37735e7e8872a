"""Bringing an index up to date over many files: none changed, and all moved because a folder was renamed.

    python -m benchmarks.index.files
    python -m benchmarks.index.files --files 1000 --json files.json

`vmr-index build` indexes one small clip. Then copies of the clip are written, each with a few bytes more so that all
contents differ, and the index is given their rows with the vectors of the clip, so that the benchmark embeds nothing.
Each row of the table is `vmr-index build` in a new process. That nothing was decoded shows in the ids of the windows,
which are never used again: a video that is embedded again gets others.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.startup import Cost, measure, table
from vmr.data.shapes.files import make_shapes
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState, NewVideo
from vmr.retrieval.storage.writer import IndexWriter

VMR_INDEX = [sys.executable, "-c", "from vmr.cli.index import main; main()"]
AN_HOUR_NS = 3600 * 10**9
VIDEOS_OF_A_FOLDER = 100
PART = "part"  # the folder that is renamed


def command(videos: Path, index: Path) -> Sequence[str]:
    """Give the command that brings the index up to date."""
    return [*VMR_INDEX, "build", str(videos), "--out", str(index)]


def write_copies(clip: Path, folder: Path, count: int) -> None:
    """Write copies of an MP4 file that differ in a box which decoders skip, with times that lie in the past.

    Args:
        clip: the file.
        folder: for the copies, in folders of VIDEOS_OF_A_FOLDER.
        count: how many.
    """
    content, past = clip.read_bytes(), clip.stat().st_mtime_ns - AN_HOUR_NS
    for number in range(count):
        path = folder / f"{number // VIDEOS_OF_A_FOLDER:04d}" / f"{number:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))
        os.utime(path, ns=(past, past))


def add_rows(index: Path, videos: Path) -> None:
    """Give an index that holds one clip the rows of all other files, with the vectors of the clip.

    Args:
        index: the folder of the index.
        videos: the folder of the files.
    """
    with IndexWriter(index) as writer:
        with writer.reader.snapshot() as snapshot:
            (first,) = snapshot.videos()
            spans = tuple((window.start_s, window.end_s) for window in snapshot.windows())
            vectors = {space.id: next(snapshot.blocks(space.id)).vectors for space in snapshot.spaces()}
        with writer.commit() as changes:
            for path in sorted((videos / PART).rglob("*.mp4")):
                state, digest = FileState.of(path), hashlib.sha256(path.read_bytes()).digest()
                assert state is not None
                relative = path.relative_to(first.root).as_posix()
                changes.put_video(NewVideo(first.root, relative, digest, state, first.duration_s, (), spans, vectors))


def windows_of(index: Path) -> dict[int, str]:
    """Give the id of every window, and the name of its file without the folder."""
    with IndexReader(index) as reader, reader.snapshot() as snapshot:
        assert not snapshot.failures()
        return {window.id: Path(window.file).name for window in snapshot.windows()}


def run(folder: Path, num_files: int, runs: int) -> list[Cost]:
    """Make the files and the index, and bring it up to date.

    Args:
        folder: an empty folder.
        num_files: how many videos.
        runs: of each update.

    Returns:
        What the updates cost.
    """
    videos, index = folder / "videos", folder / "index"
    make_shapes(folder / "shapes", num_clips=1, split="train")
    videos.mkdir()
    clip = shutil.copy(next((folder / "shapes").rglob("*.mp4")), videos / "first.mp4")
    measure("build", command(videos, index), 1)
    write_copies(clip, videos / PART, num_files - 1)
    add_rows(index, videos)
    before = windows_of(index)
    costs = [measure(f"{num_files:,} files, none changed", command(videos, index), runs, "5 s")]
    moves = []
    for number in range(runs):
        (videos / (PART if number == 0 else f"{PART}{number}")).rename(videos / f"{PART}{number + 1}")
        moves.append(
            measure(f"{num_files - 1:,} files moved with their folder", command(videos, index), 1, "no decoding")
        )
    costs.append(replace(moves[0], cpu_s=min(m.cpu_s for m in moves), peak_mb=min(m.peak_mb for m in moves)))
    assert windows_of(index) == before, "videos were embedded again"
    return [*costs, measure("vmr-index build --help, for comparison", [*VMR_INDEX, "build", "--help"], runs)]


def main() -> None:
    """Run the benchmark, print the table, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        costs = run(Path(folder), options.files, options.runs)
    Console().print(table("vmr-index build of an index that is there", costs))
    if options.json:
        from benchmarks.common import environment

        record = {"environment": environment(), "files": options.files, "updates": [asdict(cost) for cost in costs]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
