"""Which frames a model takes, and reading one video for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmr.checks import check_path
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.views.spec import ViewSpec
from vmr.data.views.view_job import read_views
from vmr.errors import VmrError
from vmr.models.classifier import Classifier
from vmr.models.encoder import Encoder, FrameEncoder, check_encoder

if TYPE_CHECKING:
    from torch import Tensor


def frame_spec(
    encoder: Encoder,
    *,
    sampling: str = "middle",
    num_frames: int | None = None,
    keyframes: bool = False,
    skip_still: float = 0.0,
) -> FrameSpec:
    """Return what to decode for an encoder.

    Args:
        encoder: the model; its `preprocess` says how many frames of which size it takes.
        sampling: which frames of a whole video, see `vmr.data.decoding.sampling.sample_indices`.
        num_frames: how many frames; None for the encoder's own number.
        keyframes: see `FrameSpec`.
        skip_still: see `FrameSpec`; only for a `vmr.models.encoder.FrameEncoder`, for which a frame that is as good as
            the one before it costs nothing.

    Raises:
        VmrError: frames are to be left out, and the encoder sees all frames of a video together.
    """
    check_encoder(encoder)
    if skip_still and not isinstance(encoder, FrameEncoder):
        raise VmrError(
            f"{encoder.name} takes the frames of a window together, so that skipping still frames saves nothing: leave "
            "out skip_still"
        )
    wanted = encoder.preprocess
    return FrameSpec(
        wanted.num_frames if num_frames is None else num_frames,
        wanted.size,
        wanted.resize,
        sampling=sampling,
        keyframes=keyframes,
        skip_still=skip_still,
    )


def clip_spec(classifier: Classifier) -> ViewSpec:
    """Return the one view of a video that a classifier is shown; images are cropped as ImageNet is evaluated.

    A classifier without a rule of its own is shown frames of the whole video by the rule `sparse`.
    """
    is_of_images = classifier.num_frames == 1
    return ViewSpec(
        classifier.num_frames,
        classifier.size,
        frames=classifier.frames or "sparse",
        resize="image" if is_of_images else "video",
    )


def read_video(path: str | Path, encoder: Encoder | Classifier, *, reader: str = DecodeOptions.reader) -> Tensor:
    """Read the frames of one whole video that a model takes.

    Args:
        path: a video or a still picture; for a classifier also a folder of numbered pictures.
        encoder: the encoder, or the classifier, that will be given the frames.
        reader: see `vmr.VideoReader`.

    Returns:
        uint8 in [0, 255], (1, T, 3, S, S), for `encode_video` of an encoder, or `classify` of a classifier.

    Raises:
        VideoError: the file cannot be read.
    """
    check_path("path", path)
    import torch

    if isinstance(encoder, Classifier):
        return torch.from_numpy(read_views(str(path), clip_spec(encoder), reader=reader))
    (segment,) = read_segments(path, frame_spec(encoder), reader=reader)
    return torch.from_numpy(segment.video).unsqueeze(0)
