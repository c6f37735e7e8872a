"""Which patches the student sees: how many, where, and in which order they were drawn."""

import pytest
import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.masks import MaskKind, draw_mask, select_visible

SHAPE = (2, 3, 10)  # B, T, N


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(kind: MaskKind, ratio: float, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    attention = torch.rand(shape[0] * shape[1], shape[2], generator=seeded(7))
    mask = draw_mask(kind, ratio, shape, attention=attention, generator=seeded(seed))
    assert mask is not None
    return mask


@pytest.mark.parametrize("kind", ["attention", "tube", "random"])
@pytest.mark.parametrize(
    ("ratio", "patches", "kept"),
    # 196 * 0.8 = 156.8 -> 156 dropped; 196 * 0.5 = 98; 10 * 0.99 = 9.9 -> 9
    [(0.8, 196, 40), (0.5, 196, 98), (0.99, 10, 1), (0.0, 10, 10)],
)
def test_every_frame_keeps_as_many(kind: MaskKind, ratio: float, patches: int, kept: int) -> None:
    mask = draw(kind, ratio, (2, 3, patches))
    assert mask.dtype == torch.bool and mask.shape == (2, 1 + 3 * patches)
    assert not mask[:, 0].any()
    assert ((~mask[:, 1:]).view(2, 3, patches).sum(-1) == kept).all()


def test_a_tube_is_the_same_in_every_frame_and_only_a_tube_is() -> None:
    tube, random = (draw(kind, 0.5)[:, 1:].view(SHAPE) for kind in ("tube", "random"))
    assert torch.equal(tube, tube[:, :1].expand(SHAPE))
    assert not torch.equal(tube[0], tube[1])
    assert not torch.equal(random, random[:, :1].expand(SHAPE))


def test_importance_by_hand() -> None:
    """2 videos of 2 frames of 4 patches, half dropped: the first two of each row are kept."""
    importance = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3], [2, 3, 1, 0], [1, 2, 3, 0]])
    mask = draw_mask("attention", 0.5, (2, 2, 4), importance=importance)
    assert mask is not None
    assert mask.int().tolist() == [[0, 1, 0, 1, 0, 0, 0, 1, 1], [0, 1, 1, 0, 0, 1, 0, 0, 1]]


def test_patches_are_drawn_in_proportion_to_their_attention() -> None:
    """One of two patches is kept; they have 3/4 and 1/4 of the attention, of rows that do not sum to 1."""
    attention = torch.tensor([[0.3, 0.1]]).expand(4000, 2)
    mask = draw_mask("attention", 0.5, (4000, 1, 2), attention=attention, generator=seeded())
    assert mask is not None
    assert (~mask[:, 1]).float().mean().item() == pytest.approx(0.75, abs=0.03)  # 4 standard deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_zero_is_drawn_last_and_evenly(dtype: torch.dtype) -> None:
    attention = torch.zeros(2000, 4, dtype=dtype)
    attention[:1000, 2] = 0.5  # 1000 frames look at patch 2 only, 1000 at nothing
    mask = draw_mask("attention", 0.5, (2000, 1, 4), attention=attention, generator=seeded())
    assert mask is not None
    kept = (~mask[:, 1:]).float()
    assert kept[:1000, 2].all()  # and one of the three others: 1/3 each; of four equals two: 1/2 each
    torch.testing.assert_close(kept[:1000].mean(0)[[0, 1, 3]], torch.full((3,), 1 / 3), atol=0.07, rtol=0)
    torch.testing.assert_close(kept[1000:].mean(0), torch.full((4,), 0.5), atol=0.07, rtol=0)


@pytest.mark.parametrize("kind", ["attention", "tube", "random"])
def test_the_generator_decides(kind: MaskKind) -> None:
    assert torch.equal(draw(kind, 0.5), draw(kind, 0.5))
    assert not torch.equal(draw(kind, 0.5), draw(kind, 0.5, seed=1))


def test_none_masks_nothing() -> None:
    assert draw_mask("none", 0.8, SHAPE) is None


def test_select_visible_by_hand() -> None:
    """Features that name their position: video b, token n of layer k is 100 k + 10 b + n."""
    k, b, n = torch.meshgrid(torch.arange(2), torch.arange(2), torch.arange(5), indexing="ij")
    features = (100 * k + 10 * b + n).float().unsqueeze(-1)  # (2, 2, 5, 1)
    mask = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 1, 0]], dtype=torch.bool)
    visible = select_visible(features, mask)
    assert visible.squeeze(-1).tolist() == [[[0, 2, 3], [10, 11, 14]], [[100, 102, 103], [110, 111, 114]]]
    assert torch.equal(select_visible(features, torch.zeros_like(mask)), features)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    features = torch.zeros(1, 2, 5, 3)
    with pytest.raises(ModelError, match=r"must be bool \(2, 5\)"):
        select_visible(features, torch.zeros(2, 4, dtype=torch.bool))
    uneven = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    with pytest.raises(ModelError, match="every sample must drop the same number"):
        select_visible(features, uneven)


@pytest.mark.parametrize(
    ("kind", "ratio", "attention", "line"),
    [
        ("tub", 0.5, None, "mask kind is 'tub'; use one of attention, tube, random, none"),  # upstream took it as tube
        ("tube", 1.0, None, "mask ratio is 1.0; it must be at least 0 and below 1"),
        ("random", -0.1, None, "mask ratio is -0.1"),
        ("attention", 0.5, None, "needs the teacher's attention"),
        ("attention", 0.5, torch.ones(6, 9), r"looked at \(6, 9\) patches, not \(2, 3, 10\)"),
    ],
)
def test_wrong_requests_get_one_line(kind: MaskKind, ratio: float, attention: Tensor | None, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        draw_mask(kind, ratio, SHAPE, attention=attention)
