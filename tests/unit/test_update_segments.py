"""What an index remembers of how its videos are cut and which frames were taken; updates keep to it."""

import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.indexes import TwoDimensional
from tests.integration.commands import refused, run_here
from tests.video_matrix import X264, Recipe, write_video
from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.updating import spaces
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.plan import UpdateOptions
from vmr.retrieval.updating.update import add_videos, update_index

ONE_WORKER = vmr.DecodeOptions(num_workers=1)
SIZE = (48, 64)  # height, width


class Frames(TwoDimensional):
    """An encoder of single frames; it counts them."""

    name, fingerprint = "two", "2" * 16
    preprocess = vmr.Preprocess(2, 16, "stretch", *([0.5] * 3,) * 2)
    frames_at_once = 8

    def __init__(self):
        self.count = 0

    def encode_frames(self, frames):
        self.count += len(frames)
        return frames.mean(axis=(2, 3), dtype=np.float32)[:, :2] + 1

    def pool_frames(self, features):
        means = features.mean(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


class Windows(TwoDimensional):
    """An encoder that sees the frames of a window together."""

    name, fingerprint = "two", "2" * 16
    preprocess = Frames.preprocess


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two videos of 1.2 s, which are one colour for 0.6 s and then another; every fifth picture is a key frame."""

    def two_shots(number):
        count = iter(range(100))

        def store(picture):  # called once more for the size
            rgb = np.zeros_like(picture)
            rgb[..., number] = 60 if next(count) <= 15 else 220
            return rgb

        return store

    folder = tmp_path_factory.mktemp("clips")
    for number in range(2):
        recipe = Recipe(options=X264, num_frames=30, gop=5, stored=two_shots(number))
        write_video(folder / f"{number}.mp4", recipe, *SIZE)
        os.utime(folder / f"{number}.mp4", (1e9, 1e9))
    return folder


def spans(out, name="0.mp4"):
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        (video,) = (video for video in snapshot.videos() if video.path == name)
        return [(round(row.start_s, 3), round(row.end_s, 3)) for row in snapshot.windows([video.id])]


def build(clips, out, encoder=None, **options):
    segments = SegmentOptions(**{"window_s": 0.4} | options)
    done = update_index(clips, out, encoder or Frames(), segments, decode=ONE_WORKER)
    assert verify(Path(out)) == []
    return done


def test_a_whole_video_has_a_row_beside_its_windows(clips, tmp_path):
    build(clips, tmp_path / "index", whole_video=True)
    assert spans(tmp_path / "index") == [(0, 0.4), (0, 1.2), (0.2, 0.6), (0.4, 0.8), (0.6, 1.0), (0.8, 1.2)]
    with closing(IndexReader(tmp_path / "index")) as reader, reader.snapshot() as snapshot:
        assert snapshot.settings.whole_video
        assert [(video.height, video.width) for video in snapshot.videos()] == [SIZE] * 2
        assert [video.duration_s for video in snapshot.videos()] == [pytest.approx(1.2)] * 2
    build(clips, tmp_path / "joint", Windows(), whole_video=True)
    assert spans(tmp_path / "joint") == spans(tmp_path / "index")


def test_shots(clips, tmp_path):
    pytest.importorskip("scenedetect")
    build(clips, tmp_path / "index", segments="shots", window_s=0.8)
    assert spans(tmp_path / "index") == [(0, 0.6), (0.6, 1.2)]
    build(clips, tmp_path / "short", segments="shots", window_s=0.4)
    assert spans(tmp_path / "short") == [(0, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.2)]


def test_frames_that_are_nearly_the_same_are_encoded_once(clips, tmp_path):
    encoder = Frames()
    build(clips, tmp_path / "index", encoder, skip_still=0.02)
    assert encoder.count == 4
    with closing(IndexReader(tmp_path / "index")) as reader, reader.snapshot() as snapshot:
        assert snapshot.spaces()[0].frames["skip_still"] == 0.02
    said = "two takes the frames of a window together, so that skipping still frames saves nothing: leave out "
    with pytest.raises(VmrError) as caught:
        build(clips, tmp_path / "joint", Windows(), skip_still=0.02)
    assert str(caught.value).startswith(said) and not (tmp_path / "joint").exists()


def test_key_frames(clips, tmp_path):
    encoder = Frames()
    build(clips, tmp_path / "index", encoder, frames="keyframes", window_s=None)
    with closing(IndexReader(tmp_path / "index")) as reader, reader.snapshot() as snapshot:
        assert snapshot.spaces()[0].frames["keyframes"] is True


BUILT = {
    "whole_video": ({"whole_video": True}, "whole_video true, not false"),
    "frames": ({"frames": "keyframes"}, "frames keyframes, not all"),
    "skip_still": ({"skip_still": 0.02}, "skip_still 0.02, not 0"),
    "window_s": ({"window_s": 0.8}, "window_s 0.8, not 0.4"),
    "whole": ({"segments": "whole"}, "window_s null, not 0.4"),
}


@pytest.mark.parametrize("built", BUILT)
def test_other_settings_are_refused_and_adding_takes_those_of_the_index(clips, tmp_path, built):
    out, folder = tmp_path / "index", tmp_path / "videos"
    folder.mkdir()
    first, second = (folder / name for name in ("0.mp4", "1.mp4"))
    first.write_bytes((clips / "0.mp4").read_bytes())
    options, message = BUILT[built]
    build(folder, out, **options)
    with pytest.raises(IndexFileError) as caught:
        build(folder, out)
    assert str(caught.value) == (
        f"{out} was built with {message}: give the same, name another folder, or start anew with --overwrite "
        "(overwrite=True)"
    )
    second.write_bytes((clips / "1.mp4").read_bytes())
    add_videos(out, [second], Frames(), decode=ONE_WORKER)
    build(folder, tmp_path / "fresh", **options)
    for name in ("0.mp4", "1.mp4"):
        assert spans(out, name) == spans(tmp_path / "fresh", name)
    assert build(folder, out, **options).embedded == []


def test_adding_to_an_index_of_shots(clips, tmp_path):
    pytest.importorskip("scenedetect")
    build(clips / "0.mp4", tmp_path / "index", segments="shots", window_s=0.8, whole_video=True)
    add_videos(tmp_path / "index", [clips / "1.mp4"], Frames(), decode=ONE_WORKER)
    assert spans(tmp_path / "index", "1.mp4") == [(0, 0.6), (0, 1.2), (0.6, 1.2)]


def test_an_index_without_the_new_keys_goes_on_working(clips, tmp_path, monkeypatch):
    """As an index was made before key frames and still frames were options."""
    out = tmp_path / "index"
    with monkeypatch.context() as patch:
        new = ("keyframes", "skip_still")
        patch.setattr(spaces, "asdict", lambda spec: {k: v for k, v in asdict(spec).items() if k not in new})
        build(clips / "0.mp4", out)
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert not {*new} & snapshot.spaces()[0].frames.keys()
    assert len(build(clips, out).embedded) == 1
    with pytest.raises(IndexFileError, match="was built with frames all, not keyframes"):
        build(clips, out, frames="keyframes")


def test_too_little_memory_is_said_before_any_work(clips, tmp_path):
    options = UpdateOptions(memory="64MiB")
    with pytest.raises(VmrError, match=r"^memory of 64 MiB is too little: .* are needed for this process and one that"):
        update_index(clips, tmp_path / "index", Frames(), decode=ONE_WORKER, update=options, hooks=Hooks())
    assert not (tmp_path / "index").exists()
    update_index(clips, tmp_path / "index", Frames(), decode=ONE_WORKER, update=UpdateOptions(memory="8GiB"))
    with pytest.raises(VmrError, match="'much' is no amount of memory"):
        UpdateOptions(memory="much")


def test_metadata_comes_with_a_build(clips, tmp_path, monkeypatch):
    out, table = tmp_path / "index", tmp_path / "cameras.csv"
    arguments = ("vmr-index", "build", clips, "--out", out, "--encoder", "videomamba-nano-shapes", "--meta", table)
    assert "cameras.csv: cannot be read" in refused(run_here(*arguments))
    assert not out.exists()  # what is wrong with a table is said first
    table.write_text("video,camera\n0.mp4,cam07\nx.mp4,cam08\n")
    done = run_here(*arguments)
    assert done.returncode == 0 and "not in the index: x.mp4" in done.stderr
    assert f"{out}: metadata of 1 videos, 1 names are not in the index" in done.stdout
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert {video.path: dict(video.metadata) for video in snapshot.videos()} == {
            "0.mp4": {"camera": "cam07"},
            "1.mp4": {},
        }
