"""The cache of features: which entries it returns, which it never returns, and use by many processes at once."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vmr.data.decoding.segments import FrameSpec
from vmr.errors import VmrError
from vmr.files import cache_folder
from vmr.hashes import FileContent
from vmr.retrieval.feature_cache import ARRAYS, DATABASE, FeatureCache, Features, texts_key, video_key
from vmr.retrieval.segments import FixedWindows

FRAMES = FrameSpec(4, 32)
SPANS = ((0.0, 4.0), (2.0, 5.5))
LONG_AGO = 1_000_000_000


def some_features(seed: int = 0) -> Features:
    return Features(SPANS, np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32))


def some_tokens(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 5, 3)).astype(np.float32)


def old_file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return str(path)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def array_files(cache: FeatureCache) -> list[Path]:
    return sorted((cache.folder / ARRAYS).iterdir())


def test_what_was_put_is_found(cache):
    cache.put("a", some_features(1))
    cache.put("b", some_features(2), some_tokens())
    again = FeatureCache(cache.folder)
    found = again.find(["b", "a", "none", "a"])
    assert list(found) == ["b", "a"]
    for key, seed in (("a", 1), ("b", 2)):
        assert found[key].spans == SPANS
        assert found[key].vectors.dtype == np.float32
        assert np.array_equal(found[key].vectors, some_features(seed).vectors)
    assert list(again.find(["a", "b"], with_tokens=True)) == ["b"]
    assert again.tokens("a") is None and again.tokens("none") is None
    tokens = again.tokens("b")
    assert np.array_equal(tokens, some_tokens())
    tokens[:] = 0  # the file is not what is written to
    assert np.array_equal(again.tokens("b"), some_tokens())


def still_tokens(num_steps: int = 40) -> np.ndarray:
    """Two segments of steps of 5 places in which nothing changes."""
    return np.tile(np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32), (1, num_steps, 1))


def test_tokens_that_repeat_take_less_room_and_come_back_to_the_bit(cache):
    cache.put("a", some_features(), still_tokens())
    (file,) = array_files(cache)
    # two headers; 2 * 200 numbers; 2 * 5 tokens of 3: in place of 2 * 200 tokens
    assert file.stat().st_size == 2 * 128 + 4 * (2 * 200 + 2 * 5 * 3) and file.name.endswith(".rows.npy")
    tokens = cache.tokens("a")
    assert tokens.dtype == np.float32 and tokens.tobytes() == still_tokens().tobytes() and tokens.flags.writeable
    assert cache.find(["a"], with_tokens=True).keys() == {"a"} and cache.sizes().num_videos_with_tokens == 1
    sound = file.read_bytes()
    for place in range(0, len(sound), 97):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        assert cache.tokens("a") is None
    cache.forget("a")
    assert array_files(cache) == []
    cache.put("a", some_features(), still_tokens())
    (cache.folder / ARRAYS / f".{'0' * 64}.rows.npy.x1.tmp").write_bytes(b"left by a killed process")
    cache.clear()
    assert array_files(cache) == []


def test_features_put_again_keep_the_tokens(cache):
    cache.put("a", some_features(1), some_tokens())
    cache.put("a", some_features(2))
    assert np.array_equal(cache.find(["a"], with_tokens=True)["a"].vectors, some_features(2).vectors)
    assert np.array_equal(cache.tokens("a"), some_tokens())


def test_texts(cache):
    vectors = some_features().vectors
    assert cache.texts("t") is None
    cache.put_texts("t", vectors)
    assert np.array_equal(cache.texts("t"), vectors)
    cache.put_texts("none", np.empty((0, 8), np.float32))
    assert cache.texts("none").shape == (0, 8)


def test_a_key_is_all_that_decides_the_features():
    content = FileContent("ab" * 32, "1 2 3")
    key = video_key(content, FRAMES, None, "pyav", "model")
    assert key == video_key(FileContent("ab" * 32, "elsewhere"), FRAMES, None, "pyav", "model")
    others = [
        video_key(FileContent("cd" * 32, "1 2 3"), FRAMES, None, "pyav", "model"),
        video_key(content, FRAMES, None, "pyav", "other model"),
        video_key(content, FRAMES, None, "decord", "model"),
        video_key(content, FRAMES, FixedWindows(8.0), "pyav", "model"),
        video_key(content, FRAMES, FixedWindows(8.0, 4.0), "pyav", "model"),
        *(
            video_key(content, FrameSpec(**{"num_frames": 4, "size": 32, **change}), None, "pyav", "model")
            for change in (
                {"num_frames": 8},
                {"size": 64},
                {"resize": "stretch"},
                {"sampling": "trimmed30"},
            )
        ),
        texts_key(["a", "b"], 32, "model"),
        texts_key(["a", "b"], None, "model"),
        texts_key(["a, b"], 32, "model"),
        texts_key(["b", "a"], 32, "model"),
        texts_key(["a", "b"], 32, "other model"),
    ]
    assert len({key, *others}) == 1 + len(others)


class OwnSegmenter:
    """A user's segmenter whose settings are named like those of frames or windows."""

    def __init__(self, **settings) -> None:
        self.settings = settings

    def spans(self, video):
        return [(0.0, video.duration_s)]


