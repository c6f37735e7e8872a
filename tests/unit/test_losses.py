"""Each loss against numbers worked by hand, and extreme cases: one pair, no negatives, nothing hidden."""

import math

import pytest
import torch
from torch import Tensor, nn

from vmr.errors import VmrError
from vmr.losses import (
    TokenDraws,
    alignment_loss,
    clamp_temperature,
    contrastive_loss,
    draw_tokens,
    mask_tokens,
    masked_lm_loss,
    match_targets,
    matching_loss,
    negative_weights,
    sample_negatives,
    similarity,
)

LN2, LN3 = math.log(2), math.log(3)
PAD, CLS, SEP, MASK = 0, 101, 102, 103


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hide(input_ids: Tensor, **options) -> tuple[Tensor, Tensor]:
    return mask_tokens(input_ids, 1000, pad_id=PAD, cls_id=CLS, mask_id=MASK, **options)


def draws_like(input_ids: Tensor, masked: bool) -> TokenDraws:
    nothing = torch.zeros_like(input_ids)
    return TokenDraws(torch.full_like(input_ids, masked, dtype=torch.bool), nothing.bool(), nothing.bool(), nothing)


def test_similarity_by_hand():
    video = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])  # unit vectors (0.6, 0.8) and (0, 1)
    text = torch.tensor([[5.0, 0.0], [0.0, 7.0]])
    # with text 0: (0.6 + 0) / 2 = 0.3; with text 1: (0.8 + 1) / 2 = 0.9; the unit vector of the mean would give 0.316
    assert similarity(video, text, 0.5)[0].tolist() == pytest.approx([0.6, 1.8])
    assert similarity(video[:, 0], text, 1.0)[0].tolist() == pytest.approx([0.6, 0.8])


def test_similarity_is_float32_under_autocast():
    video, text = torch.randn(3, 4, 64, generator=generator()), torch.randn(5, 64, generator=generator(1))
    exact = similarity(video, text, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(similarity(video, text, torch.tensor(0.07)), exact)
        halves = similarity(video.bfloat16(), text.bfloat16(), 0.07)
    assert halves.dtype == torch.float32 and halves.shape == (3, 5)


def test_targets_by_hand():
    assert match_targets(torch.tensor([5, 7, 5])).tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]
    assert match_targets(torch.tensor([1, 2])).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        # scores [[ln 3, 0], [0, ln 3]]: -ln(3/4) in every row and column
        ([[1.0, 0.0], [0.0, 1.0]], None, math.log(4 / 3)),
        ([[1.0, 0.0], [0.0, 1.0]], [8, 9], math.log(4 / 3)),
        # the same with half of the mass on each: (-ln(3/4) - ln(1/4)) / 2
        ([[1.0, 0.0], [0.0, 1.0]], [8, 8], math.log(16 / 3) / 2),
        # scores [[ln 3, ln 3], [0, 0]]: ln 2 for every row; columns -ln(3/4) and -ln(1/4)
        ([[1.0, 0.0], [1.0, 0.0]], None, (LN2 + math.log(16 / 3) / 2) / 2),
    ],
)
def test_contrastive_loss_by_hand(text: list, ids: list | None, expected: float):
    loss = contrastive_loss(2 * torch.eye(2), torch.tensor(text), 1 / LN3, None if ids is None else torch.tensor(ids))
    assert loss.item() == pytest.approx(expected)


def test_contrastive_loss_averages_frames():
    video, text = torch.randn(4, 3, 8, generator=generator()), torch.randn(4, 8, generator=generator(1))
    scores = torch.stack([similarity(video[:, frame], text, 0.07) for frame in range(3)]).mean(0)
    rows, columns = scores.log_softmax(1).diagonal(), scores.log_softmax(0).diagonal()
    assert contrastive_loss(video, text, 0.07).item() == pytest.approx(-(rows + columns).mean().item() / 2)


def test_negative_weights_by_hand():
    scores = torch.tensor([[9.0, LN3, 0.0], [0.0, 5.0, LN3], [1.0, 2.0, 3.0]], requires_grad=True)
    weights = negative_weights(scores, torch.tensor([0, 1, 2]))
    assert weights[:2].flatten().tolist() == pytest.approx([0, 0.75, 0.25, 0.25, 0, 0.75])
    shared = negative_weights(scores, torch.tensor([5, 7, 5]))  # rows 0 and 2 have only column 1 left
    assert shared.flatten().tolist() == pytest.approx([0, 1, 0, 0.25, 0, 0.75, 0, 1, 0])
    assert not shared.requires_grad
    mixed = negative_weights(scores, torch.tensor([0, 1, 2]), 0.5)  # half of each row is spread evenly over two columns
    assert torch.allclose(mixed, weights / 2 + (1 - torch.eye(3)) / 4)
    assert torch.equal(negative_weights(scores, torch.tensor([5, 7, 5]), 1.0)[[0, 2]], shared[[0, 2]])
    assert negative_weights(scores.bfloat16(), torch.tensor([0, 1, 2])).dtype == torch.float32


