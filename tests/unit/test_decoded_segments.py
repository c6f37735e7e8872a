"""The frames of segments: which spans are kept, how pictures are cut to squares, and what goes between processes.

No process is started here; `test_decode_pool.py` starts them. The numbers are worked by hand.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import ClassVar

import numpy as np
import pytest

from tests.video_matrix import X264, Recipe, number_of, picture, write_video
from vmr.data.decoding.segments import (
    DecodedSegment,
    FileEnd,
    FrameSpec,
    VideoFacts,
    _with_new_frames,
    read_segments,
)
from vmr.data.decoding.segments_job import SegmentsJob, WorkerMessageError, serve_segments
from vmr.data.decoding.squares import square_frames
from vmr.data.decoding.stills import Frames
from vmr.data.decoding.video import VideoReader
from vmr.errors import VideoError, VmrError
from vmr.retrieval.segments import FixedWindows, ShotWindows, WithWholeVideo

FACTS = VideoFacts(duration_s=10.0, num_frames=250, height=90, width=160)
SPEC = FrameSpec(num_frames=2, size=96, resize="stretch")


@dataclass
class Spans:
    """A segmenter that gives these spans, and remembers what it was told."""

    given: list
    settings: ClassVar = {}

    def spans(self, video):
        self.video = video
        return self.given


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """60 pictures, 2.4 s."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", Recipe(options=X264))


def read(path, spec=SPEC, *args):
    """All segments, and what was noticed about the file."""
    found, left = [], read_segments(path, spec, *args)
    while True:
        try:
            found.append(next(left))
        except StopIteration as end:
            return found, end.value.remarks


def numbers(segment):
    return [number_of(frame) for frame in segment.video]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0, but must be a whole number of at least 1"),
        ({"size": 2.5}, "size is 2.5, but must be a whole number of at least 1"),
        ({"resize": "pad"}, "resize must be one of crop, stretch, upstream, video, image, not 'pad'"),
        (
            {"sampling": "rand"},
            "sampling 'rand' is for training: here a segment must give the same frames each time",
        ),
        ({"skip_still": 1}, "skip_still is 1: expected a number in [0, 1)"),
        ({"skip_still": "x"}, "skip_still is 'x', but must be a number"),
    ],
)
def test_a_spec_that_makes_no_sense_says_why(values, message):
    with pytest.raises(VmrError) as caught:
        FrameSpec(**({"num_frames": 1, "size": 1} | values))
    assert str(caught.value) == message


def test_a_spec_crops_and_takes_middle_frames_by_default():
    assert FrameSpec(3, 56) == FrameSpec(3, 56, "crop", "middle", keyframes=False, skip_still=0.0)


# --- between processes ------------------------------------------------------------------------------------------------


def test_a_job_as_json():
    job = SegmentsJob("a.mp4", FrameSpec(3, 56), segmenter=Spans([]))
    assert json.loads(json.dumps(job.request())) == {
        "path": "a.mp4",
        "spec": asdict(job.spec),
        "reader": "pyav",
        "whole": False,
        "needs_cuts": False,
        "known": None,
    }
    assert SegmentsJob("a.mp4", SPEC, segmenter=ShotWindows(8.0)).request()["needs_cuts"] is True
    assert SegmentsJob("a.mp4", FrameSpec(3, 56), "decord").request()["whole"] is True
    assert SegmentsJob("a.mp4", FrameSpec(3, 56), "decord").request()["reader"] == "decord"


def test_a_job_answers_with_spans():
    segmenter = Spans([(0, 4), (np.float32(2), 10.0), (10, 10)])
    answer = SegmentsJob("a.mp4", SPEC, segmenter=segmenter).answer({**asdict(FACTS), "duration_s": 10})
    assert answer == {"spans": [(0.0, 4.0), (2.0, 10.0), (10.0, 10.0)], "window_s": 8.0}  # the longest
    assert all(type(time) is float for span in answer["spans"] for time in span)
    assert SegmentsJob("a.mp4", SPEC, segmenter=FixedWindows(20.0)).answer(asdict(FACTS))["window_s"] == 20.0
    assert segmenter.video == replace(FACTS, path="a.mp4") and type(segmenter.video.duration_s) is float


@pytest.mark.parametrize("span", [(-0.1, 4), (5, 4), (0, 10.1)])
def test_spans_outside_the_video_are_an_error(span):
    with pytest.raises(VmrError) as caught:
        SegmentsJob("a.mp4", SPEC, segmenter=Spans([(0, 4), span])).answer(asdict(FACTS))
    assert str(caught.value) == (
        f"a.mp4: the segmenter gave the span ({span[0]}, {span[1]}), but the video lasts from 0 to 10.0 s"
    )


