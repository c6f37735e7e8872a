"""What the packets of a video say before anything is decoded. The numbers are worked by hand.

The files hold 12 pictures in two groups of six, I B B P B P as they are shown: the packets come as 0 3 1 2 5 4 and so
on. A picture takes 40 ticks of a thousandth in Matroska, 512 of 1/12800 in MP4 and 3600 of 1/90000 in MPEG-TS.
"""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.video_matrix import X264, Recipe, cut, write_video
from vmr.data.decoding.ffmpeg.packets import KeyFrame, _has_hole, _is_cut_off, _Packets, _table, open_and_scan
from vmr.data.decoding.ffmpeg.video_file import VideoFile

TWO_GROUPS = {
    "preset": "ultrafast",
    "x264-params": "bframes=2:b-adapt=0:b-pyramid=none:scenecut=0:open-gop=0",
}
ORDER = [0, 3, 1, 2, 5, 4, 6, 9, 7, 8, 11, 10]  # of the pictures in the file


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    kinds = {
        "reordered.mkv": Recipe(options=TWO_GROUPS, gop=6, num_frames=12, suffix=".mkv"),
        "reordered.mp4": Recipe(options=TWO_GROUPS, gop=6, num_frames=12),
        "reordered.ts": Recipe(options=TWO_GROUPS, gop=6, num_frames=12, suffix=".ts"),
        "reordered.avi": Recipe(options=TWO_GROUPS, gop=6, num_frames=12, suffix=".avi"),
        "straight.mkv": Recipe(options=X264, gop=6, num_frames=12, suffix=".mkv"),
        "straight.ts": Recipe(options=X264, gop=6, num_frames=12, suffix=".ts"),
        "animation.gif": Recipe("gif", suffix=".gif", pix_fmt="rgb8", num_frames=3),
    }
    return {name: write_video(folder / name, recipe) for name, recipe in kinds.items()}


def scan(path):
    file, found = open_and_scan(str(path), 1)
    file.close()
    return found


def packets_of(file, pts, **fields):
    """Packets of 10, 11, 12, ... bytes, 40 ticks each, of which the first is a key frame."""
    count = len(pts)
    usual = {
        "dts": [None] * count,
        "sizes": [10 + place for place in range(count)],
        "durations": [40] * count,
        "is_key": [place == 0 for place in range(count)],
        "is_hidden": [False] * count,
    }
    return _Packets(list(pts), **(usual | fields))


@pytest.fixture
def reordered(files):
    file = VideoFile(str(files["reordered.mkv"]), 1)
    yield file
    file.close()


@pytest.fixture
def straight(files):
    file = VideoFile(str(files["straight.mkv"]), 1)
    yield file
    file.close()


@pytest.fixture
def broadcast(files):
    file = VideoFile(str(files["straight.ts"]), 1)
    yield file
    file.close()


