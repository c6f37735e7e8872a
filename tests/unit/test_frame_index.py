"""How pictures are reached: where decoding starts, how many packets it takes, and what happens if a table is wrong.

The file holds 60 pictures, shown one every 40 ticks, in the order of their packets. Pictures 0, 12, 24, 36 and 48 are
key frames. The numbers are worked by hand.
"""

from dataclasses import replace

import av
import numpy as np
import pytest

from tests.video_matrix import OPEN_GOP, X264, Recipe, write_video
from vmr.data.decoding.ffmpeg.frame_index import CountingDecoder, SeekingDecoder, UnreachableFrameError
from vmr.data.decoding.ffmpeg.packets import KeyFrame, open_and_scan
from vmr.data.decoding.ffmpeg.video_file import VideoFile

STEP = 40


class CountedFile(VideoFile):
    """A file that counts the packets that are read."""

    num_read = 0

    def packets(self):
        for packet in super().packets():
            self.num_read += 1
            yield packet

    def read_since(self) -> int:
        count, self.num_read = self.num_read, 0
        return count


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    recipe = Recipe(options=X264, gop=12, num_frames=60, suffix=".mkv")
    return write_video(tmp_path_factory.mktemp("files") / "straight.mkv", recipe)


@pytest.fixture(scope="module")
def table(path):
    file, scan = open_and_scan(str(path), 1)
    file.close()
    return scan.table


@pytest.fixture
def file(path):
    counted = CountedFile(str(path), 1)
    yield counted
    counted.close()


def key(number: int) -> KeyFrame:
    return KeyFrame(number * STEP, number * STEP, number)


@pytest.mark.parametrize(
    ("first", "second", "num_packets"),
    [
        (5, 5, 0),  # it is still there
        (5, 6, 1),
        (4, 12, 8),  # key frame 12 is 7 packets ahead: reading on is cheaper than a seek
        (3, 12, 1),  # 8 packets ahead: a seek to it
        (3, 13, 2),
        (5, 30, 7),  # 24, 25, ... 30
        (12, 20, 8),
        (13, 12, 1),
        (13, 11, 12),
        (59, 0, 1),
        (0, 59, 12),
    ],
)
def test_a_picture_is_reached_from_the_key_frame_before_it_or_by_reading_on(file, table, first, second, num_packets):
    decoder = SeekingDecoder(file, table)
    assert decoder.frame(first).pts == first * STEP
    file.read_since()
    assert decoder.frame(second).pts == second * STEP
    assert file.read_since() == num_packets
    assert decoder.frame(second).pts == second * STEP and file.read_since() == 0


def test_the_first_picture_is_found_and_the_next_are_compared(file, table):
    decoder = SeekingDecoder(file, table)
    assert decoder.first_frame().pts == 0
    assert file.read_since() == 4
    assert [decoder.frame(number).pts for number in range(5)] == [0, 40, 80, 120, 160]
    assert file.read_since() == 1  # the first four are used again
    assert decoder.shown_pts.tolist() == list(range(0, 2400, 40))


def test_listed_pictures_that_come_before_the_first_that_can_be_decoded_are_left_out(file, table):
    lead = replace(table, shown_pts=np.array([-80, -40, *table.shown_pts]), keys=[key(-2), *table.keys])
    decoder = SeekingDecoder(file, lead)
    assert decoder.first_frame().pts == 0
    assert decoder.shown_pts.tolist() == table.shown_pts.tolist()
    assert [decoder.frame(number).pts for number in (30, 0)] == [1200, 0]


@pytest.mark.parametrize(
    ("shown", "is_found"),
    [
        ([0, 40, 80, 120, 161], True),  # four are compared
        ([0, 40, 80, 121, 160], False),
        ([0, 41, 80, 120, 160], False),
        ([0, 40], True),
        ([0], True),
        ([-80, 0], True),  # the last that is listed is the first that is shown
        ([-80, -40], False),  # all lie before what is shown
        ([-1, 1, 40, 80], False),  # the first that is shown is not listed
    ],
)
def test_a_table_whose_first_pictures_are_not_shown_is_refused(file, table, shown, is_found):
    first = SeekingDecoder(file, replace(table, shown_pts=np.array(shown))).first_frame()
    assert (first is not None) == is_found
    assert first is None or first.pts == 0


