"""Resizing as upstream evaluates: numbers worked by hand, other libraries as the second implementation."""

import zlib

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.video_matrix import write_video
from vmr.data.decoding.resize import resize_bicubic, resize_bilinear, resize_pillow
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


def patterned(height: int = 37, width: int = 53) -> np.ndarray:
    """A picture (H, W, 3) whose neighbouring pixels have nothing in common."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * y * 7) % 256, (x * x + 3 * y) % 256, (5 * x ^ 11 * y) % 256], axis=-1).astype(np.uint8)


def test_bilinear_by_hand():
    # 4 pixels to 2: centres at 0.5 and 2.5. In 11 bits: (0 + 100) * 1024 >> 4 = 6400; 6400 * 2048 >> 16 = 200;
    # (200 + 2) >> 2 = 50.
    row = np.array([[[0], [100], [200], [40]]], np.uint8)
    assert resize_bilinear(row, (1, 2))[..., 0].tolist() == [[50, 120]]
    # 2 pixels to 4: centres at -0.25, 0.25, 0.75 and 1.25; beyond the border is the border
    assert resize_bilinear(np.array([[[0], [100]]], np.uint8), (1, 4))[..., 0].tolist() == [[0, 25, 75, 100]]


def test_half_the_size_is_the_mean_of_four():
    square = np.array([[[1], [2]], [[3], [4]]], np.uint8)
    assert resize_bilinear(square, (1, 1)).tolist() == [[[3]]]  # 2.5, as OpenCV rounds it


@pytest.mark.parametrize(
    ("size", "checksum"),
    [
        ((20, 24), 3353024825),
        ((37, 53), 2187357539),
        ((64, 100), 3964715135),
        ((5, 200), 2004283310),
        ((18, 26), 3093867717),
        ((1, 1), 1838292522),
    ],
)
def test_bilinear_is_that_of_opencv(size: tuple[int, int], checksum: int):
    """The checksums are those of `cv2.resize(picture, (w, h), interpolation=cv2.INTER_LINEAR)`, 4.8.1 and 5.0.0."""
    assert zlib.crc32(resize_bilinear(patterned(), size).tobytes()) == checksum


def test_bilinear_of_opencv_at_exactly_half_the_size():
    picture = np.ascontiguousarray(patterned()[:36, :52])
    assert zlib.crc32(resize_bilinear(picture, (18, 26)).tobytes()) == 2396321021


@pytest.mark.parametrize("size", [(20, 24), (37, 53), (64, 100)])
def test_bilinear_is_torchs_to_a_grey_level(size: tuple[int, int]):
    picture = patterned()
    floats = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    expected = interpolate(floats, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    assert np.abs(resize_bilinear(picture, size) - expected).max() <= 1


@pytest.mark.parametrize(
    ("size", "checksum"),
    [((20, 24), 476287783), ((37, 53), 2187357539), ((64, 100), 388382660), ((5, 200), 3191393864)],
)
def test_bicubic_is_that_of_pillow(size: tuple[int, int], checksum: int):
    """The checksums are those of `Image.fromarray(picture).resize((w, h), Image.BICUBIC)` of Pillow 10.0.0."""
    resized = resize_pillow(patterned().transpose(2, 0, 1), size).transpose(1, 2, 0)
    assert zlib.crc32(resized.tobytes()) == checksum


def test_bilinear_takes_only_a_picture_of_bytes():
    with pytest.raises(VmrError, match=r"uint8 \(H, W, C\)"):
        resize_bilinear(np.zeros((4, 4), np.uint8), (2, 2))
