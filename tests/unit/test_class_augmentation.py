"""Augmentation of clips for classifiers and masked pre-training: what is drawn, how often, and alike for all frames."""

import importlib.util
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.video_matrix import Recipe, number_of, write_video
from vmr.data.training.augment import multi_scale_box, random_box, random_flip, resize_clip
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip, render_train_clip
from vmr.data.training.order import repeated
from vmr.data.training.rand_augment import MEAN_COLOR, augment_frames
from vmr.errors import VmrError
from vmr.train.tasks.erasing import erase_randomly, random_rectangle

POLICY = "rand-m7-n4-mstd0.5-inc1"


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    """The same picture num_frames times."""
    frame = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    return np.repeat(frame[None], num_frames, axis=0)


def test_the_random_crop_has_the_range_that_is_asked_for():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(224, 300, rng, (0.08, 1.0)) for _ in range(3000)], float)
    area = boxes[:, 2] * boxes[:, 3] / (224 * 300)
    assert 0.075 < area.min() < 0.1  # sides are rounded
    assert area.max() > 0.9
    half = area < 0.5
    assert 0.42 < half.mean() < 0.62, "half of the draws, and more as large ones often do not fit"
    spec = ClipSpec(2, 16, crop_scale=(0.3, 0.3), interpolation="bilinear")
    clip = render_train_clip(lambda t, s: noise(t, s, s), ClipJob("made", spec, (5,)))
    top, left, height, width = random_box(16, 16, np.random.default_rng(5), (0.3, 0.3))
    part = noise(2, 16, 16)[:, :, top : top + height, left : left + width]
    assert height * width == pytest.approx(0.3 * 256, rel=0.2)
    assert np.array_equal(clip, resize_clip(part, 16, "bilinear"))


