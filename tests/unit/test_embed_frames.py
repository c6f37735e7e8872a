"""Encoders of single frames: each frame is encoded once, and vectors are those of windows encoded one by one."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.frame_encoders import Colours, one_by_one
from tests.models import make_encoder, tiny_model
from tests.paths import REPOSITORY
from tests.video_matrix import X264, Recipe, picture, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import read_segments
from vmr.errors import VmrError
from vmr.models.encoder import FrameEncoder
from vmr.retrieval.embed import embed_each, embed_videos
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.segments import FixedWindows, WithWholeVideo

ONE_WORKER = DecodeOptions(num_workers=1)
WINDOWS = WithWholeVideo(FixedWindows(0.8, 0.4))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 2.4, 1.2 and 3.6 s."""
    folder = tmp_path_factory.mktemp("videos")
    lengths = {"a.mp4": 60, "b.mp4": 30, "c.mp4": 90}
    return [write_video(folder / name, Recipe(options=X264, num_frames=length)) for name, length in lengths.items()]


def test_each_frame_is_encoded_once_and_vectors_are_those_of_windows_one_by_one(videos):
    encoder = Colours()
    assert isinstance(encoder, FrameEncoder)
    (video,) = embed_videos(videos[:1], encoder, segmenter=WINDOWS, decode=ONE_WORKER).videos
    assert sum(encoder.batches) == 12  # 2.4 s, a grid point every 0.2 s; the whole video needs none of its own
    spans, vectors = one_by_one(videos[0], Colours(), WINDOWS)
    assert list(video.spans) == spans and len(spans) == 6 and spans[1] == (0.0, pytest.approx(2.4))
    assert np.array_equal(video.vectors, vectors)


def test_batches_are_full_and_vectors_do_not_depend_on_neighbours(videos):
    alone = {path: one_by_one(path, Colours(), WINDOWS)[1] for path in map(str, videos)}
    for order, decode in ((videos, ONE_WORKER), (videos[::-1], DecodeOptions(num_workers=3))):
        encoder = Colours()
        embedding = embed_videos(order, encoder, segmenter=WINDOWS, decode=decode)
        assert [video.path for video in embedding.videos] == list(map(str, order))
        assert all(np.array_equal(video.vectors, alone[video.path]) for video in embedding.videos)
        assert encoder.batches == [5] * 7 + [1]  # 12 + 6 + 18 frames


def test_a_video_that_fails_takes_its_frames_along(videos, tmp_path):
    data = bytearray(videos[0].read_bytes())
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data[: len(data) // 2])
    expected = one_by_one(videos[1], Colours(), WINDOWS)[1]
    embedding = embed_videos([broken, videos[1]], Colours(), segmenter=WINDOWS, decode=ONE_WORKER)
    assert [failure.path for failure in embedding.failures] == [str(broken)]
    assert np.array_equal(embedding.videos[0].vectors, expected)


def test_videos_come_with_their_sizes(videos):
    ends = list(embed_each(videos[:1], [Colours()], segmenter=WINDOWS, decode=ONE_WORKER))
    height, width = picture(0).shape[:2]
    assert [(video.width, video.height) for (video,) in ends] == [(width, height)]


def test_frames_that_are_still_are_not_encoded_again(tmp_path):
    path = write_video(tmp_path / "still.mp4", Recipe(options=X264, stored=lambda rgb: np.full_like(rgb, 90)))
    encoder = Colours()
    spec = frame_spec(encoder, skip_still=0.02)
    (video,) = embed_videos([path], encoder, spec, WINDOWS, decode=ONE_WORKER).videos
    assert encoder.batches == [1] and len(video.spans) == 6
    assert np.array_equal(video.vectors, one_by_one(path, Colours(), WINDOWS, skip_still=0.02)[1])


def test_still_frames_are_skipped_for_encoders_of_single_frames_only():
    with pytest.raises(VmrError, match=r"^tiny takes the frames of a window together, so that skipping still frames"):
        frame_spec(make_encoder(tiny_model()), skip_still=0.02)


def test_an_encoder_of_windows_gets_whole_windows(videos):
    """Its batches do not mix videos, and a window's frames are put together from those that windows share."""
    encoder = make_encoder(tiny_model())
    embedding = embed_videos(videos, encoder, segmenter=WINDOWS, decode=ONE_WORKER)
    for path, video in zip(videos, embedding.videos, strict=True):
        segments = list(read_segments(path, frame_spec(encoder), WINDOWS))
        vectors = encoder.encode_video(torch.from_numpy(np.stack([segment.video for segment in segments])))
        order = [0, len(segments) - 1, *range(1, len(segments) - 1)]  # the whole video begins with the first window
        assert np.array_equal(video.vectors, vectors.numpy()[order])
        assert video.spans == tuple((segments[place].start_s, segments[place].end_s) for place in order)


def test_tokens_are_in_the_order_of_the_spans(videos, tmp_path):
    encoder = make_encoder(tiny_model())
    segments = list(read_segments(videos[0], frame_spec(encoder), WINDOWS))
    expected = encoder.video_tokens(torch.from_numpy(np.stack([segment.video for segment in segments]))).numpy()
    order = [0, len(segments) - 1, *range(1, len(segments) - 1)]
    embedding = embed_videos(videos[:1], encoder, segmenter=WINDOWS, decode=ONE_WORKER, tokens=True)
    assert np.array_equal(embedding.tokens.tokens(videos[0]).numpy(), expected[order])
    ((video,),) = embed_each(videos[:1], [encoder], segmenter=WINDOWS, decode=ONE_WORKER, tokens_in=tmp_path)
    with closing(video.tokens) as tokens:
        assert [np.array_equal(tokens.read(place), expected[old]) for place, old in enumerate(order)] == [True] * 6


def test_offline_on_real_footage(footage, offline):
    paths = [footage / "bikes.mp4", footage / "carphone_pristine.mp4"]
    windows = FixedWindows(2.0, 1.0)
    for video in embed_videos(paths, offline, segmenter=windows).videos:
        spans, vectors = one_by_one(video.path, offline, windows)
        assert list(video.spans) == spans and len(spans) > 1
        assert np.array_equal(video.vectors, vectors)


WITHOUT_TORCH = """
import sys
import numpy as np
import vmr
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.segments import FixedWindows

class Frames:
    name, about, embed_dim, fingerprint = "frames", "a test", 3, "f" * 16
    preprocess = vmr.Preprocess(4, 32, "stretch", *([0.5] * 3,) * 2)
    frames_at_once = 5
    def encode_frames(self, frames):
        return frames.mean(axis=(2, 3), dtype=np.float32)
    def pool_frames(self, features):
        return features.mean(axis=1) / 255
    def encode_video(self, video):
        raise AssertionError
    def encode_text(self, texts):
        raise AssertionError

(video,) = embed_videos(sys.argv[1:], Frames(), segmenter=FixedWindows(0.8, 0.4)).videos
print(video.vectors.shape, "torch" in sys.modules)
"""


def test_frames_are_encoded_without_torch(videos):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(videos[0])]
    done = subprocess.run(command, cwd=Path(REPOSITORY), capture_output=True, text=True, check=True)
    assert done.stdout == "(5, 3) False\n"
