"""Training crops and flips: torchvision as the second implementation, and the same for every frame."""

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from tests.video_matrix import RECIPES, number_of, picture, write_video
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.data.training.augment import (
    Interpolation,
    flip_allowed,
    rand_augment,
    random_box,
    random_flip,
    resize_clip,
)
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip, render_train_clip
from vmr.errors import VideoError, VmrError


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    """The same picture num_frames times."""
    frame = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    return np.repeat(frame[None], num_frames, axis=0)


def job(spec: ClipSpec, seed: int = 0, path: str = "made", may_flip: bool = True, still: bool = False) -> ClipJob:
    return ClipJob(path, spec, (seed,), may_flip, still)


@pytest.mark.parametrize("height, width", [(240, 320), (200, 200), (320, 180)])
def test_boxes_are_drawn_as_torchvision_draws_them(height: int, width: int):
    num_draws = 3000
    rng = np.random.default_rng(0)
    ours = np.array([random_box(height, width, rng) for _ in range(num_draws)], float)
    torch.manual_seed(0)
    empty = torch.empty(height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(empty, [0.5, 1.0], [3 / 4, 4 / 3]) for _ in range(num_draws)], float
    )
    top, left, h, w = ours.T
    assert min(top.min(), left.min()) >= 0
    assert (top + h).max() <= height
    assert (left + w).max() <= width
    for fact in (lambda box: box[:, 2] * box[:, 3], lambda box: np.log(box[:, 3] / box[:, 2]), lambda box: box[:, 1]):
        a, b = fact(ours), fact(theirs)
        error = np.sqrt((a.var() + b.var()) / num_draws)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert a.std() == pytest.approx(b.std(), rel=0.1)


