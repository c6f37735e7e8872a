"""Where new shots begin: hard cuts, found by PySceneDetect in small pictures from our own reader.

So the times are those of the frames, whatever the frame rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.video import VideoReader
from vmr.errors import MissingExtraError

_LONG_SIDE = 64  # pixels of the pictures that are compared
_FRAMES_PER_CALL = 64
_LEAST_SHOT_S = 0.6


def shot_cuts(video: VideoReader, tell: Callable[[], object] = lambda: None) -> tuple[float, ...]:
    """Find where new shots begin.

    All frames of the video are decoded. Memory does not grow with its length.

    Args:
        video: an open video.
        tell: is called again and again meanwhile.

    Returns:
        The times at which later shots than the first begin, in seconds, increasing, each that of a frame; empty if
        there is no cut.

    Raises:
        MissingExtraError: PySceneDetect is not installed.
        VideoError: a frame cannot be decoded.
    """
    scenedetect, detectors = _packages()
    least = max(1, round(_LEAST_SHOT_S * video.fps))
    detector = detectors.AdaptiveDetector(min_scene_len=least)
    cuts: list[int] = []
    for index, rgb in enumerate(_small_frames(video, tell)):
        time = scenedetect.FrameTimecode(index, video.fps)
        cuts += [cut.frame_num for cut in detector.process_frame(time, np.ascontiguousarray(rgb[..., ::-1]))]
    return tuple(video.timestamps_s[cuts].tolist())


def _packages() -> tuple[Any, Any]:
    try:
        import scenedetect
        from scenedetect import detectors
    except ModuleNotFoundError as error:
        raise MissingExtraError("PySceneDetect", "shots") from error
    return scenedetect, detectors


def _small_frames(video: VideoReader, tell: Callable[[], object]) -> Iterator[NDArray[np.uint8]]:
    scale = _LONG_SIDE / max(video.height, video.width)
    size = (max(1, round(video.height * scale)), max(1, round(video.width * scale)))
    for start in range(0, video.num_frames, _FRAMES_PER_CALL):
        frames = video.frames_at(range(start, min(start + _FRAMES_PER_CALL, video.num_frames)), size)
        yield from frames.transpose(0, 2, 3, 1)
        tell()
