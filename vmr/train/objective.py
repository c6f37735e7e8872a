"""The four losses of UMT-style training over one batch (Li et al. 2023, "Unmasked Teacher", section 3).

Shapes: B videos and as many texts, T frames, S pixels a side, N patches in a frame, L text tokens.

The frozen teacher says which patches the student sees (mask) and what they should mean (UTA). What the student sees
is matched with the texts in the shared space (VTC) and in the fusion layers (VTM, MLM).
"""

from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.losses import (
    IGNORED,
    AlignmentKind,
    AlignmentNorm,
    Gather,
    TokenDraws,
    alignment_loss,
    clamp_temperature,
    contrastive_loss,
    mask_tokens,
    masked_lm_loss,
    matching_loss,
    negative_weights,
    sample_negatives,
    similarity,
)
from vmr.models.masks import MaskKind, draw_mask, select_visible
from vmr.models.teachers import Teacher, check_teacher
from vmr.models.text.fusion import VideoMemory
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import TextEncoding, VideoEncoding, VideoTextModel


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts in their sum; 0 leaves it out.

    Attributes:
        contrastive: VTC.
        matching: VTM.
        masked_lm: MLM.
        alignment: UTA; it needs a teacher and masks.
    """

    contrastive: float = 1.0
    matching: float = 1.0
    masked_lm: float = 1.0
    alignment: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.contrastive, self.matching, self.masked_lm, self.alignment)
        if min(weights) < 0 or not any(weights):
            raise ModelError(f"objective: weights of the losses are {weights}: none may be below 0, nor all of them 0")


@dataclass(frozen=True)
class MaskConfig:
    """Which patches the student does not see; see `vmr.models.masks`.

    Attributes:
        kind: attention, tube, random or none.
        ratio: share of each frame's patches to drop.
    """

    kind: MaskKind = "attention"
    ratio: float = 0.8

    def __post_init__(self) -> None:
        if self.kind not in get_args(MaskKind):
            raise ModelError(f"objective: mask kind is {self.kind!r}; use one of {', '.join(get_args(MaskKind))}")
        if not 0 <= self.ratio < 1:
            raise ModelError(f"objective: mask ratio is {self.ratio}, but must be in [0, 1)")


@dataclass(frozen=True)
class ObjectiveConfig:
    """The losses and how they are made. The defaults are those of upstream's masked pre-training.

    Attributes:
        weights: what each loss counts.
        video_mask: of clips.
        image_mask: of images, which have less to spare.
        word_mask_probability: share of the words that MLM has to guess.
        alignment_norm: whether UTA compares unit vectors (l2) or features as they are (none).
        alignment_kind: l2, mse or smooth_l1.
        gather: gradients of VTC across processes: exact, or upstream's.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    video_mask: MaskConfig = field(default_factory=MaskConfig)
    image_mask: MaskConfig = field(default_factory=lambda: MaskConfig(ratio=0.5))
    word_mask_probability: float = 0.5
    alignment_norm: AlignmentNorm = "l2"
    alignment_kind: AlignmentKind = "l2"
    gather: Gather = "exact"

    def __post_init__(self) -> None:
        if self.weights.alignment and "none" in (self.video_mask.kind, self.image_mask.kind):
            raise ModelError("objective: alignment needs masks, of ratio 0 at least: set weights.alignment to 0")
        if self.alignment_kind == "l2" and self.alignment_norm == "none":
            raise ModelError("objective: alignment_kind l2 compares unit vectors: set alignment_norm to l2")
        if not 0 <= self.word_mask_probability < 1:
            raise ModelError(f"objective: word_mask_probability is {self.word_mask_probability}, but must be in [0, 1)")


class Batch(NamedTuple):
    """What a step learns from."""

    video: Tensor
    """(B, T, 3, S, S), as the student wants it; T = 1 for images."""
    teacher_video: Tensor | None
    """(B, T, 3, S', S'), as the teacher wants it."""
    input_ids: Tensor
    """int64 (B, L)."""
    attention_mask: Tensor
    """int64 (B, L)."""
    ids: Tensor
    """int64 (B,): equal where the videos are the same, so that their texts are no negatives of each other."""


class Draws(NamedTuple):
    """The chance in a step, for those who want to repeat it; None is drawn."""

    importance: Tensor | None = None
    """int64 (B*T, N): each frame's patches, those to keep first."""
    negative_videos: Tensor | None = None
    """int64 (B,): for each text a video that is not its own."""
    negative_texts: Tensor | None = None
    """int64 (B,): for each video a text that is not its own."""
    tokens: TokenDraws | None = None
    """The words to hide."""


