"""Training pairs from tar shards."""

import io
import json
import subprocess
import sys
import tarfile
import weakref

import numpy as np
import pytest

from tests.shards import write_shard
from tests.unit.counted import SPEC, num_frames, num_frames_of

pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra train")

from vmr.data.decoding.options import DecodeOptions
from vmr.data.sources.tar import TarSource, find_shards
from vmr.data.training.loader import TrainLoader
from vmr.errors import AnnotationError, VmrError

pytestmark = pytest.mark.usefixtures("temporary")

ONE_WORKER = DecodeOptions(num_workers=1)


@pytest.fixture
def shards(tmp_path, counted_videos):
    videos = counted_videos
    one = {
        "000.mp4": videos[0],
        "000.txt": "one frame\n",
        "001.json": '{"caption": ["two", "deux"]}',
        "001.mp4": videos[1],
    }
    two = {"x/000.mp4": videos[2], "x/000.json": '{"caption": "no"}', "x/000.txt": "three", "x/000.jpg": b"no video"}
    two |= {"x/001.txt": "no video", "x/002.mp4": videos[0], "x/003.mp4": videos[3], "x/003.caption": "four"}
    return [write_shard(tmp_path / "s-00.tar", one), write_shard(tmp_path / "s-01.tar", two)]


def test_samples_of_shards(shards):
    source = TarSource(shards, "video", "web")
    assert (source.name, source.media, len(source), source.num_ids) == ("web", "video", 4, 4)
    rng = np.random.default_rng(0)
    pairs = [source.pair(index, rng) for index in (3, 0, 1, 2)]  # in any order
    assert [num_frames_of(pair) for pair in pairs] == [4, 1, 2, 3]
    assert [pair.id for pair in pairs] == [3, 0, 1, 2]
    assert [pair.caption for pair in pairs if pair.id != 1] == ["four", "one frame", "three"]
    assert {source.pair(1, rng).caption for _ in range(50)} == {"two", "deux"}
    assert pairs[3].name == f"{shards[1]}/x/000.mp4"
    left_out = f"{shards[1]}/x/001, {shards[1]}/x/002"
    assert source.notes == (f"web: 2 samples have no video or no caption, such as {left_out}",)


def test_pictures_in_shards(shards):
    source = TarSource(shards, "image", "web")
    pair = source.pair(0, np.random.default_rng(0))
    assert (len(source), pair.caption, pair.path.read_bytes()) == (1, "three", b"no video")
    assert pair.path.suffix == ".jpg"


def test_shards_are_gone_through_once(shards, monkeypatch):
    TarSource(shards, "video", "web")
    monkeypatch.setattr(tarfile, "open", None)
    assert len(TarSource(shards, "video", "web")) == 4


def test_few_temporary_files_are_kept_and_none_at_the_end(shards, temporary):
    source = TarSource(shards, "video", "web", keep=2)
    rng = np.random.default_rng(0)
    paths = [source.pair(index, rng).path for index in (0, 1, 0, 2)]
    assert paths[0] == paths[2]
    assert [path.exists() for path in paths] == [True, False, True, True]  # 1 was asked for longest ago
    folder, gone = paths[0].parent, weakref.ref(source)
    del source
    assert gone() is None
    assert not folder.exists()


