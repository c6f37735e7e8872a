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
IGNORED = -100  # label of what does not count, the default of torch's cross-entropy


def similarity(video: Tensor, text: Tensor, temperature: Tensor | float) -> Tensor:
    """Scores of every video with every text, the mean over frames of cosine / temperature.

    video (B, T, D) or (B, D) and text (B', D), neither normalised; returns float32 (B, B').
    """
    return _scores(_video_rows(video), _text_rows(text), temperature)


def match_targets(ids: Tensor) -> Tensor:
    """What each row of scores should be: the mass 1 shared among the columns of the row's own id.

    ids: integers (B,), equal for what belongs together. Returns float32 (B, B), the identity where all are different.
    """
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def contrastive_loss(
    video: Tensor, text: Tensor, temperature: Tensor | float, ids: Tensor | None = None, *, gather: Gather = "exact"
) -> Tensor:
    """VTC: the mean of the cross-entropies from video to text and from text to video.

    Where `torch.distributed` runs on several processes, the loss is that of all their rows together, the same number in
    each, and every process must call this with as many rows as the others.

    Args:
        video: (B, T, D) or (B, D), not normalised.
        text: (B, D), not normalised; row i belongs to video i.
        temperature: divides the scores.
        ids: integers (B,): rows of equal ids match one another, whatever data set or process they come from. None:
            each row matches itself alone.
        gather: what other processes' rows mean for gradients that are then averaged over processes, as
            DistributedDataParallel does. `exact` gives the gradients of one process with the whole batch. `upstream`
            gives the encoders 1 / processes of them, but the temperature all of it, as upstream's AllGather does.

    Raises:
        VmrError: the processes do not have as many rows each.
    """
    video_rows, text_rows = _video_rows(video), _text_rows(text)  # (B, D): less to send than every frame
    if ids is None:
        ids = torch.arange(len(video_rows), device=video_rows.device) + _rank() * len(video_rows)
    if _num_processes() > 1:
        _check_equal_rows(video_rows)
        # Every process computes the same loss, so the sum over processes that a gather's backward makes is a product.
        gradient_scale = float(_num_processes()) if gather == "exact" else 1.0
        video_rows = _GatherRows.apply(video_rows, gradient_scale)
        text_rows = _GatherRows.apply(text_rows, gradient_scale)
        ids = _all_rows(ids)
    scores = _scores(video_rows, text_rows, temperature)  # (B, B) of all processes' rows
    targets = match_targets(ids)
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2


@torch.no_grad()
def negative_weights(scores: Tensor, ids: Tensor) -> Tensor:
    """How likely each column is to be drawn as a row's negative: the softmax over the columns of other ids.

    scores (B, B), ids integers (B,); returns float32 (B, B). A row without any negative is zero. Upstream takes the
    softmax over all columns and then drops the positives; the draws are the same, but there a positive that is far
    ahead leaves nothing to draw from.
    """
    positive = ids[:, None] == ids[None, :]
    weights = scores.float().masked_fill(positive, -torch.inf).softmax(dim=1)
    return weights.masked_fill(positive, 0.0)  # also the NaN of a row that has no negative


class Negatives(NamedTuple):
    """One negative for each row of a batch."""

    indices: Tensor
    """int64 (B,); a row's own index where it has no negative."""
    valid: Tensor
    """bool (B,), False where the row has no negative."""


@torch.no_grad()
def sample_negatives(weights: Tensor, generator: torch.Generator | None = None) -> Negatives:
    """Draw a hard negative for each row of `negative_weights` (B, B).

    A negative text for each video comes from the weights of scores (video x text), a negative video for each text from
    those of their transpose.
    """
    valid = weights.sum(dim=1) > 0
    itself = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    drawable = torch.where(valid[:, None], weights, itself)
    return Negatives(torch.multinomial(drawable, 1, generator=generator)[:, 0], valid)


def matching_loss(logits: Tensor, valid: Tensor) -> Tensor:
    """VTM: the mean cross-entropy of telling pairs that belong together from pairs that do not.

    logits: (3B, 2), column 1 for "they belong together"; in this order the B pairs, (negative video, text) and
        (video, negative text).
    valid: bool (B,) of `sample_negatives`, the same for both kinds of negative; rows without one do not count.
    """
    negative = torch.zeros_like(valid, dtype=torch.int64).masked_fill(~valid, IGNORED)
    labels = torch.cat([torch.ones_like(negative), negative, negative])
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


class TokenDraws(NamedTuple):
    """The chance in `mask_tokens`, each (B, L)."""

    masked: Tensor
    """bool: to be predicted, where the token may be."""
    replaced: Tensor
    """bool: if so, shown as the mask token."""
    rand_select: Tensor
    """bool: if not replaced, shown as a random word; else shown as it is."""
    words: Tensor
    """int64 in [0, V): the random words."""


def draw_tokens(
    input_ids: Tensor, vocab_size: int, probability: float, generator: torch.Generator | None = None
) -> TokenDraws:
    """Of `probability` tokens, 80% are replaced by the mask token, 10% by a random word, 10% stay as they are."""

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
    """Hide tokens for MLM to predict: BERT's rule (Devlin et al. 2019, section 3.1) at upstream's probability.

    Only PAD and CLS are never hidden; SEP may be, as in upstream.

    Args:
        input_ids: int64 (B, L), left as it is.
        vocab_size: V, the random words are below it.
        pad_id, cls_id, mask_id: the tokenizer's.
        probability: of being hidden, for each token.
        generator: of the draws, on the device of `input_ids`.
        draws: instead of drawing.

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
    """MLM: the mean cross-entropy over the hidden tokens, 0 with gradients of 0 where nothing is hidden.

    logits (..., V), labels int64 (...) with -100 where the token is not hidden.
    """
    total = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def alignment_loss(student: Tensor, teacher: Tensor, norm: AlignmentNorm = "l2", kind: AlignmentKind = "l2") -> Tensor:
    """UTA: how far the student's visible tokens are from a frozen teacher's.

    student, teacher: (K, B, N, C). norm: `l2` makes both unit vectors first. kind: `l2` is the mean of 2 - 2 cosine
    and needs unit vectors; `mse` and `smooth_l1` are means over every channel.
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
    """Keep a trained temperature in [0.001, 0.5], in place; upstream does so at every forward pass."""
    temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)


def _video_rows(video: Tensor) -> Tensor:
    """(B, T, D) or (B, D) -> (B, D), the mean of the frames' unit vectors, itself no unit vector.

    Its product with a text is the mean of the frames' products.
    """
    rows = F.normalize(video.float(), dim=-1)
    return rows.mean(dim=1) if rows.dim() == 3 else rows


def _text_rows(text: Tensor) -> Tensor:
    return F.normalize(text.float(), dim=-1)


def _scores(video_rows: Tensor, text_rows: Tensor, temperature: Tensor | float) -> Tensor:
    with torch.autocast(video_rows.device.type, enabled=False):
        return video_rows @ text_rows.T / temperature


class _GatherRows(torch.autograd.Function):
    """All processes' rows, in rank order; the gradient of the own rows comes back, times `gradient_scale`."""

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