@pytest.mark.parametrize(
    ("name", "step", "first", "dts"),
    [
        ("reordered.mkv", 40, 0, [0, 200]),
        ("reordered.mp4", 512, 0, [-512, 2560]),
        ("reordered.ts", 3600, 3600, [0, 21600]),
    ],
)
def test_the_packets_of_a_file(files, name, step, first, dts):
    """The key frame in the middle is the seventh packet; it is decoded one step before it is shown."""
    found = scan(files[name])
    assert (found.num_packets, found.has_times, found.has_corrupt, found.is_damaged) == (12, True, False, False)
    table = found.table
    assert [(time - first) // step for time, _ in table.places] == ORDER
    assert list(table.places.values()) == list(range(12))
    assert table.keys == [KeyFrame(first, dts[0], 0), KeyFrame(first + 6 * step, dts[1], 6)]
    assert table.shown_pts.tolist() == [first + step * number for number in range(12)]
    assert table.num_reordered == 1  # picture 1 is shown before one packet that stands before it, and so are 2 and 4
    assert table.last_duration == step


def test_the_sizes_in_the_table_are_those_of_the_packets(files):
    with av.open(str(files["reordered.mkv"])) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    assert [size for _, size in scan(files["reordered.mkv"]).table.places] == sizes


@pytest.mark.parametrize(("name", "has_times"), [("reordered.avi", False), ("animation.gif", True)])
def test_what_must_be_counted(files, name, has_times):
    found = scan(files[name])
    assert found.has_times == has_times and not found.has_corrupt and not found.is_damaged
    assert (found.table is None) == (name == "animation.gif")


def test_a_file_that_is_cut_off_is_damaged_and_has_no_table(files, tmp_path):
    whole = write_video(tmp_path / "w.mkv", Recipe(options=X264, num_frames=60, suffix=".mkv"))
    found = scan(cut(whole, tmp_path / "half.mkv", stop=0.5))
    assert found.is_damaged and found.table is None and 10 < found.num_packets < 50


def test_pictures_may_end_before_the_sound_does(straight, tmp_path):
    """The file is read to its end only if its pictures do not reach the end that it states."""
    all_pictures, few_pictures = [40 * number for number in range(12)], [0, 40]  # 0.48 s, as stated, and 0.08 s
    assert not _is_cut_off(packets_of(straight, all_pictures), straight)
    assert not _is_cut_off(packets_of(straight, few_pictures), straight)
    half = VideoFile(str(cut(Path(straight.path), tmp_path / "half.mkv", stop=0.4)), 1)
    assert not _is_cut_off(packets_of(half, all_pictures), half)
    assert _is_cut_off(packets_of(half, few_pictures), half)
    half.close()


def test_a_table_by_hand(reordered):
    # shown: 0 40 80 120; the packets of 40 and 80 stand after that of 120
    table = _table(packets_of(reordered, [0, 120, 40, 80], dts=[None, 7, 8, 9], durations=[40, 35, 41, 42]), reordered)
    assert table.places == {(0, 10): 0, (120, 11): 1, (40, 12): 2, (80, 13): 3}
    assert table.keys == [KeyFrame(0, 0, 0)]  # without a decoding time, the presentation time
    assert table.shown_pts.tolist() == [0, 40, 80, 120] and table.shown_pts.dtype == np.int64
    assert table.num_reordered == 1
    assert table.last_duration == 35  # of the one that is shown last, the second packet


def test_hidden_pictures_are_not_shown_but_keep_their_places(reordered):
    hidden = packets_of(
        reordered,
        [0, 40, 80, 120],
        dts=[1, 2, 3, 4],
        is_hidden=[True, True, False, False],
        is_key=[True, False, True, True],
    )
    table = _table(hidden, reordered)
    assert table.shown_pts.tolist() == [80, 120]
    assert table.keys == [KeyFrame(80, 3, 2), KeyFrame(120, 4, 3)]
    assert table.places == {(0, 10): 0, (40, 11): 1, (80, 12): 2, (120, 13): 3}
    assert _table(packets_of(reordered, [0, 40], is_hidden=[True, True]), reordered) is None


def test_the_last_picture_is_the_last_that_is_shown(reordered):
    hidden = packets_of(reordered, [0, 40, 80], durations=[1, 2, 3], is_hidden=[False, False, True])
    assert _table(hidden, reordered).last_duration == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"pts": [0, 40, 40]},  # two pictures with the same time
        {"pts": [40, 0, 80], "is_key": [True, True, True]},  # a key frame that is shown before what stands before it
        {"pts": [*range(680, -1, -40), 720]},  # 17 pictures before one that is shown first; at most 16 are held
    ],
)
def test_packets_that_do_not_identify_their_pictures(reordered, fields):
    assert _table(packets_of(reordered, **fields), reordered) is None


