"""Where new shots begin: hard cuts, found by PySceneDetect in small pictures from our own reader.

So the times are those of the frames, whatever the frame rate. A flash, or another picture that is shown for a moment
and then gives way to what was there before, begins no shot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vmr.checks import require_extra
from vmr.data.decoding.video import VideoReader

_LONG_SIDE = 64  # pixels of the pictures that are compared
_FRAMES_PER_CALL = 64
_FLASH_S = 0.4  # what is shown for longer is a shot
_MOST_FLASH_FRAMES = 50  # at most so many pictures are kept, on either side, however many are shown in a second
_DELAY = 2  # the detector finds a cut when it has seen so many frames after it


def shot_cuts(video: VideoReader, tell: Callable[[], object] = lambda: None) -> tuple[float, ...]:
    """Find where new shots begin.

    All frames of the video are decoded. Memory does not grow with its length.

    Args:
        video: an open video.
        tell: is called again and again meanwhile.

    Returns:
        The times at which later shots than the first begin, in seconds, increasing, each that of a frame; empty if
        there is no cut. A cut in the first or last two frames is not found.

    Raises:
        MissingExtraError: PySceneDetect is not installed.
        VideoError: a frame cannot be decoded.
    """
    require_extra("shots", "scenedetect")
    import scenedetect
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(min_scene_len=1)
    num_near = min(round(_FLASH_S * video.fps), _MOST_FLASH_FRAMES)
    wait = max(num_near, _DELAY)
    shown: deque[NDArray[np.uint8]] = deque(maxlen=wait + num_near + 2)
    found: deque[int] = deque()
    cuts: list[int] = []
    for index, rgb in enumerate(_small_frames(video, tell)):
        shown.append(rgb)
        # PySceneDetect takes BGR, and a time of which only the number of the frame is used.
        time = scenedetect.FrameTimecode(index, video.fps)
        found += [cut.frame_num for cut in detector.process_frame(time, np.ascontiguousarray(rgb[..., ::-1]))]
        while found and (index - found[0] >= wait or index == video.num_frames - 1):
            cut = found.popleft()
            if not _is_flash(list(shown), cut - index - 1, num_near):
                cuts.append(cut)
    return tuple(video.timestamps_s[cuts].tolist())


def _is_flash(shown: list[NDArray[np.uint8]], place: int, num_near: int) -> bool:
    """Whether a cut is the begin or the end of a flash: what was there before it is shown again soon.

    Args:
        shown: the pictures around the cut.
        place: of the first picture after the cut, from the end of the list: negative.
        num_near: how many pictures before and after it are compared.
    """
    place += len(shown)
    before, after = shown[place - 1], shown[place]
    changed = _difference(before, after)
    again = [_difference(before, later) for later in shown[place + 1 : place + 1 + num_near]]
    again += [_difference(after, earlier) for earlier in shown[max(0, place - 1 - num_near) : place - 1]]
    return min(again, default=changed) < changed / 2


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _small_frames(video: VideoReader, tell: Callable[[], object]) -> Iterator[NDArray[np.uint8]]:
    """Yield all frames, uint8 RGB, (H, W, 3)."""
    scale = _LONG_SIDE / max(video.height, video.width)
    size = (max(1, round(video.height * scale)), max(1, round(video.width * scale)))
    for start in range(0, video.num_frames, _FRAMES_PER_CALL):
        tell()
        stop = min(start + _FRAMES_PER_CALL, video.num_frames)
        yield from video.frames_at(range(start, stop), size).transpose(0, 2, 3, 1)