def test_a_positive_far_ahead_leaves_negatives():
    scores = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1000.0, 0.0], [0.0, 0.0, 1000.0]])  # as at temperature 0.001
    assert negative_weights(scores, torch.arange(3))[0].tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("ids", [[3], [4, 4, 4]])
def test_nothing_to_contrast_with(ids: list):
    weights = negative_weights(torch.randn(len(ids), len(ids), generator=generator()), torch.tensor(ids))
    assert weights.count_nonzero() == 0
    negatives = sample_negatives(weights)
    assert negatives.indices.tolist() == list(range(len(ids)))
    assert negatives.valid.tolist() == [False] * len(ids)


def test_negatives_are_drawn_by_weight():
    weights = torch.zeros(1000, 1000)
    weights[:, 1], weights[:, 2] = 0.75, 0.25
    indices, valid = sample_negatives(weights, generator())
    assert indices.shape == (1000,) and valid.all()
    assert torch.bincount(indices).tolist() == pytest.approx([0, 750, 250], abs=55)  # four standard deviations
    assert torch.equal(indices, sample_negatives(weights, generator()).indices)


def test_only_rows_without_negatives_are_invalid():
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    indices, valid = sample_negatives(weights)
    assert (indices.tolist(), valid.tolist()) == ([1, 1, 0], [True, False, True])


def test_matching_loss_by_hand():
    logits = torch.zeros(6, 2)  # pairs 0, 1; negative videos 2, 3; negative texts 4, 5
    logits[0, 1] = logits[2, 1] = LN3
    logits[3] = logits[5] = torch.tensor([-1e4, 1e4])
    logits.requires_grad_()
    # -ln(3/4) for row 0, ln 2 for rows 1 and 4, -ln(1/4) for row 2; rows 3 and 5 have no negative
    loss = matching_loss(logits, torch.tensor([True, False]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + 2 * LN2 + math.log(4)) / 4)
    loss.backward()
    assert logits.grad.abs().sum(1).gt(0).tolist() == [True, True, True, False, True, False]
    assert matching_loss(logits, torch.tensor([False, False])).item() == pytest.approx((math.log(4 / 3) + LN2) / 2)


def test_hidden_tokens_by_hand():
    input_ids = torch.tensor([[CLS, 7, 8, 9, 10, SEP, PAD]])
    draws = TokenDraws(
        masked=torch.tensor([[True, True, True, True, False, True, True]]),
        replaced=torch.tensor([[True, True, False, False, True, True, True]]),
        rand_select=torch.tensor([[True, True, True, False, True, False, True]]),
        words=torch.tensor([[11, 12, 13, 14, 15, 16, 17]]),
    )
    shown, labels = hide(input_ids, draws=draws)
    assert shown.tolist() == [[CLS, MASK, 13, 9, 10, MASK, PAD]]  # 8 became a random word, 9 is hidden in plain sight
    assert labels.tolist() == [[-100, 7, 8, 9, -100, SEP, -100]]
    assert input_ids.tolist() == [[CLS, 7, 8, 9, 10, SEP, PAD]]


