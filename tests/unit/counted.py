"""Find out from which of the `counted_videos` a clip comes: the last frame shows its number."""

import numpy as np

from tests.video_matrix import number_of
from vmr.data.sources.source import Pair
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip

SPEC = ClipSpec(4, 96, sampling="middle", crop="stretch", flip=False)


def num_frames(clip: np.ndarray) -> int:
    """How many frames the video of a clip has, which was read as SPEC says."""
    return 1 + number_of(clip[-1])


def num_frames_of(pair: Pair) -> int:
    """How many frames the video of a pair has."""
    return num_frames(read_train_clip(ClipJob(str(pair.path), SPEC, seed=(0,))))