def test_multi_scale_crops_are_ten_sizes_at_thirteen_places():
    rng = np.random.default_rng(0)
    boxes = [multi_scale_box(240, 320, 224, rng) for _ in range(6000)]
    sizes = Counter((h, w) for _, _, h, w in boxes)
    sides = [240, 210, 180, int(240 * 0.66)]
    assert set(sizes) == {(h, w) for i, h in enumerate(sides) for k, w in enumerate(sides) if abs(i - k) <= 1}
    assert min(sizes.values()) > 600 - 4 * 24  # ten sizes, all as frequent: 600 +- 24
    assert max(sizes.values()) < 600 + 4 * 24
    places = Counter((4 * top // max(240 - h, 1), 4 * left // (320 - w)) for top, left, h, w in boxes if h < 240)
    down = {(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)}
    assert len(places) >= 13
    steps = {
        (top // ((240 - 180) // 4), left // ((320 - 180) // 4)) for top, left, h, w in boxes if (h, w) == (180, 180)
    }
    assert steps == down
    assert all(top + h <= 240 and left + w <= 320 for top, left, h, w in boxes)
    near = {multi_scale_box(226, 300, 224, rng)[2] for _ in range(100)}
    assert 224 in near, "a side within two pixels of the result is not scaled"
    assert 226 not in near
    assert multi_scale_box(1, 1, 224, rng) == (0, 0, 1, 1)


def test_pillow_scales_multi_scale_crops():
    clip = render_train_clip(
        lambda t, s: noise(t, s, s),
        ClipJob("made", ClipSpec(2, 32, crop="multi_scale", interpolation="antialiased_bilinear"), (9,)),
    )
    top, left, h, w = multi_scale_box(32, 32, 32, np.random.default_rng(9))
    part = Image.fromarray(noise(1, 32, 32)[0, :, top : top + h, left : left + w].transpose(1, 2, 0))
    expected = np.asarray(part.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert all(np.array_equal(frame, expected) for frame in clip)


def test_rand_augment_draws_once_for_all_frames_and_leaves_other_generators_alone():
    frames = noise(3, 40, 48)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    changed = [augment_frames(frames, POLICY, seed) for seed in range(60)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    for clip in changed:
        assert (clip.dtype, clip.shape) == (np.uint8, frames.shape)
        assert all(np.array_equal(frame, clip[0]) for frame in clip)
    # Four operations, each with probability 1/2: 1 in 16 clips stays as it is, and some operations change nothing.
    assert 42 <= sum(not np.array_equal(clip, frames) for clip in changed) <= 60
    assert np.array_equal(augment_frames(frames, POLICY, 7), changed[7])
    different = frames.copy()
    different[1] = 255 - different[1]
    assert np.array_equal(augment_frames(different, POLICY, 8)[0], changed[8][0]), "a frame does not change another"


def test_rand_augment_is_that_of_timm():
    package = importlib.util.find_spec("timm").submodule_search_locations[0]
    file = Path(package, "data", "auto_augment.py")  # importing it as a part of timm takes seconds
    spec = importlib.util.spec_from_file_location("auto_augment_of_timm", file)
    timm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(timm)

    frame = noise(1, 40, 48)
    picture = Image.fromarray(frame[0].transpose(1, 2, 0))
    theirs = timm.rand_augment_transform(POLICY, {"interpolation": Image.Resampling.BICUBIC})
    for seed in range(20):
        random.seed(seed)
        np.random.seed(seed)
        expected = np.asarray(theirs(picture)).transpose(2, 0, 1)
        assert np.array_equal(augment_frames(frame, POLICY, seed)[0], expected)


@pytest.mark.parametrize("policy", ["rand-m10-n6-p1.0-inc1", "v0", "original"])
def test_no_draw_of_a_policy_fails(policy: str):
    """Pillow 13 refuses to keep 0 bits of each colour, which timm asks it for at magnitude 10."""
    for seed in range(60):
        augment_frames(noise(1, 12, 12), policy, seed)


def test_decoding_processes_need_no_torch_for_rand_augment():
    program = (
        "import sys, numpy; from vmr.data.training.rand_augment import augment_frames;"
        f"augment_frames(numpy.zeros((1, 3, 8, 8), numpy.uint8), '{POLICY}', 0);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_rand_augment_comes_before_the_crop_and_two_clips_are_made_of_the_same_frames():
    spec = ClipSpec(2, 24, crop="center", rand_augment=POLICY, num_augmented=2)
    plain = noise(2, 24, 24)
    clips = render_train_clip(lambda t, s: plain, ClipJob("made", spec, (3,), may_flip=True))
    rng = np.random.default_rng(3)
    rng.integers([0, 1], [1, 2])  # the frames are drawn first
    for clip in (clips[:2], clips[2:]):
        rng_seed = int(rng.integers(2**32))
        assert np.array_equal(clip, random_flip(augment_frames(plain, POLICY, rng_seed), rng))


def test_pictures_are_changed_after_the_crop_and_filled_with_the_mean_colour():
    spec = ClipSpec(1, 24, crop_scale=(0.2, 0.5), rand_augment=POLICY)
    seen = set()
    for seed in range(30):
        (clip,) = render_train_clip(lambda t, s: noise(1, s, s), ClipJob("made", spec, (seed,), True, still=True))
        rng = np.random.default_rng(seed)
        rng.integers([0], [1])
        top, left, height, width = random_box(24, 24, rng, (0.2, 0.5))
        part = random_flip(resize_clip(noise(1, 24, 24)[:, :, top : top + height, left : left + width], 24), rng)
        expected = augment_frames(part, POLICY, int(rng.integers(2**32)), MEAN_COLOR)
        assert np.array_equal(clip, expected[0])
        seen |= set(map(tuple, clip.reshape(3, -1).T.tolist()))
    assert MEAN_COLOR in seen


@pytest.mark.parametrize("rule", ["sparse", "segments"])
def test_frames_are_drawn_as_upstream_draws_them(tmp_path, rule: str):
    path = str(write_video(tmp_path / "a.mp4", Recipe(num_frames=23, options={"preset": "ultrafast", "bf": "0"})))
    spec = ClipSpec(4, 96, sampling=rule, crop="stretch")
    drawn = np.array(
        [[number_of(frame) for frame in read_train_clip(ClipJob(path, spec, (seed,)))] for seed in range(60)]
    )
    # s = 22 / 4 = 5.5: round(5.5 i) is 0, 6, 11, 16, 22 with halves to even; d = 23 // 4 = 5
    ranges = {"sparse": [(0, 6), (6, 11), (11, 16), (16, 22)], "segments": [(0, 4), (5, 9), (10, 14), (15, 19)]}[rule]
    for place, (low, high) in enumerate(ranges):
        assert set(drawn[:, place]) == set(range(low, high + 1))
    short = ClipSpec(8, 96, sampling=rule, crop="stretch")
    write_video(tmp_path / "b.mp4", Recipe(num_frames=3, options={"preset": "ultrafast", "bf": "0"}))
    numbers = [number_of(frame) for frame in read_train_clip(ClipJob(str(tmp_path / "b.mp4"), short, (0,)))]
    assert numbers == sorted(numbers) if rule == "sparse" else numbers == [0] * 8


@pytest.mark.parametrize(
    "values",
    [
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.5, 0.4)},
        {"crop_scale": (0.5, 1.1)},
        {"interpolation": "nearest"},
        {"rand_augment": "rand-m7-q3"},
        {"rand_augment": "augmix"},
        {"num_augmented": 0},
        {"repeats": 0},
        {"sampling": "sparser"},
    ],
)
def test_a_spec_that_makes_no_sense_is_one_line(values: dict):
    with pytest.raises(VmrError) as error:
        replace(ClipSpec(4, 96), **values)
    assert "\n" not in str(error.value)


def test_repeats_of_an_order():
    assert repeated(np.arange(7), 3).tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert repeated(np.arange(4), 1).tolist() == [0, 1, 2, 3]


def test_erased_rectangles_have_the_sizes_and_the_places_of_upstream():
    rng = np.random.default_rng(0)
    drawn = [random_rectangle(200, 200, rng) for _ in range(3000)]
    top, left, height, width = np.array([box for box in drawn if box is not None], float).T
    assert len(top) == 3000
    share = height * width / 200**2
    assert 0.018 < share.min() < 0.03
    assert 0.32 < share.max() < 0.34
    assert share.mean() == pytest.approx(0.175, abs=0.01)
    assert 0.29 < (height / width).min() < 0.35
    assert 3 < (height / width).max() < 3.4
    assert np.log(height / width).mean() == pytest.approx(0, abs=0.05)
    assert (top / (200 - height)).mean() == pytest.approx(0.5, abs=0.03)
    assert (left / (200 - width)).mean() == pytest.approx(0.5, abs=0.03)
    assert random_rectangle(1, 1, rng) is None


def test_one_clip_in_four_is_erased_by_noise_in_the_same_place_of_all_frames():
    video = torch.full((400, 3, 3, 12, 12), 7.0)
    erased = erase_randomly(video.clone(), 0.25, np.random.default_rng(1))
    changed = erased != video
    assert 70 < int(changed.flatten(1).any(1).sum()) < 130  # 100 +- 9
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0, 0], changed[:, 0, 2]), "of all colours"
    values = erased[changed]
    assert float(values.mean()) == pytest.approx(0, abs=0.05)
    assert float(values.std()) == pytest.approx(1, abs=0.05)
    first = int(changed.flatten(1).any(1).nonzero()[0])
    assert not torch.equal(erased[first, 0][changed[first, 0]], erased[first, 1][changed[first, 1]]), "fresh noise"
    assert torch.equal(erase_randomly(video.clone(), 0.25, np.random.default_rng(1)), erased)
    assert torch.equal(erase_randomly(video.clone(), 0.0, np.random.default_rng(1)), video)
