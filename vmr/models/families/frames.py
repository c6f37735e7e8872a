"""What encoders of single frames share: checking frames, and videos as torch tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vmr.errors import ModelError
from vmr.models.encoder import FrameEncoder, Preprocess

if TYPE_CHECKING:
    from torch import Tensor


def check_frames(frames: NDArray[np.uint8], preprocess: Preprocess) -> None:
    """Check that frames are what the decoder delivers.

    Args:
        frames: the argument to check.
        preprocess: the encoder's preprocessing.

    Raises:
        ModelError: they are not uint8 (N, 3, S, S).
    """
    wanted = (3, preprocess.size, preprocess.size)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != wanted:
        raise ModelError(
            f"expected frames uint8 (N, 3, {preprocess.size}, {preprocess.size}), got {frames.dtype} {frames.shape}"
        )


def encode_video_by_frames(encoder: FrameEncoder, video: Tensor) -> Tensor:
    """Embed videos frame by frame, for `Encoder.encode_video`.

    Args:
        encoder: encodes the frames.
        video: uint8 in [0, 255], (B, T, 3, S, S), on any device.

    Returns:
        float32 (B, D), on the CPU.

    Raises:
        ModelError: the video has another dtype or shape.
    """
    import torch

    size = encoder.preprocess.size
    if video.dtype != torch.uint8 or video.ndim != 5 or tuple(video.shape[2:]) != (3, size, size):
        raise ModelError(
            f"expected video uint8 (B, T, 3, {size}, {size}), got {video.dtype} {tuple(video.shape)}: decode with "
            "vmr.read_video(path, model)"
        )
    features = encoder.encode_frames(video.flatten(0, 1).cpu().numpy())
    return torch.from_numpy(encoder.pool_frames(features.reshape(*video.shape[:2], -1)))


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a vector (D,) to length 1."""
    scaled: NDArray[np.float32] = vector / np.sqrt(np.square(vector).sum())
    return scaled