def test_the_settings_of_a_segmenter_hide_no_other_settings():
    content = FileContent("ab" * 32, "1 2 3")
    keys = {
        video_key(content, FrameSpec(num_frames, 32), segmenter, "pyav", "model")
        for num_frames in (1, 4)
        for segmenter in (OwnSegmenter(num_frames=1), OwnSegmenter(window_s=8.0, stride_s=None), FixedWindows(8.0))
    }
    assert len(keys) == 6


def test_a_file_is_hashed_once(cache, tmp_path):
    path = old_file(tmp_path / "a.mp4", b"one")
    ((_, first),) = cache.contents([path])
    # sha256("one"), by sha256sum
    assert first.sha256 == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    old_file(tmp_path / "a.mp4", b"two")  # the same inode, size and time: nothing tells without reading it
    assert list(FeatureCache(cache.folder).contents([path])) == [(path, first)]
    old_file(tmp_path / "a.mp4", b"three")
    ((_, other),) = cache.contents([path])
    assert other.sha256 != first.sha256 and other.state != first.state


def test_a_file_just_written_is_hashed_again(cache, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    now = path.stat().st_mtime_ns
    ((_, first),) = cache.contents([str(path)])
    path.write_bytes(b"two")
    os.utime(path, ns=(now, now))
    ((_, second),) = cache.contents([str(path)])
    assert first.state == second.state and first.sha256 != second.sha256


def test_a_file_put_in_anothers_place_is_hashed_again(cache, tmp_path):
    path, other = old_file(tmp_path / "a.mp4", b"one"), old_file(tmp_path / "b.mp4", b"two")
    ((_, first),) = cache.contents([path])
    Path(other).replace(path)  # size and time are the same, the inode is not
    ((_, second),) = cache.contents([path])
    assert first.sha256 != second.sha256


def test_what_is_no_regular_file_has_no_content(cache, tmp_path):
    os.mkfifo(tmp_path / "fifo")  # opening it would block for ever
    strange = os.fsdecode(b"bad\xff.mp4")
    paths = [str(tmp_path / name) for name in ("gone", "fifo", "a\0b")] + [str(tmp_path)]
    assert [content for _, content in cache.contents(paths)] == [None] * 4
    ((_, content),) = cache.contents([old_file(tmp_path / strange, b"one")])
    assert content is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damaged_arrays_are_never_served(cache, damage):
    cache.put("a", some_features(), some_tokens())
    cache.put_texts("t", some_features().vectors)
    assert len(array_files(cache)) == 2
    for file in array_files(cache):
        content = bytearray(file.read_bytes())
        content[-3] ^= 1
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flip" else content[:-1])
    assert cache.tokens("a") is None and cache.texts("t") is None
    assert np.array_equal(cache.find(["a"])["a"].vectors, some_features().vectors)
    cache.forget("a")
    assert cache.find(["a"]) == {}
    cache.put("a", some_features(), some_tokens())
    cache.put_texts("t", some_features().vectors)
    assert np.array_equal(cache.tokens("a"), some_tokens())
    assert np.array_equal(cache.texts("t"), some_features().vectors)


def test_damaged_vectors_are_never_served(cache):
    cache.put("a", some_features(1))
    cache.put("b", some_features(2))
    database = cache.folder / DATABASE
    content = database.read_bytes()
    vectors = some_features(1).vectors.tobytes()
    assert content.count(vectors) == 1
    database.write_bytes(content.replace(vectors, vectors[:-1] + bytes([vectors[-1] ^ 1])))
    assert list(cache.find(["a", "b"])) == ["b"]


def test_sizes_and_clear(cache):
    mine = cache.folder / ARRAYS / "mine.npy"
    cache.put("a", some_features(1))
    cache.put("b", some_features(2), some_tokens())
    cache.put_texts("t", some_features().vectors)
    mine.write_bytes(b"not the cache's")
    (cache.folder / ARRAYS / f".{'0' * 64}.npy.x1.tmp").write_bytes(b"left by a killed process")
    sizes = cache.sizes()
    assert (sizes.num_videos, sizes.num_videos_with_tokens, sizes.num_texts) == (2, 1, 1)
    assert sizes.num_bytes > 4 * (2 * 8 + 2 * 5 * 3 + 2 * 8)
    cache.clear()
    empty = cache.sizes()
    assert (empty.num_videos, empty.num_videos_with_tokens, empty.num_texts) == (0, 0, 0)
    assert array_files(cache) == [mine] and empty.num_bytes < sizes.num_bytes


def test_a_damaged_database_is_named_and_can_be_cleared(cache):
    cache.put("a", some_features(), some_tokens())
    (cache.folder / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(VmrError, match=f"{cache.folder}: this feature cache cannot be used") as caught:
        cache.find(["a"])
    assert "\n" not in str(caught.value)
    cache.clear()
    assert cache.find(["a"]) == {} and array_files(cache) == []


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VmrError, match="file: this feature cache cannot be used"):
        FeatureCache(tmp_path / "file").put("a", some_features())


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path))
    assert FeatureCache().folder == cache_folder() / "features" == tmp_path / "features"


