"""An open file: what it states, what it gives, how its pictures are turned, and what the default reader says of it."""

import gc
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video_matrix import X264, Recipe, cut, number_of, patch_matrix, picture, write_video
from vmr.data.decoding.ffmpeg.clock import Clock
from vmr.data.decoding.ffmpeg.frame_index import CountingDecoder, SeekingDecoder
from vmr.data.decoding.ffmpeg.pictures import Scaler, orientation, resized_rgb
from vmr.data.decoding.ffmpeg.reader import PyAVReader
from vmr.data.decoding.ffmpeg.video_file import NotAVideoError, VideoFile, _lacks_moov, _not_opened
from vmr.data.remark import Remark
from vmr.errors import VideoError

STRAIGHT = {"options": X264, "num_frames": 12, "gop": 6}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve pictures, 0.48 s, in every container that states its length in another way, or does not."""
    folder = tmp_path_factory.mktemp("files")
    found = {suffix: write_video(folder / f"v{suffix}", Recipe(**STRAIGHT, suffix=suffix))
             for suffix in (".mp4", ".mkv", ".avi", ".ts", ".flv")}  # fmt: skip
    found["mpeg4"] = write_video(folder / "mpeg4.mkv", Recipe("mpeg4", suffix=".mkv"))
    return found


@pytest.fixture
def opened():
    """Opens files, and closes them at the end."""
    files = []

    def open_file(path, num_threads=1):
        files.append(VideoFile(str(path), num_threads))
        return files[-1]

    yield open_file
    for file in files:
        file.close()
        file.close()  # does nothing


@pytest.mark.parametrize(
    ("suffix", "time_base", "stated_s", "is_broadcast"),
    [
        (".mp4", Fraction(1, 12_800), 0.48, False),
        (".mkv", Fraction(1, 1000), 0.48, False),
        (".avi", Fraction(1, 25), 0.48, False),
        (".flv", Fraction(1, 1000), 0.48, False),
        (".ts", Fraction(1, 90_000), None, True),
    ],
)
def test_what_a_file_states(files, opened, suffix, time_base, stated_s, is_broadcast):
    file = opened(files[suffix])
    assert file.stated_s == (None if stated_s is None else pytest.approx(stated_s, abs=1e-3))
    assert file.clock == Clock(time_base, 25.0, is_broadcast)
    assert file.is_broadcast is is_broadcast
    assert isinstance(file.clock.rate, float)
    # FLV states only when its last picture begins, and for how long each is shown in whole thousandths
    assert file.reach_s() == pytest.approx(0.48, abs=0.041 if suffix == ".flv" else 1e-6)
    assert not file.has_failed


def test_the_sound_of_a_file_counts_for_how_far_it_reaches(tmp_path, opened):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=8000)
        video.height, video.width, video.pix_fmt = *picture(0).shape[:2], "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 4000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    file = opened(path)
    assert file.reach_s() == pytest.approx(2.5, abs=1e-3)  # 2 s of sound from 0.5 s on; 0.2 s of pictures
    assert len(list(file.packets())) == 0  # they were read
    file.reopen()
    assert len(list(file.packets())) == 5


def test_threads_are_those_of_the_decoder(files, opened):
    assert opened(files[".mp4"], 3).stream.codec_context.thread_count == 3
    assert opened(files[".mp4"], 1).stream.thread_type == av.codec.context.ThreadType.AUTO


def test_packets_that_cannot_be_decoded_count_from_the_first_key_frame_on(files, opened, tmp_path):
    broken = with_noise(files[".mkv"], tmp_path / "broken.mkv", range(3, 5), whole=True)
    file = opened(broken)
    assert len(list(file.decode(file.packets()))) == 10 and file.num_broken == 2
    file.reopen()
    assert (file.num_broken, file.has_failed) == (0, False)
    after_key = (packet for packet in list(file.packets())[1:5])
    assert list(file.decode(after_key)) == [] and file.num_broken == 0


def with_noise(source, target, numbers, whole=False):
    """A copy in which the second half of some packets, or the whole of them, is noise."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        start, size = data.index(packets[number]), len(packets[number])
        first = start if whole else start + size // 2
        data[first : start + size] = np.random.default_rng(0).bytes(start + size - first)
    target.write_bytes(data)
    return target