@pytest.mark.parametrize("segmenter", [None, Spans([])])
def test_no_span_is_an_error(segmenter):
    with pytest.raises(VmrError) as caught:
        SegmentsJob("a.mp4", SPEC, segmenter=segmenter).answer(asdict(FACTS))
    assert str(caught.value) == "a.mp4: the segmenter gave no span, but every video needs at least one"


@pytest.mark.parametrize("name", ["duration_s", "num_frames", "height", "width", "cuts_s"])
def test_a_question_that_is_not_valid_is_refused(name):
    job = SegmentsJob("a.mp4", SPEC, segmenter=Spans([(0, 4)]))
    lacking = {key: value for key, value in asdict(FACTS).items() if key != name}
    for question in (lacking, {**asdict(FACTS), name: "x"}, {**asdict(FACTS), name: [None]}):
        with pytest.raises(WorkerMessageError, match=r"^the decoder sent an answer that is not valid$"):
            job.answer(question)


@pytest.mark.parametrize(
    ("shape", "is_accepted"),
    [
        ((2, 3, 96, 96), True),
        ((1, 3, 96, 96), True),
        ((3, 3, 96, 96), False),
        ((0, 3, 96, 96), False),
        ((2, 4, 96, 96), False),
        ((2, 3, 95, 96), False),
        ((2, 3, 96, 97), False),
        ((2, 3, 96), False),
    ],
)
def test_the_shape_of_a_segment(shape, is_accepted):
    assert SegmentsJob("a.mp4", SPEC).accepts(shape) is is_accepted


def test_a_worker_asks_for_the_spans(video):
    asked = []

    def ask(question):
        asked.append(question)
        return {"spans": [[0.0, 1.2], [1.2, 2.4]], "window_s": 1.2}

    request = SegmentsJob(str(video), SPEC, segmenter=FixedWindows(1.2)).request()
    found = list(serve_segments(json.loads(json.dumps(request)), ask))
    height, width = picture(0).shape[:2]
    facts = VideoFacts(pytest.approx(2.4), 60, height, width, None, str(video))
    assert asked == [asdict(facts)]
    assert [(segment.start_s, segment.end_s) for segment in found] == [(0.0, 1.2), (1.2, 2.4)]
    assert [numbers(segment) for segment in found] == [[7, 22], [37, 52]]
    assert all(segment.path == str(video) for segment in found)
    (whole,) = serve_segments(SegmentsJob(str(video), SPEC).request(), ask)
    assert numbers(whole) == [14, 44] and len(asked) == 1
    with pytest.raises(VmrError, match="no video reader 'none'"):
        next(serve_segments({**request, "reader": "none"}, ask))


def test_a_worker_finds_cuts_and_says_meanwhile_that_it_is_at_work(video):
    """Else a long video would seem to hang."""
    pytest.importorskip("scenedetect")
    job, asked = SegmentsJob(str(video), SPEC, segmenter=ShotWindows(1.2)), []

    def ask(question):
        asked.append(question)
        return job.answer(question)

    found = list(serve_segments(json.loads(json.dumps(job.request())), ask))
    assert asked[:-1] == [{}] and asked[-1]["cuts_s"] == ()
    assert [(segment.start_s, segment.end_s) for segment in found] == [(0.0, 1.2), (1.2, pytest.approx(2.4))]


# --- spans ------------------------------------------------------------------------------------------------------------


class Held:
    """Pictures at 0, 1, 2, 20 and 21 s."""

    timestamps_s = np.array([0.0, 1.0, 2.0, 20.0, 21.0])


@pytest.mark.parametrize(
    ("spans", "kept"),
    [
        ([(0, 2), (2, 4), (4, 6), (18, 20), (20, 22)], [(0, 2), (2, 4), (20, 22)]),  # 20 begins with the last span
        ([(0, 4), (2, 6), (3, 7)], [(0, 4)]),  # all of them show picture 2 at most
        ([(0, 1), (0, 4), (1, 4)], [(0, 1), (0, 4)]),
        ([(0, 4), (0, 4)], [(0, 4)]),
        ([(2, 4), (0, 2), (1, 3)], [(2, 4), (0, 2), (1, 3)]),  # back to earlier pictures
        ([(0, 22), (1, 3)], [(0, 22), (1, 3)]),  # a part of the span before
        ([(0, 22), (2, 22)], [(0, 22)]),
        ([(5, 6), (7, 8), (20, 21)], [(5, 6), (20, 21)]),  # the first stays whatever it shows
        ([(0, 3), (4, 5), (2, 21)], [(0, 3), (2, 21)]),
        ([(1, 3), (20, 21), (0, 2), (1, 22)], [(1, 3), (20, 21), (0, 2), (1, 22)]),
    ],
)
def test_spans_that_show_nothing_new_are_left_out(spans, kept):
    assert _with_new_frames(spans, Held()) == kept


