"""Files whose clock jumps, whose parts are missing or broken, and whose cover poses as a video."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.paths import CLIPS
from tests.video_matrix import (
    OPEN_GOP,
    PATCHES,
    X264,
    Recipe,
    cut,
    number_of,
    picture,
    remux,
    write_matrix,
    write_video,
)
from vmr.data.decoding.sampling import sample_indices
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.retrieval.segments import FixedWindows

TEN_SECONDS = {
    "mp4": Recipe(options=OPEN_GOP, num_frames=250, muxing={"movflags": "faststart"}),
    "mkv": Recipe(options=X264, num_frames=250, suffix=".mkv"),
    "webm": Recipe("libvpx-vp9", num_frames=250, suffix=".webm", options={"cpu-used": "8", "deadline": "realtime"}),
    "avi": Recipe("mpeg4", num_frames=250, suffix=".avi"),
    "flv": Recipe(options=X264, num_frames=250, suffix=".flv"),
    "ts": Recipe(options=X264, num_frames=250, suffix=".ts"),
    "mpg": Recipe("mpeg2video", num_frames=250, suffix=".mpg"),
}
SPEC = FrameSpec(num_frames=4, size=56)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write_video(folder / f"whole{recipe.suffix}", recipe) for kind, recipe in TEN_SECONDS.items()}


def read_all(path, windows=None, spec=SPEC):
    """The spans of a video, and what was noticed."""
    segments, spans = read_segments(path, spec, windows), []
    while True:
        try:
            segment = next(segments)
        except StopIteration as end:
            return spans, {remark.kind: remark.text for remark in end.value.remarks}
        spans.append((round(segment.start_s, 2), round(segment.end_s, 2)))


def seconds_in(text):
    """3.6 and 10.0 of `read with damage: 3.6 of 10.0 s`."""
    words = text.removeprefix("read with damage: ").split()
    return float(words[0]), float(words[2])


# --- clocks -----------------------------------------------------------------------------------------------------------


def joined(folder, parts):
    """MPEG-TS files one after the other, as a recorder leaves them that starts its clock again."""
    target = folder / "joined.ts"
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize("first_s", [(100, 0), (0, 36_000), (100, 100), (50_000, 20)])
def test_joined_broadcasts_last_as_long_as_they_are_shown(tmp_path, first_s):
    recipe = {"options": {"preset": "fast"}, "num_frames": 40, "suffix": ".ts"}
    muxing = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    parts = [
        write_video(tmp_path / f"{number}.ts", Recipe(**recipe, first_pts=25 * start_s, muxing=muxing))
        for number, start_s in enumerate(first_s)
    ]
    path = joined(tmp_path, parts)
    with VideoReader(path) as reader:
        assert [number_of(frame) for frame in reader.frames_at(range(80))] == [*range(40), *range(40)]
        assert reader.duration_s == pytest.approx(3.2) and reader.fps == pytest.approx(25)
        assert sample_indices("trimmed30", 4, reader).tolist() == [9, 29, 49, 69]  # the middles of four times 20
        assert sample_indices("fps2", 12, reader).tolist() == [6, 19, 31, 44, 56, 69]  # 0.25 s, 0.75 s, ..., times 25
    spans, remarks = read_all(path, FixedWindows(8.0, 4.0))
    assert spans == [(0, 3.2)]
    assert list(remarks) == ["times"] and remarks["times"].startswith("times mended: shown for 3.2 s, stated as ")


def test_a_last_picture_that_lasts_for_hours(tmp_path):
    def last_for_hours(number, packet, step):
        packet.duration = 200_000 * step if number == 59 else step

    path = remux(write_video(tmp_path / "whole.mp4"), tmp_path / "last.mkv", last_for_hours)
    with av.open(str(path)) as container:
        if max(packet.duration or 0 for packet in container.demux(video=0)) < 1000:
            pytest.skip("this FFmpeg does not write how long a picture of a Matroska file lasts")
    spans, remarks = read_all(path, FixedWindows(8.0, 4.0))
    assert spans == [(0, 2.4)]
    assert remarks["times"] == "times mended: shown for 2.4 s, stated as 8002.4 s"


@pytest.mark.parametrize("gap_s", [20, 1_800, 10_800])
def test_a_picture_that_is_held_makes_no_rows_of_its_own(tmp_path, gap_s):
    def pause(number, packet, step):
        packet.dts = packet.pts = (number + (25 * gap_s if number >= 40 else 0)) * step

    path = remux(write_video(tmp_path / "source.mp4"), tmp_path / "gap.mp4", pause)
    with VideoReader(path) as reader:
        assert reader.duration_s == pytest.approx(2.4 + gap_s, abs=0.01)  # the file's own times
        assert reader.fps == pytest.approx(25, abs=0.1)  # while something changes
        assert sample_indices("trimmed30", 4, reader).tolist() == [7, 22, 37, 52]
        assert len(set(sample_indices("fps2", 12, reader).tolist())) == 5
    spans, remarks = read_all(path, FixedWindows(8.0, 4.0))
    # The first 40 pictures (until 1.6 s), and the last 20, from 1.6 s + the gap on: each in the first window with them.
    later = 4 * int((1.6 + gap_s - 8) // 4 + 1)
    assert spans == [(0, 8), (later, min(later + 8, 2.4 + gap_s))] and remarks == {}


def test_the_delay_of_the_last_picture_of_an_animation(tmp_path):
    from PIL import Image

    delays_ms = [100, 500, 1000, 20, 200, 3000]
    pictures = [Image.fromarray(picture(number)) for number in range(6)]
    for name in ("delays.gif", "delays.png"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=delays_ms)
    shutil.move(tmp_path / "delays.png", tmp_path / "delays.apng")
    for name in ("delays.gif", "delays.apng"):
        with VideoReader(tmp_path / name) as reader:
            assert reader.duration_s == pytest.approx(4.82), name
            np.testing.assert_allclose(reader.timestamps_s, [0, 0.1, 0.6, 1.6, 1.62, 1.82], atol=1e-9)
            assert reader.remarks == ()


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEN_SECONDS)
def test_a_whole_file_is_not_called_damaged(whole, kind):
    assert read_all(whole[kind], FixedWindows(2.0))[1] == {}


def test_no_kind_of_whole_file_is_called_damaged(tmp_path):
    for name, path in write_matrix(tmp_path).items():
        if "truncated" not in name:
            assert read_all(path)[1] == {}, name
    assert {name for name in PATCHES if "truncated" in name} == {"mkv_truncated", "avi_truncated", "mp4_truncated"}


@pytest.mark.parametrize("share", [0.36, 0.7, 0.97])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "flv"])
def test_a_file_that_is_cut_off(whole, tmp_path, kind, share):
    path = cut(whole[kind], tmp_path / f"cut{TEN_SECONDS[kind].suffix}", stop=share)
    spans, remarks = read_all(path, FixedWindows(1.0))
    readable_s, stated_s = seconds_in(remarks["damage"])
    assert stated_s == 10.0
    assert readable_s == pytest.approx(10 * share, abs=0.8)  # the pictures are not all equally large
    assert spans[-1][1] == pytest.approx(readable_s, abs=0.1)


@pytest.mark.parametrize("kind", ["ts", "mpg"])
def test_a_broadcast_that_ends_within_a_picture(whole, tmp_path, kind):
    path = cut(whole[kind], tmp_path / f"cut{TEN_SECONDS[kind].suffix}", stop=0.4)
    every_picture = FrameSpec(num_frames=25, size=56)
    readable_s, stated_s = seconds_in(read_all(path, FixedWindows(1.0), every_picture)[1]["damage"])
    # It states no duration.
    assert 3.3 < readable_s <= stated_s < 4.5


def scrambled(source, target, first, last, seed=0):
    data = bytearray(source.read_bytes())
    start, stop = int(first * len(data)), int(last * len(data))
    data[start:stop] = np.random.default_rng(seed).bytes(stop - start)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("kind", TEN_SECONDS)
@pytest.mark.parametrize(("first", "last"), [(0.4, 0.65), (0.6, 0.62)])
def test_a_file_with_scrambled_bytes(whole, tmp_path, kind, first, last):
    path = scrambled(whole[kind], tmp_path / f"scrambled{TEN_SECONDS[kind].suffix}", first, last)
    readable_s, stated_s = seconds_in(read_all(path, FixedWindows(1.0))[1]["damage"])
    lost_s = 10 * (last - first)
    assert 9.5 - 2 * lost_s < readable_s < 10 - 0.5 * lost_s + 0.05
    assert stated_s == 10.0


def test_a_video_that_was_read_before_its_damage(whole, tmp_path):
    """Only pictures that were asked for can be seen to be damaged."""
    path = scrambled(whole["mp4"], tmp_path / "scrambled.mp4", 0.7, 0.72)
    with VideoReader(path) as reader:
        assert [number_of(frame) for frame in reader.frames_at([3, 50])] == [3, 50]
        assert reader.remarks == ()


def test_no_real_clip_is_called_damaged():
    if not CLIPS.exists():
        pytest.skip("the real clips are not here")
    for path in sorted((CLIPS / "videos").iterdir())[::7]:
        assert read_all(path)[1] == {}, path


# --- tracks, memory ---------------------------------------------------------------------------------------------------


def with_tracks(target, tracks):
    """An mkv of several tracks: (codec, pixel format, numbers of its pictures)."""
    with av.open(str(target), "w") as container:
        streams = []
        for codec, pix_fmt, numbers in tracks:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *picture(0).shape[:2], pix_fmt
            streams.append((stream, pix_fmt, numbers))
        for stream, pix_fmt, numbers in streams:
            for place, number in enumerate(numbers):
                frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format=pix_fmt)
                frame.pts = place
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return target


COVER, VIDEO, STILLS = ("mjpeg", "yuvj420p", [900]), ("libx264", "yuv420p", range(30)), ("mjpeg", "yuvj420p", range(9))


@pytest.mark.parametrize(
    ("tracks", "numbers"),
    [
        ([COVER, VIDEO], range(30)),
        ([VIDEO, COVER], range(30)),
        ([COVER, COVER, VIDEO], range(30)),
        ([("mjpeg", "yuvj422p", [900]), VIDEO], range(30)),
        ([STILLS], range(9)),  # a video of pictures
        ([COVER], [900]),
    ],
)
def test_a_cover_that_poses_as_a_track_is_not_the_video(tmp_path, tracks, numbers):
    with VideoReader(with_tracks(tmp_path / "tracks.mkv", tracks)) as reader:
        assert [number_of(frame) for frame in reader.frames_at(range(reader.num_frames))] == list(numbers)


def test_decoded_pictures_are_freed_without_the_garbage_collector(tmp_path):
    path = write_video(tmp_path / "video.mp4")

    def count_pictures():
        return sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())

    gc.collect()
    before = count_pictures()
    gc.disable()
    try:
        with VideoReader(path) as reader:
            reader.frames_at(range(60), (28, 48))
            assert count_pictures() - before < 10  # those that a decoder holds at a time
    finally:
        gc.enable()


def test_reading_starts_no_threads(tmp_path):
    """A container may allow only a few processes and threads, and a thread for each picture would be too many."""
    path = write_video(tmp_path / "video.mp4", Recipe(options=OPEN_GOP, num_frames=100))
    program = (
        "import os, sys\n"
        "from vmr.data.decoding.segments import FrameSpec, read_segments\n"
        "from vmr.retrieval.segments import FixedWindows\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "for segment in read_segments(sys.argv[1], FrameSpec(num_frames=4, size=56), FixedWindows(0.5)):\n"
        "    assert len(os.listdir('/proc/self/task')) == before\n"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this system does not list threads in /proc")
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_a_title_that_is_not_utf8(tmp_path):
    titled = remux(write_video(tmp_path / "video.mp4"), tmp_path / "titled.mkv", title="a cafe")
    data = titled.read_bytes()
    assert data.count(b"a cafe") == 1
    titled.write_bytes(data.replace(b"a cafe", b"a caf\xe9"))
    with VideoReader(titled) as reader:
        assert reader.num_frames == 60