def box(name: bytes, size: int, wide: bool = False) -> bytes:
    """The start of a box of an mp4 file, and zeros up to its size."""
    head = (1).to_bytes(4, "big") + name + size.to_bytes(8, "big") if wide else size.to_bytes(4, "big") + name
    return head + bytes(max(0, size - len(head)))


@pytest.mark.parametrize(
    ("boxes", "lacks"),
    [
        ([box(b"ftyp", 24), box(b"mdat", 100)], True),
        ([box(b"ftyp", 24), box(b"mdat", 100), box(b"moov", 8)], False),
        ([box(b"ftyp", 24), box(b"mdat", 100, wide=True), box(b"moov", 16)], False),
        ([box(b"ftyp", 24), box(b"mdat", 0), box(b"moov", 16)], True),  # the box reaches to the end of the file
        ([box(b"ftyp", 24), box(b"mdat", 7), box(b"moov", 16)], True),  # no box is so small
        ([box(b"ftyp", 24), box(b"free", 8), box(b"moov", 16)], False),
        ([box(b"wide", 24), box(b"mdat", 100)], False),  # no mp4 file
        ([box(b"ftyp", 24), box(b"mdat", 100), b"moov"], True),
        ([b""], False),
    ],
)
def test_an_mp4_file_without_its_index(tmp_path, boxes, lacks):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join(boxes))
    assert _lacks_moov(path) is lacks


def test_why_a_file_cannot_be_opened(tmp_path):
    path = str(tmp_path / "a.mp4")
    half = tmp_path / "half.mp4"
    half.write_bytes(box(b"ftyp", 24))
    for error, name, reason in (
        (av.error.FileNotFoundError(2, "No such file"), path, "no such file"),
        (av.error.PermissionError(13, "Permission denied"), path, "no permission to read it"),
        (av.error.OSError(5, "Input/output error"), path, "cannot be read (Input/output error)"),
        (av.error.InvalidDataError(1, "Invalid data"), path, "not a video that FFmpeg can read"),
        (
            av.error.InvalidDataError(1, "Invalid data"),
            str(half),
            "mp4 without its index (moov): the recording or download did not finish",
        ),
    ):
        found = _not_opened(name, error)
        assert (found.path, found.reason) == (name, reason)
        assert isinstance(found, NotAVideoError) == (reason == "not a video that FFmpeg can read")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("pipe.mp4", "is a fifo, not a video file"),
        ("", "is a folder, not a video file"),
    ):
        path = str(tmp_path / name)
        with pytest.raises(VideoError) as caught:
            VideoFile(path, 1)
        assert (caught.value.path, caught.value.reason) == (path, reason)


# --- pictures ---------------------------------------------------------------------------------------------------------

MATRICES = [
    # a b c d, quarter turns clockwise, whether left and right are swapped before
    ((1, 0, 0, 1), (0, False)),
    ((0, 1, -1, 0), (1, False)),
    ((-1, 0, 0, -1), (2, False)),
    ((0, -1, 1, 0), (3, False)),
    ((-1, 0, 0, 1), (0, True)),
    ((0, 1, 1, 0), (3, True)),  # a mirror image that is turned
    ((1, 0, 0, -1), (2, True)),
    ((0, -1, -1, 0), (1, True)),
]


