"""Streams: every row once an epoch, each caption with its own video, and taken up again at the very next pair."""

import json
import re
import shutil
import threading
import time
import zipfile
from collections import Counter
from dataclasses import asdict
from itertools import islice

import numpy as np
import pytest

from tests.patience import PATIENCE_S
from tests.unit.counted import SPEC, num_frames, num_frames_of
from vmr.data.sources.hub_rows import HubData, HubRow
from vmr.data.sources.hub_stream import HubReader, HubStream
from vmr.data.training.clips import ClipSpec
from vmr.data.training.loader import TrainLoader
from vmr.data.training.order import LoaderPosition, Walk
from vmr.errors import VmrError

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.fixture
def shards(datasets, tmp_path, counted_videos):
    """A data set of five parquet files of 7, 7, 7, 7 and 2 rows, whose captions say row and number of frames."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [(f"{n}: {n % 4 + 1} frames", counted_videos[n % 4]) for n in range(30)]
    features = datasets.Features({"video": datasets.Video(decode=False), "caption": datasets.Value("string")})
    for number, start in enumerate(range(0, 30, 7)):
        part = rows[start : start + 7]
        clips = [{"bytes": content, "path": "clip.mp4"} for _, content in part]
        table = datasets.Dataset.from_dict({"video": clips, "caption": [caption for caption, _ in part]}, features)
        table.cast_column("video", datasets.Video()).to_parquet(folder / f"train-{number:05}.parquet")
    return folder


@pytest.fixture
def stream(shards):
    return HubStream(HubData(str(shards)), 8)


def walk_of(stream, rank=0, world=1, position=None):
    position = position or LoaderPosition(0, (0,), (None,), seed=3, rank=rank, world=world, lengths=(0,))
    spec = ClipSpec(1, 2, flip=False)
    return Walk(stream, 0, 0, spec, position=position, pool=None, stopped=threading.Event())


def captions(walk, count):
    for _ in range(count):
        walk.submit()
    return [walk.next()[0].caption for _ in range(count)]


def row_of(caption):
    return int(caption.partition(":")[0])


def test_every_row_comes_once_an_epoch_in_another_order(stream):
    reader = stream.reader((0,), 0, 1, None)
    first, second = ([row_of(reader.read().captions[0]) for _ in range(30)] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    # A shard is read from its start to its end: 0 1 2 3 4 5 6, and so on.
    starts = [index for index, row in enumerate(first) if row % 7 == 0]
    assert all(first[start : start + 2] == [first[start], first[start] + 1] for start in starts)


def test_a_walk_shuffles_a_buffer_at_a_time(stream):
    """Places 8 to 15 are the rows that a reader gives as its 9th to 16th, in another order; they go on over epochs."""
    walk, reader = walk_of(stream), stream.reader((3, 2, 0), 0, 1, None)
    for _ in range(6):
        found = captions(walk, 8)
        read = [reader.read().captions[0] for _ in range(8)]
        assert sorted(found) == sorted(read)
        assert found != read


@pytest.mark.parametrize("world", [2, 5, 6])
def test_ranks_share_an_epoch_out(stream, world):
    """By shards where there are enough of them, else by rows of each shard; seven rows are not shared out evenly."""
    readers = [stream.reader((0,), rank, world, None) for rank in range(world)]
    shards = [reader._order(0) for reader in readers]
    if world <= 5:
        assert sorted(shard for own in shards for shard in own) == [0, 1, 2, 3, 4]
    else:
        assert all(sorted(own) == [0, 1, 2, 3, 4] for own in shards)
    seen = Counter()
    for reader in readers:
        while True:
            clip = reader.read()
            if reader.state_dict()["epoch"] > 0:
                break
            seen[row_of(clip.captions[0])] += 1
    assert set(seen.values()) == {1}
    assert len(seen) == 30


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2), (5, 6)])
def test_a_reader_goes_on_from_any_state(stream, rank, world):
    reader = stream.reader((1,), rank, world, None)
    states, rows = [reader.state_dict()], []
    for _ in range(40):
        rows.append(row_of(reader.read().captions[0]))
        states.append(json.loads(json.dumps(reader.state_dict())))
    for start in range(38):
        again = stream.reader((1,), rank, world, states[start])
        assert again.state_dict() == states[start]
        assert [row_of(again.read().captions[0]) for _ in range(2)] == rows[start : start + 2]


def test_batches_go_on_from_any_position(shards):
    """Through JSON, with another stream object, in and between buffers and epochs: 3 of 8 rows a batch, 30 an epoch."""

    def batches(position, count):
        stream = HubStream(HubData(str(shards)), 8)
        with TrainLoader([(stream, 1.0)], SPEC, batch_size={"video": 3}, seed=0, in_process=True) as loader:
            return list(islice(loader.batches(position), count))

    straight = batches(None, 14)
    for batch in straight:
        # "12: 1 frames" -> 1; equal videos have equal ids
        assert [num_frames(clip) for clip in batch.video] == [int(text.split()[1]) for text in batch.captions]
        assert len(set(batch.ids.tolist())) == len({text.split()[1] for text in batch.captions})
    for stop in (1, 2, 3, 8, 10):
        position = LoaderPosition.of(json.loads(json.dumps(asdict(straight[stop - 1].position))))
        rest = batches(position, 2)
        assert [batch.captions for batch in rest] == [batch.captions for batch in straight[stop : stop + 2]]
        assert all(np.array_equal(one.video, two.video) for one, two in zip(rest, straight[stop:], strict=False))


def test_positions_saved_under_the_old_name_are_read(shards):
    """Checkpoints called the states of streams "bookmarks"; the oldest, made before there were streams, lack them."""
    state = {"epoch": 1, "shards": 2, "within": None}
    saved = {"batch": 4, "taken": [12], "bookmarks": [state], "seed": 0, "rank": 0, "world": 1, "lengths": [5]}
    position = LoaderPosition.of(saved)
    assert position == LoaderPosition(4, (12,), (state,), seed=0, rank=0, world=1, lengths=(5,))
    assert LoaderPosition.of(json.loads(json.dumps(asdict(position)))) == position
    del saved["bookmarks"]
    assert LoaderPosition.of(saved).stream_states == (None,)


def test_two_loops_over_one_stream_do_not_mix_their_clips(stream):
    walks = [walk_of(stream, rank, 2) for rank in range(2)]
    for _ in range(12):
        for walk in walks:
            walk.submit()
    for walk in walks:
        for pair, *_ in walk._submitted:
            assert num_frames_of(pair) == int(pair.caption.split()[1])


def test_rows_of_paths_and_rows_without_captions(datasets, tmp_path):
    (tmp_path / "data").mkdir()
    rows = {"video": ["a.mp4", "b", "a.mp4"], "caption": [["x", "y"], [" "], ["z"]]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "data/train-0.parquet")
    stream = HubStream(HubData(str(tmp_path / "data"), root=tmp_path))
    reader = stream.reader((0,), 0, 1, None)
    first, without, again = (reader.read() for _ in range(3))
    assert (first.path, first.captions, again.captions) == (tmp_path / "a.mp4", ("x", "y"), ("z",))
    assert first.name.endswith(" (a.mp4)")
    assert first.id == again.id != without.id
    assert without.name.endswith("(no caption)")
    assert not without.path.exists()


def test_clips_inside_an_archive(datasets, tmp_path, counted_videos):
    """What `datasets` gives of one is an address, not bytes; one that names no member is a clip that is not there."""
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data/train.zip", "w") as archive:
        for n, content in enumerate(counted_videos):
            archive.writestr(f"{n}.mp4", content)
        lines = [json.dumps({"file_name": f"{n}.mp4", "caption": f"{n}: {n + 1} frames"}) for n in range(4)]
        archive.writestr("metadata.jsonl", "\n".join(lines))
    stream = HubStream(HubData(str(tmp_path / "data"), root=tmp_path))
    reader, seen = stream.reader((0,), 0, 1, None), {}
    while len(seen) < 4:
        pair = reader.read().pair(np.random.default_rng(0))
        seen[pair.caption] = num_frames_of(pair)
        assert re.search(r"train:[0-9a-f]{12} \(zip://\d\.mp4::.*train\.zip\)$", pair.name)
    assert seen == {"0: 1 frames": 1, "1: 2 frames": 2, "2: 3 frames": 3, "3: 4 frames": 4}
    row = HubRow(("gone",), f"zip://9.mp4::{tmp_path}/data/train.zip", None)
    assert not stream.files().captioned(row, 0, "x", 0).path.exists()
    with pytest.raises(VmrError, match=r"nowhere://9\.mp4: cannot be read \(ValueError"):
        stream.files().captioned(HubRow(("of no protocol",), "nowhere://9.mp4", None), 0, "x", 0)


def test_streams_that_are_not_there(datasets, shards, tmp_path):
    with pytest.raises(VmrError, match=r"data: no column 'text' \(it has video, caption\)"):
        HubStream(HubData(str(shards), caption_column="text"))
    for name, split in (("nobody/nothing", "train"), (str(shards), "validation")):
        with pytest.raises(VmrError, match=f"{name}: cannot load this data set") as caught:
            HubStream(HubData(name, split))
        assert "\n" not in str(caught.value)
    datasets.Dataset.from_dict({"video": ["a"], "caption": ["b"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(VmrError, match="saved: was written by save_to_disk, so there is nothing to stream"):
        HubStream(HubData(str(tmp_path / "saved")))
    with pytest.raises(VmrError, match="the shuffle buffer of a stream has at least 1 row, got 0"):
        HubStream(HubData(str(shards)), 0)


def test_a_stream_without_rows_ends_rather_than_waits(datasets, stream, tmp_path):
    with pytest.raises(VmrError, match="data:train: has no rows for process 7 of 8"):  # shards of seven rows at most
        stream.reader((0,), 7, 8, None).read()
    (tmp_path / "empty").mkdir()
    features = datasets.Features({"video": datasets.Value("string"), "caption": datasets.Value("string")})
    empty = datasets.Dataset.from_dict({"video": [], "caption": []}, features)
    empty.to_parquet(tmp_path / "empty/train-0.parquet")
    stream = HubStream(HubData(str(tmp_path / "empty")))
    with pytest.raises(VmrError, match="empty:train: has no rows for process 0 of 1"):
        stream.reader((0,), 0, 1, None).read()


def test_a_rank_may_draw_shards_without_rows(datasets, tmp_path):
    (tmp_path / "half").mkdir()
    features = datasets.Features({"video": datasets.Value("string"), "caption": datasets.Value("string")})
    for number, rows in enumerate(([], ["a.mp4"])):
        table = datasets.Dataset.from_dict({"video": rows, "caption": rows}, features)
        table.to_parquet(tmp_path / f"half/train-{number}.parquet")
    stream = HubStream(HubData(str(tmp_path / "half")))
    assert [stream.reader((0,), rank, 2, None).read().captions for rank in range(2)] == [("a.mp4",), ("a.mp4",)]


def test_a_stream_that_has_changed_is_not_gone_on_with(shards):
    def loader():
        return TrainLoader([(HubStream(HubData(str(shards)), 8), 1.0)], SPEC, batch_size={"video": 3}, seed=0)

    with loader() as before:
        position = next(before.batches()).position
    shutil.copy(shards / "train-00000.parquet", shards / "train-00009.parquet")
    with loader() as after, pytest.raises(VmrError, match="that of another run"):
        after.batches(position)


def test_closing_does_not_wait_for_a_buffer(shards, monkeypatch):
    """Reading the buffer would take an hour."""
    read = HubReader.read
    monkeypatch.setattr(HubReader, "read", lambda reader: (time.sleep(0.1), read(reader))[1])
    stream = HubStream(HubData(str(shards)), 36_000)
    with TrainLoader([(stream, 1.0)], SPEC, batch_size={"video": 3}, seed=0, in_process=True) as loader:

        def consume():
            with pytest.raises(VmrError, match="closed"):
                next(loader.batches())

        consumer = threading.Thread(target=consume, daemon=True)
        consumer.start()
        time.sleep(0.5)
        loader.close()
        consumer.join(timeout=PATIENCE_S)
        assert not consumer.is_alive()


def test_a_stream_that_breaks_off_says_so_in_one_line(shards):
    stream = HubStream(HubData(str(shards)), 8)
    for number in (1, 3):
        (shards / f"train-{number:05}.parquet").write_bytes(b"not parquet")
    reader = stream.reader((0,), 0, 1, None)
    with pytest.raises(VmrError, match=r"data:train: cannot read on \(\w+: .*\); the same command goes on") as caught:
        for _ in range(31):
            reader.read()
    assert "\n" not in str(caught.value)
