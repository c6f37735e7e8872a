"""The frames of a training clip: which frames are taken, and which part of the picture they show.

Shapes: T frames of S x S pixels. Everything random follows from the seed of the job. This module imports no torch, so
that decoding processes start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import Indices, Timed, check_rule, sample_indices
from vmr.data.decoding.segments import DecodedSegment, FileEnd, Segments
from vmr.data.decoding.segments_job import WorkerMessageError
from vmr.data.decoding.squares import FrameSource, square_frames
from vmr.data.decoding.stills import Frames, read_still
from vmr.data.decoding.video import with_video
from vmr.data.remark import Remark
from vmr.data.sources.source import MakeClip
from vmr.data.training.augment import (
    FlipRule,
    Interpolation,
    multi_scale_box,
    random_box,
    random_flip,
    resize_clip,
)
from vmr.data.training.frame_cache import cached_frames
from vmr.data.training.rand_augment import GREY, MEAN_COLOR, Color, augment_frames, check_policy
from vmr.data.views.frame_folder import FrameFolder
from vmr.data.views.frame_rules import segment_ranges, sparse_ranges
from vmr.data.views.trimmed import Span
from vmr.data.views.view_job import span_of
from vmr.errors import VmrError

Crop = Literal["random", "multi_scale", "center", "stretch", "upstream"]
CACHED_FRAMES = 8
"""How many frames the frame cache keeps for each frame of a clip, so that random sampling still has a choice."""

_RANGES = {"sparse": sparse_ranges, "segments": segment_ranges}
_CACHED_SIDE = 8 / 7  # the short side of cached frames, over the side of a clip: 256 pixels for 224


@dataclass(frozen=True)
class ClipSpec:
    """The settings of training clips.

    Attributes:
        num_frames: T, for videos; a still picture is one frame.
        size: S, in pixels.
        sampling: "rand" (a random frame of each of T equal intervals), "middle", "trimmedN" or "rand_trimmedN", see
            `sample_indices`; or, as upstream trains classes, "sparse" or "segments", see `sparse_ranges` and
            `segment_ranges` of `vmr.data.views.frame_rules`.
        crop: "random" shows a part of the picture, see `random_box`; "multi_scale" as upstream's masked pre-training,
            see `multi_scale_box`; "center" scales the short side to S and keeps the middle; "stretch" and "upstream"
            keep everything, as the resize of a `FrameSpec` does.
        flip: whether one clip in two is mirrored: True, False, or "unless_sided", see `flip_allowed`.
        crop_scale: of the random crop, the least and the greatest share of the picture's area.
        interpolation: how a random or multi-scale crop is scaled, see `resize_clip`.
        rand_augment: how pixels are changed, see `check_policy` of `vmr.data.training.rand_augment`: as upstream does,
            those of videos before the crop, of still pictures after crop and flip. None for not at all.
        num_augmented: how many clips are made of the frames that are decoded, each with its own changes, crop and flip.
        repeats: how often each clip of a source comes, one after the other, each time with another augmentation; an
            epoch then has a part of the clips. Not for streams.
        cache_dir: a folder that keeps decoded frames, see `vmr.data.training.frame_cache`: CACHED_FRAMES * T frames per
            video, from which a rule for whole videos then chooses. It is not used for parts of videos. None for no
            cache.

    Raises:
        VmrError: a value is not allowed.
    """

    num_frames: int
    size: int
    sampling: str = "rand"
    crop: Crop = "random"
    flip: FlipRule = "unless_sided"
    crop_scale: tuple[float, float] = (0.5, 1.0)
    interpolation: Interpolation = "bicubic"
    rand_augment: str | None = None
    num_augmented: int = 1
    repeats: int = 1
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop_scale", tuple(self.crop_scale))  # JSON turns tuples into lists
        if self.sampling not in _RANGES:
            check_rule(self.sampling)
        if self.rand_augment is not None:
            check_policy(self.rand_augment)
        uneven, partial = self.sampling.startswith("fps"), "trimmed" in self.sampling
        bad_flip = self.flip not in (True, False, "unless_sided")
        least, greatest = self.crop_scale
        too_few = min(self.num_frames, self.size, self.num_augmented, self.repeats) < 1
        crops, ways = get_args(Crop), get_args(Interpolation)
        wrong = {
            "num_frames, size, num_augmented and repeats must be at least 1": too_few,
            f"sampling {self.sampling!r} gives clips of different lengths, which make no batch": uneven,
            f"crop must be one of {', '.join(crops)}, not {self.crop!r}": self.crop not in crops,
            f"flip must be true, false or unless_sided, not {self.flip!r}": bad_flip,
            f"crop_scale is {least:g}, {greatest:g}, but must be shares of the picture, the least one first": not (
                0 < least <= greatest <= 1
            ),
            f"interpolation must be one of {', '.join(ways)}, not {self.interpolation!r}": (
                self.interpolation not in ways
            ),
            f"cache_dir keeps frames of whole videos, of no use to {self.sampling!r}": bool(self.cache_dir) and partial,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)


@dataclass(frozen=True)
class ClipJob:
    """One training clip to decode. The same job always gives the same clip.

    Attributes:
        path: a video, a folder of numbered pictures, or a still picture (jpg, png, webp, bmp) if `still`.
        spec: the settings of the clip.
        seed: for `numpy.random.default_rng`.
        may_flip: the result of `flip_allowed` for the caption.
        still: whether the file is a still picture.
        reader: the library that decodes a video, see `VideoReader`.
        span: the part of the video that is used, start and end in seconds; None for the whole video.
    """

    kind: ClassVar[str] = "vmr.data.training.clips:serve_clip"

    path: str
    spec: ClipSpec
    seed: tuple[int, ...]
    may_flip: bool = False
    still: bool = False
    reader: str = "pyav"
    span: Span | None = None

    def request(self) -> dict[str, Any]:
        """Return the job as JSON, for a decoding process."""
        return asdict(self)

    def answer(self, question: dict[str, Any]) -> Any:
        """Refuse, because a process asks no questions about a clip."""
        raise WorkerMessageError

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether the clip may have this shape."""
        spec = self.spec
        return list(shape) == [spec.num_augmented * spec.num_frames, 3, spec.size, spec.size]