def test_how_often_tokens_are_hidden():
    input_ids = torch.full((100, 100), 999)
    shown, labels = hide(input_ids, probability=0.4, generator=generator())
    hidden = labels == 999
    assert hidden.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert torch.equal(shown[~hidden], input_ids[~hidden])
    assert (shown[hidden] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (shown[hidden] == 999).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert shown.min() >= 0 and shown.max() < 1000
    again = hide(input_ids, probability=0.4, generator=generator())
    assert torch.equal(again[0], shown) and torch.equal(again[1], labels)
    assert hide(input_ids, generator=generator())[1].ne(-100).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_draws_are_made_where_the_tokens_are():
    draws = draw_tokens(torch.empty(2, 5, dtype=torch.int64, device="meta"), 1000, 0.5)
    assert [(draw.device.type, draw.shape) for draw in draws] == [("meta", (2, 5))] * 4


def test_nothing_to_hide():
    only_cls = torch.tensor([[CLS, PAD, PAD], [CLS, PAD, PAD]])
    for input_ids, masked in ((only_cls, True), (torch.tensor([[CLS, 7, SEP]]), False)):
        shown, labels = hide(input_ids, draws=draws_like(input_ids, masked))
        assert torch.equal(shown, input_ids) and bool((labels == -100).all())


def test_masked_lm_loss_by_hand():
    logits = torch.tensor([[[0.0, LN3], [5.0, 1.0]], [[LN3, 0.0], [0.0, 0.0]]])
    labels = torch.tensor([[1, -100], [1, 0]])  # -ln(3/4), -ln(1/4) and ln 2
    expected = (math.log(4 / 3) + math.log(4) + LN2) / 3
    assert masked_lm_loss(logits, labels).item() == pytest.approx(expected)
    assert masked_lm_loss(logits[labels != -100], labels[labels != -100]).item() == pytest.approx(expected)


def test_one_hidden_token_counts_in_full():
    logits, labels = torch.tensor([[LN3, 0.0], [5.0, 1.0]]), torch.tensor([1, -100])
    assert masked_lm_loss(logits, labels).item() == pytest.approx(math.log(4))  # -ln(1/4), divided by one token


@pytest.mark.parametrize("count", [3, 0])
def test_masked_lm_loss_of_nothing_is_a_zero_to_learn_from(count: int):
    logits = torch.randn(count, 5, requires_grad=True)
    loss = masked_lm_loss(logits, torch.full((count,), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(count, 5))


def test_alignment_loss_by_hand():
    student = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    teacher = torch.tensor([[0.0, 5.0], [1.0, 0.0]]).view(1, 1, 2, 2)  # the second token is right
    assert alignment_loss(student, teacher).item() == pytest.approx((2 - 2 * 0.8) / 2)
    assert alignment_loss(student, teacher, "none", "mse").item() == pytest.approx((3**2 + 1**2) / 4)
    # unit vectors differ by 0.6 and 0.2: half their squares
    assert alignment_loss(student, teacher, "l2", "smooth_l1").item() == pytest.approx((0.18 + 0.02) / 4)
    assert alignment_loss(student, teacher, "none", "smooth_l1").item() == pytest.approx((2.5 + 0.5) / 4)
    with pytest.raises(VmrError, match="needs norm l2"):
        alignment_loss(student, teacher, "none", "l2")


def test_alignment_is_a_mean_over_tokens_of_the_angle_between_channels():
    # 3 tokens of 2 channels, lengths 5 and 10, 2 and 2, 1 and 10: cosines 0.96, 0 and -1
    student = torch.tensor([[3.0, 4.0], [2.0, 0.0], [1.0, 0.0]]).view(1, 1, 3, 2)
    teacher = torch.tensor([[8.0, 6.0], [0.0, 2.0], [-10.0, 0.0]]).view(1, 1, 3, 2)
    assert alignment_loss(student, teacher).item() == pytest.approx((0.08 + 2 + 4) / 3)
    # unit vectors differ by (-0.2, 0.2), (1, -1) and (2, 0)
    assert alignment_loss(student, teacher, "l2", "mse").item() == pytest.approx((0.04 + 0.04 + 1 + 1 + 4) / 6)


def test_temperature_is_kept_in_range():
    temperature = nn.Parameter(torch.tensor(2.0))
    for value, expected in ((2.0, 0.5), (-1.0, 0.001), (0.07, 0.07)):
        temperature.data.fill_(value)
        clamp_temperature(temperature)
        assert temperature.item() == pytest.approx(expected)
    assert temperature.is_leaf and temperature.requires_grad


@pytest.mark.parametrize("ids", [[0], [2, 2, 2], [0, 1, 0]])
def test_gradients_are_finite_under_autocast(ids: list):
    """One training step on batches with few negatives or none."""
    torch.manual_seed(0)
    batch = len(ids)
    encoder, head, temperature = nn.Linear(6, 8), nn.Linear(16, 2), nn.Parameter(torch.tensor(0.07))
    with torch.autocast("cpu", torch.bfloat16):
        video, text = encoder(torch.randn(batch, 3, 6)), encoder(torch.randn(batch, 6))
        scores = similarity(video, text, temperature)
        texts = sample_negatives(negative_weights(scores, torch.tensor(ids)))
        videos = sample_negatives(negative_weights(scores.T, torch.tensor(ids)))
        pairs = [(video.mean(1), text), (video.mean(1)[videos.indices], text), (video.mean(1), text[texts.indices])]
        logits = head(torch.cat([torch.cat(pair, dim=1) for pair in pairs]))
        losses = [
            contrastive_loss(video, text, temperature, torch.tensor(ids)),
            matching_loss(logits, texts.valid),
            masked_lm_loss(head(torch.cat([text, text], dim=1)), torch.full((batch,), -100)),
            alignment_loss(video[None], torch.randn(1, batch, 3, 8)),
        ]
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)
    sum(losses).backward()
    parameters = [*encoder.parameters(), *head.parameters(), temperature]
    assert all(parameter.grad.isfinite().all() for parameter in parameters)