@pytest.mark.parametrize(("matrix", "turns"), MATRICES)
def test_pictures_are_turned_upright(files, tmp_path, matrix, turns):
    """The point (x, y) of the stored picture is shown at (ax + cy, bx + dy), moved so that none is negative."""
    path = patch_matrix(files[".mp4"], tmp_path / "turned.mp4", *matrix)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert orientation(frame) == turns
    stored = frame.to_ndarray(format="rgb24")
    a, b, c, d = matrix
    height, width = (stored.shape[1], stored.shape[0]) if b else stored.shape[:2]
    y, x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    shown = np.zeros((height, width, 3), np.uint8)
    # a mirror image counts the columns from the other side
    shown[(b * x + d * y) % height if b + d > 0 else height - 1 + b * x + d * y,
          (a * x + c * y) % width if a + c > 0 else width - 1 + a * x + c * y] = stored  # fmt: skip
    upright = Scaler().upright_rgb(frame, (height, width))
    assert upright.shape == shown.shape
    # the filter may round otherwise than `to_ndarray`
    assert np.abs(upright.astype(int) - shown).max() <= 3
    assert Scaler().upright_rgb(frame, (20, 30)).shape == (20, 30, 3)
    reader = PyAVReader(str(path))
    assert (reader.height, reader.width) == (height, width)
    reader.close()


@pytest.mark.parametrize(("matrix", "turns"), MATRICES[:4])
def test_pictures_are_turned_by_their_angle_where_the_matrix_cannot_be_read(
    files, tmp_path, monkeypatch, matrix, turns
):
    """PyAV raises ValueError on side data of a kind that it does not know."""

    def fail(frame):
        raise ValueError("999 is not a valid Type")

    with av.open(str(patch_matrix(files[".mp4"], tmp_path / "turned.mp4", *matrix))) as container:
        frame = next(container.decode(video=0))
    monkeypatch.setattr("vmr.data.decoding.ffmpeg.pictures.SideDataContainer", fail)
    assert orientation(frame) == turns


def test_a_picture_in_memory_is_scaled_as_a_decoded_one():
    rgb = picture(5)
    assert resized_rgb(rgb, rgb.shape[:2]) is rgb
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    small = resized_rgb(rgb, (56, 90))
    assert small.shape == (56, 90, 3) and small.dtype == np.uint8
    np.testing.assert_array_equal(small, Scaler().upright_rgb(frame, (56, 90)))
    np.testing.assert_array_equal(resized_rgb(rgb[:, ::-1], (56, 90)), resized_rgb(rgb[:, ::-1].copy(), (56, 90)))
    bicubic = frame.reformat(90, 56, "rgb24", interpolation="BICUBIC").to_ndarray()
    np.testing.assert_array_equal(small, bicubic)


# --- the reader -------------------------------------------------------------------------------------------------------


def numbers(reader, indices):
    return [number_of(rgb.transpose(2, 0, 1)) for rgb in reader.frames(indices, (reader.height, reader.width))]


@pytest.mark.parametrize(
    ("options", "decoder", "most_threads"),
    [({}, SeekingDecoder, 2), ({"count_frames": True}, CountingDecoder, 1)],
)
def test_a_reader_seeks_unless_it_is_told_to_count(files, options, decoder, most_threads):
    reader = PyAVReader(str(files[".mkv"]), **options)
    assert type(reader._decoder) is decoder
    assert numbers(reader, [11, 0, 7, 7]) == [11, 0, 7, 7]
    np.testing.assert_allclose(reader.timestamps_s, 0.04 * np.arange(12))
    assert reader.duration_s == pytest.approx(0.48)
    assert (reader.height, reader.width) == picture(0).shape[:2]
    assert reader.remarks == ()
    assert reader._file.stream.codec_context.thread_count == 1
    reader.close()
    reader = PyAVReader(str(files[".mkv"]), 2, **options)
    assert reader._file.stream.codec_context.thread_count == most_threads
    reader.close()


def test_pictures_without_times_follow_each_other_at_the_rate_of_the_file(tmp_path):
    path = write_video(tmp_path / "v.avi", Recipe("mpeg4", bframes=2, num_frames=30, suffix=".avi"))
    reader = PyAVReader(str(path))
    np.testing.assert_allclose(reader.timestamps_s, 0.04 * np.arange(30))
    assert reader.duration_s == pytest.approx(1.2) and reader.remarks == ()
    assert numbers(reader, [29, 3]) == [29, 3]
    reader.close()
    reader = PyAVReader(str(path), count_frames=True)
    np.testing.assert_allclose(reader.timestamps_s, 0.04 * np.arange(30))
    reader.close()