def serve_clip(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Segments:
    """Run a `ClipJob` in a decoding process; it asks no questions."""
    spec, seed, span = ClipSpec(**request.pop("spec")), tuple(request.pop("seed")), request.pop("span")
    job = ClipJob(spec=spec, seed=seed, span=span and (span[0], span[1]), **request)
    clip, remarks = _read(job)
    yield DecodedSegment(job.path, 0.0, 0.0, tuple(clip), tuple(range(len(clip))))
    return FileEnd(remarks)


def read_train_clip(job: ClipJob) -> NDArray[np.uint8]:
    """Decode a training clip.

    Args:
        job: the clip. From a damaged video, the decodable frames are used; a damaged picture is refused.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S); (num_augmented * T, 3, S, S) for several clips, one after the other.

    Raises:
        VideoError: the file cannot be read.
    """
    return _read(job)[0]


def _read(job: ClipJob) -> tuple[NDArray[np.uint8], tuple[Remark, ...]]:
    """The clip, and what was noticed about its video."""
    spec = job.spec
    if job.still:
        return _cut(Frames(job.path, read_still(job.path)), job), ()
    if Path(job.path).is_dir():
        return _cut(FrameFolder(job.path), job), ()
    if spec.cache_dir and job.span is None:
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
        As `read_train_clip` does.

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

    num_frames: int

    def pictures(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader.pictures`."""


@dataclass(frozen=True)
class _Part:
    """A part of a video, as a rule of `sample_indices` sees it."""

    num_frames: int
    fps: float
    duration_s: float


def _cut(video: _Frames, job: ClipJob) -> NDArray[np.uint8]:
    spec, rng = job.spec, np.random.default_rng(job.seed)
    indices = _indices(video, job, rng).tolist()
    is_changed_before = spec.rand_augment is not None and not job.still
    frames = video.frames_at(indices) if is_changed_before or spec.num_augmented > 1 else None
    clips = []
    for _ in range(spec.num_augmented):
        source, places = video, indices
        if frames is not None:
            changed = _changed(frames, spec, rng, GREY) if is_changed_before else frames
            source, places = Frames(job.path, changed), list(range(len(indices)))
        clip = _augmented(source, places, job, rng)
        clips.append(_changed(clip, spec, rng, MEAN_COLOR) if job.still else clip)
    return clips[0] if len(clips) == 1 else np.concatenate(clips)


def _changed(frames: NDArray[np.uint8], spec: ClipSpec, rng: np.random.Generator, fill: Color) -> NDArray[np.uint8]:
    """Apply `spec.rand_augment`, if there is one."""
    if spec.rand_augment is None:
        return frames
    return augment_frames(frames, spec.rand_augment, int(rng.integers(2**32)), fill)


def _indices(video: _Frames, job: ClipJob, rng: np.random.Generator) -> Indices:
    """Choose the frames."""
    spec = job.spec
    first, length = 0, video.num_frames
    if job.span is not None:
        first, last = span_of(video, job.span)
        length = last - first + 1
    if ranges := _RANGES.get(spec.sampling):
        return first + rng.integers(*ranges(spec.num_frames, length), endpoint=True)
    part = video if job.span is None else _Part(length, video.fps, length / video.fps)
    return first + sample_indices(spec.sampling, spec.num_frames, part, rng)


def _augmented(video: _Frames, indices: Sequence[int], job: ClipJob, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut a clip out of frames, scale it, and maybe flip it."""
    spec = job.spec
    if spec.crop in ("random", "multi_scale"):
        if spec.crop == "random":
            box = random_box(video.height, video.width, rng, spec.crop_scale)
        else:
            box = multi_scale_box(video.height, video.width, spec.size, rng)
        frames = resize_clip(video.frames_at(indices, crop=box), spec.size, spec.interpolation)
    else:
        frames = square_frames(video, "crop" if spec.crop == "center" else spec.crop, spec.size, np.asarray(indices))
    return random_flip(frames, rng) if job.may_flip else frames
