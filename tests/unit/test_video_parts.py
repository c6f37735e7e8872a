"""Long videos are decoded in parts, and the result is the same whatever the number of processes is."""

import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.frame_encoders import Colours, one_by_one
from tests.models import make_encoder, tiny_model
from tests.patience import PATIENCE_S
from tests.video_matrix import X264, Recipe, write_video
from vmr.data.decoding import segments_job
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import DecodePool
from vmr.data.decoding.segments import WHOLE, DecodedSegment, FrameSpec, read_segments
from vmr.data.decoding.segments_job import SegmentsJob, parts_of
from vmr.data.decoding.worker_process import DecodedPart, DecodedVideo, DecodeFailure, DecodeRestart
from vmr.retrieval.embed import embed_each, embed_videos
from vmr.retrieval.embedding.pipeline import Reached
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.segments import FixedWindows, ShotWindows, WithWholeVideo

WINDOWS = WithWholeVideo(FixedWindows(2.0, 1.0))
SPEC = FrameSpec(num_frames=2, size=32, resize="stretch")
PARTS = [(0.0, 6.0), (6.0, 12.0), (12.0, 18.0), (18.0, 24.0)]


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    monkeypatch.setattr(segments_job, "PART_S", 6)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A video of 20 s: 19 windows and the whole, in parts of 7, 6, 6 and 1."""
    path = tmp_path_factory.mktemp("videos") / "long.mp4"
    return str(write_video(path, Recipe(options=X264, num_frames=500)))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return str(write_video(tmp_path_factory.mktemp("videos") / "short.mp4"))


@pytest.fixture
def damaged(long, tmp_path):
    """The pictures of the last third are zeros; the file still lists them."""
    data = bytearray(Path(long).read_bytes())
    media, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    begin = media + 2 * (end - media) // 3
    data[begin:end] = bytes(end - begin)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def cut_off(long, tmp_path):
    """A file that is known to be damaged when it is opened."""
    path = write_video(tmp_path / "cut.mkv", Recipe(options=X264, num_frames=500))
    path.write_bytes(path.read_bytes()[:-20_000])
    return str(path)


def decoded(paths, segmenter=WINDOWS, num_workers=1):
    with DecodePool(SPEC, segmenter, DecodeOptions(num_workers=num_workers)) as pool:
        return list(pool.decode(paths))


def test_parts_follow_from_the_spans():
    assert parts_of([(0.0, 4.0), (5.9, 9.0), (6.0, 8.0), (19.0, 20.0), (0.0, 20.0)]) == [PARTS[0], PARTS[1], PARTS[3]]
    assert parts_of([(20.0, 21.0)]) == [(18.0, 24.0)]
    windows = [(float(start_s), start_s + 2.0) for start_s in range(300)]
    assert parts_of(windows) == [(19.0 * place, 19.0 * place + 19.0) for place in range(16)]  # few, and so longer


def test_cuts_are_found_by_the_first_part_only(long):
    given = []
    job = SegmentsJob(long, SPEC, segmenter=ShotWindows(2.0), share=lambda first, jobs: given.extend([first, *jobs]))
    question = {"duration_s": 20, "num_frames": 500, "height": 2, "width": 2, "cuts_s": [3.0]}
    answer = job.answer(question)
    first, *others = given
    assert answer["part"] == first == PARTS[0] and job.request()["needs_cuts"] is True
    for part, other in zip(PARTS[1:], others, strict=True):
        request = other.request()
        assert request["needs_cuts"] is False and request["known"] == {**answer, "part": part}


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_vectors_of_frames_are_those_of_the_undivided_video(long, short, num_workers):
    """Bit for bit, also those of windows that reach into the next part, and of the whole video."""
    decode = DecodeOptions(num_workers=num_workers)
    found = embed_videos([short, long], Colours(), segmenter=WINDOWS, decode=decode).videos
    for path, video in zip((short, long), found, strict=True):
        spans, vectors = one_by_one(path, Colours(), WINDOWS)
        assert list(video.spans) == spans
        assert np.array_equal(video.vectors, vectors)
    assert len(found[1].spans) == 20 and (found[1].width, found[1].height) == (192, 112)


def test_an_encoder_of_windows_gets_batches_of_one_part(long, tmp_path):
    encoder = make_encoder(tiny_model())
    segments = sorted(read_segments(long, frame_spec(encoder), WINDOWS), key=lambda segment: segment.start_s)
    whole = segments.pop(1)
    assert whole.end_s == pytest.approx(20.0)
    vectors, tokens = [], []
    for start_s, stop_s in PARTS:
        own = [segment for segment in segments if start_s <= segment.start_s < stop_s] + [whole] * (start_s == 0)
        batch = torch.from_numpy(np.stack([segment.video for segment in own]))
        vectors += [*encoder.encode_video(batch).numpy()]
        tokens += [*encoder.video_tokens(batch).numpy()]
    order = [0, 6, *range(1, 6), *range(7, 20)]  # the whole video is the last of its part, and begins with the first
    for num_workers in (1, 2, 3):
        decode = DecodeOptions(num_workers=num_workers)
        (video,) = embed_videos([long], encoder, segmenter=WINDOWS, decode=decode).videos
        assert np.array_equal(video.vectors, np.stack([vectors[place] for place in order]))
        ((kept,),) = embed_each([long], [encoder], segmenter=WINDOWS, decode=decode, tokens_in=tmp_path)
        assert kept.spans == video.spans == tuple(sorted(video.spans))
        with closing(kept.tokens) as spool:
            assert all(np.array_equal(spool.read(row), tokens[place]) for row, place in enumerate(order))


def test_still_frames_are_skipped_anew_in_each_part(tmp_path):
    path = write_video(
        tmp_path / "still.mp4", Recipe(options=X264, num_frames=500, stored=lambda rgb: np.full_like(rgb, 90))
    )
    for num_workers in (1, 2, 3):
        encoder = Colours()
        decode = DecodeOptions(num_workers=num_workers)
        embed_videos([path], encoder, frame_spec(encoder, skip_still=0.02), WINDOWS, decode=decode)
        assert sum(encoder.batches) == len(PARTS)


def test_the_parts_of_a_video_come_before_the_next_video(long, short):
    items = decoded([long, short])
    assert [item.path for item in items] == [long] * 24 + [short] * 4
    assert [item.part for item in items if isinstance(item, DecodedPart)] == PARTS[:-1]
    assert [item.part for item in items[:7]] == [PARTS[0]] * 7 and items[-2].part == WHOLE
    ends = [item for item in items if isinstance(item, DecodedVideo)]
    assert ends == [
        DecodedVideo(long, 20, pytest.approx(20.0), width=192, height=112),
        DecodedVideo(short, 3, pytest.approx(2.4), width=192, height=112),
    ]


def test_several_processes_decode_one_video(long):
    with DecodePool(SPEC, WINDOWS, DecodeOptions(num_workers=2)) as pool:
        items = pool.decode([long])
        first = next(items)  # few are decoded in advance, so neither process can end before the other begins
        end = time.monotonic() + PATIENCE_S
        while len(psutil.Process().children()) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        rest = list(items)
    assert sum(isinstance(item, DecodedSegment) for item in [first, *rest]) == 20


@pytest.mark.parametrize("kind", ["damaged", "cut_off"])
def test_a_damaged_video_is_as_if_it_were_not_divided(kind, request):
    path = request.getfixturevalue(kind)
    segments, expected = read_segments(path, SPEC, WINDOWS), []
    while True:
        try:
            expected.append(next(segments))
        except StopIteration as stop:
            remarks = stop.value.remarks
            break
    assert [remark.kind for remark in remarks] == ["damage"]
    for num_workers in (1, 3):
        items = decoded([path], num_workers=num_workers)
        (restart,) = [place for place, item in enumerate(items) if isinstance(item, DecodeRestart)]
        *found, end = items[restart + 1 :]
        assert isinstance(end, DecodedVideo) and end.remarks == remarks
        for segment, wanted in zip(found, expected, strict=True):
            assert (segment.start_s, segment.end_s, segment.numbers) == (wanted.start_s, wanted.end_s, wanted.numbers)
            assert segment.part == WHOLE and np.array_equal(segment.video, wanted.video)
        (video,) = embed_videos([path], Colours(), segmenter=WINDOWS, decode=DecodeOptions(num_workers=2)).videos
        assert np.array_equal(video.vectors, one_by_one(path, Colours(), WINDOWS)[1])


class Vanishing:
    """Windows of a file that is removed as soon as its first part is open."""

    settings = WINDOWS.settings
    window_s = WINDOWS.window_s

    def __init__(self, path):
        self._path = path

    def spans(self, video):
        if video.path == self._path:
            Path(video.path).unlink()
        return WINDOWS.spans(video)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_failure_of_a_part_is_that_of_the_video(long, short, tmp_path, num_workers):
    path = str(tmp_path / "vanishing.mp4")
    os.link(long, path)
    items = decoded([path, short], Vanishing(path), num_workers)
    own = [item for item in items if item.path == path]
    assert own[-1] == DecodeFailure(path, "no such file")
    assert all(isinstance(item, DecodedSegment | DecodedPart) and item.part == PARTS[0] for item in own[:-1])
    assert [type(item) for item in items if item.path == short] == [DecodedSegment] * 3 + [DecodedVideo]


def _note(calls, *call):
    calls.append(call)


def test_seconds_that_are_done_never_decrease_or_exceed_the_video(long, damaged):
    for path in (long, damaged):
        decode, calls = DecodeOptions(num_workers=3), []
        list(embed_each([path], [Colours()], None, WINDOWS, decode=decode, at=partial(_note, calls)))
        told = [seconds for _, seconds in calls]
        assert told == sorted(told) and told[0] > 0 and told[-1] == pytest.approx(20.0)


def test_seconds_are_those_of_all_parts():
    def segment(start_s, end_s, part):
        return DecodedSegment("a", start_s, end_s, (), (), part)

    reached = Reached()
    assert reached.seconds(segment(6.0, 8.0, PARTS[1])) == 2.0
    assert reached.seconds(segment(0.0, 2.0, PARTS[0])) == 4.0
    assert reached.seconds(DecodedPart("a", PARTS[1])) is None
    assert reached.seconds(segment(0.0, 20.0, PARTS[0])) == 8.0  # the whole video is no more than its part
    assert reached.seconds(DecodeRestart("a")) is None
    assert reached.seconds(segment(0.0, 3.0, WHOLE)) == 8.0
    assert reached.seconds(segment(7.0, 9.0, WHOLE)) == 9.0
    assert reached.seconds(DecodedVideo("a", 2, 9.0)) is None
    assert reached.seconds(segment(0.0, 3.0, WHOLE)) == 3.0
