"""One process changes an index while others search it all the time, and check every answer.

`python -m tests.faults.together FOLDER SECONDS READERS SEED` prints one JSON object: `commits`, how many changes were
acknowledged; `files`, how many times a file of FAISS was made; `searches`; `inside`, those that began and ended while
one commit was under way; `p50_ms` and `p99_ms`, how long searches took; and `wrong`, a line for each wrong answer:

    a video whose removal had been acknowledged before the search began;
    without a video whose addition had been acknowledged, and whose removal was not asked for before the search ended;
    with a moment that no video ever had at this path.

Every addition has a number, from which its vectors follow; times of its windows tell the number.
"""

import json
import mmap
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vmr
from tests.faults import children
from tests.patience import PATIENCE_S
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds

DIM, WINDOWS, SLOTS = 32, 8, 300
STEP_S = 1000.0  # windows of addition n start between n and n + 1 times this
FIRST = 150  # additions in the first commit: enough rows for searches that do not read all of them
MOST = 100_000  # additions
FEWEST = 100  # commits, also on a machine that stands still meanwhile
SETTINGS = IndexSettings(4.0, 4.0)
STATE = FileState(1, 1, 1, 10**10)
THRESHOLDS = Thresholds(file_rows=500, list_rows=1500, flat_delta=300, delta=300, delta_share=0.02)

ABSENT, ADDED, LEAVING, REMOVED = range(4)  # as acknowledged, and asked for


class Shared:
    """Memory that all processes see: what has become of each addition, and whether a commit is under way."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, MOST + 16)

    def states(self) -> np.ndarray:
        """A copy."""
        return np.frombuffer(self._memory[16:], np.uint8)

    def set(self, numbers: Sequence[int], state: int) -> None:
        for number in numbers:
            self._memory[16 + number] = state

    @property
    def commit(self) -> int:
        """Number of the commit that is under way; 0 for none."""
        return int.from_bytes(self._memory[:8], "little")

    @commit.setter
    def commit(self, number: int) -> None:
        self._memory[:8] = number.to_bytes(8, "little")

    @property
    def is_over(self) -> bool:
        return self._memory[8] > 0

    def end(self) -> None:
        self._memory[8] = 1


class Numbers:
    """An encoder: the text "17" is the vector of the third window of addition 17."""

    name, about, embed_dim, fingerprint = "numbers", "for tests", DIM, "f" * 16
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([vectors(int(text))[2] for text in texts]))

    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def vectors(number: int) -> np.ndarray:
    rows = np.random.default_rng(number).normal(size=(WINDOWS, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def path(number: int) -> str:
    return f"{number * 7 % SLOTS}.mp4"


def main() -> None:
    folder, seconds, num_readers, seed = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    shared = Shared()
    with IndexWriter(folder, SETTINGS) as writer:
        _commit(writer, shared, [*range(FIRST)], [], 0)
    writing = children.begin(lambda: change_and_end(folder, shared, seed), seconds + PATIENCE_S)
    reading = [
        children.begin(lambda own=own: read(folder, shared, own), seconds + PATIENCE_S) for own in range(num_readers)
    ]
    time.sleep(seconds)
    while shared.commit < 2 * FEWEST and not shared.is_over:  # `commit` also counts the ends of commits
        time.sleep(0.1)
    shared.end()
    told, found = writing(), [each() for each in reading]
    times = np.sort(np.concatenate([each.pop("times") for each in found])) * 1000
    wrong = [line for each in found for line in each["wrong"]] + list(map(str, verify(folder)))
    told |= {"searches": len(times), "inside": sum(each["inside"] for each in found), "wrong": wrong}
    told |= {f"p{share}_ms": round(float(times[len(times) * share // 100]), 2) for share in (50, 99)}
    print(json.dumps(told | {"longest_ms": round(float(times[-1]), 2)}))


def change_and_end(folder: Path, shared: Shared, seed: int) -> dict[str, Any]:
    """Do what `change` does; nobody waits for more if it fails."""
    try:
        return change(folder, shared, seed)
    finally:
        shared.end()


def change(folder: Path, shared: Shared, seed: int) -> dict[str, Any]:
    """Add, replace and remove until the time is over."""
    chance = random.Random(seed)
    live = {path(number): number for number in range(FIRST)}
    number, commits, files = FIRST, 0, 0
    with IndexWriter(folder) as writer:
        while not shared.is_over and number < MOST - 3:
            commits += 1
            added = [*range(number, number + chance.choice([0, 1, 1, 2]))]
            replaced = [live.pop(path(each)) for each in added if path(each) in live]
            removed = chance.sample(sorted(live), 1) if len(live) > FIRST // 2 and chance.random() < 0.7 else []
            left = [live.pop(each) for each in removed]
            _commit(writer, shared, added, [*left, *replaced], pause_s=0.02 if commits % 5 == 0 else 0.0)
            live |= {path(each): each for each in added}
            number += len(added)
            if commits % 20 == 0:
                files += bring_up_to_date(writer, 1, thresholds=THRESHOLDS)
            if commits % 150 == 0:
                writer.compact()
    return {"commits": commits, "files": files}


def _commit(writer: IndexWriter, shared: Shared, added: list[int], removed: list[int], pause_s: float) -> None:
    shared.set(removed, LEAVING)
    shared.commit += 1
    with writer.commit() as changes:
        if not changes.snapshot.spaces():
            changes.add_space(Space(0, "numbers", "numbers", "f" * 16, DIM, "float16", {"num_frames": 1}))
        for number in removed:
            video = changes.snapshot.video_at(f"/videos/{path(number)}")
            assert video is not None
            changes.remove_video(video.id)
        for number in added:
            _put(changes, number)
        time.sleep(pause_s)
    shared.commit += 1
    shared.set(removed, REMOVED)
    shared.set(added, ADDED)


def _put(changes: Changes, number: int) -> None:
    start_s = STEP_S * number
    spans = tuple((start_s + 4.0 * window, start_s + 4.0 * window + 4.0) for window in range(WINDOWS))
    changes.put_video(NewVideo("/videos", path(number), b"", STATE, spans[-1][1], (), spans, {1: vectors(number)}))


def read(folder: Path, shared: Shared, seed: int) -> dict[str, Any]:
    """Search until the time is over."""
    chance = random.Random(seed)
    index = vmr.open_index(folder, Numbers())
    times: list[float] = []
    told: dict[str, Any] = {"wrong": [], "inside": 0}
    while not shared.is_over:
        if chance.random() < 0.005:
            index.close()
            index = vmr.open_index(folder, Numbers())
        commit, before = shared.commit, shared.states()
        wanted = int(chance.choice(np.flatnonzero(before == ADDED)))
        began = time.perf_counter()
        hits = index.search(str(wanted), k=5, overlapping=True, keep_duplicates=True)
        times.append(time.perf_counter() - began)
        after = shared.states()
        told["inside"] += commit % 2 == 1 and commit == shared.commit
        numbers = [int(hit.start_s // STEP_S) for hit in hits]
        if wanted not in numbers and after[wanted] == ADDED:
            told["wrong"].append(f"addition {wanted} is not found: {hits}")
        for number, hit in zip(numbers, hits, strict=True):
            if before[number] == REMOVED:
                told["wrong"].append(f"addition {number} was removed and is found")
            if hit.video != f"/videos/{path(number)}":
                told["wrong"].append(f"addition {number} is found at {hit}")
    return told | {"times": times}


if __name__ == "__main__":
    main()
