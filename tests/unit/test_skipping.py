"""Pictures that are left out change no picture that is asked for, and are really left out."""

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.paths import CLIPS
from tests.video_matrix import FAST_X265, MATRIX, OPEN_GOP, Recipe, remux, write_matrix, write_video
from vmr.data.decoding.ffmpeg.frame_index import SeekingDecoder
from vmr.data.decoding.ffmpeg.packets import KeyFrame, open_and_scan
from vmr.data.decoding.ffmpeg.skipping import Selection, _has_one_layer, _is_even, can_skip
from vmr.data.decoding.ffmpeg.video_file import VideoFile
from vmr.data.decoding.video import VideoReader

X264 = {"preset": "fast"}  # with a pyramid of B-frames
LONGER = {
    "pyramid": Recipe(options=X264, num_frames=145, gop=250),
    "pyramid_gop12": Recipe(options=X264, num_frames=120, gop=12, suffix=".mkv"),
    "open": Recipe(options=OPEN_GOP, num_frames=100, gop=24, suffix=".ts"),
    "field_pairs": Recipe(options={"preset": "fast", "x264-params": "interlaced=1"}, num_frames=80, gop=40),
    "hevc": Recipe("libx265", options=FAST_X265, num_frames=80, gop=40),
    "mpeg2": Recipe("mpeg2video", bframes=2, suffix=".mkv", num_frames=120, gop=30),
    "mpeg1": Recipe("mpeg1video", bframes=2, suffix=".mpg", num_frames=120, gop=30),
    "mpeg4": Recipe("mpeg4", bframes=2, num_frames=120, gop=60),
}
KINDS = [*MATRIX, *LONGER]
# Of these no picture is left out: there are no times, they are uneven, or the codec cannot.
DECODED_WHOLLY = {
    *("h264_vfr", "h264_avi_no_pts", "avi_truncated", "mp4_truncated", "mkv_truncated"),
    *("vp8_invisible", "vp9", "av1", "wmv2", "gif"),
}
DOUBTED = {"h264_intra_refresh"}  # its packets mark as key frames what cannot be decoded alone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    longer = {name: write_video(folder / f"long_{name}{recipe.suffix}", recipe) for name, recipe in LONGER.items()}
    return write_matrix(folder) | longer


@pytest.fixture(scope="module")
def all_frames(files):
    """A function: the name of a file -> all its frames, by a reader that leaves out none."""
    known = {}

    def frames_of(kind):
        if kind not in known:
            with VideoReader(files[kind]) as reader:
                decode_wholly(reader)
                known[kind] = reader.frames_at(range(reader.num_frames))
        return known[kind]

    return frames_of


def decode_wholly(reader):
    decoder = reader._reader._decoder
    if isinstance(decoder, SeekingDecoder):
        decoder._can_skip = False


def leaves_out(reader):
    decoder = reader._reader._decoder
    return isinstance(decoder, SeekingDecoder) and decoder._can_skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_the_frames_that_are_asked_for_are_those_of_a_whole_decode(files, all_frames, kind, data):
    if kind not in files:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    expected = all_frames(kind)
    threads = data.draw(st.sampled_from([1, 1, 2, 3]))
    with VideoReader(files[kind], num_threads=threads) as reader:
        for _ in range(data.draw(st.integers(1, 3))):
            asked = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=12))
            assert np.array_equal(reader.frames_at(asked), expected[asked]), (threads, asked)
        assert kind in DOUBTED or leaves_out(reader) == (kind not in DECODED_WHOLLY)


@pytest.mark.parametrize("kind", KINDS)
def test_key_frames_and_steps_through_a_file(files, all_frames, kind):
    if kind not in files:
        pytest.skip(f"this PyAV has no encoder for {kind}")
    expected = all_frames(kind)
    for threads in (1, 2):
        for asked in (slice(0, None, 25), slice(7, None, 13), slice(3, None, 4), "keys"):
            with VideoReader(files[kind], num_threads=threads) as reader:
                indices = reader.key_indices if asked == "keys" else np.arange(reader.num_frames)[asked]
                assert np.array_equal(reader.frames_at(indices.tolist()), expected[indices]), (threads, asked)


def test_real_clips():
    if not CLIPS.exists():
        pytest.skip("the real clips are not here")
    for path in sorted((CLIPS / "originals").iterdir())[::3]:
        with VideoReader(path) as reader, VideoReader(path) as whole:
            decode_wholly(whole)
            indices = np.arange(reader.num_frames)[12::25].tolist()
            assert np.array_equal(reader.frames_at(indices), whole.frames_at(indices)), path