def test_no_temporary_files_outlive_the_program(shards, temporary):
    program = (
        "import sys, numpy; from pathlib import Path; from vmr.data.sources.tar import TarSource;"
        "source = TarSource([Path(name) for name in sys.argv[1:]], 'video', 'web');"
        "print(source.pair(0, numpy.random.default_rng(0)).path)"
    )
    run = subprocess.run([sys.executable, "-c", program, *map(str, shards)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(str(temporary))
    assert list(temporary.glob("vmr-clips-*")) == []


def test_a_shard_that_goes_away_is_a_clip_that_cannot_be_decoded(shards):
    source = TarSource(shards, "video", "web")
    shards[1].unlink()
    pair = source.pair(2, np.random.default_rng(0))
    assert not pair.path.exists()
    assert num_frames_of(source.pair(0, np.random.default_rng(0))) == 1


def test_shards_that_are_none(tmp_path, shards):
    (tmp_path / "text.tar").write_text("no tar" * 500)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(shards[1].read_bytes()[:5000])
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(shards[0], "000.mp4")
    for shard in (tmp_path / "text.tar", cut, packed):
        with pytest.raises(AnnotationError, match=f"{shard.name}: not a whole, uncompressed tar file"):
            TarSource([shards[0], shard], "video", "web")


def test_samples_that_make_no_sense(tmp_path):
    dots = write_shard(tmp_path / "dots.tar", {"a.1.mp4": b"", "a.2.mp4": b"", "a.txt": "c"})
    with pytest.raises(AnnotationError, match=r"a\.1\.mp4 and a\.2\.mp4 are one sample"):
        TarSource([dots], "video", "web")
    bad = write_shard(tmp_path / "bad.tar", {"a.mp4": b"", "a.json": "{"})
    with pytest.raises(AnnotationError, match=r"bad\.tar: a\.json holds no caption"):
        TarSource([bad], "video", "web")
    latin = write_shard(tmp_path / "latin.tar", {"a.mp4": b"", "a.txt": b"caf\xe9"})
    with pytest.raises(AnnotationError, match=r"latin\.tar: a\.txt holds no caption"):
        TarSource([latin], "video", "web")
    empty = write_shard(tmp_path / "empty.tar", {"a.mp4": b"", "b.txt": "c", "c.json": "[]"})
    with pytest.raises(AnnotationError, match=r"empty\.tar: there are no captions"):
        TarSource([empty], "video", "web")


def captions_of(*shards):
    source = TarSource(shards, "video", "web")
    return [source.table[index].captions for index in range(len(source))]


def test_the_json_that_holds_the_caption(tmp_path, counted_videos):
    """Plain fields first, then others, and metadata of the clip last, in any order of the members."""
    caption, other, none = (json.dumps({"caption": text}) for text in ("right", "wrong", ""))
    about = '{"fps": 25}'
    samples = [
        {"info.json": caption, "mp4": b"0", "mp4.json": about},
        {"mp4": b"1", "mp4.json": other, "info.json": caption},
        {"mp4": b"2", "mp4.json": caption},
        {"json": caption, "info.json": other, "mp4": b"3", "mp4.json": other},
        {"info.json": caption, "json": none, "mp4": b"4"},
        {"JSON": other, "mp4": b"5", "en.txt": "right"},
        {"en.txt": "wrong", "mp4": b"6", "TXT": "\ufeffright\n"},
        {"caption": "right", "json": "{", "MP4": b"7", "low.mp4": b"no"},  # the .json is not needed, so it is not read
    ]
    for turned in (list, reversed):
        members = [turned(list(sample.items())) for sample in samples]
        shard = write_shard(
            tmp_path / f"{turned.__name__}.tar",
            {f"./x/s{n}.{field}": content for n, sample in enumerate(members) for field, content in sample},
        )
        source = TarSource([shard], "video", "web")
        assert captions_of(shard) == [("right",)] * len(samples)
        assert source.notes == ()
        read = [source.pair(n, np.random.default_rng(0)).path.read_bytes() for n in range(len(samples))]
        assert read == [str(n).encode() for n in range(len(samples))]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_that_macos_adds(tmp_path, counted_videos, kind):
    """They stand beside the files of a sample, and between them."""
    members = {"./._a.mp4": b"\0\x05\x16\7", "./a.mp4": counted_videos[1], "./._a.txt": b"x", "./a.txt": "two"}
    members |= {"./.DS_Store": b"Bud1", "./b.mp4": counted_videos[2], "./b.txt": "three"}
    members |= {"__MACOSX/._b.txt": b"x", "__MACOSX/c.mp4": b"x", "__MACOSX/c.txt": "x"}
    members |= {"kätzchen/" + "long" * 20 + "/c.mp4": counted_videos[3], "kätzchen/" + "long" * 20 + "/c.txt": "four"}
    shard = tmp_path / "mac.tar"
    with tarfile.open(shard, "w", format=kind) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1e9 + 0.5  # a time that needs a header of its own
            archive.addfile(info, io.BytesIO(data))
    source = TarSource([shard], "video", "web")
    assert captions_of(shard) == [("two",), ("three",), ("four",)]
    assert source.notes == ()
    assert [num_frames_of(source.pair(n, np.random.default_rng(0))) for n in range(3)] == [2, 3, 4]


def test_shards_that_are_not_sorted(tmp_path):
    """Nothing of them can be used, and the reason is not that they have no captions."""
    names = [f"{n}.{field}" for field in ("mp4", "txt") for n in range(3)]
    shard = write_shard(tmp_path / "unsorted.tar", {name: name for name in names})
    with pytest.raises(
        AnnotationError, match=r"unsorted\.tar: 0: the files of a sample are not next to each other: .*sort"
    ):
        TarSource([shard], "video", "web")
    good = write_shard(tmp_path / "good.tar", {"0.mp4": b"x", "0.txt": "c"})
    source = TarSource([shard, good], "video", "web")  # what is left out is counted
    assert len(source) == 1
    (note,) = source.notes
    assert note.startswith(f"web: 6 samples have no video or no caption, such as {shard}/0 (its files are not next to ")


def test_naming_shards(tmp_path):
    names = [f"cc-{n:03}.tar" for n in (0, 1, 2, 10)] + ["other.tar", "notes.txt"]
    for name in (*names, "._cc-000.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(tmp_path)] == sorted(names[:5])
    assert [path.name for path in find_shards(f"{tmp_path}/cc-{{000..002}}.tar")] == names[:3]
    assert [path.name for path in find_shards(tmp_path / "cc-*.tar")] == names[:4]
    with pytest.raises(VmrError, match=r"cc-003\.tar: no such tar file"):
        find_shards(f"{tmp_path}/cc-{{000..010}}.tar")
    with pytest.raises(VmrError, match=r"x\*\.tar: no such tar file"):
        find_shards(tmp_path / "x*.tar")


def test_training_reads_shards(shards):
    """Each caption comes with its own video, decoded from a temporary file by another process; also after a resume."""
    source = TarSource(shards, "video", "web", keep=16)
    frames_of = {"one frame": 1, "two": 2, "deux": 2, "three": 3, "four": 4}
    with TrainLoader([(source, 1.0)], SPEC, batch_size={"video": 3}, seed=0, decode=ONE_WORKER) as loader:
        batches = [batch for batch, _ in zip(loader.batches(), range(4), strict=False)]
        again = next(iter(loader.batches(batches[2].position)))
    for batch in batches:
        found = [num_frames(clip) for clip in batch.video]
        assert found == [frames_of[caption] for caption in batch.captions]
        assert found == (batch.ids + 1).tolist()
        assert batch.skipped == ()
    assert again.captions == batches[3].captions
    assert np.array_equal(again.video, batches[3].video)


def test_json_is_used(tmp_path):
    """A .json that is no object gives no caption, and no error in the middle of a shard."""
    shard = write_shard(tmp_path / "s.tar", {"a.mp4": b"x", "a.json": json.dumps(["c"]), "b.mp4": b"y", "b.txt": "d"})
    source = TarSource([shard], "video", "web")
    assert (len(source), source.notes) == (1, (f"web: 1 samples have no video or no caption, such as {shard}/a",))