def test_a_table_of_a_file_that_gives_no_picture_is_refused(file, table):
    lying = replace(table, places={(0, 1): 0})  # its first packet is not the one in the file
    assert SeekingDecoder(file, lying).first_frame() is None
    assert file.read_since() == 1


def test_a_listed_picture_that_does_not_come_cannot_be_reached(file, table):
    shown = table.shown_pts.copy()
    shown[30] += 1
    decoder = SeekingDecoder(file, replace(table, shown_pts=shown))
    assert decoder.first_frame().pts == 0
    for number in (29, 36, 59):
        assert decoder.frame(number).pts == number * STEP
    for number in (30, 31, 35, 30):
        with pytest.raises(UnreachableFrameError):
            decoder.frame(number)
    assert decoder.frame(29).pts == 29 * STEP  # what follows an error is not confused by it
    assert decoder.frame(47).pts == 47 * STEP


def test_a_packet_that_is_not_the_listed_one_ends_the_reading(file, table):
    places = {place_of: place + (place >= 31) for place_of, place in table.places.items()}
    decoder = SeekingDecoder(file, replace(table, places=places))
    assert decoder.frame(30).pts == 30 * STEP
    with pytest.raises(UnreachableFrameError):
        decoder.frame(31)


def test_of_two_key_frames_of_which_one_is_none_the_one_before_serves(file, table):
    """Picture 18 refers to the one before it. It may be marked as a key frame all the same."""
    decoder = SeekingDecoder(file, replace(table, keys=[key(0), key(12), key(18), key(24)]))
    assert decoder.frame(20).pts == 800
    assert decoder._keys_are_reliable
    file.read_since()
    assert decoder.frame(24).pts == 960 and file.read_since() == 4  # 21, 22, 23, 24


def test_key_frames_that_are_none_are_not_used_again(file, table):
    decoder = SeekingDecoder(file, replace(table, keys=[key(0), key(14), key(18), key(36)]))
    assert decoder.frame(20).pts == 800
    assert not decoder._keys_are_reliable
    file.read_since()
    assert decoder.frame(40).pts == 1600 and file.read_since() == 20  # it reads on: 21, 22, ... 40
    assert decoder.frame(3).pts == 120 and file.read_since() == 4  # from the start


def test_without_a_key_frame_before_a_picture_it_is_read_from_the_start(file, table):
    decoder = SeekingDecoder(file, replace(table, keys=[key(24)]))
    assert decoder.frame(3).pts == 120 and file.read_since() == 4
    assert decoder.frame(23).pts == 920 and file.read_since() == 20
    assert decoder.frame(2).pts == 80 and file.read_since() == 3
    assert decoder._keys_are_reliable
    assert decoder.frame(25).pts == 1000
    assert file.read_since() == 2  # of 24 and 25


@pytest.mark.parametrize(
    ("times", "num_packets"),
    [
        ({"pts": 36 * STEP + 1}, 1 + 14),  # 36, which is too late; then from 24 to 37
        ({"pts": 36 * STEP + 1, "dts": 36 * STEP + 1}, 1 + 1 + 26),  # 36 twice; then from 12, the key frame before
    ],
)
def test_a_seek_that_lands_too_late_is_tried_with_another_time(file, table, times, num_packets):
    """Key frame 24 is listed with times of 36: reading starts at it, but does not find that time."""
    decoder = SeekingDecoder(file, replace(table, keys=[key(0), key(12), replace(key(24), **times), key(36)]))
    assert not decoder._start_at_key(2)
    assert file.read_since() == num_packets
    assert decoder._place == 38