# --- what is left out -------------------------------------------------------------------------------------------------


class CountedFile(VideoFile):
    """A file that counts the packets that are read, and the pictures that are decoded."""

    num_read = num_decoded = 0

    def packets(self):
        for packet in super().packets():
            self.num_read += 1
            yield packet

    def decode(self, packets):
        for frame in super().decode(packets):
            self.num_decoded += 1
            yield frame


def counted(path, indices):
    """How many packets are read and how many pictures are decoded for some frames after the first."""
    scanned, scan = open_and_scan(str(path), 1)
    scanned.close()
    file = CountedFile(str(path), 1)
    decoder = SeekingDecoder(file, scan.table)
    decoder.first_frame()
    file.num_read = file.num_decoded = 0
    decoder.want(indices)
    for index in indices:
        decoder.frame(index)
    file.close()
    return file.num_read, file.num_decoded


def test_non_reference_pictures_are_not_decoded(tmp_path):
    """Groups I B B P B B P ...: after the first pictures, one in three is a reference."""
    recipe = Recipe(
        "mpeg2video", bframes=2, suffix=".mkv", num_frames=121, gop=240, options={"sc_threshold": "1000000000"}
    )
    num_read, num_decoded = counted(write_video(tmp_path / "one.mkv", recipe), [60, 119])
    assert num_read <= 121
    # Of 113 pictures after the first 8, a third; and about a wanted one its neighbours.
    assert 113 // 3 <= num_decoded <= 113 // 3 + 2 * 3


def test_key_frames_alone_are_decoded(tmp_path):
    path = write_video(tmp_path / "keys.mp4", Recipe(options=X264, num_frames=120, gop=12))
    keys = list(range(24, 120, 12))
    assert counted(path, keys) == (len(keys) + 2, len(keys))  # the decoder holds the last back until it has two more


def test_reading_ends_at_a_wanted_picture_if_the_next_is_sought(tmp_path):
    """Pictures 26 and 62 are wanted, of groups of 12 without B-frames: 24, 25, 26, and 60, 61, 62."""
    path = write_video(tmp_path / "ends.mp4", Recipe(options={"preset": "fast", "bf": "0"}, num_frames=72, gop=12))
    assert counted(path, [26, 62]) == (6, 6)
    assert counted(path, [26, 30, 62]) == (10, 10)  # from 26 on to 30


def test_what_was_left_out_can_be_asked_for_later(files, all_frames):
    with VideoReader(files["pyramid"]) as reader:
        expected = all_frames("pyramid")
        for index in (80, 81, 79, 83, 82, 84):
            assert np.array_equal(reader.frames_at([index])[0], expected[index])
        assert leaves_out(reader)


def test_a_frame_that_was_not_announced_is_reached_by_decoding_all(files, all_frames):
    with VideoReader(files["pyramid"]) as reader:
        decoder = reader._reader._decoder
        decoder.want([40, 140])
        for index in (40, 41, 43):
            assert decoder.frame(index).pts == decoder.shown_pts[index]
        assert np.array_equal(reader.frames_at([90])[0], all_frames("pyramid")[90])


# --- when in doubt ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scanned(files):
    file, scan = open_and_scan(str(files["pyramid"]), 1)
    yield file, scan.table
    file.close()


def test_nothing_is_left_out_if_times_may_be_wrong(scanned):
    file, table = scanned
    assert can_skip(file, table.shown_pts, table.num_reordered)
    moved = table.shown_pts.copy()
    moved[70] += 2
    assert not can_skip(file, moved, table.num_reordered)
    assert not can_skip(file, table.shown_pts, 0)  # packets in the order of times, but B-frames


@pytest.mark.parametrize(
    ("times", "is_even"),
    [
        ([0], True),
        ([5, 9], True),
        ([0, 33, 67, 100], True),  # thirds of 100, rounded
        ([0, 34, 66, 100], True),
        ([0, 40, 80, 121, 160], True),
        ([0, 40, 80, 122, 160], False),
        ([0, 40, 120, 160], False),  # one is left out
        ([*range(0, 4000, 40), 4100], False),
    ],
)
def test_even_times(times, is_even):
    assert _is_even(np.array(times, np.int64)) == is_even