def test_a_cut_between_two_recordings_is_no_damage(files, tmp_path):
    """There a packet is incomplete for the container, but no picture is missing."""
    path = tmp_path / "joined.ts"
    path.write_bytes(files[".ts"].read_bytes() * 2)
    reader = PyAVReader(str(path))
    assert numbers(reader, range(24)) == [*range(12), *range(12)]
    assert [remark.kind for remark in reader.remarks] == ["times"]
    reader.close()


def test_damage_is_noticed_when_a_damaged_picture_is_read(files, tmp_path):
    """Pictures 20 and 42 of 60 are damaged, which only the decoder notices."""
    path = str(with_noise(files["mpeg4"], tmp_path / "noise.mkv", [20, 42]))
    reader = PyAVReader(path)
    list(reader.frames([3, 19], (28, 48)))
    assert reader.remarks == ()
    list(reader.frames([20], (28, 48)))
    damage = Remark("damage", "read with damage: 2.3 of 2.4 s")  # 58 times 0.04 s are 2.32 s
    assert reader.remarks == (damage,)
    list(reader.frames([3], (28, 48)))
    assert reader.remarks == (damage,)
    reader.close()
    reader = PyAVReader(path, count_frames=True)
    assert reader.remarks == (damage,)
    reader.close()
    survey = CountingDecoder(VideoFile(path, 1)).survey()
    assert np.flatnonzero(~survey.is_intact).tolist() == [20, 42]


def test_damage_is_noticed_when_packets_cannot_be_decoded(files, tmp_path):
    path = str(with_noise(files[".mkv"], tmp_path / "broken.mkv", [7], whole=True))
    reader = PyAVReader(path, count_frames=True)
    # The picture before the lost one is shown for two steps, which is not more than it may be.
    assert reader.remarks == (Remark("damage", "read with damage: 0.5 of 0.5 s"),)
    assert len(reader.timestamps_s) == 11
    reader.close()


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_reader_that_fails_closes_its_file(files, tmp_path):
    path = with_noise(files[".mkv"], tmp_path / "broken.mkv", range(12), whole=True)
    gc.collect()  # files of earlier tests, which would be closed meanwhile
    before = num_open_files()
    with pytest.raises(VideoError) as caught:
        PyAVReader(str(path))
    assert caught.value.reason == "no frame of its video can be decoded" and caught.value.path == str(path)
    assert num_open_files() == before


def test_a_list_of_packets_that_is_wrong_is_given_up(files):
    """If counting finds as many pictures as are listed, they are the listed ones."""
    reader = PyAVReader(str(files[".mkv"]))
    reader._decoder.shown_pts = reader._decoder.shown_pts.copy()
    reader._decoder.shown_pts[8] += 1
    assert numbers(reader, [7]) == [7] and type(reader._decoder) is SeekingDecoder
    assert numbers(reader, [8, 3, 11]) == [8, 3, 11] and type(reader._decoder) is CountingDecoder
    reader.close()


def test_a_picture_that_is_listed_and_does_not_come_is_named(files, tmp_path):
    path = with_noise(files[".mkv"], tmp_path / "broken.mkv", [8], whole=True)
    reader = PyAVReader(str(path))
    with pytest.raises(VideoError) as caught:
        numbers(reader, [7, 8])
    assert caught.value.reason == "frame 8 cannot be decoded: the file lists 12 frames and yields 11"
    assert caught.value.path == str(path)
    assert numbers(reader, [6]) == [6]
    reader.close()


def test_a_file_that_is_cut_off_is_counted_and_damaged(files, tmp_path):
    reader = PyAVReader(str(cut(files["mpeg4"], tmp_path / "cut.mkv", stop=0.5)))
    assert type(reader._decoder) is CountingDecoder
    ((kind, text),) = [(remark.kind, remark.text) for remark in reader.remarks]
    assert kind == "damage" and text.endswith("of 2.4 s")
    reader.close()