@pytest.fixture
def asked(monkeypatch):
    """The pictures that are decoded, call by call."""
    calls, real = [], VideoReader.frames_at

    def frames_at(self, indices, *args):
        calls.append(indices)
        return real(self, indices, *args)

    monkeypatch.setattr(VideoReader, "frames_at", frames_at)
    return calls


def test_spans_are_decoded_in_groups_and_frames_that_they_share_once(video, asked):
    """Memory does not grow with the number of spans."""
    found, remarks = read(video, SPEC, FixedWindows(0.08, 0.04))
    # Windows of two pictures, one after each picture
    assert [numbers(segment) for segment in found] == [[number, number + 1] for number in range(59)]
    assert [segment.numbers for segment in found] == [(number, number + 1) for number in range(59)]
    assert asked[0] == [0, 1, 2, 3, 4] and asked[1] == [5, 6, 7, 8] and [*chain(*asked)] == list(range(60))
    assert remarks == ()


def test_a_whole_video_beside_its_windows_needs_no_further_frame(video, asked):
    found, _ = read(video, SPEC, WithWholeVideo(FixedWindows(0.4, 0.2)))
    # 12 grid points, every 0.2 s from 0.1 s on, which is in picture 2: 2, 7, 12, ... 57
    assert [numbers(segment) for segment in found[:-1]] == [[5 * k + 2, 5 * k + 7] for k in range(11)]
    assert (found[-1].start_s, found[-1].end_s) == (0.0, pytest.approx(2.4))
    assert numbers(found[-1]) == [12, 42]  # 0.6 and 1.8 s are half-way between two points
    assert found[-1].numbers == (2, 8)
    assert [*chain(*asked)] == [5 * k + 2 for k in range(12)]
    (alone,), _ = read(video, SPEC, WithWholeVideo(FixedWindows(4.0)))
    assert numbers(alone) == [14, 44]  # the middles of 0 to 29 and of 30 to 59


def test_spans_that_come_again_show_the_same_frames(video, asked):
    """Frames that are needed much later are decoded again, and keep their numbers."""
    spans = [(k * 0.2, k * 0.2 + 0.2) for k in range(12)]
    found, _ = read(video, SPEC, Spans([*spans, *spans]))
    assert [segment.numbers for segment in found] == 2 * [(2 * k, 2 * k + 1) for k in range(12)]
    for first, second in zip(found[:12], found[12:], strict=True):
        assert np.array_equal(first.video, second.video)
    assert len([*chain(*asked)]) > 24


