"""Frame i is the i-th picture that a plain decode shows, however it is asked for, and whatever the file's times say."""

import os

import av
import numpy as np
import pytest

from tests.video_matrix import (
    FAST_X265,
    OPEN_GOP,
    RECIPES,
    X264,
    Recipe,
    number_of,
    remux,
    write_matrix,
    write_video,
)
from vmr.data.decoding.ffmpeg.frame_index import SeekingDecoder
from vmr.data.decoding.video import VideoReader

AHEAD = 10_000  # ticks by which every packet is decoded before it is shown, so that its time may also be moved back
SOURCES = {
    "no_b_frames": Recipe(options=X264),
    "open_gop": Recipe(options=OPEN_GOP, num_frames=100, gop=24),
    "closed_gop": Recipe(options={"preset": "fast", "bf": "3"}),
    "hevc": Recipe("libx265", options=FAST_X265),
    "mpeg2": Recipe("mpeg2video", bframes=2, suffix=".mkv"),
    "vp9": Recipe("libvpx-vp9", suffix=".webm", options={"cpu-used": "8", "deadline": "realtime"}),
}
CONTAINERS = (".mp4", ".mkv", ".ts")
MOVES = (-40, -13, -7, -2.5, -1.5, -0.5, 0.5, 1, 1.5, 2.5, 7, 13, 40, 200)  # in pictures


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return {name: write_video(folder / (name + recipe.suffix), recipe) for name, recipe in SOURCES.items()}


def with_times_moved(source, target, moved):
    """A copy of a video in which some packets have other times: `moved` maps their numbers to (what, pictures)."""
    with av.open(str(source)) as reading:
        first_pts = next(reading.demux(video=0)).pts

    def move(number, packet, step):
        packet.dts = number * step
        packet.pts = packet.pts - first_pts + AHEAD * step
        what, pictures = moved.get(number, ("", 0))
        if what == "pts":
            packet.pts += round(pictures * step)
        elif what == "dts":
            packet.dts += round(0.4 * step)  # a muxer takes only times that increase
        elif what == "duration":
            packet.duration = round(abs(pictures) * step)

    return remux(source, target, move)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return write_matrix(tmp_path_factory.mktemp("matrix"))


def numbers(reader, indices):
    return [number_of(frame) for frame in reader.frames_at(indices)]


def plain_decode(path):
    """The numbers of the pictures as a player shows them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in container.decode(video=0)]
    return [number_of(frame) for frame in frames]


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("seed", range(2))
def test_wrong_times_do_not_change_the_number_of_a_picture(sources, tmp_path, kind, suffix, seed):
    if (kind, suffix) == ("vp9", ".ts"):
        pytest.skip("MPEG-TS holds no VP9")
    random = np.random.default_rng([seed, len(kind), len(suffix), ord(suffix[-1])])
    count = SOURCES[kind].num_frames
    places = random.choice(np.arange(1, count), size=random.integers(1, 4), replace=False)
    moved = {int(place): (random.choice(["pts", "pts", "dts", "duration"]), random.choice(MOVES)) for place in places}
    path = with_times_moved(sources[kind], tmp_path / f"moved{suffix}", moved)
    shown = plain_decode(path)
    # The decoder shows them in order, whatever their times. MP4 hides those from before the first time.
    assert shown == (sorted(shown) if suffix == ".mp4" else list(range(count))), moved
    count = len(shown)
    for index in random.choice(count, size=8, replace=False).tolist():
        with VideoReader(path) as reader:
            assert numbers(reader, [index]) == [shown[index]], (moved, index)
    with VideoReader(path) as reader:
        assert reader.num_frames == count, moved
        for index in random.integers(0, count, 20).tolist():
            assert numbers(reader, [index]) == [shown[index]], (moved, index)
        asked = np.sort(random.choice(count, size=6, replace=False)).tolist()
        assert numbers(reader, asked) == [shown[index] for index in asked], moved
        assert numbers(reader, range(count)) == shown, moved
        assert np.all(np.diff(reader.timestamps_s) > 0)


@pytest.mark.parametrize("kind", [kind for kind, recipe in RECIPES.items() if recipe.num_frames > 1])
def test_wrong_times_in_a_file_of_every_kind(matrix, tmp_path, kind):
    if kind not in matrix:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    random = np.random.default_rng(len(kind))
    places = random.choice(np.arange(1, RECIPES[kind].num_frames), size=2, replace=False)
    moved = {int(place): ("pts", random.choice(MOVES)) for place in places}
    try:
        path = with_times_moved(matrix[kind], tmp_path / "moved.mkv", moved)
    except (TypeError, ValueError):  # it has no times to move, or Matroska holds no such video
        path = matrix[kind]
    shown = plain_decode(path)
    with VideoReader(path) as reader:
        assert numbers(reader, range(reader.num_frames)) == shown, moved
    for index in random.choice(len(shown), size=5, replace=False).tolist():
        with VideoReader(path) as reader:
            assert numbers(reader, [index]) == [shown[index]], (moved, index)


@pytest.mark.parametrize("move", MOVES[::2])
@pytest.mark.parametrize("kind", ["no_b_frames", "open_gop"])
def test_each_picture_of_a_file_with_one_stray_time(sources, tmp_path, kind, move):
    path = with_times_moved(sources[kind], tmp_path / "stray.mp4", {30: ("pts", move)})
    shown = plain_decode(path)
    for index in range(22, 46, 2):
        with VideoReader(path) as reader:
            assert numbers(reader, [index]) == [shown[index]]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_file_with_right_times_is_reached_by_seeking(sources, kind):
    with VideoReader(sources[kind]) as reader:
        assert numbers(reader, [50, 3]) == [50, 3]
        decoder = reader._reader._decoder
        assert isinstance(decoder, SeekingDecoder) and decoder._keys_are_reliable


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")
def test_writing_test_files_makes_no_process_more_important(tmp_path):
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    write_video(tmp_path / "av1.mp4", RECIPES["av1"])
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
