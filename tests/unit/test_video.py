"""All frames of every reader are compared with a plain decode of the whole file, and with the number in the picture."""

import importlib.util
import subprocess
import sys

import av
import numpy as np
import pytest

from tests.paths import CLIPS
from tests.video_matrix import (
    FPS,
    HEIGHT,
    MATRIX,
    RECIPES,
    WIDTH,
    number_of,
    write_matrix,
    write_unreadable,
    write_video,
)
from vmr.data.decoding.ffmpeg.frame_index import CountingDecoder
from vmr.data.decoding.ffmpeg.pictures import Scaler
from vmr.data.decoding.video import VideoReader
from vmr.errors import VideoError, VmrError

DAMAGED = {"avi_truncated", "mp4_truncated", "mkv_truncated"}
BEGINS_LATE = {"edit_list": 17, "ts_begins_late": 36, "mpeg2_ts_begins_late": 36}
# Nothing in these names a picture but its place in the sequence.
COUNTED = {"h264_avi_no_pts", "vp8_invisible", "gif", "avi_truncated", "mp4_truncated", "mkv_truncated"}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return write_matrix(tmp_path_factory.mktemp("matrix"))


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory):
    return write_unreadable(tmp_path_factory.mktemp("unreadable"))


def numbers(frames):
    return [number_of(frame) for frame in frames]


def plain_frames(path):
    """The frames of a file in the order in which a player shows them, without our index."""
    with av.open(str(path)) as container:
        attached = av.stream.Disposition.attached_pic
        stream = next(stream for stream in container.streams.video if not stream.disposition & attached)
        frames = []
        for packet in container.demux(stream):
            try:
                frames += packet.decode()
            except av.error.FFmpegError:
                continue
    return frames


