"""What every encoder is to the rest of vmr: the index and the evaluation never know which family they run.

Shapes: B videos or texts, T frames, S pixels a side, D dimensions of the shared space.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import Self

from vmr.errors import VmrError

RGB = tuple[float, float, float]
"""One number for each of the channels red, green and blue."""

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants to see a video: which frames the decoder delivers, and how pixels become floats.

    num_frames: T. size: S, the side of the square frames in pixels. resize: `crop` brings the short side to S and keeps
    the centre square, `stretch` brings both sides to S and does not keep the aspect ratio, `upstream` does so without
    antialiasing, as the released VideoMamba models were evaluated. mean, std: per RGB channel, for pixels scaled to
    [0, 1].
    """

    num_frames: int
    size: int
    resize: Literal["crop", "stretch", "upstream"]
    mean: RGB
    std: RGB

    def __call__(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S), as the decoder delivers it -> float32, same shape, normalised.

        Raises VmrError where the type, the rank or the size differ: resizing belongs to decoding, not here.
        """
        if video.dtype != torch.uint8 or video.ndim != 5 or tuple(video.shape[2:]) != (3, self.size, self.size):
            raise VmrError(
                f"expected video uint8 (B, T, 3, {self.size}, {self.size}), got {video.dtype} {tuple(video.shape)}: "
                "decode with vmr.read_video(path, model)"
            )
        mean = torch.tensor(self.mean, device=video.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=video.device).view(3, 1, 1)
        return (video.float() / 255 - mean) / std


@runtime_checkable
class Encoder(Protocol):
    """Videos and texts to vectors of one space; the dot product of two, at most 1, is their similarity.

    Texts are unit vectors. Videos may be shorter: the mean of the frames' unit vectors makes the dot product the mean
    cosine over the frames, as upstream trains and scores, and is the longer the more the frames agree.
    """

    name: str
    about: str  # one line on what it can and cannot do, printed wherever its scores are
    embed_dim: int
    preprocess: Preprocess
    fingerprint: str

    def encode_video(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> float32 vectors (B, D) of length at most 1."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """texts: B strings -> float32 unit vectors (B, D)."""
        ...


@dataclass(frozen=True)
class ReadTexts:
    """Texts as matching needs them, read once: tokens (B, L, W), mask (B, L), 1 for tokens and 0 for padding."""

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, texts: Tensor) -> "ReadTexts":
        """Some of them, by int64 index (B',), no longer than the longest of these."""
        mask = self.mask[texts]
        length = int(mask.sum(dim=1).max()) if len(mask) else 0
        return ReadTexts(self.tokens[texts, :length], mask[:, :length])


@dataclass(frozen=True)
class VideoFeatures:
    """What one look at B videos gives: vectors (B, D), as of `encode_video`, and tokens (B, N, C) for `match`."""

    vectors: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class MatchingSizes:
    """What decides the time and memory of matching.

    num_video_tokens: N. video_width: C. text_width: W. feed_forward: channels inside a layer. num_text_layers: those
    that read a text alone. num_fusion_layers: those that look at the video as well.
    """

    num_video_tokens: int
    video_width: int
    text_width: int
    feed_forward: int
    num_text_layers: int
    num_fusion_layers: int


@runtime_checkable
class Matcher(Encoder, Protocol):
    """An encoder that can also compare a video and a text token by token, which is slower and knows more."""

    @property
    def matching_sizes(self) -> MatchingSizes:
        """Of the model, for a video of as many frames as `preprocess` says."""
        ...

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """texts: B strings -> how many tokens of each are read; no model runs."""
        ...

    def read_texts(self, texts: Sequence[str]) -> ReadTexts:
        """texts: B strings -> what `match` needs of them, for any number of videos."""
        ...

    def video_features(self, video: Tensor) -> VideoFeatures:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> what `encode_video` and `video_tokens` give, at one's cost."""
        ...

    def video_tokens(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> (B, N, C), what `match` looks at."""
        ...

    def match(self, video_tokens: Tensor, texts: Sequence[str] | ReadTexts) -> Tensor:
        """video_tokens: (V, N, C); texts: B strings, read or not -> float32 (V, B), higher is better, of any range."""
        ...

    def match_batches(self, video_tokens: Tensor, batches: Iterable[ReadTexts]) -> Tensor:
        """video_tokens: (1, N, C); batches: B texts in all, each batch matched at once -> (B,), as of `match`."""
        ...


@runtime_checkable
class TextLimited(Encoder, Protocol):
    """An encoder whose captions can be cut shorter, as the protocols of the data sets ask."""

    def with_text_limit(self, max_text_tokens: int) -> Self:
        """The same encoder, of the same fingerprint, that reads so much of a caption, [CLS] and [SEP] included.

        Never more than the encoder reads by itself.
        """
        ...


def fingerprint(weights: Mapping[str, Tensor], preprocess: Preprocess, config: Mapping[str, object]) -> str:
    """A hash of all that decides an embedding: weights by name and value, preprocessing, the encoder's own constants.

    Two encoders with one fingerprint give comparable vectors, so an index refuses queries made with another one.
    """
    settings = json.dumps({"preprocess": asdict(preprocess), **config}, sort_keys=True)
    digest = hashlib.sha256(settings.encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