def test_layers_of_hevc(files):
    if "hevc" not in files:
        pytest.skip("this PyAV has no encoder for hevc")
    with av.open(str(files["hevc"])) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata)
    assert _has_one_layer(extradata)
    two = bytearray(extradata)
    two[21] = two[21] & 0b11000111 | 2 << 3
    assert not _has_one_layer(bytes(two))
    assert not _has_one_layer(b"\x00\x00\x00\x01" + extradata)  # not an hvcC box
    assert not _has_one_layer(b"")


def test_pictures_whose_times_are_those_of_other_pictures(tmp_path, files):
    """A muxer that does not know pyramids gives B-frames their times in the order of the packets: even, but wrong."""
    times = {}
    with av.open(str(files["pyramid"])) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    start = 0
    for stop in range(1, len(packets) + 1):  # pictures between two that are shown later than all before them
        if stop == len(packets) or packets[stop].pts > max(packet.pts for packet in packets[:stop]):
            group = range(start + 1, stop)
            times.update(zip(group, sorted(packets[place].pts for place in group), strict=True))
            start = stop

    def lie(number, packet, step):
        packet.pts = times.get(number, packet.pts)

    path = remux(files["pyramid"], tmp_path / "lies.mp4", lie)
    assert any(packets[place].pts != time for place, time in times.items()), "no pyramid, nothing was changed"
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in container.decode(video=0)]
    for index in (9, 30, 61, 118):
        with VideoReader(path) as reader:
            assert np.array_equal(reader.frames_at([index])[0], shown[index])


def test_a_damaged_picture_ends_the_leaving_out(files, all_frames, tmp_path):
    """It is repaired with the help of others, which must not be left out then."""
    source = files["pyramid_gop12"]
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    broken = next(packet for packet in packets[49:] if packet.size > 1000)  # the first of the group from picture 48 on
    data = bytearray(source.read_bytes())
    data[broken.pos + 150 : broken.pos + 250] = bytes(100)
    path = tmp_path / "broken.mkv"
    path.write_bytes(data)
    for step in (3, 5):
        with VideoReader(path) as reader:
            assert leaves_out(reader)
            indices = np.arange(0, 120, step)
            frames = reader.frames_at(indices.tolist())
            assert not leaves_out(reader)
            elsewhere = (indices < 48) | (indices >= 60)
            assert np.array_equal(frames[elsewhere], all_frames("pyramid_gop12")[indices[elsewhere]])


# --- the choice, by hand ----------------------------------------------------------------------------------------------


def selection(numbers, places, keys, num_reordered):
    frames = [KeyFrame(number, number, int(places[number])) for number in keys]
    return Selection(np.array(numbers), np.array(places), frames, keys, num_reordered)


def test_without_reordering_only_wanted_pictures_are_kept():
    chosen = selection([3, 25], range(40), [0, 10, 20, 30], 0)
    assert [place for place in range(40) if not chosen.may_skip(place)] == [3, 25]
    assert [place for place in range(40) if chosen.ends_at(place)] == [3]  # the next starts at 20, 16 packets later
    assert chosen.may_pass(0, 3) and not chosen.may_pass(0, 4) and not chosen.may_pass(3, 25)
    assert chosen.may_pass(4, 25) and not chosen.may_pass(4, 26) and chosen.may_pass(26, 40)


def test_neighbours_that_may_have_changed_places_are_kept():
    # I0 P4 B2 B1 B3 P8 B6 B5 B7 ...: packets of the pictures 0, 1, 2, ...
    places = [0, 3, 2, 4, 1, 7, 6, 8, 5, 11, 10, 12, 9]
    chosen = selection([6], places, [0], 2)
    assert [place for place in range(13) if not chosen.may_skip(place)] == [1, 5, 6, 7, 8]  # of pictures 4 to 8
    assert not any(chosen.ends_at(place) for place in range(13))
    assert chosen.may_pass(0, 4) and not chosen.may_pass(0, 5)
    assert not chosen.may_pass(5, 6) and chosen.may_pass(7, 13)
    # Picture 4 is wanted: 2 and 3 come first, and stand after it.
    assert [
        place for place in range(13) if selection([4, 99], [*places, *range(13, 120)], [0, 90], 2).ends_at(place)
    ] == [4]


def test_reading_goes_on_if_the_next_key_frame_is_near():
    for key, ends in ((10, False), (11, False), (12, True)):  # 3 is read: 4, ..., 11 are eight packets
        assert selection([3, key], range(40), [0, key], 0).ends_at(3) == ends
    assert not selection([3, 9], range(40), [0], 0).ends_at(3)
    assert not selection([3, 9], range(40), [], 0).ends_at(3)
