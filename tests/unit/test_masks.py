"""Which patches the student sees: how many, where, and in which order they were drawn."""

import pytest
import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.masks import MaskKind, check_student_mask, draw_mask, select_visible
from vmr.models.videomamba.encoder import VideoMambaConfig

SHAPE = (2, 3, 2, 5)  # B, T, R, C


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(kind: MaskKind, ratio: float, shape: tuple[int, int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    attention = torch.rand(shape[0] * shape[1], shape[2] * shape[3], generator=seeded(7))
    mask = draw_mask(kind, ratio, shape, attention=attention, generator=seeded(seed))
    assert mask is not None
    return mask


@pytest.mark.parametrize("kind", ["attention", "tube", "random"])
@pytest.mark.parametrize(
    ("ratio", "grid", "kept"),
    # 196 * 0.8 = 156.8 -> 156 dropped; 196 * 0.5 = 98; 10 * 0.99 = 9.9 -> 9
    [(0.8, (14, 14), 40), (0.5, (14, 14), 98), (0.99, (2, 5), 1), (0.0, (2, 5), 10)],
)
def test_every_frame_keeps_as_many(kind: MaskKind, ratio: float, grid: tuple[int, int], kept: int) -> None:
    mask = draw(kind, ratio, (2, 3, *grid))
    assert mask.dtype == torch.bool and mask.shape == (2, 1 + 3 * grid[0] * grid[1])
    assert not mask[:, 0].any()
    assert ((~mask[:, 1:]).view(2, 3, -1).sum(-1) == kept).all()


@pytest.mark.parametrize(
    ("kind", "grid", "ratio", "dropped"),
    [
        # 8 * 14 * 14 = 1568; * 0.8 = 1254.4 of the clip, or 8 * 156 of the frames, or 8 * int(11.2) rows of 14
        ("clip_random", (8, 14, 14), 0.8, 1254),
        ("random", (8, 14, 14), 0.8, 1248),
        ("tube", (8, 14, 14), 0.8, 1248),
        ("attention", (8, 14, 14), 0.8, 1248),
        ("frame_row", (8, 14, 14), 0.8, 1232),
        ("clip_row", (8, 14, 14), 0.8, 1232),
        ("clip_row", (2, 3, 5), 0.5, 10),  # 2 * int(1.5) rows of 5
        ("frame_row", (2, 4, 5), 0.2, 0),  # int(0.8) rows
    ],
)
def test_every_clip_drops_as_many(kind: MaskKind, grid: tuple[int, int, int], ratio: float, dropped: int) -> None:
    assert draw(kind, ratio, (3, *grid)).sum(dim=1).tolist() == [dropped] * 3


def test_rows_are_dropped_whole_in_each_frame_or_in_the_clip() -> None:
    shape = (2, 6, 4, 5)
    by_frame, by_clip = (draw(kind, 0.5, shape)[:, 1:].view(shape) for kind in ("frame_row", "clip_row"))
    for rows in (by_frame, by_clip):
        assert torch.equal(rows, rows[..., :1].expand(shape))
        assert (rows[..., 0].sum(dim=(1, 2)) == 12).all()  # 6 * int(4 * 0.5) in each clip
    assert (by_frame[..., 0].sum(dim=2) == 2).all()
    assert (by_clip[..., 0].sum(dim=2) != 2).any()
    assert not torch.equal(by_frame[:, :1].expand(shape), by_frame)


def test_frames_of_a_clip_drawn_at_random_as_a_whole_differ_in_number() -> None:
    mask = draw("clip_random", 0.5, (2, 6, 4, 5))[:, 1:].view(2, 6, 20)
    assert (mask.sum(dim=2) != 10).any()


def test_a_tube_is_the_same_in_every_frame_and_only_a_tube_is() -> None:
    tube, random = (draw(kind, 0.5)[:, 1:].view(SHAPE) for kind in ("tube", "random"))
    assert torch.equal(tube, tube[:, :1].expand(SHAPE))
    assert not torch.equal(tube[0], tube[1])
    assert not torch.equal(random, random[:, :1].expand(SHAPE))


@pytest.mark.parametrize(
    ("kind", "order", "expected"),
    [  # 2 frames of 2 rows of 2 patches, half dropped: the units that stand first are kept
        ("attention", [[3, 1, 0, 2], [0, 1, 2, 3]], [0, 1, 0, 1, 0, 0, 0, 1, 1]),
        ("random", [[3, 1, 0, 2], [0, 1, 2, 3]], [0, 1, 0, 1, 0, 0, 0, 1, 1]),
        ("tube", [[3, 1, 0, 2]], [0, 1, 0, 1, 0, 1, 0, 1, 0]),
        ("clip_random", [[7, 0, 1, 2, 3, 4, 5, 6]], [0, 0, 0, 0, 1, 1, 1, 1, 0]),
        ("frame_row", [[1, 0], [0, 1]], [0, 1, 1, 0, 0, 0, 0, 1, 1]),
        ("clip_row", [[3, 2, 1, 0]], [0, 1, 1, 1, 1, 0, 0, 0, 0]),
    ],
)
def test_an_order_by_hand(kind: MaskKind, order: list[list[int]], expected: list[int]) -> None:
    mask = draw_mask(kind, 0.5, (1, 2, 2, 2), order=torch.tensor(order))
    assert mask is not None
    assert mask.int().tolist() == [expected]


def test_patches_are_drawn_in_proportion_to_their_attention() -> None:
    """One of two patches is kept; they have 3/4 and 1/4 of the attention, of rows that do not sum to 1."""
    attention = torch.tensor([[0.3, 0.1]]).expand(4000, 2)
    mask = draw_mask("attention", 0.5, (4000, 1, 1, 2), attention=attention, generator=seeded())
    assert mask is not None
    assert (~mask[:, 1]).float().mean().item() == pytest.approx(0.75, abs=0.03)  # 4 standard deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_zero_is_drawn_last_and_evenly(dtype: torch.dtype) -> None:
    attention = torch.zeros(2000, 4, dtype=dtype)
    attention[:1000, 2] = 0.5  # 1000 frames look at patch 2 only, 1000 at nothing
    mask = draw_mask("attention", 0.5, (2000, 1, 2, 2), attention=attention, generator=seeded())
    assert mask is not None
    kept = (~mask[:, 1:]).float()
    assert kept[:1000, 2].all()  # and one of the three others: 1/3 each; of four equals two: 1/2 each
    torch.testing.assert_close(kept[:1000].mean(0)[[0, 1, 3]], torch.full((3,), 1 / 3), atol=0.07, rtol=0)
    torch.testing.assert_close(kept[1000:].mean(0), torch.full((4,), 0.5), atol=0.07, rtol=0)


@pytest.mark.parametrize("kind", ["attention", "tube", "random", "clip_random", "frame_row", "clip_row"])
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
        (
            "tub",
            0.5,
            None,
            "mask kind is 'tub'; use one of attention, tube, random, clip_random, ",
        ),  # upstream: as tube
        ("tube", 1.0, None, "mask ratio is 1.0; it must be at least 0 and below 1"),
        ("random", -0.1, None, "mask ratio is -0.1"),
        ("attention", 0.5, None, "needs the teacher's attention"),
        ("attention", 0.5, torch.ones(6, 9), r"orders 6 x 10 units of \(2, 3, 2, 5\), but \(6, 9\) were given"),
    ],
)
def test_wrong_requests_get_one_line(kind: MaskKind, ratio: float, attention: Tensor | None, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        draw_mask(kind, ratio, SHAPE, attention=attention)


def test_frames_that_are_encoded_separately_must_keep_as_many() -> None:
    apart = VideoMambaConfig(across_time=False)
    check_student_mask("clip_row", VideoMambaConfig())
    check_student_mask("frame_row", apart)
    with pytest.raises(ModelError, match="'clip_row' keeps different numbers of patches in the frames of a clip"):
        check_student_mask("clip_row", apart)
