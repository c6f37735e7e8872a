"""The video-text model: VideoMamba and BERT meet in one space, and in fusion layers that compare them token by token.

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
    """Sizes of the two encoders and of the space they share.

    Attributes:
        video: the video encoder.
        text: BERT, both halves.
        embed_dim: dimensions of the shared space.
        masked_lm: whether the model can guess masked words; training needs it, retrieval does not.
    """

    video: VideoMambaConfig = field(default_factory=VideoMambaConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed_dim: int = 512
    masked_lm: bool = True

    def __post_init__(self) -> None:
        if self.embed_dim < 1:
            raise ModelError(f"embed_dim is {self.embed_dim}, but must be at least 1")


class VideoEncoding(NamedTuple):
    """What the model makes of a batch of videos."""

    video_tokens: Tensor
    """(B, N, C): what the fusion layers look at, CLS left out."""
    frame_embeddings: Tensor
    """(B, T, D), in the shared space and of any length; (B, 1, D) where time was pooled away."""
    student: Tensor | None
    """(K, B, 1 + kept, teacher width), of masked videos."""


class TextEncoding(NamedTuple):
    """What the model makes of a batch of texts."""

    text_tokens: Tensor
    """(B, L, W): what the fusion layers read."""
    embedding: Tensor
    """(B, D), in the shared space and of any length."""


class VideoTextModel(nn.Module):
    """VideoMamba and BERT, trained together. `backend` is that of `vmr.ops.backend`."""

    def __init__(self, config: VideoTextConfig, *, backend: Backend = "auto") -> None:
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

    def encode_video(self, video: Tensor, mask: Tensor | None = None, *, keep_temporal: bool = True) -> VideoEncoding:
        """Encode a batch of videos, or of images (T = 1).

        video: (B, T, 3, H, W), normalised as the weights expect. mask: bool (B, 1 + N), True = dropped; see
        `VideoMamba.forward`. keep_temporal: one embedding a frame, else one a video; upstream trains with masks on
        videos pooled over time and does everything else frame by frame.
        """
        features = self.video_encoder(video, mask, keep_temporal=keep_temporal)
        pooled = features.pooled.to(self.video_proj.weight.dtype)
        return VideoEncoding(features.video_tokens, self.video_proj(pooled), features.student)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> TextEncoding:
        """input_ids, attention_mask: (B, L), of a `CaptionTokenizer`. The embedding is that of token 0, [CLS]."""
        text_tokens = self.text_encoder(input_ids, attention_mask)
        return TextEncoding(text_tokens, self.text_proj(text_tokens[:, 0]))

    def remember(self, video_tokens: Tensor) -> VideoMemory:
        """video_tokens: (V, N, C) -> what `match` needs of these videos, however many texts are matched with them."""
        return self.fusion.remember(video_tokens)

    def match(self, text_tokens: Tensor, attention_mask: Tensor, memory: VideoMemory) -> Tensor:
        """Whether texts describe videos: (V * M, L, W), (V * M, L) and V videos -> logits (V * M, 2).

        Column 1 is "they belong together"; upstream re-ranks by it as it is, without a softmax. The M texts of a video
        stand one after the other.
        """
        fused = self.fusion(text_tokens, attention_mask, memory)
        logits: Tensor = self.matching_head(fused[:, 0])
        return logits

    def guess_words(self, fused_tokens: Tensor) -> Tensor:
        """fused_tokens: (..., W), the output of `fusion` -> logits (..., vocab_size).

        Raises ModelError if the model was made without a masked language modelling head.
        """
        if self.masked_lm_head is None:
            raise ModelError("this model has no masked language modelling head: its weights came without one")
        logits: Tensor = self.masked_lm_head(fused_tokens, self.text_encoder.embeddings.word.weight)
        return logits


def mean_frame_vector(frame_embeddings: Tensor) -> Tensor:
    """(B, T, D) -> float32 (B, D): the mean of the frames' unit vectors, of length at most 1.

    Its dot product with a text's unit vector is upstream's similarity exactly: the mean of the frames' cosines.
    """
    return F.normalize(frame_embeddings.float(), dim=-1).mean(dim=1)
