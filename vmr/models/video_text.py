"""The video-text model: VideoMamba and BERT share a space of vectors, and fusion layers compare them token by token.

Shapes: B videos or texts, T frames, N video tokens, C video width, L text tokens, W text width, D embed_dim.

    video (B, T, 3, H, W) -> video_tokens (B, N, C) -> frame_embeddings (B, T, D)  --.
                                    |                                                >-- similarity (VTC)
    input_ids (B, L)      -> text_tokens (B, L, W)  -> embedding (B, D)            --'
                                    |
                                 fusion -> logits (B, 2) (VTM), words (B, L, vocab_size) (MLM)
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.text.encoder import TextConfig, TextEncoder
from vmr.models.text.fusion import FusionEncoder, MaskedLMHead, VideoMemory
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.ops.backend import Backend

INITIAL_TEMPERATURE = 0.07


@dataclass(frozen=True)
class VideoTextConfig:
    """Sizes of the two encoders and of the space that they share.

    Attributes:
        video: sizes of the video encoder.
        text: sizes of BERT, the text encoder and the fusion layers together.
        embed_dim: D, dimensions of the shared space; at least 1.
        masked_lm: whether the model has the head that predicts masked words, which training needs and retrieval does
            not.

    Raises:
        ModelError: a size is out of range.
    """

    video: VideoMambaConfig = field(default_factory=VideoMambaConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed_dim: int = 512
    masked_lm: bool = True

    def __post_init__(self) -> None:
        if self.embed_dim < 1:
            raise ModelError(f"embed_dim is {self.embed_dim}, but must be at least 1")
        if self.text.num_text_layers >= self.text.num_layers:
            raise ModelError(
                f"text: {self.text.num_text_layers} text layers of {self.text.num_layers} leave none to look at the "
                "video"
            )


class VideoEncoding(NamedTuple):
    """The output of the model for a batch of videos.

    Attributes:
        video_tokens: (B, N, C), the tokens that the fusion layers attend to; without CLS.
        frame_embeddings: (B, T, D), in the shared space, not normalised; (B, 1, D) where time was pooled.
        student: (K, B, 1 + kept, teacher width), to be compared with a teacher's features; None without a mask, and for
            a model without student outputs.
    """

    video_tokens: Tensor
    frame_embeddings: Tensor
    student: Tensor | None


class TextEncoding(NamedTuple):
    """The output of the model for a batch of texts.

    Attributes:
        text_tokens: (B, L, W), the input of the fusion layers.
        embedding: (B, D), in the shared space, not normalised.
    """

    text_tokens: Tensor
    embedding: Tensor


class VideoTextModel(nn.Module):
    """VideoMamba and BERT, trained together.

    Attributes:
        config: sizes of the model.
        video_encoder: VideoMamba.
        text_encoder: BERT's first layers.
        fusion: BERT's last layers, with cross-attention to video tokens.
        masked_lm_head: predicts masked words; None where `config.masked_lm` is false.
        video_proj: from the video encoder's width to the shared space.
        text_proj: from the text encoder's width to the shared space.
        matching_head: from a fused [CLS] token to the two logits of matching.
        temperature: divides similarities in the contrastive loss; a trained scalar.
    """

    def __init__(self, config: VideoTextConfig, *, backend: Backend = "auto") -> None:
        """Make a model with fresh weights.

        Args:
            config: its sizes.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__()
        self.config = config
        self.video_encoder = VideoMamba(config.video, backend=backend)
        self.text_encoder = TextEncoder(config.text)
        self.fusion = FusionEncoder(config.text, config.video.width)
        self.masked_lm_head = MaskedLMHead(config.text) if config.masked_lm else None
        self.video_proj = nn.Linear(config.video.width, config.embed_dim)
        self.text_proj = nn.Linear(config.text.width, config.embed_dim)
        self.matching_head = nn.Linear(config.text.width, 2)
        self.temperature = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE))

    def encode_video(
        self, video: Tensor, mask: Tensor | None = None, *, keep_temporal: bool = True, carried: bool = False
    ) -> VideoEncoding:
        """Encode a batch of videos, or of images (T = 1).

        Args:
            video: floats (B, T, 3, H, W), normalised as the weights expect.
            mask: bool (B, 1 + N), True = dropped; see `VideoMamba.forward`.
            keep_temporal: True: one embedding per frame; False: one per video. In training, upstream pools masked
                videos over time, and does everything else frame by frame.
            carried: what the mask drops repeats what it keeps; see `VideoMamba.forward`.

        Returns:
            Tokens, embeddings and student outputs.

        Raises:
            ModelError: the video or the mask does not have the shape that this model takes.
        """
        features = self.video_encoder(video, mask, keep_temporal=keep_temporal, carried=carried)
        pooled = features.pooled.to(self.video_proj.weight.dtype)
        return VideoEncoding(features.video_tokens, self.video_proj(pooled), features.student)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> TextEncoding:
        """Encode a batch of texts. The embedding is that of token 0, [CLS].

        Args:
            input_ids: int64 (B, L), as returned by a `CaptionTokenizer`.
            attention_mask: int64 (B, L), 1 for tokens and 0 for padding.

        Returns:
            Tokens and embeddings.

        Raises:
            ModelError: the texts are longer than the model has positions for.
        """
        text_tokens = self.text_encoder(input_ids, attention_mask)
        return TextEncoding(text_tokens, self.text_proj(text_tokens[:, 0]))

    def project_video(self, video_tokens: Tensor, counts: Tensor | None = None) -> VideoMemory:
        """Compute the keys and values of videos for `match`, once for any number of texts.

        Args:
            video_tokens: (V, N, C), as returned by `encode_video`.
            counts: (V, N), how many equal tokens each one stands for; see `FusionEncoder.project_video`.

        Returns:
            Keys and values of every fusion layer.
        """
        return self.fusion.project_video(video_tokens, counts)

    def match(self, text_tokens: Tensor, attention_mask: Tensor, memory: VideoMemory) -> Tensor:
        """Score whether texts describe videos, M texts for each of V videos.

        Args:
            text_tokens: (V * M, L, W), as returned by `encode_text`; the M texts of a video are consecutive.
            attention_mask: (V * M, L), 1 for tokens and 0 for padding.
            memory: what `project_video` computed of the V videos.

        Returns:
            Logits (V * M, 2). Column 1 is "they belong together"; upstream re-ranks by this logit without a softmax.

        Raises:
            ModelError: the number of texts is no multiple of the number of videos.
        """
        fused = self.fusion(text_tokens, attention_mask, memory)
        logits: Tensor = self.matching_head(fused[:, 0])
        return logits

    def predict_words(self, fused_tokens: Tensor) -> Tensor:
        """Predict masked words.

        Args:
            fused_tokens: (..., W), the output of `fusion`.

        Returns:
            Logits (..., vocab_size).

        Raises:
            ModelError: the model has no masked language modelling head.
        """
        if self.masked_lm_head is None:
            raise ModelError("this model has no masked language modelling head: its weights came without one")
        logits: Tensor = self.masked_lm_head(fused_tokens, self.text_encoder.embeddings.word.weight)
        return logits


def mean_frame_vector(frame_embeddings: Tensor) -> Tensor:
    """Average the unit vectors of the frames.

    The dot product of the result with a text's unit vector is upstream's similarity: the mean cosine over the frames.

    Args:
        frame_embeddings: (B, T, D), not normalised.

    Returns:
        float32 (B, D), of length at most 1.
    """
    return F.normalize(frame_embeddings.float(), dim=-1).mean(dim=1)
