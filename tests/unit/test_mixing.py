"""Mixup and cutmix against their definitions, and against timm, whose rule they follow."""

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup, rand_bbox
from torch.nn import functional

from vmr.losses import soft_cross_entropy, soft_targets, target_loss
from vmr.train.tasks.mixing import Mix, cut, draw_mix, mix_by, mix_pixels, mix_targets


def clips(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 3, 3, 10, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_the_rule_is_timms(cutmix):
    """With timm's own draws: the same pixels and the same targets, smoothing included."""
    labels = torch.tensor([0, 2, 2, 1])
    alphas = {"mixup_alpha": 0.0 if cutmix else 0.8, "cutmix_alpha": cutmix}
    for seed in range(5):
        np.random.seed(seed)
        pictures, targets = Mixup(**alphas, label_smoothing=0.1, num_classes=3)(clips()[:, 0].clone(), labels)
        np.random.seed(seed)
        assert np.random.rand() < 1  # timm asks first whether to mix at all
        share = np.random.beta(cutmix or 0.8, cutmix or 0.8)
        # The box is timm's own: newer ones are a pixel larger than those of upstream's time, where their size is odd.
        mix = mix_by(10, 12, rand_bbox((10, 12), share)) if cutmix else Mix(share)
        torch.testing.assert_close(mix_pixels(clips(), mix)[:, 0], pictures)
        torch.testing.assert_close(mix_targets(soft_targets(labels, 3, 0.1), mix), targets)


def test_one_box_is_cut_out_of_all_frames():
    video = clips()
    mix = cut(10, 12, 0.5, (5, 6))
    top, bottom, left, right = mix.box
    inside = torch.zeros(10, 12, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert inside.float().mean().item() == pytest.approx(1 - mix.share)
    assert torch.equal(mix_pixels(video, mix)[..., inside], video.flip(0)[..., inside])
    assert torch.equal(mix_pixels(video, mix)[..., ~inside], video[..., ~inside])


def test_a_box_stays_in_the_picture():
    mix = cut(10, 12, 0.2, (0, 11))
    top, bottom, left, right = mix.box
    assert (top, right) == (0, 12)
    assert mix.share == 1 - (bottom - top) * (right - left) / 120 > 0.2


def test_draws_follow_the_settings_and_the_generator():
    def draw(seed: int, **settings: float) -> Mix | None:
        return draw_mix(np.random.default_rng(seed), 10, 12, **{"mixup": 0.8, "cutmix": 1.0, "switch": 0.5, **settings})

    assert draw(0, mixup=0.0, cutmix=0.0) is None
    assert all(draw(seed, cutmix=0.0).box is None for seed in range(20))
    assert all(draw(seed, mixup=0.0).box is not None for seed in range(20))
    drawn = [draw(seed) for seed in range(400)]
    assert drawn == [draw(seed) for seed in range(400)]
    assert 150 < sum(mix.box is None for mix in drawn) < 250
    assert sum(draw(seed, switch=0.1).box is None for seed in range(400)) > 330


def test_the_loss_fits_the_target():
    outputs = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    by_hand = -(targets * outputs.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(target_loss(outputs, targets, "single"), by_hand)
    of_each = targets * functional.logsigmoid(outputs) + (1 - targets) * functional.logsigmoid(-outputs)
    torch.testing.assert_close(target_loss(outputs, targets, "multi"), -of_each.mean())
    torch.testing.assert_close(target_loss(outputs, targets, "regression"), ((outputs - targets) ** 2).mean())
    assert soft_cross_entropy(outputs.bfloat16(), targets).dtype == torch.float32