class Objective(nn.Module):
    """A model and what it is to become. The teacher is no part of its parameters, its state or its gradients.

    Raises ModelError where the losses need a teacher that is not there or does not fit the student.
    """

    def __init__(
        self, model: VideoTextModel, teacher: Teacher | None, tokenizer: CaptionTokenizer, config: ObjectiveConfig
    ) -> None:
        super().__init__()
        if tokenizer.vocab_size != model.config.text.vocab_size:
            raise ModelError(
                f"the tokeniser {tokenizer.source} has {tokenizer.vocab_size} entries, but the model was made for "
                f"{model.config.text.vocab_size}"
            )
        self.model = model
        self._teacher = (teacher,)  # in a tuple, where torch does not look for submodules
        self.tokenizer = tokenizer
        self.set_config(config)

    @property
    def teacher(self) -> Teacher | None:
        """The frozen teacher, None where there is none."""
        return self._teacher[0]

    def set_config(self, config: ObjectiveConfig) -> None:
        """Go on to another stage: other masks, other weights."""
        by_attention = "attention" in (config.video_mask.kind, config.image_mask.kind)
        if self.teacher is None and (config.weights.alignment or by_attention):
            raise ModelError("objective: alignment and attention masks need a teacher: name one, or leave them out")
        if self.teacher is not None and config.weights.alignment:
            check_teacher(self.teacher, self.model.config.video)
        if config.weights.masked_lm and self.model.masked_lm_head is None:
            raise ModelError("objective: the model has no head to guess masked words: set weights.masked_lm to 0")
        self.config = config

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Tensor]:
        """The weighted losses by name, those of weight 0 left out; their sum is what to minimise."""
        draws = draws or Draws()
        weights = self.config.weights
        clamp_temperature(self.model.temperature)
        mask, target = self.consult_teacher(batch, draws.importance)
        video = self.encode_video(batch.video, mask)
        text = self.model.encode_text(batch.input_ids, batch.attention_mask)
        result: dict[str, Tensor] = {}
        if weights.alignment:
            assert video.student is not None  # set_config has seen to it
            assert target is not None
            config = self.config
            result["alignment"] = alignment_loss(video.student, target, config.alignment_norm, config.alignment_kind)
        if weights.contrastive:
            result["contrastive"] = contrastive_loss(
                video.frame_embeddings, text.embedding, self.model.temperature, batch.ids, gather=self.config.gather
            )
        if weights.matching or weights.masked_lm:
            memory = self.model.remember(video.video_tokens)
            if weights.matching:
                result["matching"] = self._match(batch, video, text, memory, draws)
            if weights.masked_lm:
                result["masked_lm"] = self._guess_words(batch, memory, draws.tokens)
        return {name: getattr(weights, name) * loss for name, loss in result.items()}

    def consult_teacher(self, batch: Batch, importance: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """The mask (B, 1 + T*N) and the teacher's features of what it leaves, (K, B, 1 + kept, D); None without."""
        video, num_frames = self.model.config.video, batch.video.shape[1]
        masking = self.config.image_mask if num_frames == 1 else self.config.video_mask
        num_steps = 1 if num_frames == 1 else num_frames // video.tubelet_size
        if masking.kind == "none":
            return None, None
        seen = None
        if self.teacher is not None and (self.config.weights.alignment or masking.kind == "attention"):
            if batch.teacher_video is None:
                raise ModelError("objective: these losses ask the teacher: the batch must hold the video for it too")
            # A token of several frames is to mean what the teacher finds in one of them.
            start = 0 if num_frames == 1 else video.tubelet_size // 2
            seen = self.teacher(batch.teacher_video[:, start :: video.tubelet_size])
        mask = draw_mask(
            masking.kind,
            masking.ratio,
            (len(batch.video), num_steps, video.grid_size**2),
            attention=None if seen is None else seen.attention,
            importance=importance,
            device=batch.video.device,
        )
        return mask, None if seen is None or mask is None else select_visible(seen.features, mask)

    def encode_video(self, video: Tensor, mask: Tensor | None) -> VideoEncoding:
        """Time is kept unless frames keep different patches, when upstream pools it away."""
        all_tubes = self.config.video_mask.kind == self.config.image_mask.kind == "tube"
        return self.model.encode_video(video, mask, keep_temporal=mask is None or all_tubes)

    def _match(
        self, batch: Batch, video: VideoEncoding, text: TextEncoding, memory: VideoMemory, draws: Draws
    ) -> Tensor:
        """VTM over the pairs, and over hard negatives both ways, drawn by how similar VTC finds them."""
        with torch.no_grad():
            scores = similarity(video.frame_embeddings, text.embedding, self.model.temperature)
            texts = sample_negatives(negative_weights(scores, batch.ids))
            videos = sample_negatives(negative_weights(scores.T, batch.ids))
        negative_videos = videos.indices if draws.negative_videos is None else draws.negative_videos
        negative_texts = texts.indices if draws.negative_texts is None else draws.negative_texts
        logits = [
            self.model.match(text.text_tokens, batch.attention_mask, memory),
            self.model.match(text.text_tokens, batch.attention_mask, memory.select(negative_videos)),
            self.model.match(text.text_tokens[negative_texts], batch.attention_mask[negative_texts], memory),
        ]
        return matching_loss(torch.cat(logits), texts.valid)

    def _guess_words(self, batch: Batch, memory: VideoMemory, draws: TokenDraws | None) -> Tensor:
        """MLM: the texts are read again with words hidden, this time looking at their videos."""
        shown, labels = mask_tokens(
            batch.input_ids,
            self.model.config.text.vocab_size,
            pad_id=self.tokenizer.pad_id,
            cls_id=self.tokenizer.cls_id,
            mask_id=self.tokenizer.mask_id,
            probability=self.config.word_mask_probability,
            draws=draws,
        )
        text_tokens = self.model.text_encoder(shown, batch.attention_mask)
        fused = self.model.fusion(text_tokens, batch.attention_mask, memory)
        hidden = labels != IGNORED  # the head's product with the vocabulary is spared for all other words
        return masked_lm_loss(self.model.guess_words(fused[hidden]), labels[hidden])
