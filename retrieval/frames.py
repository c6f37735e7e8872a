"""Which frames an encoder takes, and reading one video for an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmr.checks import check_path
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.models.encoder import Encoder, check_encoder

if TYPE_CHECKING:
    from torch import Tensor


def frame_spec(encoder: Encoder, *, sampling: str = "middle", num_frames: int | None = None) -> FrameSpec:
    """Return what to decode for an encoder.

    Args:
        encoder: the model; its `preprocess` says how many frames of which size it takes.
        sampling: which frames of a whole video, see `vmr.data.decoding.sampling.sample_indices`.
        num_frames: how many frames; None for the encoder's own number.
    """
    check_encoder(encoder)
    wanted = encoder.preprocess
    return FrameSpec(
        wanted.num_frames if num_frames is None else num_frames, wanted.size, wanted.resize, sampling=sampling
    )


def read_video(path: str | Path, encoder: Encoder, *, reader: str = DecodeOptions.reader) -> Tensor:
    """Read the frames of one whole video that an encoder takes.

    Args:
        path: a video or a still picture.
        encoder: the encoder that will be given the frames.
        reader: see `vmr.VideoReader`.

    Returns:
        uint8 in [0, 255], (1, T, 3, S, S), for `encoder.encode_video`.

    Raises:
        VideoError: the file cannot be read.
    """
    check_path("path", path)
    import torch

    (segment,) = read_segments(path, frame_spec(encoder), reader=reader)
    return torch.from_numpy(segment.video).unsqueeze(0)
