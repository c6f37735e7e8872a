"""The interface between models and the rest of vmr. The index and the evaluation use only this interface.

Imports no torch, so that an index is opened, and a wrong path or option is reported, without it.

To use a model of your own, write a class with the attributes and methods of `Encoder` (no base class is needed) and
give an object of it to `vmr.build_index` or `vmr.evaluate` in place of a name. Implement `Matcher` as well if the model
can re-rank, `TextLimited` if the number of tokens that it reads of a caption can be changed, and `FrameEncoder` and
`TextVectors` if it can work as they say, which makes indexing and searching faster.

Shapes: B videos or texts, V videos, T frames, S pixels a side, D dimensions of the shared space, F features of a frame,
N video tokens, C video width, L text tokens, W text width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vmr.checks import whole_number
from vmr.errors import ModelError, VmrError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from vmr.models.classifier import ClipInput

Resize = Literal["crop", "stretch", "upstream"]
"""How frames are brought to a size, see `Preprocess`."""

RGB = tuple[float, float, float]
"""One number for each of the channels red, green and blue."""

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """The input that an encoder expects: which frames the decoder delivers, and how pixels become floats.

    The decoder reads `num_frames`, `size` and `resize`, and delivers uint8 frames. The encoder calls this object to
    turn them into normalised floats.

    Attributes:
        num_frames: T, frames of a clip; at least 1.
        size: S, side of the square frames in pixels; at least 1.
        resize: how the decoder brings frames to S x S pixels, always bicubic. `crop` brings the short side to S and
            keeps the centre square; `stretch` brings both sides to S and does not keep the aspect ratio; `upstream`
            stretches without antialiasing, as the released VideoMamba models were evaluated.
        mean: subtracted from the channels, for pixels scaled to [0, 1].
        std: divides the channels after that.

    Raises:
        VmrError: a number is out of range, or `resize` is unknown.
    """

    num_frames: int
    size: int
    resize: Resize
    mean: RGB
    std: RGB

    def __post_init__(self) -> None:
        whole_number("num_frames", self.num_frames)
        whole_number("size", self.size)
        if self.resize not in get_args(Resize):
            raise VmrError(f"resize must be one of {', '.join(get_args(Resize))}, not {self.resize!r}")

    def __call__(self, video: Tensor) -> Tensor:
        """Normalise pixels: (video / 255 - mean) / std.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S), as the decoder delivers it, on any device.

        Returns:
            float32 (B, T, 3, S, S) on the same device.

        Raises:
            VmrError: the dtype, the number of dimensions or the size of the frames differs. Frames are resized when
                they are decoded, not here.
        """
        import torch

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
    """Turns videos and texts into vectors of one space, where the dot product of two vectors is their similarity.

    Vectors of texts have length 1. Vectors of videos have at most length 1, so that a dot product is in [-1, 1]. A
    video's vector may be shorter than 1: the released VideoMamba models average the unit vectors of the frames, and
    the dot product is then the mean cosine over the frames.

    The same input must give the same vector at every call, whatever else is in the batch, up to rounding.

    Attributes:
        name: what messages, reports and indexes call the encoder, such as `offline` or the path of a model.
        about: one line on what the encoder can and cannot do, printed beside its scores.
        embed_dim: D.
        preprocess: how videos must be decoded for `encode_video`. The decoder follows it.
        fingerprint: a hash of everything that the vectors depend on: weights, preprocessing and constants. Two encoders
            may have the same fingerprint only if their vectors are interchangeable. An index stores it and refuses an
            encoder with another one; the feature cache finds stored vectors by it. Make it with the function
            `fingerprint` of this module.
    """

    name: str
    about: str
    embed_dim: int
    preprocess: Preprocess
    fingerprint: str

    def encode_video(self, video: Tensor) -> Tensor:
        """Embed a batch of videos.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S), B at least 1, decoded as `preprocess` says, usually on the CPU:
                the encoder moves it to its own device and normalises it. T is `preprocess.num_frames`, unless an
                evaluation's protocol asks for another number (1 for images); raise ModelError for a T that the model
                cannot take.

        Returns:
            float32 (B, D), finite, each row of length at most 1, on any device.
        """

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed a list of texts.

        Args:
            texts: B strings, B at least 0. The encoder tokenises them, cuts those that are too long, and makes
                batches of a size that fits its memory.

        Returns:
            float32 (B, D), finite, each row of length 1, on any device.
        """


