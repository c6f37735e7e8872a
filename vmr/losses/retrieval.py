"""The four losses of video-text training, as functions of tensors.

VTC (`contrastive_loss`), VTM (`matching_loss`), MLM (`masked_lm_loss`) and UTA (`alignment_loss`) of Li et al. 2023,
"Unmasked Teacher: Towards Training-Efficient Video Foundation Models", as upstream's released models were trained with
them. Scores and losses are float32, under autocast too.

Shapes: B videos and as many texts, T frames, D embedding width, L text tokens, V vocabulary; K teacher layers, N
tokens, C teacher width.
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from vmr.errors import VmrError

Gather = Literal["exact", "upstream"]
AlignmentNorm = Literal["l2", "none"]
AlignmentKind = Literal["l2", "mse", "smooth_l1"]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5
IGNORED = -100  # label of rows that are ignored, the default of torch's cross-entropy


def similarity(video: Tensor, text: Tensor, temperature: Tensor | float) -> Tensor:
    """Score every video with every text: the mean over frames of cosine / temperature.

    Args:
        video: (B, T, D) or (B, D), not normalised.
        text: (B', D), not normalised.
        temperature: divides the cosines; above 0.

    Returns:
        float32 (B, B').
    """
    return _scores(_video_rows(video), _text_rows(text), temperature)


def match_targets(ids: Tensor) -> Tensor:
    """Compute the target distribution of each row of scores: equal shares for the columns with the row's own id.

    Args:
        ids: integers (B,), equal for rows that belong together.

    Returns:
        float32 (B, B), rows sum to 1; the identity where all ids differ.
    """
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def contrastive_loss(
    video: Tensor, text: Tensor, temperature: Tensor | float, ids: Tensor | None = None, *, gather: Gather = "exact"
) -> Tensor:
    """Compute VTC: the mean of the cross-entropies from video to text and from text to video.

    Where `torch.distributed` runs on several processes, the loss is that of all their rows together, and is the same
    number in each. Every process must then call this function, with the same number of rows.

    Args:
        video: (B, T, D) or (B, D), not normalised.
        text: (B, D), not normalised; row i belongs to video i.
        temperature: divides the scores; above 0.
        ids: integers (B,): rows with equal ids match one another, in all data sets and processes. None: each row
            matches only itself.
        gather: how gradients are scaled on several processes, if they are averaged over processes afterwards, as
            DistributedDataParallel does. `exact` gives the gradients that one process with the whole batch would have.
            `upstream` gives the encoders these gradients divided by the number of processes, and the temperature the
            full ones, as upstream's AllGather does.

    Returns:
        A float32 scalar.

    Raises:
        VmrError: the processes have different numbers of rows.
    """
    video_rows, text_rows = _video_rows(video), _text_rows(text)  # (B, D), which is less to send than all frames
    if ids is None:
        ids = torch.arange(len(video_rows), device=video_rows.device) + _rank() * len(video_rows)
    if _num_processes() > 1:
        _check_equal_rows(video_rows)
        # Every process computes the same loss. The backward pass of a gather would sum its gradient over the processes,
        # which is therefore a multiplication by their number.
        gradient_scale = float(_num_processes()) if gather == "exact" else 1.0
        video_rows = _GatherRows.apply(video_rows, gradient_scale)
        text_rows = _GatherRows.apply(text_rows, gradient_scale)
        ids = _all_rows(ids)
    scores = _scores(video_rows, text_rows, temperature)  # (B, B) of all processes' rows
    targets = match_targets(ids)
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2


@torch.no_grad()
def negative_weights(scores: Tensor, ids: Tensor, random_share: float = 0.0) -> Tensor:
    """Compute the probability with which each column is drawn as a row's negative.

    It is the softmax over the columns with other ids. Upstream takes the softmax over all columns and then drops the
    positives. That gives the same distribution, except if a positive has a much higher score: then only zeros remain.

    Args:
        scores: (B, B), higher for negatives that are harder.
        ids: integers (B,), equal for rows that belong together.
        random_share: the share of negatives, in [0, 1], that are drawn evenly among the columns with other ids.

    Returns:
        float32 (B, B), rows sum to 1; a row without any negative is zero.
    """
    positive = ids[:, None] == ids[None, :]
    hard = scores.float().masked_fill(positive, -torch.inf).softmax(dim=1)
    even = 1 / (~positive).sum(dim=1, keepdim=True)
    weights = hard if random_share == 0 else hard.lerp(even.expand_as(hard), random_share)
    return weights.masked_fill(positive, 0.0)  # also replaces the NaN of rows without a negative


class Negatives(NamedTuple):
    """One negative for each row of a batch.

    Attributes:
        indices: int64 (B,); a row's own index where it has no negative.
        valid: bool (B,), False where the row has no negative.
    """

    indices: Tensor
    valid: Tensor


@torch.no_grad()
def sample_negatives(weights: Tensor, generator: torch.Generator | None = None) -> Negatives:
    """Draw a hard negative for each row.

    Negative texts for videos are drawn with the weights of scores (video x text), negative videos for texts with the
    weights of the transposed scores.

    Args:
        weights: (B, B), as returned by `negative_weights`.
        generator: source of randomness, on the device of `weights`; default, torch's global one.

    Returns:
        The index of a negative for each row, and which rows have one.
    """
    valid = weights.sum(dim=1) > 0
    itself = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    drawable = torch.where(valid[:, None], weights, itself)
    return Negatives(torch.multinomial(drawable, 1, generator=generator)[:, 0], valid)


def matching_loss(logits: Tensor, valid: Tensor) -> Tensor:
    """Compute VTM: the mean cross-entropy of telling pairs that belong together from pairs that do not.

    Args:
        logits: (3B, 2), column 1 for "they belong together". First the B true pairs, then B pairs of a negative video
            and the text, then B pairs of the video and a negative text.
        valid: bool (B,), as returned by `sample_negatives`, the same for both kinds of negatives; pairs without a
            negative are ignored.

    Returns:
        A float32 scalar.
    """
    negative = torch.zeros_like(valid, dtype=torch.int64).masked_fill(~valid, IGNORED)
    labels = torch.cat([torch.ones_like(negative), negative, negative])
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


class TokenDraws(NamedTuple):
    """The random draws of `mask_tokens`, each of shape (B, L).

    Attributes:
        masked: bool, whether the token is to be predicted, unless it is PAD or CLS.
        replaced: bool, whether a token to be predicted is shown as the mask token.
        rand_select: bool, whether a token that is not replaced is shown as a random word; if false, it is shown
            unchanged.
        words: int64 in [0, V), the random words.
    """

    masked: Tensor
    replaced: Tensor
    rand_select: Tensor
    words: Tensor


def draw_tokens(
    input_ids: Tensor, vocab_size: int, probability: float, generator: torch.Generator | None = None
) -> TokenDraws:
    """Make the random draws of `mask_tokens`.

    Of the tokens to be predicted, 80% are replaced by the mask token, 10% by a random word, and 10% stay unchanged.

    Args:
        input_ids: int64 (B, L); only its shape and device count.
        vocab_size: V.
        probability: of being predicted, for each token, in [0, 1].
        generator: source of randomness, on the device of `input_ids`; default, torch's global one.

    Returns:
        The draws.
    """

    def happens(chance: float) -> Tensor:
        return torch.rand(input_ids.shape, generator=generator, device=input_ids.device) < chance

    words = torch.randint(vocab_size, input_ids.shape, generator=generator, device=input_ids.device)
    return TokenDraws(happens(probability), happens(0.8), happens(0.5), words)


def mask_tokens(
    input_ids: Tensor,
    vocab_size: int,
    *,
    pad_id: int,
    cls_id: int,
    mask_id: int,
    probability: float = 0.5,
    generator: torch.Generator | None = None,
    draws: TokenDraws | None = None,
) -> tuple[Tensor, Tensor]:
    """Hide tokens for MLM to predict: BERT's rule (Devlin et al. 2019, section 3.1) with upstream's probability.

    PAD and CLS are never hidden; SEP may be, as in upstream.

    Args:
        input_ids: int64 (B, L); does not change.
        vocab_size: V; random words are below it.
        pad_id: id of the padding token.
        cls_id: id of the [CLS] token.
        mask_id: id of the [MASK] token.
        probability: of being hidden, for each token, in [0, 1].
        generator: source of randomness, on the device of `input_ids`; default, torch's global one.
        draws: used instead of new draws.

    Returns:
        The ids to show (B, L), and the labels (B, L): the true ids where hidden, -100 elsewhere.
    """
    if draws is None:
        draws = draw_tokens(input_ids, vocab_size, probability, generator)
    masked = draws.masked & (input_ids != pad_id) & (input_ids != cls_id)
    shown = input_ids.masked_fill(masked & draws.replaced, mask_id)
    shown = torch.where(masked & ~draws.replaced & draws.rand_select, draws.words, shown)
    return shown, input_ids.masked_fill(~masked, IGNORED)


def masked_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute MLM: the mean cross-entropy over the hidden tokens.

    Args:
        logits: (..., V).
        labels: int64 (...), -100 where the token is not hidden.

    Returns:
        A float32 scalar; 0 with gradients of 0 where nothing is hidden.
    """
    total = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def alignment_loss(student: Tensor, teacher: Tensor, norm: AlignmentNorm = "l2", kind: AlignmentKind = "l2") -> Tensor:
    """Compute UTA: the distance of the student's visible tokens from a frozen teacher's.

    Args:
        student: (K, B, N, C).
        teacher: (K, B, N, C).
        norm: `l2` first scales both to unit vectors; `none` does not.
        kind: `l2` is the mean of 2 - 2 cosine and needs the norm `l2`; `mse` and `smooth_l1` are means over all
            channels.

    Returns:
        A float32 scalar.

    Raises:
        VmrError: the kind is `l2` and the norm is `none`.
    """
    student, teacher = student.float(), teacher.float()
    if norm == "l2":
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    if kind == "mse":
        return F.mse_loss(student, teacher)
    if kind == "smooth_l1":
        return F.smooth_l1_loss(student, teacher)
    if norm == "none":
        raise VmrError("alignment loss of kind l2 needs norm l2; use kind mse or smooth_l1 without a norm")
    return (2 - 2 * (student * teacher).sum(dim=-1)).mean()


@torch.no_grad()
def clamp_temperature(temperature: Tensor) -> None:
    """Clamp a trained temperature to [0.001, 0.5] in place; upstream does so at every forward pass.

    Args:
        temperature: a scalar.
    """
    temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)


def _video_rows(video: Tensor) -> Tensor:
    """(B, T, D) or (B, D) -> (B, D), the mean of the frames' unit vectors, which is not scaled to length 1.

    Its product with a text is then the mean of the frames' products.
    """
    rows = F.normalize(video.float(), dim=-1)
    return rows.mean(dim=1) if rows.dim() == 3 else rows


def _text_rows(text: Tensor) -> Tensor:
    return F.normalize(text.float(), dim=-1)


def _scores(video_rows: Tensor, text_rows: Tensor, temperature: Tensor | float) -> Tensor:
    with torch.autocast(video_rows.device.type, enabled=False):
        return video_rows @ text_rows.T / temperature


class _GatherRows(torch.autograd.Function):
    """All processes' rows, in rank order. The backward pass returns the gradient of its own rows, times a scale."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gradient_scale: float) -> Tensor:
        ctx.num_rows, ctx.gradient_scale = len(rows), gradient_scale
        return _all_rows(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.narrow(0, _rank() * ctx.num_rows, ctx.num_rows)
        return own * ctx.gradient_scale, None


def _all_rows(rows: Tensor) -> Tensor:
    rows = rows.contiguous()
    gathered = [torch.empty_like(rows) for _ in range(_num_processes())]
    dist.all_gather(gathered, rows)
    return torch.cat(gathered)


def _check_equal_rows(rows: Tensor) -> None:
    counts = _all_rows(torch.tensor([len(rows)], device=rows.device)).tolist()
    if len(set(counts)) > 1:
        raise VmrError(f"processes have batches of {counts} rows; drop the last, incomplete batch of each epoch")


def _num_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _num_processes() > 1 else 0