def test_at_most_16_pictures_are_held_back(reordered):
    late = [0, *range(16 * 40, 0, -40)]  # 640 600 ... 40: 15 stand before the last one and are shown later
    assert _table(packets_of(reordered, late), reordered).num_reordered == 15
    late = [0, *range(17 * 40, 0, -40)]
    assert _table(packets_of(reordered, late), reordered).num_reordered == 16
    late = [0, *range(18 * 40, 0, -40)]
    assert _table(packets_of(reordered, late), reordered) is None


def test_without_b_frames_nothing_is_reordered(straight):
    assert _table(packets_of(straight, [0, 40, 80]), straight).num_reordered == 0
    assert _table(packets_of(straight, [0, 80, 40]), straight) is None


def test_how_far_the_pictures_reach(straight):
    # from 40 to 200 + 41; a packet without a time does not count
    packets = packets_of(straight, [80, 40, None, 200, 120], durations=[40, 40, 900, 41, 40])
    assert packets.reach() == 201
    assert packets_of(straight, [0, 1000, 1040], durations=[2000, 40, 40]).reach() == 2000
    assert packets_of(straight, [None]).reach() == 0


STEADY = [3600 * number for number in range(10)]  # 25 a second in ticks of 1/90000


def moved(pictures, since=5):
    return [time + (round(3600 * pictures) if number >= since else 0) for number, time in enumerate(STEADY)]


@pytest.mark.parametrize(
    ("pts", "has_hole"),
    [
        (STEADY, False),
        (moved(0.5), False),  # a film shown at 30 Hz has pictures of one step and of one and a half
        (moved(0.6), False),
        (moved(0.61), True),
        (moved(1), True),  # one picture is missing
        (moved(3), True),
        (moved(249), True),  # a step of 250 pictures is 10 s
        (moved(249.01), False),  # longer ones may be a jump of the clock
        ([*moved(3)[5:], *moved(3)[:5]], False),  # pictures before the first key frame may refer to lost ones
        ([0, 3600, 21600, 7200, 18000], True),  # the order in the file does not matter
        ([None, *moved(3)], True),
        (moved(3, since=1), True),
        (moved(3, since=9), True),
        ([0, 0, 0], False),
        ([7], False),
    ],
)
def test_a_broadcast_that_lacks_pictures(broadcast, pts, has_hole):
    assert _has_hole(packets_of(broadcast, pts), broadcast) is has_hole


def with_packets(source, target, keep):
    """A copy of a video without some packets: `keep(number)`."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in reading.demux(stream) if packet.size):
            if keep(number):
                packet.stream = copy
                writing.mux(packet)
    return target


def test_a_hole_alone_is_not_damage(files, tmp_path):
    """A recorder may have left pictures out on purpose; but packets do not tell their pictures any more."""
    path = with_packets(files["straight.ts"], tmp_path / "hole.ts", lambda number: number not in (3, 4))
    found = scan(path)
    assert found.table is None and not found.is_damaged and found.num_packets == 10
    path = with_packets(files["straight.mkv"], tmp_path / "hole.mkv", lambda number: number not in (3, 4))
    assert scan(path).table is not None  # not a broadcast: a picture may be shown for any time


def test_a_hole_where_the_container_says_that_a_packet_is_incomplete_is_damage(files, tmp_path):
    data = bytearray(files["straight.ts"].read_bytes())
    units = [data[start : start + 188] for start in range(0, len(data), 188)]
    of_video = [number for number, unit in enumerate(units) if (unit[1] & 0x1F) << 8 | unit[2] == 0x100]
    starts = [place for place, number in enumerate(of_video) if units[number][1] & 0x40]
    # the end of picture 3, all of 4 and 5, and the start of 6: the counter of the packets jumps
    lost = set(of_video[starts[3] + 1 : starts[6] + 1])
    path = tmp_path / "lost.ts"
    path.write_bytes(b"".join(unit for number, unit in enumerate(units) if number not in lost))
    found = scan(path)
    assert found.has_corrupt and found.is_damaged and found.table is None