WRITER = """
import sys
import numpy as np
from vmr.retrieval.feature_cache import FeatureCache, Features
cache, name = FeatureCache(sys.argv[1]), sys.argv[2]
for i in range(20):
    for key in (f"{name}{i}", f"all{i}"):
        cache.put(key, Features(((0.0, float(i)),), np.full((1, 8), i, np.float32)), np.full((1, 2, 2), i, np.float32))
        assert cache.tokens(key)[0, 0, 0] == i
assert "torch" not in sys.modules
"""


def test_processes_and_threads_share_a_cache(cache):
    """Three processes create the folder at the same time, while threads read and write."""
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(cache.folder), name], stderr=subprocess.PIPE)
        for name in "xyz"
    ]
    broken: list[Exception] = []

    def use(number: int) -> None:
        try:
            for i in range(20):
                cache.put(f"thread{number} {i}", some_features(i))
                assert list(cache.find([f"thread{number} {i}"]))
        except Exception as error:
            broken.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        _, words = process.communicate()
        assert process.returncode == 0, words.decode()
    assert broken == []
    sizes = cache.sizes()
    assert (sizes.num_videos, sizes.num_videos_with_tokens) == (3 * 20 + 20 + 3 * 20, 3 * 20 + 20)
    keys = [f"{name}{i}" for name in ("x", "y", "z", "all") for i in range(20)]
    assert [float(found.vectors[0, 0]) for found in cache.find(keys).values()] == [*range(20)] * 4
    assert len(array_files(cache)) == 20  # equal tokens are one file
