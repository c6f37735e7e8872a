"""What an index holds, as values.

Shapes: n windows of a video, D dimensions of a space.
"""

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vmr.data.remark import Remark

Span = tuple[float, float]
Vectors = NDArray[np.float32]
VideoOrder = Literal["path", "duration", "date", "added"]

LARGEST_NS = 2**63 - 1
"""The latest time that an index can keep, in the year 2262; a file may say any."""

_SETTLED_NS = 2_000_000_000  # a file changed so recently may change again within the resolution of its time


@dataclass(frozen=True)
class IndexSettings:
    """How all videos of an index are cut into windows.

    Attributes:
        window_s: seconds that a window covers; None if each video is one window.
        stride_s: seconds from the start of one window to the start of the next.
        segments: "fixed" for windows every `stride_s`, or "shots" for windows that end where a shot ends, none of them
            longer than `window_s`.
        whole_video: whether each video of several windows has one more, which covers all of it.
    """

    window_s: float | None
    stride_s: float | None
    segments: Literal["fixed", "shots"] = "fixed"
    whole_video: bool = False


def storable_ns(time_ns: int) -> int:
    """Return a time of a file, or the nearest that an index can keep."""
    return max(-LARGEST_NS, min(time_ns, LARGEST_NS))


@dataclass(frozen=True)
class FileState:
    """What shows, without reading a file, whether it has changed.

    Attributes:
        size: bytes.
        mtime_ns: time of its last change.
        inode: its number in the file system.
        seen_ns: when it was looked at.
    """

    size: int
    mtime_ns: int
    inode: int
    seen_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "FileState | None":
        """Look at a file; None if it is no regular file or cannot be examined."""
        seen_ns = time.time_ns()
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(status.st_size, storable_ns(status.st_mtime_ns), status.st_ino, seen_ns)

    @property
    def is_settled(self) -> bool:
        """Whether the file was so old when it was looked at that a later change shows in `mtime_ns`."""
        return self.mtime_ns + _SETTLED_NS <= self.seen_ns

    def is_same(self, other: "FileState") -> bool:
        """Tell whether size, time and inode are equal."""
        return self.key == other.key

    @property
    def key(self) -> tuple[int, int, int]:
        """Size, time and inode."""
        return (self.size, self.mtime_ns, self.inode)


@dataclass(frozen=True)
class Space:
    """The vectors of one encoder.

    Attributes:
        id: number of the space; 0 for one that is not in an index yet.
        name: of the space, unique in an index.
        encoder: name or path of the model.
        fingerprint: of that model, see `vmr.Encoder`.
        dim: D.
        dtype: how the vectors are stored.
        frames: which frames the model was given: the attributes of `vmr.FrameSpec`, and `reader`.
        kind: the kind of FAISS file that was asked for; "auto" chooses by the number of rows.
        search: settings that were measured, see `vmr-index tune`; empty for the defaults.
        calibration: what scores of this space mean, see `vmr.retrieval.calibration`; empty if that was not measured.
    """

    id: int
    name: str
    encoder: str
    fingerprint: str
    dim: int
    dtype: Literal["float16", "float32"]
    frames: Mapping[str, Any]
    kind: str = "auto"
    search: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexedFile:
    """A file that an index knows.

    Attributes:
        root: an absolute folder.
        path: relative to it, with slashes.
    """

    root: str
    path: str

    @property
    def file(self) -> str:
        """The absolute path."""
        return f"{self.root.rstrip('/')}/{self.path}"


@dataclass(frozen=True)
class VideoFile(IndexedFile):
    """A video that was decoded.

    Attributes:
        root: an absolute folder.
        path: relative to it, with slashes.
        content_hash: SHA-256 of the file, 32 bytes; empty if it is not known.
        state: of the file when its content was read.
        duration_s: where its last window ends, in seconds.
        remarks: what was noticed while it was decoded, see `vmr.VideoReader.remarks`.
        width: of the upright picture in pixels; 0 if it is not known.
        height: of the upright picture in pixels; 0 if it is not known.
    """

    content_hash: bytes
    state: FileState
    duration_s: float
    remarks: tuple[Remark, ...]
    width: int = field(default=0, kw_only=True)
    height: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class NewVideo(VideoFile):
    """A video that is to be put into an index.

    Attributes:
        spans: start and end of each window, in seconds.
        vectors: id of a space -> float32 (n, D).
    """

    spans: tuple[Span, ...]
    vectors: Mapping[int, Vectors]


@dataclass(frozen=True)
class Video(VideoFile):
    """A video of an index.

    Attributes:
        id: number of the video, never used again.
        metadata: the user's own.
        first_window: id of its first window; the others follow it.
        num_windows: n.
    """

    id: int
    metadata: Mapping[str, Any]
    first_window: int
    num_windows: int


@dataclass(frozen=True)
class Window:
    """A window of a video: a row of an index.

    Attributes:
        id: number of the window, never used again.
        file: absolute path of the video.
        start_s: where it starts, in seconds from the video's start.
        end_s: where it ends.
    """

    id: int
    file: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Text:
    """A text that belongs to a video.

    Attributes:
        start_s: where it begins to be valid, in seconds; None for the whole video.
        end_s: where it ends.
        kind: what it is, such as "subtitle".
        text: the text.
    """

    start_s: float | None
    end_s: float | None
    kind: str
    text: str


@dataclass(frozen=True)
class FoundText:
    """A text that answers a query.

    Attributes:
        video_id: the video that it belongs to.
        text: the text.
        score: bm25, higher is better.
    """

    video_id: int
    text: Text
    score: float


@dataclass(frozen=True)
class FailedFile(IndexedFile):
    """A file that was asked for and is not in the index.

    Attributes:
        root: an absolute folder.
        path: relative to it, with slashes.
        state: of the file; None if it is no file, such as a folder that cannot be listed.
        reason: why, in one line.
    """

    state: FileState | None
    reason: str


@dataclass(frozen=True)
class Block:
    """The vectors of one video in one space.

    Attributes:
        id: number of the block; a later block has a higher number.
        first_window: id of the first window.
        vectors: float32 (n, D), of this window and those that follow it.
    """

    id: int
    first_window: int
    vectors: Vectors


@dataclass(frozen=True)
class Removed:
    """Windows that are no longer in the index.

    Attributes:
        seq: number of the line; a later removal has a higher number.
        first_window: id of the first of the windows, which are adjacent.
        n: how many.
    """

    seq: int
    first_window: int
    n: int


@dataclass(frozen=True)
class Generation:
    """A FAISS file, made from the vectors of a space.

    Attributes:
        id: number of the generation; 0 for one that is not in an index yet.
        space_id: the space.
        file: name of the file in the folder of the index.
        size: bytes.
        sha256: of the file, 32 bytes.
        kind: the kind of FAISS index.
        upto_block: it holds the blocks up to this number.
        upto_removed: without the windows that were removed up to this number.
        count: how many vectors it holds.
        trained_on: how many vectors there were when it was trained.
    """

    id: int
    space_id: int
    file: str
    size: int
    sha256: bytes
    kind: str
    upto_block: int
    upto_removed: int
    count: int
    trained_on: int


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with an index.

    Attributes:
        where: the table or the file.
        what: what is wrong, in one line.
        is_derived: whether only a FAISS file is wrong, which can be made again.
    """

    where: str
    what: str
    is_derived: bool = False