def test_a_picture_without_room_gives_its_middle():
    rng = np.random.default_rng(0)
    # no part of half the area has a ratio of at most 4/3: all 10 rows, round(10 * 4/3) = 13 columns
    assert random_box(10, 1000, rng) == (0, (1000 - 13) // 2, 10, 13)
    assert random_box(1000, 10, rng) == ((1000 - 13) // 2, 0, 13, 10)
    assert random_box(1, 1, rng) == (0, 0, 1, 1)


@pytest.mark.parametrize("how", get_args(Interpolation))
def test_pixels_are_torchvisions(how: Interpolation):
    frames = np.random.default_rng(1).integers(0, 256, (2, 3, 60, 90), np.uint8)
    top, left, height, width = random_box(60, 90, np.random.default_rng(2))
    ours = resize_clip(frames[:, :, top : top + height, left : left + width], 32, how)
    kind = InterpolationMode.BICUBIC if how.endswith("bicubic") else InterpolationMode.BILINEAR
    theirs = resized_crop(
        torch.from_numpy(frames), top, left, height, width, [32, 32], kind, antialias=how.startswith("antialiased")
    )
    assert np.abs(ours.astype(int) - theirs.numpy()).max() <= 1  # a half may round either way


def test_one_crop_and_one_flip_for_all_frames():
    spec = ClipSpec(4, 24)
    clips = [render_train_clip(lambda t, s: noise(t, s, s), job(spec, seed)) for seed in range(20)]
    for clip in clips:
        assert clip.shape == (4, 3, 24, 24)
        assert all(np.array_equal(frame, clip[0]) for frame in clip)
    assert len({clip.tobytes() for clip in clips}) == 20


def test_one_clip_in_two_is_mirrored():
    spec = ClipSpec(2, 24, crop="center")
    plain = noise(2, 24, 24)
    mirrored = 0
    for seed in range(400):
        clip = render_train_clip(lambda t, s: plain, job(spec, seed))
        is_plain = np.array_equal(clip, plain)
        assert is_plain or np.array_equal(clip, plain[..., ::-1])
        mirrored += not is_plain
        assert np.array_equal(render_train_clip(lambda t, s: plain, job(spec, seed, may_flip=False)), plain)
    assert 160 < mirrored < 240  # 200 +- 4 standard deviations of sqrt(400 / 4) = 10
    rng = np.random.default_rng(0)
    assert {np.array_equal(random_flip(plain, rng), plain) for _ in range(20)} == {True, False}


@pytest.mark.parametrize(
    ("caption", "allowed"),
    [
        ("a man is cooking", True),
        ("a red circle moves slowly left", False),
        ("The Right hand", False),
        ("the left-most of two dogs", False),
        ("a wheel turns counter-clockwise", False),
        ("bright lights over a copyright notice", True),
        ("leftovers on a plate", True),
        ("", True),
    ],
)
def test_flips_and_sided_words(caption: str, allowed: bool):
    assert flip_allowed(caption, "unless_sided") is allowed
    assert flip_allowed(caption, True) is True
    assert flip_allowed(caption, False) is False


def test_random_frames_of_a_video(tmp_path):
    path = str(write_video(tmp_path / "a.mp4"))
    spec = ClipSpec(4, 96, crop="stretch")
    drawn = [[number_of(frame) for frame in read_train_clip(job(spec, s, path, may_flip=False))] for s in range(30)]
    # 60 frames in 4 intervals of 15: one frame of each
    assert all([number // 15 for number in numbers] == [0, 1, 2, 3] for numbers in drawn)
    assert len(set(map(tuple, drawn))) > 25
    assert {number % 15 for numbers in drawn for number in numbers} == set(range(15))
    again = [number_of(frame) for frame in read_train_clip(job(spec, 3, path, may_flip=False))]
    assert again == drawn[3]


def test_the_random_crop_of_a_video_is_cut_at_full_resolution(tmp_path):
    path = str(write_video(tmp_path / "a.mp4"))
    clip = read_train_clip(job(ClipSpec(2, 32, sampling="middle"), 5, path, may_flip=False))
    top, left, height, width = random_box(112, 192, np.random.default_rng(5))
    with VideoReader(path) as video:
        part = video.frames_at([14, 44])[:, :, top : top + height, left : left + width]  # halves of 30 frames
    assert np.array_equal(clip, resize_clip(part, 32))


@pytest.mark.parametrize("crop, resize", [("center", "crop"), ("stretch", "stretch"), ("upstream", "upstream")])
def test_the_other_crops_are_those_of_evaluation(tmp_path, crop: str, resize: str):
    path = str(write_video(tmp_path / "a.mp4"))
    clip = read_train_clip(job(ClipSpec(2, 40, "middle", crop), 0, path, may_flip=False))
    (segment,) = read_segments(path, FrameSpec(2, 40, resize))
    assert np.array_equal(clip, segment.video)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_still_picture_is_one_frame(tmp_path, suffix: str):
    path = tmp_path / f"100%03d.{suffix}"  # a name that FFmpeg could take for a pattern
    Image.fromarray(picture(77)).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    whole = read_train_clip(job(ClipSpec(1, 96, crop="stretch"), 0, str(path), may_flip=False, still=True))
    assert whole.shape == (1, 3, 96, 96)
    assert number_of(whole[0]) == 77
    assert read_train_clip(job(ClipSpec(1, 32), 0, str(path), still=True)).shape == (1, 3, 32, 32)


def test_pictures_that_are_none(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(picture(0)).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "list.png").write_text("ffconcat version 1.0\nfile whole.jpg\n")
    write_video(tmp_path / "video.mp4", RECIPES["one_frame"])
    reasons = {}
    for name in ("half.jpg", "zero.png", "folder.png", "list.png", "video.mp4", "absent.jpg"):
        with pytest.raises(VideoError) as caught:
            read_train_clip(job(ClipSpec(1, 32), 0, str(tmp_path / name), still=True))
        reasons[name] = caught.value.reason
    assert reasons["half.jpg"] == reasons["zero.png"] == "not a picture that FFmpeg can read"
    assert reasons["absent.jpg"] == "no such file"
    assert reasons["video.mp4"].startswith("is not a picture (FFmpeg takes it for 'mov,mp4")


@pytest.mark.parametrize(
    "values",
    [
        {"num_frames": 0},
        {"size": 0},
        {"sampling": "fps2"},
        {"sampling": "uniform"},
        {"crop": "crop"},
        {"flip": "sometimes"},
        {"sampling": "trimmed30", "cache_dir": "cache"},
        {"sampling": "rand_trimmed30", "cache_dir": "cache"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(values: dict):
    with pytest.raises(VmrError):
        ClipSpec(**{"num_frames": 4, "size": 96, **values})


def test_rand_augment_treats_all_frames_alike_and_follows_its_generator():
    video = noise(3, 24, 24)
    state = torch.random.get_rng_state()
    changed = [rand_augment(video, np.random.default_rng(seed)) for seed in range(12)]
    assert torch.equal(torch.random.get_rng_state(), state)
    for clip in changed:
        assert clip.dtype == np.uint8
        assert clip.shape == video.shape
        assert all(np.array_equal(frame, clip[0]) for frame in clip)
    assert sum(not np.array_equal(clip, video) for clip in changed) >= 10
    assert np.array_equal(rand_augment(video, np.random.default_rng(7)), changed[7])
    with pytest.raises(VmrError, match="uint8"):
        rand_augment(video.astype(np.float32), np.random.default_rng(0))
