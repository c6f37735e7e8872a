"""The table of records on disk, and its cache."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra train")

from vmr.data.annotations import records as module
from vmr.data.annotations.records import Record, RecordTable, cached_table, id_of
from vmr.errors import AnnotationError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


ROWS = [
    Record("a/1.mp4", "1", ("a cat", "ein Kätzchen, 猫")),
    Record("b/2.mp4", "2", ("a dog",), start_s=1.5, end_s=4.0),
    Record("a/1.mp4", "1", ("a tom",)),
    Record("b/2.mp4", "2", ("a hound",), start_s=4.0, end_s=4.0),
    Record("b/2.mp4", "2", ("a pup",), start_s=1.5, end_s=4.0),
    Record("/far/shard.tar", "x/3.mp4", ("a bird",), offset=512, size=9),
]


def test_a_table_gives_back_its_records(tmp_path):
    table = RecordTable.build(iter(ROWS), tmp_path / "t.arrow")
    assert list(table) == ROWS
    assert list(RecordTable.open(tmp_path / "t.arrow")) == ROWS
    # videos: 1; 2 from 1.5 to 4; 1 again; 2 from 4; 2 from 1.5 to 4 again; 3
    assert [table.video_number(index) for index in range(6)] == [0, 1, 0, 2, 1, 3]
    assert (len(table), table.num_videos, table.num_captions, table.media) == (6, 4, 7, "video")
    for outside in (-1, 6):
        with pytest.raises(IndexError, match=f"record {outside} of 6"):
            table[outside]


def test_more_than_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    rows = [Record(f"{n % 7}.mp4", str(n % 7), (f"caption {n}",)) for n in range(17)]  # 4 + 4 + 4 + 4 + 1
    table = RecordTable.build(iter(rows), tmp_path / "t.arrow")
    assert list(table) == rows
    assert [table.video_number(n) for n in range(17)] == [n % 7 for n in range(17)]
    assert table.num_videos == 7


def test_pictures(tmp_path):
    table = RecordTable.build([Record("1.jpg", "1", ("a cat",), "image")], tmp_path / "t.arrow")
    assert table.media == "image"
    assert table[0].media == "image"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no captions in it"),
        ([ROWS[0], Record("x.mp4", "x", ("a", " \n"))], "x.mp4: a blank caption"),
        ([ROWS[0], Record("x.mp4", "x", ())], "x.mp4: a blank caption"),
        ([ROWS[0], Record("x.jpg", "x", ("a",), "image")], "x.jpg: image in a file of videos"),
        ([Record("x.mp4", "x", ("half \ud83d",))], "half a surrogate pair"),
    ],
)
def test_what_no_table_can_be_made_of(tmp_path, rows, message):
    with pytest.raises(AnnotationError, match=message):
        RecordTable.build(rows, tmp_path / "t.arrow")
    assert list(tmp_path.iterdir()) == []  # nothing half-written is left


def test_a_reader_that_fails_leaves_nothing(tmp_path):
    def rows():
        yield ROWS[0]
        raise AnnotationError("row 2 is wrong")

    with pytest.raises(AnnotationError, match="row 2 is wrong"):
        RecordTable.build(rows(), tmp_path / "t.arrow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("start_s", "end_s"), [(1.0, None), (None, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("inf"))])
def test_times_that_make_no_moment(start_s, end_s):
    with pytest.raises(AnnotationError, match=r"x\.mp4: "):
        Record("x.mp4", "x", ("a",), start_s=start_s, end_s=end_s)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "t.arrow").write_bytes(b"not arrow at all")
    with pytest.raises(AnnotationError, match=r"t\.arrow: not a table of records"):
        RecordTable.open(tmp_path / "t.arrow")
    table = RecordTable.build(ROWS, tmp_path / "whole.arrow")
    (tmp_path / "half.arrow").write_bytes(table.path.read_bytes()[:-100])
    with pytest.raises(AnnotationError, match=r"half\.arrow: not a table of records"):
        RecordTable.open(tmp_path / "half.arrow")


def test_ids():
    names = ["all/video1.mp4", "video1", "./video1.MKV", "1004_Juno_00.00.32.167-00.00.34.085", "a.b/c.jpg"]
    names += [
        "F_00.00.32.167-00.00.34.264",
        "CAM.MTS",
        "x.m2ts",
    ]  # the first ends in a time, not in a suffix of a video
    expected = ["video1", "video1", "video1", "1004_Juno_00.00.32.167-00.00.34.085", "c"]
    expected += ["F_00.00.32.167-00.00.34.264", "CAM", "x"]
    assert [id_of(name) for name in names] == expected


# The cache


def counted(rows, calls):
    def read(left_out):
        calls.append(1)
        left_out += ["one", "two"]
        return iter(rows)

    return read


def test_a_table_is_built_once(tmp_path, cache):
    file, calls = tmp_path / "train.json", []
    file.write_text("version 1")
    os.utime(file, (1e9, 1e9))
    first = cached_table([file], ["json"], counted(ROWS, calls))
    assert first.path.is_relative_to(cache)
    assert (first.left_out, first.num_left_out) == (("one", "two"), 2)
    assert cached_table([file], ["json"], counted(ROWS, calls)).path == first.path
    assert len(calls) == 1
    cached_table([file], ["csv"], counted(ROWS, calls))
    assert len(calls) == 2


def test_the_contents_decide(tmp_path):
    file, calls = tmp_path / "train.json", []
    file.write_text("version 1")
    cached_table([file], [], counted(ROWS, calls))
    os.utime(file, (1e9, 1e9))  # touched: the same contents
    cached_table([file], [], counted(ROWS, calls))
    assert len(calls) == 1
    file.write_text("version 2")  # as long as before
    os.utime(file, (1e9 + 1, 1e9 + 1))
    assert len(cached_table([file], [], counted(ROWS[:1], calls))) == 1
    assert len(calls) == 2


def test_a_change_within_the_clocks_tick_is_seen(tmp_path):
    """Two versions of the same size and time of change, as a file may have that was written a moment ago."""
    file = tmp_path / "train.json"
    file.write_text("version 1")
    now = file.stat().st_mtime_ns
    assert len(cached_table([file], [], counted(ROWS, []))) == 6
    file.write_text("version 2")
    os.utime(file, ns=(now, now))
    assert len(cached_table([file], [], counted(ROWS[:2], []))) == 2


@pytest.mark.parametrize("damage", [b"no database", b""])
def test_a_damaged_memory_of_hashes_costs_time_only(tmp_path, cache, damage):
    file = tmp_path / "train.json"
    file.write_text("version 1")
    os.utime(file, (1e9, 1e9))
    cached_table([file], [], counted(ROWS, []))
    (cache / "hashes.sqlite3").write_bytes(damage)
    calls = []
    for _ in range(2):
        assert len(cached_table([file], [], counted(ROWS, calls))) == 6
    assert calls == []  # the table was found by the hash, which was taken again
    assert (cache / "hashes.sqlite3").read_bytes().startswith(b"SQLite format 3")


def test_large_files_are_known_by_size_and_time(tmp_path):
    file, calls = tmp_path / "shard.tar", []
    file.write_text("version 1")
    os.utime(file, (1e9, 1e9))
    cached_table([file], [], counted(ROWS, calls), by_contents=False)
    cached_table([file], [], counted(ROWS, calls), by_contents=False)
    assert len(calls) == 1
    os.utime(file, (1e9 + 1, 1e9 + 1))
    cached_table([file], [], counted(ROWS, calls), by_contents=False)
    assert len(calls) == 2


def test_threads_wait_for_one_that_builds(tmp_path):
    file, calls = tmp_path / "train.json", []
    file.write_text("version 1")
    tables = []
    threads = [
        threading.Thread(target=lambda: tables.append(list(cached_table([file], [], counted(ROWS, calls)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert tables == [ROWS] * 4


def test_errors_name_the_file(tmp_path):
    file = tmp_path / "train.json"
    with pytest.raises(AnnotationError, match=r"train\.json: cannot read this file: No such file"):
        cached_table([file], [], counted(ROWS, []))
    file.write_text("x")
    with pytest.raises(AnnotationError, match=r"train\.json: there are no captions in it"):
        cached_table([file], [], counted([], []))


MEASURE = """
import sys
import numpy, pyarrow.ipc
from vmr.data.annotations.records import RecordTable

def anonymous_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

before = anonymous_mb()
table = RecordTable.open(sys.argv[1])
for index in numpy.random.default_rng(0).integers(0, len(table), 20000).tolist():
    table[index]
print(anonymous_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell mapped memory from its own")
def test_captions_stay_on_disk(tmp_path):
    words = " ".join(["word"] * 30)
    rows = (Record(f"{n}.mp4", str(n), (f"{n} {words}",)) for n in range(100_000))
    table = RecordTable.build(rows, tmp_path / "t.arrow")
    size_mb = table.path.stat().st_size / 2**20
    assert size_mb > 20
    command = [sys.executable, "-c", MEASURE, str(table.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(run.stdout) < size_mb / 3
