"""A long run over thousands of files, a tenth of them damaged.

It takes some minutes on two cores: `pytest -m slow tests/integration/test_soak.py`. The environment variable
VMR_SOAK_FILES sets another number of files than 5000.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.video_matrix import write_matrix, write_unreadable

NUM_FILES = int(os.environ.get("VMR_SOAK_FILES", "5000"))
WARM_UP = 500  # files after which memory must be level

# Indexes a folder, and prints what it needed: memory of this process and its workers after each 100 videos, descriptors
# and threads before and after, and what became of every file.
PROGRAM = """
import gc, hashlib, json, os, sys
from pathlib import Path
import psutil
import vmr

class Watched:
    def __init__(self, encoder):
        self._encoder, self.calls, self.memory = encoder, 0, {}

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_video(self, video):
        self.calls += 1
        if self.calls % 100 == 0:
            gc.collect()
            self.memory[self.calls] = sum(each.memory_info().rss for each in [me, *me.children(recursive=True)])
        return self._encoder.encode_video(video)

folder, out, num_workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
me = psutil.Process()
encoder = Watched(vmr.load_model("videomamba-nano-shapes"))
vmr.build_index(sys.argv[4], out + "-first", encoder).close()  # what is loaded once is loaded
encoder.calls, encoder.memory = 0, {}
before = me.num_fds(), me.num_threads()
index = vmr.build_index(
    folder, out, encoder, window_s=2.0, decode=vmr.DecodeOptions(num_workers=num_workers, timeout_s=20)
)
def short(path):
    return os.path.relpath(path, folder)

result = {
    "memory": encoder.memory,
    "children": len(me.children(recursive=True)),
    "read": [short(video) for video in index.videos],
    "damaged": [short(remark.video) for remark in index.remarks if remark.kind == "damage"],
    "failed": [short(failure.video) for failure in index.failures],
    "reasons": sorted({failure.reason for failure in index.failures}),
    "other": index.other_files,
    "rows": [[short(row.file), row.start_s, row.end_s] for row in index.windows],
    "remarks": [[short(remark.video), remark.text] for remark in index.remarks],
    "vectors": hashlib.sha256(index.vectors.tobytes()).hexdigest(),
}
index.close()
print(json.dumps({**result, "before": before, "after": (me.num_fds(), me.num_threads())}))
"""


def write_files(folder: Path, count: int) -> None:
    """Copies of every kind of video, a tenth of them damaged, some files that cannot be read, and some others."""
    sources = folder.parent / "sources"
    for name in ("readable", "unreadable"):
        (sources / name).mkdir(parents=True)
    readable = list(write_matrix(sources / "readable").values())
    unreadable = [path for path in write_unreadable(sources / "unreadable").values() if path.is_file()]
    random = np.random.default_rng(0)
    for number in range(count):
        kind = random.choice(["whole", "damaged", "unreadable", "other"], p=[0.84, 0.1, 0.03, 0.03])
        source = random.choice(unreadable if kind == "unreadable" else readable)
        data = bytearray(source.read_bytes())
        if kind == "damaged":
            data = _damage(data, random)
        elif kind == "other":
            source, data = Path(random.choice(["notes.txt", "cover.jpg"])), b"\xff\xd8\xff\xe0" + bytes(200)
        target = folder / f"{number % 50:02}" / f"{number:05}-{kind}-{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _damage(data: bytearray, random: np.random.Generator) -> bytearray:
    start, length = random.integers(len(data) // 10, len(data)), len(data) // random.choice([4, 20, 100])
    match random.choice(["cut", "scrambled", "zeros"]):
        case "cut":
            return data[:start]
        case "scrambled":
            data[start : start + length] = random.bytes(len(data[start : start + length]))
        case "zeros":
            data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def index(folder: Path, out: Path, num_workers: int, warm_up: Path) -> dict:
    arguments = [str(folder), str(out), str(num_workers), str(warm_up)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_files_of_every_kind(tmp_path):
    folder, warm_up = tmp_path / "videos", tmp_path / "warm_up"
    write_files(folder, NUM_FILES)
    warm_up.mkdir()
    (warm_up / "one.mp4").write_bytes(next(folder.rglob("*-whole-h264_gop12.mp4")).read_bytes())
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    runs = [index(folder, tmp_path / f"index{workers}", workers, warm_up) for workers in (1, 2)]
    for run in runs:
        print(json.dumps({key: run[key] for key in ("memory", "before", "after", "reasons", "other")}))
        assert run["after"] == run["before"] and run["children"] == 0
        memory = {int(calls): size for calls, size in run["memory"].items()}
        level = max(size for calls, size in memory.items() if calls <= max(WARM_UP, min(memory)))
        # The result grows by some kB for each video. A worker's memory depends on the video that it decodes.
        assert np.median(list(memory.values())[-10:]) < 1.05 * level and max(memory.values()) < 1.1 * level, memory
        assert len(run["read"]) + len(run["failed"]) + sum(run["other"].values()) == len(names) == NUM_FILES
        assert set(run["read"]) | set(run["failed"]) <= names and not set(run["read"]) & set(run["failed"])
        whole = {name for name in names if "-whole-" in name and "truncated" not in name}
        assert whole <= set(run["read"]) and whole.isdisjoint(run["damaged"])
        named = [name for name in names if "-damaged-" in name and name in {*run["damaged"], *run["failed"]}]
        print(len(named), "of", sum("-damaged-" in name for name in names), "damaged files are named")
        assert len(named) > 0.6 * sum("-damaged-" in name for name in names)
    one, two = runs
    for key in ("read", "damaged", "failed", "reasons", "other", "rows", "remarks", "vectors"):
        assert one[key] == two[key], key
