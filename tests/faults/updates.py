"""Kills updates of an index from a folder of videos that changes between them, and looks each time at what is there.

`python -m tests.faults.updates FOLDER KILLS SEED` prints one JSON object: `kills`; `ended`, how many updates ended
before they were to be killed; `told`, how many changes updates had told of; and `wrong`, a line for each time at which

    verify found something, or left files were there after an update that ended,
    a video had neither its rows of before, which may have moved with a file, nor those of its file, or not the latter
    though an update had told of it,
    or an update that ended had not made the index that belongs to the folder.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vmr
from tests.faults import children
from tests.faults.history import is_named
from tests.indexes import TwoDimensional
from tests.video_matrix import X264, Recipe, write_video
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.update import update_index

CLIPS, NAMES = 6, 9
LONGEST_S = 0.05  # from a change to the kill; about as long as one video takes

Content = dict[str, tuple[str, bytes]]
"""Path of a video -> SHA-256 of its file, and its vectors."""


class Colours(TwoDimensional):
    """An encoder for videos of one colour."""

    preprocess = vmr.Preprocess(1, 16, "stretch", *([0.5] * 3,) * 2)


def main() -> None:
    torch.set_num_threads(1)
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    videos, out = folder / "videos", folder / "index"
    videos.mkdir()
    children.call(lambda: make_clips(folder))
    children.call(lambda: update(folder, folder / "of clips"))
    known = {path: each for path, (_, each) in children.call(lambda: content(folder / "of clips")).items()}
    made: Content = {}  # what belongs to the folder
    before: Content = {}  # what the index held
    told: dict[str, Any] = {"kills": 0, "ended": 0, "told": 0, "wrong": []}
    while told["kills"] < kills:
        change_files(folder, chance, made, known)
        lines = killed(videos, out, chance.randint(0, 3), LONGEST_S * chance.random())
        is_ended = lines[-1:] == ["ended"]
        told["ended" if is_ended else "kills"] += 1
        told["told"] += len(lines) - is_ended
        try:
            before = children.call(partial(checked, out, before, dict(made), lines))
        except (children.ChildError, AssertionError) as error:
            told["wrong"].append(f"after {lines}: {error}")
            shutil.rmtree(out, ignore_errors=True)
            before = {}
    print(json.dumps(told))


def make_clips(folder: Path) -> None:
    """Videos of 1.2 s, each of another colour: in windows of 1 s they have 2 rows."""
    for number in range(CLIPS):

        def coloured(picture: np.ndarray, number: int = number) -> np.ndarray:
            return np.full_like(picture, 255) * np.array([number / CLIPS, 0, 1 - number / CLIPS])

        stored = Recipe(options=X264, num_frames=30, stored=lambda picture, of=coloured: of(picture).astype(np.uint8))
        write_video(folder / f"{number}.mp4", stored, 32, 32)


def change_files(folder: Path, chance: random.Random, made: Content, known: dict[str, bytes]) -> None:
    """Add, replace, rename and remove some files."""
    videos = folder / "videos"
    for _ in range(chance.randint(1, 4)):
        path = videos / f"{chance.randrange(NAMES)}.mp4"
        old = made.pop(str(path), None)
        if old is not None and chance.random() < 0.3 and made:
            path.unlink()
        elif old is not None and chance.random() < 0.3:
            new = videos / f"renamed-{chance.randrange(1000)}.mp4"
            path.rename(new)
            made[str(new)] = old
        else:
            clip = folder / f"{chance.randrange(CLIPS)}.mp4"
            data = clip.read_bytes() + bytes(chance.randrange(1, 1000))  # no copy of another one
            path.write_bytes(data)
            changed_ns = chance.randrange(10**18)
            os.utime(path, ns=(changed_ns, changed_ns))
            made[str(path)] = (hashlib.sha256(data).hexdigest(), known[str(clip)])


def update(videos: Path, out: Path, **options: Any) -> None:
    update_index(
        videos, out, Colours(), SegmentOptions(window_s=1.0), decode=vmr.DecodeOptions(num_workers=1), **options
    )


def killed(videos: Path, out: Path, at_least: int, pause_s: float) -> list[str]:
    """Start an update, and kill it when it has told of some changes and gone on for a moment; returns what it told."""
    read_end, write_end = os.pipe()

    def run() -> None:
        os.setpgid(0, 0)  # with its workers
        update(videos, out, hooks=Hooks(tell=lambda line: os.write(write_end, f"{line}\n".encode())))
        os.write(write_end, b"ended\n")

    child = children.start(run)
    os.close(write_end)
    with suppress(PermissionError, ProcessLookupError):  # the child may have done it, and be at its end
        os.setpgid(child, child)
    with os.fdopen(read_end, "r") as pipe:
        lines = [line for line, _ in zip(pipe, range(at_least), strict=False)]
        time.sleep(pause_s)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return [line.strip() for line in (*lines, *pipe)]


def checked(out: Path, before: Content, made: Content, lines: list[str]) -> Content:
    """Check an index after an update; returns what it holds."""
    found = content(out) if is_finished(out) else {}
    faults = verify(out) if found else []
    assert not faults, faults
    for path in before.keys() | made.keys() | found.keys():
        is_moved = path not in found and before.get(path) in found.values()
        assert is_moved or found.get(path) in (before.get(path), made.get(path)), (
            f"{path} is neither as before nor as its file"
        )
    for line in lines:
        path = line.partition(": ")[2].rpartition("-> ")[2]
        assert found.get(path) == made.get(path), f"{line}, but it is not so"
    if lines[-1:] == ["ended"]:
        assert found == made, "the update has ended, but the index is not that of the folder"
        left = [file.name for file in out.iterdir() if not is_named(out, file.name)]
        assert not left, left
    return found


def content(out: Path) -> Content:
    with IndexReader(out) as reader, reader.snapshot() as snapshot:
        (space,) = snapshot.spaces()
        vectors = {block.first_window: block.vectors.tobytes() for block in snapshot.blocks(space.id)}
        return {video.file: (video.content_hash.hex(), vectors[video.first_window]) for video in snapshot.videos()}


if __name__ == "__main__":
    main()
