"""The frames of a training clip: which are taken, and what of them is shown (without torch: workers start fast).

Shapes: T frames of S x S pixels. Everything random follows from the seed of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.options import READERS
from vmr.data.decoding.sampling import Timed, check_rule, sample_indices
from vmr.data.decoding.segments import DecodedSegment, FrameSource, square_frames
from vmr.data.decoding.stills import Frames, read_still
from vmr.data.decoding.video import with_video
from vmr.data.sources.source import MakeClip
from vmr.data.training.augment import FlipRule, random_box, random_flip, resize_clip
from vmr.data.training.frame_cache import cached_frames
from vmr.errors import VmrError

Crop = Literal["random", "center", "stretch", "upstream"]
CACHED_FRAMES = 8  # kept for each frame of a clip, so that random sampling still has a choice
_CACHED_SIDE = 8 / 7  # short side kept, over the side of a clip: 256 pixels for 224


@dataclass(frozen=True)
class ClipSpec:
    """What a training clip is. Raises VmrError for values that make no sense.

    num_frames: T, for videos; a still picture is one frame. size: S, in pixels.
    sampling: "rand" (a random frame of each of T equal intervals), "middle", "trimmedN" or "rand_trimmedN", see
    `sample_indices`.
    crop: "random" shows half to all of the picture, as upstream trains; "center" scales the short side to S and keeps
    the middle, "stretch" and "upstream" keep everything, as the resize of a `FrameSpec` does.
    flip: mirror one clip in two: True, False, or "unless_sided", see `flip_allowed`.
    antialias: of the random crop; False is upstream's. reader: see `VideoReader`.
    cache_dir: a folder that keeps decoded frames, see `vmr.data.training.frame_cache`: CACHED_FRAMES * T of each video,
    from which "rand" and "middle" then choose.
    """

    num_frames: int
    size: int
    sampling: str = "rand"
    crop: Crop = "random"
    flip: FlipRule = "unless_sided"
    antialias: bool = False
    reader: str = "pyav"
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
            f"reader must be one of {', '.join(READERS)}, not {self.reader!r}": self.reader not in READERS,
            f"cache_dir keeps frames of whole videos, of no use to {self.sampling!r}": bool(self.cache_dir) and partial,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(reason)


@dataclass(frozen=True)
class ClipJob:
    """One training clip to decode: the same job gives the same clip, wherever and whenever.

    path: a video, or a still picture (jpg, png, webp, bmp) if `still`. seed: for `numpy.random.default_rng`. may_flip:
    what `flip_allowed` says of the caption.
    """

    kind: ClassVar[str] = "vmr.data.training.clips:serve_clip"

    path: str
    spec: ClipSpec
    seed: tuple[int, ...]
    may_flip: bool = False
    still: bool = False

    def request(self) -> dict[str, Any]:
        """Return the job as JSON, for a decoding process."""
        return asdict(self)

    def answer(self, question: dict[str, Any]) -> Any:
        """Refuse: a process asks nothing about a clip."""
        raise VmrError(f"{self.path}: the decoding process asked {question!r:.60}")

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether the clip may have this shape."""
        return list(shape) == [self.spec.num_frames, 3, self.spec.size, self.spec.size]


def serve_clip(request: dict[str, Any], ask: Callable[[dict[str, Any]], Any]) -> Generator[DecodedSegment, None, None]:
    """Do a `ClipJob` in a decoding process; nothing is asked."""
    spec, seed = ClipSpec(**request.pop("spec")), tuple(request.pop("seed"))
    job = ClipJob(spec=spec, seed=seed, **request)
    yield DecodedSegment(job.path, 0.0, 0.0, read_train_clip(job))


def read_train_clip(job: ClipJob) -> NDArray[np.uint8]:
    """uint8 RGB in [0, 255], (T, 3, S, S). Raises VideoError if the file cannot be read.

    A damaged video gives what can be decoded of it, a damaged picture is refused.
    """
    spec = job.spec
    if job.still:
        return _cut(Frames(job.path, read_still(job.path)), job)
    if spec.cache_dir:
        num_frames, short_side = CACHED_FRAMES * spec.num_frames, round(_CACHED_SIDE * spec.size)
        frames = cached_frames(job.path, spec.cache_dir, num_frames, short_side, spec.reader)
        return _cut(Frames(job.path, frames), job)
    return with_video(job.path, spec.reader, lambda video: _cut(video, job))


def render_train_clip(make: MakeClip, job: ClipJob) -> NDArray[np.uint8]:
    """As `read_train_clip`, of a clip that `make` draws; job.path only names it.

    Raises VmrError if what it draws has another shape or type.
    """
    wanted = (job.spec.num_frames, 3, job.spec.size, job.spec.size)
    frames = make(job.spec.num_frames, job.spec.size)
    if frames.dtype != np.uint8 or frames.shape != wanted:
        raise VmrError(f"{job.path}: its clip was made as {frames.dtype} {frames.shape}, expected uint8 {wanted}")
    return _cut(Frames(job.path, frames), job)


class _Video(FrameSource, Timed, Protocol):
    """What a clip is cut from."""


def _cut(video: _Video, job: ClipJob) -> NDArray[np.uint8]:
    spec, rng = job.spec, np.random.default_rng(job.seed)
    indices = sample_indices(spec.sampling, spec.num_frames, video, rng)
    if spec.crop == "random":
        box = random_box(video.height, video.width, rng)
        frames = resize_clip(video.frames_at(indices.tolist(), crop=box), spec.size, antialias=spec.antialias)
    else:
        frames = square_frames(video, "crop" if spec.crop == "center" else spec.crop, spec.size, indices)
    return random_flip(frames, rng) if job.may_flip else frames
