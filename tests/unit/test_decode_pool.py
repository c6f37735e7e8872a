import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import psutil
import pytest

from tests.patience import PATIENCE_S
from tests.video_matrix import FPS, RECIPES, number_of, write_hanging, write_unreadable, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import DecodedSegment, FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.data.decoding.worker_process import DecodedVideo, DecodeFailure, WorkerProcess
from vmr.errors import VideoError, VmrError
from vmr.memory import parse_bytes
from vmr.retrieval.segments import FixedWindows, window_segmenter

SPEC = FrameSpec(num_frames=4, size=96, resize="stretch")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{name}.mp4", RECIPES[name]) for name in ("h264_gop12", "h264_open_gop", "h264_vfr")]


@pytest.fixture
def hanging(tmp_path):
    """A file in which decoding hangs."""
    return write_hanging(tmp_path / "hanging.mp4")


def workers_of(parent):
    """Process ids of the decoding processes that `parent` started and that have not been waited for."""
    found = psutil.Process(parent).children()
    return {
        child.pid
        for child in found
        if child.status() == psutil.STATUS_ZOMBIE or "decoding.worker" in " ".join(child.cmdline())
    }


def children():
    return workers_of(os.getpid())


def is_running(process):
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def numbers(video):
    return [number_of(frame) for frame in video]


def ends(items):
    return {Path(item.path).name: item for item in items if not isinstance(item, DecodedSegment)}


def test_the_whole_video_is_one_segment_of_middle_frames(videos):
    (segment,) = read_segments(videos[0], SPEC)
    # 60 frames in 4 intervals: edges 0 15 30 45 60 -> (0+14)//2, (15+29)//2, (30+44)//2, (45+59)//2
    assert numbers(segment.video) == [7, 22, 37, 52]
    assert (segment.path, segment.start_s, segment.end_s) == (str(videos[0]), 0.0, pytest.approx(2.4))


def test_windows_take_their_frames_by_time(videos):
    spec = FrameSpec(num_frames=2, size=96, resize="stretch")
    segments = list(read_segments(videos[1], spec, FixedWindows(2.0, 1.0)))
    # 100 frames at 25 per second are 4 s: windows hold frames 0-49, 25-74, 50-99, each in halves of 25
    assert [(segment.start_s, segment.end_s) for segment in segments] == [(0, 2), (1, 3), (2, 4)]
    assert [numbers(segment.video) for segment in segments] == [[12, 37], [37, 62], [62, 87]]


def test_many_windows_are_decoded_in_several_groups(videos):
    spec = FrameSpec(num_frames=5, size=96, resize="stretch")
    segments = list(read_segments(videos[1], spec, FixedWindows(0.2, 0.08)))
    # a window of 5 frames every 2 frames: 0-4, 2-6, ... 94-98, and 96-99 cut short by the end
    expected = [[2 * k + place for place in range(5)] for k in range(48)] + [[96, 97, 97, 98, 99]]
    assert [numbers(segment.video) for segment in segments] == expected
    assert segments[-1].end_s == pytest.approx(100 / FPS)


def test_sampling_by_rate_gives_at_most_num_frames(videos):
    def count(num_frames):
        spec = FrameSpec(num_frames=num_frames, size=96, resize="stretch", sampling="fps2")
        (segment,) = read_segments(videos[0], spec)
        return numbers(segment.video)

    # middles of half seconds: 0.25, 0.75, ... s * 25 fps = 6.25, 18.75, 31.25, 43.75, 56.25
    assert count(8) == [6, 19, 31, 44, 56]
    assert count(2) == [6, 19]


