"""The frames of a training clip: which frames are taken, and which part of the picture they show.

Shapes: T frames of S x S pixels. Everything random follows from the seed of the job. This module imports no torch, so
that decoding processes start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import Timed, check_rule, sample_indices
from vmr.data.decoding.segments import DecodedSegment, FileEnd, Segments
from vmr.data.decoding.segments_job import WorkerMessageError
from vmr.data.decoding.squares import FrameSource, square_frames
from vmr.data.decoding.stills import Frames, read_still
from vmr.data.decoding.video import with_video
from vmr.data.remark import Remark
from vmr.data.sources.source import MakeClip
from vmr.data.training.augment import FlipRule, random_box, random_flip, resize_clip
from vmr.data.training.frame_cache import cached_frames
from vmr.errors import VmrError

Crop = Literal["random", "center", "stretch", "upstream"]
CACHED_FRAMES = 8
"""How many frames the frame cache keeps for each frame of a clip, so that random sampling still has a choice."""

_CACHED_SIDE = 8 / 7  # the short side of cached frames, over the side of a clip: 256 pixels for 224


@dataclass(frozen=True)
class ClipSpec:
    """The settings of training clips.

    Attributes:
        num_frames: T, for videos; a still picture is one frame.
        size: S, in pixels.
        sampling: "rand" (a random frame of each of T equal intervals), "middle", "trimmedN" or "rand_trimmedN", see
            `sample_indices`.
        crop: "random" shows half to all of the picture, as upstream trains; "center" scales the short side to S and
            keeps the middle; "stretch" and "upstream" keep everything, as the resize of a `FrameSpec` does.
        flip: whether one clip in two is mirrored: True, False, or "unless_sided", see `flip_allowed`.
        antialias: whether the random crop is scaled with antialiasing; upstream does not (False).
        cache_dir: a folder that keeps decoded frames, see `vmr.data.training.frame_cache`: CACHED_FRAMES * T frames per
            video, from which "rand" and "middle" then choose. None for no cache.

    Raises:
        VmrError: a value is not allowed.
    """

    num_frames: int
    size: int
    sampling: str = "rand"
    crop: Crop = "random"
    flip: FlipRule = "unless_sided"
    antialias: bool = False
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.sampling)
        uneven, partial = self.sampling.startswith("fps"), "trimmed" in self.sampling
        bad_flip = self.flip not in (True, False, "unless_sided")
        wrong = {
            "num_frames and size must be at least 1": self.num_frames < 1 or self.size < 1,
            f"sampling {self.sampling!r} gives clips of different lengths, which make no batch": uneven,
            f"crop must be one of {', '.join(get_args(Crop))}, not {self.crop!r}": self.crop not in get_args(Crop),
            f"flip must be true, false or unless_sided, not {self.flip!r}": bad_flip,
            f"cache_dir keeps frames of whole videos, of no use to {self.sampling!r}": bool(self.cache_dir) and partial,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)


@dataclass(frozen=True)
class ClipJob:
    """One training clip to decode. The same job always gives the same clip.

    Attributes:
        path: a video, or a still picture (jpg, png, webp, bmp) if `still`.
        spec: the settings of the clip.
        seed: for `numpy.random.default_rng`.
        may_flip: the result of `flip_allowed` for the caption.
        still: whether the file is a still picture.
        reader: the library that decodes a video, see `VideoReader`.
    """

    kind: ClassVar[str] = "vmr.data.training.clips:serve_clip"

    path: str
    spec: ClipSpec
    seed: tuple[int, ...]
    may_flip: bool = False
    still: bool = False
    reader: str = "pyav"

    def request(self) -> dict[str, Any]:
        """Return the job as JSON, for a decoding process."""
        return asdict(self)

    def answer(self, question: dict[str, Any]) -> Any:
        """Refuse, because a process asks no questions about a clip."""
        raise WorkerMessageError

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether the clip may have this shape."""
        return list(shape) == [self.spec.num_frames, 3, self.spec.size, self.spec.size]


def serve_clip(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `ClipJob` in a decoding process; it asks no questions."""
    spec, seed = ClipSpec(**request.pop("spec")), tuple(request.pop("seed"))
    job = ClipJob(spec=spec, seed=seed, **request)
    clip, remarks = _read(job)
    yield DecodedSegment(job.path, 0.0, 0.0, tuple(clip), tuple(range(len(clip))))
    return FileEnd(remarks)


def read_train_clip(job: ClipJob) -> NDArray[np.uint8]:
    """Decode a training clip.

    Args:
        job: the clip. From a damaged video, the decodable frames are used; a damaged picture is refused.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).

    Raises:
        VideoError: the file cannot be read.
    """
    return _read(job)[0]


def _read(job: ClipJob) -> tuple[NDArray[np.uint8], tuple[Remark, ...]]:
    """The clip, and what was noticed about its video."""
    spec = job.spec
    if job.still:
        return _cut(Frames(job.path, read_still(job.path)), job), ()
    if spec.cache_dir:
        num_frames, short_side = CACHED_FRAMES * spec.num_frames, round(_CACHED_SIDE * spec.size)
        frames = cached_frames(job.path, spec.cache_dir, num_frames, short_side, job.reader)
        return _cut(Frames(job.path, frames), job), ()
    return with_video(job.path, job.reader, lambda video: (_cut(video, job), video.remarks))


def render_train_clip(make: MakeClip, job: ClipJob) -> NDArray[np.uint8]:
    """Draw a training clip, and augment it as `read_train_clip` does.

    Args:
        make: draws the frames.
        job: the clip; its path only names it.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).

    Raises:
        VmrError: what `make` draws has another shape or type.
    """
    wanted = (job.spec.num_frames, 3, job.spec.size, job.spec.size)
    frames = make(job.spec.num_frames, job.spec.size)
    if frames.dtype != np.uint8 or frames.shape != wanted:
        raise VmrError(f"{job.path}: its clip was made as {frames.dtype} {frames.shape}, expected uint8 {wanted}")
    return _cut(Frames(job.path, frames), job)


class _Frames(FrameSource, Timed, Protocol):
    """Frames with times, from which a clip is taken."""


def _cut(video: _Frames, job: ClipJob) -> NDArray[np.uint8]:
    spec, rng = job.spec, np.random.default_rng(job.seed)
    indices = sample_indices(spec.sampling, spec.num_frames, video, rng)
    if spec.crop == "random":
        box = random_box(video.height, video.width, rng)
        frames = resize_clip(video.frames_at(indices.tolist(), crop=box), spec.size, antialias=spec.antialias)
    else:
        frames = square_frames(video, "crop" if spec.crop == "center" else spec.crop, spec.size, indices)
    return random_flip(frames, rng) if job.may_flip else frames
