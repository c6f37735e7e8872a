"""The four losses of UMT-style training over one batch (Li et al. 2023, "Unmasked Teacher", section 3).

Shapes: B videos and as many texts, T frames, S pixels a side, N patches in a frame, L text tokens.

The frozen teacher chooses the patches that the student sees (mask), and computes the features of these patches that the
student learns to predict (UTA). The student's video is compared with the texts in the shared space (VTC) and in the
fusion layers (VTM, MLM).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.losses import (
    IGNORED,
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
from vmr.models.masks import check_student_mask
from vmr.models.teachers import Teacher, check_teacher
from vmr.models.text.fusion import VideoMemory
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import TextEncoding, VideoEncoding, VideoTextModel
from vmr.train.tasks.config import ObjectiveConfig
from vmr.train.tasks.student import draw_visible


class Batch(NamedTuple):
    """The videos and texts of one batch.

    Attributes:
        video: (B, T, 3, S, S), normalised for the student; T = 1 for images.
        teacher_video: (B, T, 3, S', S'), normalised for the teacher; None if the teacher is not used.
        input_ids: int64 (B, L).
        attention_mask: int64 (B, L).
        ids: int64 (B,): equal where the videos are the same, so that their texts are not negatives of each other.
        repeats: bool (B, 1 + T*N), True where a patch repeats an earlier one and is left out; None to leave out none.
            Only for the mask kind `changed`.
    """

    video: Tensor
    teacher_video: Tensor | None
    input_ids: Tensor
    attention_mask: Tensor
    ids: Tensor
    repeats: Tensor | None = None


class Draws(NamedTuple):
    """The random choices of a step, for tests that repeat a step; choices that are None are drawn.

    Attributes:
        importance: int64 (B*T, N): each frame's patches, beginning with those to keep; see `draw_mask`.
        negative_videos: int64 (B,): for each text, the index of a video that is not its own.
        negative_texts: int64 (B,): for each video, the index of a text that is not its own.
        tokens: the words to hide.
    """

    importance: Tensor | None = None
    negative_videos: Tensor | None = None
    negative_texts: Tensor | None = None
    tokens: TokenDraws | None = None


class Objective(nn.Module):
    """A model with its losses. The teacher is not part of the module's parameters and state.

    Args:
        model: the model to train.
        teacher: the frozen teacher; None if no loss or mask needs one.
        tokenizer: turns captions into the model's tokens.
        config: the losses and masks.

    Attributes:
        model: as given.
        tokenizer: as given.
        config: the current losses and masks; see `set_config`.

    Raises:
        ModelError: the tokeniser does not fit the model, or the losses need a teacher that is missing or does not fit.
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
        """The frozen teacher, or None."""
        return self._teacher[0]

    def set_config(self, config: ObjectiveConfig) -> None:
        """Change losses and masks, for another stage of the run.

        Args:
            config: the losses and masks from now on.

        Raises:
            ModelError: they need a teacher or a head that the model does not have, or a teacher of another size.
        """
        by_attention = "attention" in (config.video_mask.kind, config.image_mask.kind)
        for mask in (config.video_mask, config.image_mask):
            check_student_mask(mask.kind, self.model.config.video)
        if self.teacher is None and (config.weights.alignment or by_attention):
            raise ModelError("objective: alignment and attention masks need a teacher: name one, or leave them out")
        if self.teacher is not None and config.weights.alignment:
            check_teacher(self.teacher, self.model.config.video)
        if config.weights.masked_lm and self.model.masked_lm_head is None:
            raise ModelError("objective: the model has no head to guess masked words: set weights.masked_lm to 0")
        self.config = config

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            batch: the videos and texts.
            draws: random choices to use instead of drawing them.

        Returns:
            Name -> weighted loss, without losses of weight 0; training minimises their sum.
        """
        draws = draws or Draws()
        weights = self.config.weights
        clamp_temperature(self.model.temperature)
        mask, target = self.run_teacher(batch, draws.importance)
        video = self.encode_video(batch.video, mask)
        text = self.model.encode_text(batch.input_ids, batch.attention_mask)
        result: dict[str, Tensor] = {}
        if weights.alignment:
            assert video.student is not None  # set_config has checked it
            assert target is not None
            config = self.config
            result["alignment"] = alignment_loss(video.student, target, config.alignment_norm, config.alignment_kind)
        if weights.contrastive:
            result["contrastive"] = contrastive_loss(
                video.frame_embeddings, text.embedding, self.model.temperature, batch.ids, gather=self.config.gather
            )
        if weights.matching or weights.masked_lm:
            memory = self.model.project_video(video.video_tokens)
            if weights.matching:
                result["matching"] = self._match(batch, video, text, memory, draws)
            if weights.masked_lm:
                result["masked_lm"] = self._predict_words(batch, memory, draws.tokens)
        return {name: getattr(weights, name) * loss for name, loss in result.items()}

    def run_teacher(self, batch: Batch, importance: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Draw the mask of a batch and compute the teacher's features of the visible patches.

        Args:
            batch: the videos and texts.
            importance: int64 (B*T, N), each frame's patches, beginning with those to keep; drawn if None.

        Returns:
            The mask, bool (B, 1 + T*N), True where a patch is hidden, and the features, (K, B, 1 + kept, D). The mask
            is None if its kind is "none"; the features are None if the teacher is not used.

        Raises:
            ModelError: the teacher is needed, but the batch holds no video for it.
        """
        masking = self.config.image_mask if batch.video.shape[1] == 1 else self.config.video_mask
        if masking.kind == "changed":
            return batch.repeats, None
        is_needed = bool(self.config.weights.alignment) or masking.kind == "attention"
        teacher = self.teacher if is_needed else None
        return draw_visible(masking, self.model.config.video, batch.video, teacher, batch.teacher_video, importance)

    def encode_video(self, video: Tensor, mask: Tensor | None) -> VideoEncoding:
        """Encode videos. The time axis is kept, unless frames keep different patches (as in upstream).

        What the mask kind `changed` hides is replaced by what it repeats, so the time axis is kept there too.

        Args:
            video: (B, T, 3, S, S).
            mask: bool (B, 1 + T*N) or None.

        Returns:
            The encoding of the visible patches.
        """
        all_tubes = self.config.video_mask.kind == self.config.image_mask.kind == "tube"
        carried = self.config.video_mask.kind == "changed" and video.shape[1] > 1
        return self.model.encode_video(video, mask, keep_temporal=mask is None or all_tubes or carried, carried=carried)

    def _match(
        self, batch: Batch, video: VideoEncoding, text: TextEncoding, memory: VideoMemory, draws: Draws
    ) -> Tensor:
        """VTM over the pairs and over hard negatives in both directions, drawn by their similarity in VTC."""
        share = self.config.random_negatives
        with torch.no_grad():
            scores = similarity(video.frame_embeddings, text.embedding, self.model.temperature)
            texts = sample_negatives(negative_weights(scores, batch.ids, share))
            videos = sample_negatives(negative_weights(scores.T, batch.ids, share))
        negative_videos = videos.indices if draws.negative_videos is None else draws.negative_videos
        negative_texts = texts.indices if draws.negative_texts is None else draws.negative_texts
        logits = [
            self.model.match(text.text_tokens, batch.attention_mask, memory),
            self.model.match(text.text_tokens, batch.attention_mask, memory.select(negative_videos)),
            self.model.match(text.text_tokens[negative_texts], batch.attention_mask[negative_texts], memory),
        ]
        return matching_loss(torch.cat(logits), texts.valid)

    def _predict_words(self, batch: Batch, memory: VideoMemory, draws: TokenDraws | None) -> Tensor:
        """MLM: the texts are encoded again with words hidden, and the fusion layers see their videos."""
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
        hidden = labels != IGNORED  # the product with the vocabulary is computed for these words only
        return masked_lm_loss(self.model.predict_words(fused[hidden]), labels[hidden])