def test_crop_keeps_the_aspect_ratio_and_the_middle(videos):
    (whole,) = read_segments(videos[0], FrameSpec(num_frames=1, size=112))
    (half,) = read_segments(videos[0], FrameSpec(num_frames=1, size=56))
    with VideoReader(videos[0]) as reader:
        # 112 x 192 needs no scaling for a crop of 112; for one of 56 it becomes 56 x 96
        np.testing.assert_array_equal(whole.video, reader.frames_at([29])[:, :, :, 40:152])
        np.testing.assert_array_equal(half.video, reader.frames_at([29], (56, 96))[:, :, :, 20:76])


@pytest.mark.parametrize(
    "values",
    [
        {"num_frames": 0},
        {"size": 0},
        {"resize": "pad"},
        {"sampling": "rand"},
        {"sampling": "uniform"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(values):
    with pytest.raises(VmrError):
        FrameSpec(**{"num_frames": 4, "size": 96, **values})


@pytest.mark.parametrize("values", [(float("inf"),), (0.0,), (4.0, 5.0), (4.0, -1.0), (None, 2.0)])
def test_windows_that_make_no_sense_are_refused(values):
    with pytest.raises(VmrError, match="window_s"):
        window_segmenter(*values)


@pytest.mark.parametrize("values", [{"reader": "cv2"}, {"num_workers": 0}, {"timeout_s": 0.0}, {"timeout_s": 1e10}])
def test_options_that_make_no_sense_are_refused(values):
    with pytest.raises(VmrError, match=next(iter(values))):
        DecodeOptions(**values)


def test_a_picture_too_narrow_for_a_square_is_refused(tmp_path):
    path = tmp_path / "narrow.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 2000, 2, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame(2000, 2, "yuv420p")), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(VideoError, match="2000 x 2 pixels: too narrow"):
        list(read_segments(path, FrameSpec(num_frames=1, size=224)))


class NoWindows:
    settings: ClassVar = {}

    def spans(self, video):
        return []


class Broken(NoWindows):
    def spans(self, video):
        raise ValueError("a mistake in a segmenter of a user's own")


class Exiting(NoWindows):
    def spans(self, video):
        raise SystemExit("enough")


class Outside(NoWindows):
    def spans(self, video):
        return [(0.0, 1.0), (1.0, video.duration_s + 1)]


@pytest.mark.parametrize(
    ("segmenter", "error", "words"),
    [
        (NoWindows(), VmrError, "the segmenter gave no span"),
        (Outside(), VmrError, "the segmenter gave the span"),
        (Broken(), ValueError, "a mistake in a segmenter"),
        (Exiting(), SystemExit, "enough"),
    ],
)
def test_an_error_of_a_segmenter_is_raised_and_leaves_no_process(videos, segmenter, error, words):
    with DecodePool(SPEC, segmenter, DecodeOptions(num_workers=1)) as pool, pytest.raises(error, match=words):
        list(pool.decode(videos))
    assert children() == set()


def test_the_pool_gives_what_reading_in_process_gives(videos):
    spec, windows = FrameSpec(num_frames=3, size=96), FixedWindows(1.0, 0.5)
    with DecodePool(spec, windows, DecodeOptions(num_workers=2)) as pool:
        items = list(pool.decode(videos))
    for path in map(str, videos):
        mine = [item for item in items if item.path == path]
        expected = list(read_segments(path, spec, windows))
        assert isinstance(mine[-1], DecodedVideo)  # after the last segment
        assert (mine[-1].num_segments, mine[-1].duration_s) == (len(expected), expected[-1].end_s)
        for got, wanted in zip(mine[:-1], expected, strict=True):
            assert (got.start_s, got.end_s) == (wanted.start_s, wanted.end_s)
            np.testing.assert_array_equal(got.video, wanted.video)


def test_the_memory_says_how_many_workers_there_are(videos):
    options = DecodeOptions(num_workers=4)
    with DecodePool(SPEC, None, options, 2**40) as pool:
        assert pool.num_workers == 4
    with pytest.raises(VmrError, match=r"^memory of 1 MiB is too little") as caught:
        DecodePool(SPEC, None, options, 2**20)
    needed = re.search(r"little: (\S+ \S+) are needed", str(caught.value))[1]
    with DecodePool(SPEC, None, options, parse_bytes(needed)) as pool:
        assert pool.num_workers == 1
        assert sum(isinstance(item, DecodedVideo) for item in pool.decode(videos)) == len(videos)


def test_a_worker_ends_when_the_memory_is_used_up(videos, monkeypatch):
    """The last worker goes on."""
    monkeypatch.setattr(WorkerProcess, "peak_bytes", lambda worker: 2**40)
    with DecodePool(SPEC, None, DecodeOptions(num_workers=3), 2**39) as pool:
        ends = [item for item in pool.decode(videos) if not isinstance(item, DecodedSegment)]
        assert all(isinstance(end, DecodedVideo) for end in ends) and len(ends) == len(videos)
        assert len(children()) <= 1


def test_every_path_ends_exactly_once(videos, tmp_path):
    bad = [path for name, path in write_unreadable(tmp_path).items() if name != "still.png"]  # a picture is one frame
    paths = [*bad, *videos, *videos, *(str(path) for path in videos)]  # some given three times
    with DecodePool(SPEC, options=DecodeOptions(num_workers=2)) as pool:
        items = list(pool.decode(paths))
        assert list(pool.decode([])) == []
        again = list(pool.decode(videos[:1]))  # the workers serve a second call
    over = Counter(item.path for item in items if not isinstance(item, DecodedSegment))
    assert over == Counter(str(path) for path in [*bad, *videos])
    failed = {item.path for item in items if isinstance(item, DecodeFailure)}
    assert failed == {str(path) for path in bad}
    assert all("\n" not in item.reason for item in items if isinstance(item, DecodeFailure))
    assert isinstance(again[-1], DecodedVideo)
    assert children() == set()


def test_a_file_name_that_is_no_utf8(tmp_path):
    path = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4")
    Path(path).write_bytes(write_video(tmp_path / "plain.mp4").read_bytes())
    with DecodePool(SPEC, options=DecodeOptions(num_workers=1)) as pool:
        segment, end = pool.decode([path])
    assert numbers(segment.video) == [7, 22, 37, 52]
    assert end == DecodedVideo(path, 1, pytest.approx(2.4), width=192, height=112)


def test_damage_found_on_the_way_costs_only_what_is_damaged(tmp_path):
    whole = write_video(tmp_path / "whole.mp4")
    data = bytearray(whole.read_bytes())
    # the last third of the pictures turns to zeros; their packets still promise them
    media = data.index(b"mdat") + 4
    last_third = media + 2 * (data.index(b"moov") - media) // 3
    data[last_third : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - last_third)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    spec = FrameSpec(num_frames=2, size=96, resize="stretch")
    first, *_ = read_segments(damaged, spec, FixedWindows(0.4))
    assert numbers(first.video) == [2, 7]  # frames 0-9 in halves of 5


def test_a_file_that_hangs_fails_alone(videos, hanging):
    with DecodePool(SPEC, options=DecodeOptions(num_workers=1, timeout_s=1.0)) as pool:
        found = ends(pool.decode([hanging, *videos]))
    assert found["hanging.mp4"] == DecodeFailure(str(hanging), "no answer for 1 s, decoder stopped")
    assert sum(isinstance(item, DecodedVideo) for item in found.values()) == len(videos)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_fails_its_file_alone(videos, hanging, number):
    found = []
    with DecodePool(SPEC, options=DecodeOptions(num_workers=1)) as pool:
        paths = [videos[0], hanging, videos[1]]
        consumer = threading.Thread(target=lambda: found.extend(pool.decode(paths)), daemon=True)
        consumer.start()
        wait_for(lambda: any(isinstance(item, DecodedVideo) for item in found))
        time.sleep(0.3)  # for the worker to open the path that blocks it
        (worker,) = children()
        os.kill(worker, number)
        consumer.join(timeout=PATIENCE_S)
    found = ends(found)
    assert found["hanging.mp4"].reason.startswith(f"the decoder was killed by {signal.Signals(number).name}")
    assert [type(found[path.name]) for path in videos[:2]] == [DecodedVideo, DecodedVideo]


def test_a_slow_consumer_is_no_hang(videos):
    spec = FrameSpec(num_frames=8, size=96)
    with DecodePool(spec, FixedWindows(0.2), DecodeOptions(num_workers=1, timeout_s=1.0)) as pool:
        items = []
        for item in pool.decode(videos[:2]):
            if len(items) == 1:
                time.sleep(2.0)
            items.append(item)
    assert [type(item) for item in ends(items).values()] == [DecodedVideo, DecodedVideo]


def test_leaving_early_leaves_no_process_and_no_thread(videos, hanging):
    before = threading.active_count()
    with DecodePool(FrameSpec(num_frames=4, size=96), FixedWindows(0.2), DecodeOptions(num_workers=2)) as pool:
        for _ in pool.decode([*videos, hanging]):
            break
        items = pool.decode([hanging, videos[0]])
        next(items)  # never closed: leaving the pool ends it all the same
        assert children() != set()
    assert children() == set()
    assert threading.active_count() == before


def test_closing_the_pool_ends_a_loop_that_waits_in_another_thread(hanging):
    caught = []

    def consume(pool):
        try:
            list(pool.decode([hanging]))
        except VmrError as error:
            caught.append(str(error))

    with DecodePool(SPEC, options=DecodeOptions(num_workers=1)) as pool:
        consumer = threading.Thread(target=consume, args=(pool,), daemon=True)
        consumer.start()
        wait_for(children)
    consumer.join(timeout=PATIENCE_S)
    assert caught == ["the pool was closed while it was decoding"]


def test_one_loop_at_a_time(videos):
    with DecodePool(SPEC, options=DecodeOptions(num_workers=1)) as pool:
        items = pool.decode(videos)
        next(items)
        with pytest.raises(VmrError, match="decoding already"):
            next(pool.decode(videos))
        items.close()
        assert len(ends(pool.decode(videos))) == len(videos)


def test_a_worker_that_cannot_start_says_why_at_once(videos, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62 is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    began = time.monotonic()
    with (
        pytest.raises(VmrError, match=r"does not start: .*libavcodec\.so\.62 is missing$"),
        DecodePool(SPEC, options=DecodeOptions(num_workers=2)) as pool,
    ):
        list(pool.decode(videos))
    assert time.monotonic() - began < 20
    assert children() == set()


SCRIPT = """
from vmr.data.decoding.segments import FrameSpec
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
import sys
print("started")
with DecodePool(FrameSpec(num_frames=2, size=32), options=DecodeOptions(num_workers=2)) as pool:
    for item in pool.decode(sys.argv[1:]):
        print(type(item).__name__, flush=True)
"""


def run_script(folder, script, *paths):
    return subprocess.run(
        [sys.executable, script, *map(str, paths)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_script_without_a_main_guard_runs_once_among_files_with_unlucky_names(videos, tmp_path):
    for name in ("av.py", "eval.py", "json.py", "queue.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "script.py").write_text(SCRIPT)
    done = run_script(tmp_path, "elsewhere/script.py", *videos[:2])
    assert done.stderr == ""
    assert sorted(done.stdout.split()) == ["DecodedSegment"] * 2 + ["DecodedVideo"] * 2 + ["started"]


def test_workers_do_not_outlive_a_parent_that_is_killed(hanging, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, "script.py", str(hanging)], cwd=tmp_path, stdout=subprocess.DEVNULL)

    wait_for(lambda: workers_of(parent.pid))
    time.sleep(0.5)  # for the worker to hang in the file
    (worker,) = workers_of(parent.pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(worker))
