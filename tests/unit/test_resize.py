"""Resizing as upstream evaluates: numbers worked by hand, and torchvision as the second implementation."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.video_matrix import write_video
from vmr.data.decoding.resize import resize_bicubic
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.errors import VmrError


def test_by_hand():
    # 4 pixels to 2: centres at 0.5 and 2.5, half way between two pixels. Keys' kernel with a = -0.75 gives
    # f(0.5) = 1.25/8 - 2.25/4 + 1 = 0.59375 and f(1.5) = -0.75 * (3.375 - 11.25 + 12 - 4) = -0.09375.
    row = np.array([[0, 100, 200, 40]], np.uint8)
    # pixel 0: -0.09375 * (0 + 200) + 0.59375 * (0 + 100) = 40.625; the border repeats pixel 0
    # pixel 1: -0.09375 * (100 + 40) + 0.59375 * (200 + 40) = 129.375
    assert resize_bicubic(row, (1, 2)).tolist() == [[41, 129]]


def test_overshoot_is_cut_to_the_range():
    edge = np.array([[0, 0, 255, 255]], np.uint8)
    resized = resize_bicubic(edge, (1, 16))
    assert resized.min() == 0
    assert resized.max() == 255


def test_the_same_size_is_the_same_picture():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 7, 9), np.uint8)
    assert np.array_equal(resize_bicubic(frames, (7, 9)), frames)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(20, 24), (37, 53), (64, 100), (5, 200)])
def test_equals_torch(size: tuple[int, int], antialias: bool):
    frames = np.random.default_rng(1).integers(0, 256, (2, 3, 37, 53), np.uint8)
    floats = interpolate(torch.from_numpy(frames).float(), size, mode="bicubic", antialias=antialias)
    expected = floats.round().clamp(0, 255).numpy().astype(int)
    difference = np.abs(resize_bicubic(frames, size, antialias=antialias) - expected)
    assert difference.max() <= 1  # a half may round either way
    assert (difference > 0).mean() < 0.01


def test_decoding_by_upstreams_rule(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    (segment,) = read_segments(path, FrameSpec(2, 32, "upstream"))
    with VideoReader(path) as video:
        middle = [(0 + video.num_frames // 2 - 1) // 2, (video.num_frames // 2 + video.num_frames - 1) // 2]
        expected = resize_bicubic(video.frames_at(middle), (32, 32))
    assert np.array_equal(segment.video, expected)


def test_only_bytes():
    with pytest.raises(VmrError, match="uint8"):
        resize_bicubic(np.zeros((3, 4, 4), np.float32), (2, 2))
