"""Cuts are found where shots were joined, at the times of the frames, and nowhere else."""

import itertools
import sys
from typing import ClassVar

import numpy as np
import pytest

from tests.video_matrix import FPS, HEIGHT, WIDTH, Recipe, number_of, write_video
from vmr.data.decoding.cuts import shot_cuts
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.errors import MissingExtraError, VideoError

FAST = {"preset": "ultrafast"}
COLOURS = np.array([[200, 60, 50], [40, 90, 210], [70, 190, 60], [190, 180, 70], [150, 60, 190]])


def scene(shot: int, number: int) -> np.ndarray:
    """A shot with a colour and stripes of its own, that move: float (H, W, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    stripes = np.sin((x * np.cos(shot) + y * np.sin(shot) + number) / (5 + 3 * shot))
    return COLOURS[shot % len(COLOURS)] * (0.75 + 0.25 * stripes[..., None])


def video(folder, show, num_frames=100, **recipe):
    """A video whose frame n is show(n)."""

    def stored(rgb):
        return np.clip(show(number_of(rgb.transpose(2, 0, 1))), 0, 255).astype(np.uint8)

    return write_video(folder / "video.mp4", Recipe(options=FAST, num_frames=num_frames, stored=stored, **recipe))


def cuts_of(path):
    with VideoReader(path) as opened:
        return shot_cuts(opened), opened.timestamps_s


def test_shots_begin_where_they_were_joined(tmp_path):
    joined = [20, 37, 70, 81]
    found, _ = cuts_of(video(tmp_path, lambda n: scene(np.searchsorted(joined, n, side="right"), n)))
    assert found == pytest.approx([place / FPS for place in joined])


def test_the_times_are_those_of_the_frames_at_a_variable_rate(tmp_path):
    path = video(tmp_path, lambda n: scene(n >= 31, n), num_frames=60, variable_rate=True)
    found, shown = cuts_of(path)
    assert found == (shown[31],) and shown[31] == pytest.approx(2.25)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("flash", [lambda rgb: rgb + 120, lambda rgb: 255 + 0 * rgb, lambda rgb: 0 * rgb])
def test_a_flash_begins_no_shot(tmp_path, flash, count):
    def show(number):
        return flash(scene(0, number)) if 40 <= number < 40 + count else scene(number >= 75, number)

    assert cuts_of(video(tmp_path, show))[0] == (75 / FPS,)


def test_what_is_shown_for_longer_than_a_flash_is_a_shot(tmp_path):
    found, _ = cuts_of(video(tmp_path, lambda n: scene(40 <= n < 60, n)))
    assert found == (40 / FPS, 60 / FPS)


def test_a_fade_through_black_is_a_cut_at_most_where_it_is_black(tmp_path):
    def show(number):  # to black in 25 frames, and back
        return scene(number >= 50, number) * min(1, abs(number - 50) / 25)

    found, _ = cuts_of(video(tmp_path, show))
    assert len(found) <= 1 and all(abs(cut - 50 / FPS) <= 2 / FPS for cut in found)


def test_a_dissolve_of_a_second_is_no_cut(tmp_path):
    def show(number):
        share = np.clip((number - 40) / 25, 0, 1)
        return (1 - share) * scene(0, number) + share * scene(1, number)

    assert cuts_of(video(tmp_path, show))[0] == ()


def test_a_moving_picture_and_a_still_one_have_no_cuts(tmp_path):
    assert cuts_of(write_video(tmp_path / "moving.mp4"))[0] == ()
    assert cuts_of(video(tmp_path, lambda n: scene(2, 0)))[0] == ()


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5])
def test_a_video_of_a_few_frames_is_one_shot(tmp_path, num_frames):
    assert cuts_of(video(tmp_path, lambda n: scene(n >= 2, n), num_frames=num_frames))[0] == (
        (2 / FPS,) if num_frames == 5 else ()
    )


def test_a_narrow_video(tmp_path):
    source = video(tmp_path, lambda n: scene(n >= 30, n)[:, :2], num_frames=60)
    assert cuts_of(source)[0] == (30 / FPS,)


class AtCuts:
    """One segment for each shot."""

    settings: ClassVar = {}
    needs_cuts = True

    def spans(self, facts):
        edges = [0.0, *facts.cuts_s, facts.duration_s]
        return list(itertools.pairwise(edges))


def test_the_shots_of_a_damaged_video(tmp_path):
    """Its packets list frames that cannot be decoded. Looking for cuts asks for all of them."""
    source = video(tmp_path, lambda n: scene(n >= 40, n), num_frames=100, gop=20)
    data = bytearray(source.read_bytes())
    middle, length = int(0.75 * len(data)), len(data) // 10
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    source.write_bytes(data)
    with VideoReader(source) as opened, pytest.raises(VideoError, match="cannot be decoded"):
        shot_cuts(opened)
    first, *_ = segments = list(read_segments(source, FrameSpec(num_frames=2, size=56), AtCuts()))
    assert (first.start_s, first.end_s) == (0, 40 / FPS) and segments[1].start_s == 40 / FPS


def test_frames_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    sizes, told = [], []
    read = VideoReader.frames_at

    def frames_at(self, indices, size=None, crop=None):
        sizes.append((len(indices), max(size)))
        return read(self, indices, size, crop)

    monkeypatch.setattr(VideoReader, "frames_at", frames_at)
    with VideoReader(write_video(tmp_path / "video.mp4", Recipe(options=FAST, num_frames=150))) as opened:
        shot_cuts(opened, lambda: told.append(len(sizes)))
    assert sizes == [(64, 64), (64, 64), (22, 64)] and told == [0, 1, 2]


def test_without_its_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with (
        VideoReader(write_video(tmp_path / "video.mp4")) as opened,
        pytest.raises(MissingExtraError, match=r"pip install 'vmr\[shots\]'"),
    ):
        shot_cuts(opened)
