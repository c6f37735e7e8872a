"""Decoding training clips in worker processes, one job per clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.pool import JobPool
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.training.clips import ClipJob

Clip = NDArray[np.uint8] | DecodeFailure
"""The frames of a clip, uint8 (T, 3, S, S), or the failure."""


class ClipPool(JobPool[ClipJob, NDArray[np.uint8]]):
    """Worker processes that decode training clips, see `JobPool`.

    Args:
        options: the number of processes, how long a file may go without delivering anything, and whether a damaged
            video is a failure; the reader is that of each job.
    """

    def __init__(self, options: DecodeOptions = DecodeOptions()) -> None:
        super().__init__(options, lambda job, segment, remarks: segment.video)
