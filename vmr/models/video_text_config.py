"""The sizes of a video-text model: what a config, a saved model and a checkpoint's weights all say in these words."""

from dataclasses import dataclass, field

from vmr.errors import ModelError
from vmr.models.text.encoder import TextConfig
from vmr.models.videomamba.encoder import VideoMambaConfig


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
