"""The frames of segments: which spans are kept, how pictures are cut to squares, and what goes between processes.

No process is started here; `test_decode_pool.py` starts them. The numbers are worked by hand.
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pytest

from tests.video_matrix import X264, Recipe, number_of, picture, write_video
from vmr.data.decoding import segments
from vmr.data.decoding.segments import (
    DecodedSegment,
    FrameSpec,
    SegmentsJob,
    VideoFacts,
    WorkerMessageError,
    _with_new_frames,
    read_segments,
    serve_segments,
    square_frames,
)
from vmr.data.decoding.stills import Frames
from vmr.data.decoding.video import VideoReader
from vmr.errors import VideoError, VmrError
from vmr.retrieval.segments import FixedWindows

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
            return found, end.value


def numbers(segment):
    return [number_of(frame) for frame in segment.video]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0, but must be a whole number of at least 1"),
        ({"size": 2.5}, "size is 2.5, but must be a whole number of at least 1"),
        ({"resize": "pad"}, "resize must be one of crop, stretch, upstream, not 'pad'"),
        (
            {"sampling": "rand"},
            "sampling 'rand' is for training: here a segment must give the same frames each time",
        ),
    ],
)
def test_a_spec_that_makes_no_sense_says_why(values, message):
    with pytest.raises(VmrError) as caught:
        FrameSpec(**({"num_frames": 1, "size": 1} | values))
    assert str(caught.value) == message


def test_a_spec_crops_and_takes_middle_frames_by_default():
    assert asdict(FrameSpec(3, 56)) == {"num_frames": 3, "size": 56, "resize": "crop", "sampling": "middle"}


# --- between processes ------------------------------------------------------------------------------------------------


def test_a_job_as_json():
    job = SegmentsJob("a.mp4", FrameSpec(3, 56), segmenter=Spans([]))
    spec = {"num_frames": 3, "size": 56, "resize": "crop", "sampling": "middle"}
    assert json.loads(json.dumps(job.request())) == {"path": "a.mp4", "spec": spec, "reader": "pyav", "whole": False}
    assert SegmentsJob("a.mp4", FrameSpec(3, 56), "decord").request()["whole"] is True
    assert SegmentsJob("a.mp4", FrameSpec(3, 56), "decord").request()["reader"] == "decord"


def test_a_job_answers_with_spans():
    segmenter = Spans([(0, 4), (np.float32(2), 10.0), (10, 10)])
    answer = SegmentsJob("a.mp4", SPEC, segmenter=segmenter).answer({**asdict(FACTS), "duration_s": 10})
    assert answer == [(0.0, 4.0), (2.0, 10.0), (10.0, 10.0)]
    assert all(type(time) is float for span in answer for time in span)
    assert segmenter.video == FACTS and type(segmenter.video.duration_s) is float


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


@pytest.mark.parametrize("name", ["duration_s", "num_frames", "height", "width"])
def test_a_question_that_is_not_valid_is_refused(name):
    job = SegmentsJob("a.mp4", SPEC, segmenter=Spans([(0, 4)]))
    lacking = {key: value for key, value in asdict(FACTS).items() if key != name}
    for question in (lacking, {**asdict(FACTS), name: "x"}, {**asdict(FACTS), name: None}):
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
        return [[0.0, 1.2], [1.2, 2.4]]

    request = SegmentsJob(str(video), SPEC, segmenter=FixedWindows(1.2)).request()
    found = list(serve_segments(json.loads(json.dumps(request)), ask))
    height, width = picture(0).shape[:2]
    assert asked == [{"duration_s": pytest.approx(2.4), "num_frames": 60, "height": height, "width": width}]
    assert [(segment.start_s, segment.end_s) for segment in found] == [(0.0, 1.2), (1.2, 2.4)]
    assert [numbers(segment) for segment in found] == [[7, 22], [37, 52]]
    assert all(segment.path == str(video) for segment in found)
    (whole,) = serve_segments(SegmentsJob(str(video), SPEC).request(), ask)
    assert numbers(whole) == [14, 44] and len(asked) == 1
    with pytest.raises(VmrError, match="no video reader 'none'"):
        next(serve_segments({**request, "reader": "none"}, ask))


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


def test_spans_are_decoded_in_groups(video, monkeypatch):
    """Memory does not grow with the number of spans."""
    sizes, real = [], segments._decode_group

    def decode_group(reader, spec, spans):
        sizes.append(len(spans))
        return real(reader, spec, spans)

    monkeypatch.setattr(segments, "_decode_group", decode_group)
    found, remarks = read(video, FrameSpec(1, 96, "stretch"), FixedWindows(0.08, 0.04))
    # Windows of two pictures, one after each picture: 0-1 gives 0, 1-2 gives 1, ... 58-59 gives 58
    assert [numbers(segment) for segment in found] == [[number] for number in range(59)]
    assert sizes == [16, 16, 16, 11] and remarks == ()


def test_frames_that_spans_share_are_decoded_once(video, monkeypatch):
    asked, real = [], VideoReader.frames_at

    def frames_at(self, indices, *args):
        asked.append(indices)
        return real(self, indices, *args)

    monkeypatch.setattr(VideoReader, "frames_at", frames_at)
    found, _ = read(video, SPEC, Spans([(0, 1.2), (0.6, 1.8), (0, 2.4)]))
    # pictures 0-29: middles of halves 7, 22; 15-44: 22, 37; 0-59: 14, 44
    assert [numbers(segment) for segment in found] == [[7, 22], [22, 37], [14, 44]]
    assert asked == [[7, 14, 22, 37, 44]]


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
    # In the second span only picture 42 begins. It is lost, so the one nearest to 1.69 s is given: 43, from 1.72 s on.
    assert [numbers(segment) for segment in found] == [[14], [43]]
    assert [(segment.start_s, segment.end_s) for segment in found] == [(0, 1.2), (1.68, 1.7)]
    assert remark.kind == "damage"


def test_a_still_picture_is_repeated(tmp_path):
    from PIL import Image

    Image.fromarray(picture(5)).save(tmp_path / "still.PNG")
    ((segment,), remarks) = read(tmp_path / "still.PNG", FrameSpec(3, 96, "stretch"), FixedWindows(1.0))
    assert (segment.path, segment.start_s, segment.end_s) == (str(tmp_path / "still.PNG"), 0.0, 0.0)
    assert numbers(segment) == [5, 5, 5] and segment.video.shape == (3, 3, 96, 96) and remarks == ()


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