def test_still_frames_share_the_number_of_the_one_before(tmp_path):
    """Five pictures that are shown for 10 frames each, with a little noise."""
    noise = np.random.default_rng(0)

    def stored(rgb):
        still = picture(number_of(rgb.transpose(2, 0, 1)) // 10).astype(np.int16)
        return np.clip(still + noise.integers(-2, 3, rgb.shape), 0, 255).astype(np.uint8)

    path = write_video(tmp_path / "still.mp4", Recipe(options=X264, num_frames=50, stored=stored))
    spec = FrameSpec(10, 96, "stretch", skip_still=0.02)
    found, _ = read(path, spec, FixedWindows(0.4, 0.2))
    assert [segment.numbers for segment in found] == [
        (0,) * 10, (0,) * 5 + (1,) * 5, (1,) * 10, (1,) * 5 + (2,) * 5, (2,) * 10, (2,) * 5 + (3,) * 5, (3,) * 10,
        (3,) * 5 + (4,) * 5, (4,) * 10,
    ]  # fmt: skip
    for segment in found:  # a frame is given as the one whose number it has
        by_number = dict(zip(segment.numbers, segment.frames, strict=True))
        assert all(frame is by_number[number] for number, frame in zip(segment.numbers, segment.frames, strict=True))
    found, _ = read(path, FrameSpec(10, 96, "stretch"), FixedWindows(0.4, 0.2))
    assert found[-1].numbers == tuple(range(40, 50))


def test_key_frames_stand_for_those_near_them(tmp_path):
    path = write_video(tmp_path / "v.mp4", Recipe(options=X264, gop=10))
    found, _ = read(path, FrameSpec(4, 96, "stretch", keyframes=True), FixedWindows(1.6, 0.8))
    # Every tenth picture is a key frame. Grid points are at 0.2 s, half-way between 0 and 10, 0.6 s, 1 s, ...
    assert [numbers(segment) for segment in found] == [[0, 10, 20, 30], [20, 30, 40, 50]]
    (whole,), _ = read(path, FrameSpec(4, 96, "stretch", keyframes=True))
    assert numbers(whole) == [10, 20, 40, 50]  # of 7, 22, 37, 52


def test_the_size_of_a_video_comes_at_its_end(video):
    segments = read_segments(video, SPEC)
    next(segments)
    with pytest.raises(StopIteration) as end:
        next(segments)
    height, width = picture(0).shape[:2]
    assert end.value.value == FileEnd((), width, height)


def test_a_damaged_file_is_counted(video, tmp_path):
    import av

    with av.open(str(video)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][42]
    data = bytearray(video.read_bytes())
    data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    spans = Spans([(0, 1.2), (1.68, 1.7)])
    found, (remark,) = read(path, FrameSpec(1, 96, "stretch"), spans)
    # In the second span only picture 42 begins. It is lost, so what is shown at 1.69 s is given: 41, until 1.72 s.
    assert [numbers(segment) for segment in found] == [[14], [41]]
    assert [(segment.start_s, segment.end_s) for segment in found] == [(0, 1.2), (1.68, 1.7)]
    assert remark.kind == "damage"


def test_a_still_picture_is_repeated(tmp_path):
    from PIL import Image

    Image.fromarray(picture(5)).save(tmp_path / "still.PNG")
    ((segment,), remarks) = read(tmp_path / "still.PNG", FrameSpec(3, 96, "stretch"), FixedWindows(1.0))
    assert (segment.path, segment.start_s, segment.end_s) == (str(tmp_path / "still.PNG"), 0.0, 0.0)
    assert numbers(segment) == [5, 5, 5] and segment.video.shape == (3, 3, 96, 96) and remarks == ()
    assert segment.numbers == (0, 0, 0)


def test_a_video_may_have_the_name_of_a_picture(video, tmp_path):
    path = tmp_path / "video.png"
    path.write_bytes(video.read_bytes())
    (segment,), remarks = read(str(path))
    assert isinstance(segment, DecodedSegment) and remarks == ()
    assert numbers(segment) == [14, 44]
    assert (segment.start_s, segment.end_s) == (0.0, pytest.approx(2.4))


# --- squares ----------------------------------------------------------------------------------------------------------


def ramp(height, width):
    """One frame whose red says the row and whose green says the column."""
    y, x = np.mgrid[:height, :width]
    return Frames("ramp", np.stack([y, x, 0 * x]).astype(np.uint8)[None])


FIRST = np.zeros(1, np.int64)


@pytest.mark.parametrize(
    ("height", "width", "size", "top", "left"),
    [
        (10, 20, 10, 0, 5),
        (20, 10, 10, 5, 0),
        (10, 21, 10, 0, 6),  # (21 - 10) / 2 = 5.5, rounded to the even 6
        (10, 19, 10, 0, 4),  # 4.5 to 4
        (10, 10, 10, 0, 0),
    ],
)
def test_a_crop_keeps_the_middle(height, width, size, top, left):
    (square,) = square_frames(ramp(height, width), "crop", size, FIRST)
    np.testing.assert_array_equal(square[0, :, 0], np.arange(top, top + size))
    np.testing.assert_array_equal(square[1, 0], np.arange(left, left + size))


class Asked:
    """A source of frames that says what it is asked for."""

    path = "a.mp4"

    def __init__(self, height, width):
        self.height, self.width = height, width

    def frames_at(self, indices, size=None, crop=None):
        self.asked = indices, size, crop
        return np.zeros((len(indices), 3, self.height, self.width), np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size", "scaled", "crop"),
    [
        (100, 200, 50, (50, 100), (0, 25, 50, 50)),
        (200, 100, 50, (100, 50), (25, 0, 50, 50)),
        (90, 161, 56, (56, 100), (0, 22, 56, 56)),  # 56 * 161 / 90 = 100.2
        (161, 90, 56, (100, 56), (22, 0, 56, 56)),
        (3, 96, 2, (2, 64), (0, 31, 2, 2)),  # 32 times as wide as high, the most that is taken
    ],
)
def test_the_short_side_is_scaled_to_the_square(height, width, size, scaled, crop):
    source = Asked(height, width)
    square_frames(source, "crop", size, np.array([4, 2]))
    assert source.asked == ([4, 2], scaled, crop)
    square_frames(source, "stretch", size, np.array([4, 2]))
    assert source.asked == ([4, 2], (size, size), None)
    assert square_frames(source, "upstream", size, np.array([4, 2])).shape == (2, 3, size, size)
    assert source.asked == ([4, 2], None, None)


@pytest.mark.parametrize(("height", "width"), [(3, 97), (97, 3)])
def test_too_narrow_to_crop(height, width):
    with pytest.raises(VideoError) as caught:
        square_frames(Asked(height, width), "crop", 2, FIRST)
    assert (caught.value.path, caught.value.reason) == (
        "a.mp4",
        f"{width} x {height} pixels: too narrow to crop a square from",
    )