def test_times_that_no_key_frame_has_are_no_start(file, table):
    decoder = SeekingDecoder(file, replace(table, keys=[replace(key(12), place=99)]))
    assert not decoder._start_at_key(0) and file.read_since() == 3 * 48  # 12, 13, ... 59
    # Packets that come after the key frame's place end each of the three tries at the first one.
    decoder = SeekingDecoder(file, replace(table, keys=[replace(key(12), place=3)]))
    file.read_since()
    assert not decoder._start_at_key(0) and file.read_since() == 3


@pytest.fixture(scope="module")
def open_gop(tmp_path_factory):
    """Groups of 24: before each later key frame, pictures are shown that stand after it and refer to it."""
    recipe = Recipe(options=OPEN_GOP, num_frames=60, gop=24)
    return write_video(tmp_path_factory.mktemp("open") / "open.mp4", recipe)


def test_pictures_that_stand_after_a_key_frame_and_are_shown_before_it(open_gop):
    file, scan = open_and_scan(str(open_gop), 1)
    step = scan.table.shown_pts[1].item()
    assert [frame.pts // step for frame in scan.table.keys] == [0, 24, 48]
    decoder = SeekingDecoder(file, scan.table)
    assert decoder._start_at_key(1) and decoder._next == 24
    assert decoder.frame(24).pts == 24 * step
    assert decoder.frame(23).pts == 23 * step
    assert decoder._keys_are_reliable
    # a time that is wrong by a little: the picture after the key frame is not the listed one
    shown = scan.table.shown_pts.copy()
    shown[25] += 1
    decoder = SeekingDecoder(file, replace(scan.table, shown_pts=shown))
    assert not decoder._start_at_key(1)
    last = 24 + 2 * scan.table.num_reordered
    shown = scan.table.shown_pts.copy()
    shown[last] += 1  # further than any picture can be moved by the order of the packets
    decoder = SeekingDecoder(file, replace(scan.table, shown_pts=shown))
    assert decoder._start_at_key(1)
    shown[last - 1] += 1
    assert not SeekingDecoder(file, replace(scan.table, shown_pts=shown))._start_at_key(1)
    file.close()


# --- counting ---------------------------------------------------------------------------------------------------------


def test_counting_reads_on_or_from_the_start(file):
    decoder = CountingDecoder(file)
    assert decoder.frame(5).pts == 200 and file.read_since() == 6
    assert decoder.frame(5).pts == 200 and file.read_since() == 0
    assert decoder.frame(7).pts == 280 and file.read_since() == 2
    assert decoder.frame(6).pts == 240 and file.read_since() == 7
    assert decoder.frame(0).pts == 0 and file.read_since() == 1
    with pytest.raises(UnreachableFrameError):
        decoder.frame(60)
    assert decoder.frame(2).pts == 80


def test_a_survey_of_a_whole_file(file):
    decoder = CountingDecoder(file)
    decoder.frame(3)
    survey = decoder.survey()
    assert survey.first.pts == 0
    assert survey.pts == list(range(0, 2400, 40))
    assert survey.is_intact.tolist() == [True] * 60 and survey.is_intact.dtype == np.bool_
    assert (survey.last_duration, survey.num_broken) == (40, 0)
    file.read_since()
    assert decoder.frame(0).pts == 0 and file.read_since() == 1


@pytest.fixture
def holed(tmp_path):
    """A file of 60 pictures in which the packets of two, 20 and 42, hold nothing."""
    whole = write_video(tmp_path / "whole.mp4", Recipe(options=X264))
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packets[number].pos, packets[number].size) for number in (20, 42)]
    data = bytearray(whole.read_bytes())
    for position, size in places:
        data[position : position + size] = bytes(size)
    path = tmp_path / "holed.mp4"
    path.write_bytes(data)
    return path


def test_a_survey_of_a_file_with_broken_packets(holed):
    file = VideoFile(str(holed), 1)
    survey = CountingDecoder(file).survey()
    assert [time // 512 for time in survey.pts] == [number for number in range(60) if number not in (20, 42)]
    assert survey.num_broken == 2
    file.close()