@runtime_checkable
class FrameEncoder(Encoder, Protocol):
    """An encoder whose vector of a video is made from features of its single frames, in any number.

    A frame then needs to be encoded only once, however many segments show it. The same frame must have the same
    features, bit for bit, whatever else is in the batch, and `encode_video(video)` must equal
    `pool_frames(encode_frames(...))`, bit for bit.

    Attributes:
        frames_at_once: how many frames are encoded fastest together; at least 1.
    """

    frames_at_once: int

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of frames: (N, 3, S, S), N at least 0, as for `encode_video` -> (N, F), finite."""

    def pool_frames(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn the features of the frames of each video, (B, T, F), into vectors (B, D), each by itself."""


@runtime_checkable
class TextVectors(Protocol):
    """An encoder that embeds texts without torch."""

    def text_vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed B texts: (B, D). The results are those of `encode_text`, and do not depend on the other texts."""


@runtime_checkable
class CountsTokens(Protocol):
    """An encoder that can say how much of a text it reads."""

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text that the model reads, including special tokens, without running the model.

        Args:
            texts: B strings.

        Returns:
            B lengths; for a `Matcher`, the sums of the rows of `read_texts(texts).mask`.
        """


@dataclass(frozen=True)
class EncodedTexts:
    """The output of the text encoder for some texts, which matching needs.

    Attributes:
        tokens: floats (B, L, W), the output of the text encoder; L is that of the longest text.
        mask: int64 (B, L), 1 for tokens and 0 for the padding at the end.
    """

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    def select(self, texts: Tensor) -> EncodedTexts:
        """Take some of the texts.

        Args:
            texts: int64 (B',), indices of the texts; an index may come twice.

        Returns:
            The chosen texts in this order, cut to the length of the longest.
        """
        mask = self.mask[texts]
        length = int(mask.sum(dim=1).max()) if len(mask) else 0
        return EncodedTexts(self.tokens[texts, :length], mask[:, :length])


@dataclass(frozen=True)
class VideoFeatures:
    """The results of one forward pass over B videos.

    Attributes:
        vectors: float32 (B, D), as returned by `Encoder.encode_video`.
        tokens: floats (B, N, C), as returned by `Matcher.video_tokens`.
    """

    vectors: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class MatchingSizes:
    """The sizes that the time and memory of matching depend on; re-ranking chooses its batch size by them.

    Attributes:
        num_video_tokens: N, for a video of `preprocess.num_frames` frames.
        video_width: C.
        text_width: W.
        feed_forward: channels inside the feed-forward part of a layer.
        num_text_layers: layers that read a text alone.
        num_fusion_layers: layers that also attend to the video.
        may_repeat: whether tokens may be equal, of which fewer than N can then be stored and matched.
    """

    num_video_tokens: int
    video_width: int
    text_width: int
    feed_forward: int
    num_text_layers: int
    num_fusion_layers: int
    may_repeat: bool = False


