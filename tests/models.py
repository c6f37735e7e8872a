"""A tiny video-text model of random weights, its encoder, and videos in the shape that it takes."""

import torch
from torch import Tensor

from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Preprocess, VideoFeatures
from vmr.models.families.video_text import VideoTextEncoder
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig

CONFIG = VideoTextConfig(
    video=VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=2),
    text=TextConfig(width=32, num_layers=3, num_text_layers=2, num_heads=4, feed_forward=64),
    embed_dim=16,
)
PREPROCESS = Preprocess(2, 32, "upstream", IMAGENET_MEAN, IMAGENET_STD)


def tiny_model(seed: int = 0, config: VideoTextConfig = CONFIG) -> VideoTextModel:
    """Make the model; every weight is random, so that each has an effect."""
    torch.manual_seed(seed)
    model = VideoTextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def make_encoder(model: VideoTextModel, preprocess: Preprocess = PREPROCESS, **options) -> VideoTextEncoder:
    tokenizer = options.pop("tokenizer", None) or CaptionTokenizer()
    return VideoTextEncoder(model, tokenizer, preprocess, name="tiny", about="random weights", **options)


def make_video(num_videos: int, num_frames: int = 2, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (num_videos, num_frames, 3, size, size), dtype=torch.uint8, generator=generator)


class Counting(VideoTextEncoder):
    """The same encoder; it counts the videos that it embeds, and raises at one of them if asked to."""

    def __init__(self, encoder: VideoTextEncoder, stop_at: int | None = None) -> None:
        self.__dict__.update(encoder.__dict__)
        self.count, self.stop_at = 0, stop_at

    def video_features(self, video: Tensor) -> VideoFeatures:
        self.count += len(video)
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        return super().video_features(video)
