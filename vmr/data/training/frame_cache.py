"""Decoded frames kept on disk, for small data sets that are read in many epochs.

A video becomes one .npy file of `num_frames` evenly spaced frames (all frames of a shorter video). They are scaled down
so that their short side is at most `short_side` pixels, and kept as uncompressed uint8, so that a clip reads only the
frames that it takes. The size of a file is num_frames * 3 * short side * long side bytes, such as 64 * 3 * 256 * 341 =
17 MB. A video that has changed gets a new file; nothing is ever deleted.
"""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import middle_indices
from vmr.data.decoding.video import VideoReader, with_video
from vmr.errors import VideoError, VmrError
from vmr.files import write_atomically


def cached_frames(path: str, folder: str, num_frames: int, short_side: int, reader: str) -> NDArray[np.uint8]:
    """Return the cached frames of a video, which is decoded if it is not in the cache.

    Several processes may do so at once. If the folder cannot be written to, the video is decoded every time.

    Args:
        path: the video.
        folder: the folder of the cache.
        num_frames: the largest number of frames to keep.
        short_side: the upper limit of the frames' short side, in pixels.
        reader: the library that decodes, see `VideoReader`.

    Returns:
        uint8 RGB (n, 3, h, w), where n is at most num_frames.

    Raises:
        VideoError: the video cannot be read.
    """
    place = Path(path)
    try:
        about = place.stat()
    except OSError as error:
        raise VideoError(path, error.strerror or "cannot be read") from None
    facts = (str(place.absolute()), about.st_size, about.st_mtime_ns, num_frames, short_side, reader)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()
    file = Path(folder) / key[:2] / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # absent or incomplete: make it again
        kept: NDArray[np.uint8] = np.load(file, mmap_mode="r")
        return kept
    frames = with_video(path, reader, lambda video: _decode(video, num_frames, short_side))
    with contextlib.suppress(VmrError):
        write_atomically(file, lambda out: np.save(out, frames))
    return frames


def _decode(video: VideoReader, num_frames: int, short_side: int) -> NDArray[np.uint8]:
    indices = middle_indices(min(num_frames, video.num_frames), video.num_frames).tolist()
    short = min(video.height, video.width)
    if short <= short_side:
        return video.frames_at(indices)
    return video.frames_at(indices, (video.height * short_side // short, video.width * short_side // short))