def plain_decode(path):
    """Those frames upright: uint8 (num_frames, 3, H, W)."""
    frames = plain_frames(path)
    with VideoReader(path) as reader:
        size = (reader.height, reader.width)
    return np.stack([Scaler().upright_rgb(frame, size) for frame in frames]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("kind", MATRIX)
def test_any_frame_of_any_kind_of_file_is_the_one_a_plain_decode_shows(matrix, kind):
    if kind not in matrix:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    expected = plain_decode(matrix[kind])
    shown = numbers(expected)
    if kind not in DAMAGED:
        first = BEGINS_LATE.get(kind, 0)
        num_frames = RECIPES[kind].num_frames if kind in RECIPES else len(shown)
        assert shown == list(range(first, first + num_frames))
    with VideoReader(matrix[kind]) as reader:
        count = reader.num_frames
        assert (count, reader.height, reader.width) == (len(shown), HEIGHT, WIDTH)
        assert isinstance(reader._reader._decoder, CountingDecoder) == (kind in COUNTED)
        uniform = np.linspace(0, count - 1, 16).astype(int)
        shuffled = np.random.default_rng(0).integers(0, count, 12)
        for indices in (np.arange(count), uniform, shuffled, [count - 1, 0, count - 1]):
            np.testing.assert_array_equal(reader.frames_at(indices), expected[indices])
    with VideoReader(matrix[kind]) as reader:  # one frame at a time, from back to front: nothing to go on from
        for index in reversed(uniform):
            np.testing.assert_array_equal(reader.frames_at([index])[0], expected[index])


@pytest.mark.parametrize("kind", [kind for kind in MATRIX if kind not in DAMAGED | {"h264_vfr"}])
def test_timestamps_at_a_constant_rate(matrix, kind):
    if kind not in matrix:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    with VideoReader(matrix[kind]) as reader:
        np.testing.assert_allclose(
            reader.timestamps_s, np.arange(reader.num_frames) / FPS, atol=1.1e-3
        )  # mkv counts ms
        assert reader.duration_s == pytest.approx(reader.num_frames / FPS, abs=2e-3)
        assert reader.fps == pytest.approx(FPS, rel=2e-3)


def test_timestamps_at_a_variable_rate(matrix):
    with VideoReader(matrix["h264_vfr"]) as reader:
        # written at 0, 50, 100, 120, 170, ... ms, and one second later from frame 30 on
        np.testing.assert_allclose(reader.timestamps_s[:5], [0, 0.05, 0.1, 0.12, 0.17], atol=1e-9)
        assert reader.timestamps_s[30] == pytest.approx(2.2)


@pytest.mark.parametrize("kind", MATRIX)
def test_key_frames_are_those_that_a_plain_decode_marks(matrix, kind):
    if kind not in matrix:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    frames = plain_frames(matrix[kind])
    with VideoReader(matrix[kind]) as reader:
        found = reader.key_indices
    assert found.dtype == np.int64
    if kind == "h264_intra_refresh":  # decoding may start at these, although none stands alone
        assert found.tolist() == [0, 12, 24, 36, 48]
    else:
        assert found.tolist() == [number for number, frame in enumerate(frames) if frame.key_frame]


@pytest.mark.parametrize("kind", ["h264_open_gop", "rotated_90", "h264_444"])
def test_frames_are_scaled_while_decoding(matrix, kind):
    with VideoReader(matrix[kind]) as reader:
        frames = reader.frames_at([40, 3, 40], size=(56, 96))
        assert frames.dtype == np.uint8
        assert frames.shape == (3, 3, 56, 96)
        assert numbers(frames) == [40, 3, 40]


def test_no_frames_asked_for(matrix):
    with VideoReader(matrix["h264_gop12"]) as reader:
        assert reader.frames_at([]).shape == (0, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("index", [-1, 60])
def test_an_index_outside_the_video_is_refused(matrix, index):
    with VideoReader(matrix["h264_gop12"]) as reader, pytest.raises(IndexError, match=f"frame {index} of 60"):
        reader.frames_at([0, index])


def test_a_frame_that_does_not_decode_is_named_and_not_made_up(tmp_path):
    whole = write_video(tmp_path / "whole.mp4")
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        broken = packets[42]
        position, size = broken.pos, broken.size
    data = bytearray(whole.read_bytes())
    data[position : position + size] = bytes(size)  # the lengths of its units become zero: nothing is left to patch up
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with VideoReader(damaged) as reader:
        assert reader.num_frames == 60
        assert numbers(reader.frames_at([41, 10])) == [41, 10]
        with pytest.raises(VideoError, match="frame 42 cannot be decoded: the file lists 60 frames and yields 59"):
            reader.frames_at([42])
    with VideoReader(damaged, count_frames=True) as reader:
        assert reader.num_frames == 59
        assert numbers(reader.frames_at([0, 41])) == [0, 41]
        assert reader.timestamps_s[42] == pytest.approx(43 / FPS)  # what is left keeps its time


UNREADABLE = {
    "zero.mp4": "is empty (0 bytes)",
    "random.mp4": "not a video that FFmpeg can read",
    "text.mp4": "not a video that FFmpeg can read",
    "text.txt": "is not a video file (FFmpeg takes it for 'tty')",
    "playlist.m3u8": "is not a video file (FFmpeg takes it for 'hls')",
    "script.ffconcat": "is not a video file (FFmpeg takes it for 'concat')",
    "no_moov.mp4": "mp4 without its index (moov): the recording or download did not finish",
    "sound.mp4": "holds no video, only sound",
    "still.png": "is not a video file (FFmpeg takes it for 'png_pipe')",
    "absent.mp4": "no such file",
    "folder.mp4": "is a folder, not a video file",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_video_is_refused_in_one_line(unreadable, name):
    with pytest.raises(VideoError) as caught:
        VideoReader(unreadable[name])
    assert caught.value.reason == UNREADABLE[name]
    assert str(caught.value) == f"{unreadable[name]}: {UNREADABLE[name]}"


def test_a_name_that_looks_like_an_address_stays_a_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="no such file"):
        VideoReader("http://localhost:9/video.mp4")
    write_video(tmp_path / "a:b %d.mp4")
    with VideoReader("a:b %d.mp4") as reader:
        assert reader.num_frames == 60


def test_a_video_without_one_decodable_frame(matrix, tmp_path):
    data = bytearray(matrix["one_frame"].read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    (tmp_path / "blank.mp4").write_bytes(data)
    with pytest.raises(VideoError, match=r"blank\.mp4: no frame of its video can be decoded$"):
        VideoReader(tmp_path / "blank.mp4")


def test_an_unknown_reader_is_refused_with_the_choices(matrix):
    with pytest.raises(VmrError, match="no video reader 'cv2': choose pyav, decord, torchcodec, torchcodec-cuda"):
        VideoReader(matrix["h264_gop12"], reader="cv2")


@pytest.mark.parametrize("reader", ["decord", "torchcodec", "torchcodec-cuda"])
def test_a_reader_that_is_not_installed_names_what_to_install(matrix, reader):
    package = reader.removesuffix("-cuda")
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(VmrError, match=f"pip install {package}$"):
        VideoReader(matrix["h264_gop12"], reader=reader)


@pytest.mark.parametrize("reader", ["decord", "torchcodec"])
@pytest.mark.parametrize("kind", ["h264_gop12", "h264_gop250", "rotated_90"])
def test_the_other_readers_agree_on_ordinary_files(matrix, reader, kind):
    if not importlib.util.find_spec(reader):
        pytest.skip(f"{reader} is not installed")
    with VideoReader(matrix[kind], reader=reader) as other, VideoReader(matrix[kind]) as ours:
        assert other.num_frames == ours.num_frames
        assert (other.height, other.width) == (ours.height, ours.width)
        assert other.duration_s == pytest.approx(ours.duration_s, abs=1e-3)
        np.testing.assert_allclose(other.timestamps_s, ours.timestamps_s, atol=1e-3)
        asked = [31, 7, 7, 59, 0]
        assert numbers(other.frames_at(asked)) == asked
        assert numbers(other.frames_at(asked, size=(56, 96))) == asked
        assert other.key_indices.tolist() == ours.key_indices.tolist()


@pytest.mark.parametrize("reader", ["decord", "torchcodec"])
def test_the_other_readers_refuse_what_is_no_video(unreadable, reader):
    if not importlib.util.find_spec(reader):
        pytest.skip(f"{reader} is not installed")
    for name, reason in UNREADABLE.items():
        with pytest.raises(VideoError) as caught:
            VideoReader(unreadable[name], reader=reader)
        assert caught.value.reason == reason


def test_real_clips_are_read_as_a_plain_decode_shows_them():
    if not CLIPS.exists():
        pytest.skip("the real clips are not here")
    for path in sorted((CLIPS / "originals").iterdir())[::9]:
        expected = plain_decode(path)
        with VideoReader(path) as reader:
            assert reader.num_frames == len(expected)
            indices = np.random.default_rng(0).integers(0, len(expected), 8)
            np.testing.assert_array_equal(reader.frames_at(indices), expected[indices])


def test_reading_a_video_does_not_import_torch():
    program = "import sys, vmr.data.decoding.worker, vmr.data.decoding.pool; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