@runtime_checkable
class Matcher(Encoder, CountsTokens, Protocol):
    """An encoder that can also compare a video with a text token by token, which is slower and more exact.

    Re-ranking encodes each text once (`read_texts`) and each video once (`video_features`), and then matches pairs.
    """

    @property
    def matching_sizes(self) -> MatchingSizes:
        """Sizes of the model, for a video of as many frames as `preprocess` says."""

    def read_texts(self, texts: Sequence[str]) -> EncodedTexts:
        """Run the text encoder.

        Args:
            texts: B strings.

        Returns:
            The encoded texts for `match`, for any number of videos.
        """

    def video_features(self, video: Tensor) -> VideoFeatures:
        """Compute what `encode_video` and `video_tokens` return, in one forward pass.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S), as for `encode_video`.

        Returns:
            Vectors and tokens of the videos.
        """

    def video_tokens(self, video: Tensor) -> Tensor:
        """Compute the tokens that `match` compares with texts.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S), as for `encode_video`.

        Returns:
            Floats (B, N, C).
        """

    def match(self, video_tokens: Tensor, texts: Sequence[str] | EncodedTexts) -> Tensor:
        """Score every video with every text.

        Args:
            video_tokens: floats (V, N, C), as returned by the method `video_tokens`, on any device.
            texts: B strings, or the result of `read_texts`.

        Returns:
            float32 (V, B), higher is better, in any range.
        """

    def match_batches(self, video_tokens: Tensor, batches: Iterable[EncodedTexts]) -> Tensor:
        """Score one video with texts that come in batches, holding one batch in memory at a time.

        Args:
            video_tokens: floats (1, N, C), on any device.
            batches: texts, B in all, on any device; each batch goes through the model at once.

        Returns:
            float32 (B,), the scores that `match` gives, in the order of the texts.
        """


@runtime_checkable
class TextLimited(Encoder, Protocol):
    """An encoder that can limit the tokens that it reads of a caption, as the protocols of some data sets require.

    Give it an attribute `max_text_tokens` with this number: without it the feature cache keeps no vectors of texts.
    """

    def with_text_limit(self, max_text_tokens: int) -> Self:
        """Make a copy of this encoder that cuts captions earlier; this encoder does not change.

        Args:
            max_text_tokens: tokens to read of a caption, special ones included; more than now has no effect.

        Returns:
            The other encoder. It has the same fingerprint, because its vectors of videos are the same.
        """


def fingerprint(weights: Mapping[str, Tensor], preprocess: Preprocess | ClipInput, config: Mapping[str, object]) -> str:
    """Hash everything that the vectors of an encoder depend on, for its attribute `fingerprint`.

    Args:
        weights: all weights of the encoder by name, as in `state_dict()`; names, dtypes, shapes and values count.
        preprocess: how its input is made.
        config: everything else that the vectors depend on, as JSON types: constants, sizes that no weight shows.

    Returns:
        16 hex digits: the beginning of a SHA-256.
    """
    import torch

    settings = json.dumps({"preprocess": asdict(preprocess), **config}, sort_keys=True)
    digest = hashlib.sha256(settings.encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def check_texts(texts: Sequence[str]) -> None:
    """Check that a list of texts was given, and not one text, which Python would treat as a list of its letters.

    Args:
        texts: the argument to check.

    Raises:
        ModelError: `texts` is a string, no sequence, or holds something else than strings.
    """
    if isinstance(texts, str):
        raise ModelError(f"expected a list of texts, got one text, {texts!r:.40}: put it into a list")
    if not isinstance(texts, Sequence):
        raise ModelError(f"expected a list of texts, got {texts!r:.60}")
    others = [text for text in texts if not isinstance(text, str)]
    if others:
        raise ModelError(f"expected a list of texts, but it holds {others[0]!r:.60}")


def check_encoder(encoder: object) -> None:
    """Check that an argument is an encoder.

    Args:
        encoder: the argument.

    Raises:
        ModelError: it lacks an attribute or a method of `Encoder`.
    """
    if isinstance(encoder, type):
        raise ModelError(f"{encoder.__name__} is a class: give an object of it, which is an encoder")
    if isinstance(encoder, Encoder):
        return
    wanted = (*Encoder.__annotations__, "encode_video", "encode_text")
    lacking = ", ".join(name for name in wanted if not hasattr(encoder, name))
    raise ModelError(f"{encoder!r:.60} is no encoder: it lacks {lacking}; vmr.load_model gives one")
