"""The views of many videos, decoded in worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.other_readers import check_reader
from vmr.data.decoding.pool import JobPool
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.data.remark import Remark
from vmr.data.views.spec import ViewSpec
from vmr.data.views.trimmed import Span
from vmr.data.views.view_job import Frame, ViewJob, views_of

_Decoded = tuple[tuple[Frame, ...], tuple[Remark, ...]]

_VIDEOS_AHEAD = 2  # for each worker: decoded, or waiting to be, before their views are asked for


@dataclass(frozen=True)
class ViewItem:
    """What views are taken from.

    Attributes:
        path: a video, a still picture, or a folder of numbered pictures.
        span: the part of a video in seconds; None for all of it.
    """

    path: str
    span: Span | None = None


@dataclass(frozen=True)
class Views:
    """The views of a file.

    Attributes:
        pixels: uint8 RGB in [0, 255], (num_views, T, 3, S, S), see `read_views`.
        remarks: what was noticed about the file, see `VideoReader.remarks`.
    """

    pixels: NDArray[np.uint8]
    remarks: tuple[Remark, ...] = ()


def decode_views(
    items: Iterable[ViewItem], spec: ViewSpec, decode: DecodeOptions = DecodeOptions()
) -> Generator[tuple[ViewItem, Views | DecodeFailure], None, None]:
    """Decode the views of many files. Each file is decoded once for all its views.

    Only a few files are decoded in advance. Leaving the loop early ends the workers.

    Args:
        items: the files.
        spec: the views.
        decode: the reader, the number of processes, how long to wait for a file, and whether damage is a failure.

    Yields:
        Each item in the order given, and its views; or why it could not be read, which does not end the loop.

    Raises:
        VmrError: a worker cannot start, or the reader's package is missing.
    """
    check_reader(decode.reader)
    waiting: deque[tuple[ViewItem, Future[_Decoded | DecodeFailure]]] = deque()
    upcoming = iter(items)
    pool: JobPool[ViewJob, _Decoded] = JobPool(decode, lambda job, segment, remarks: (segment.frames, remarks))
    try:
        while True:
            room = _VIDEOS_AHEAD * pool.num_workers - len(waiting)
            for item in islice(upcoming, room):
                waiting.append((item, pool.submit(ViewJob(item.path, spec, item.span, decode.reader))))
            if not waiting:
                return
            item, future = waiting.popleft()
            decoded = future.result()
            if isinstance(decoded, DecodeFailure):
                yield item, decoded
            else:  # cropped only now, because the views take more memory than the frames
                frames, remarks = decoded
                yield item, Views(views_of(frames, spec), remarks)
    finally:
        pool.close()
