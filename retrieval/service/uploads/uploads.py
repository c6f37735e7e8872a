"""What a search by a picture or a clip needs: from an uploaded file to a vector."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vmr.data.decoding.segments import FrameSpec
from vmr.errors import VideoError
from vmr.retrieval.service.options import Limits
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.uploads.decoding import FUNCTION
from vmr.retrieval.service.uploads.receiving import Form, ReceivedFile, on_disk, received

_MAX_AT_ONCE = 8  # uploads of the largest size; there may be many more small ones


class Embeds(Protocol):
    """What embeds frames, such as `ServedIndex`."""

    async def frames(self) -> FrameSpec:
        """Say which frames its encoder takes of a video."""

    async def embed_video(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed the frames of a video, (T, 3, S, S): (D,)."""


class Uploads:
    """Receives pictures and clips, and embeds them.

    Args:
        index: embeds frames.
        processes: in which files are decoded.
        limits: how large files, pictures and clips may be.
    """

    def __init__(self, index: Embeds, processes: Processes, limits: Limits) -> None:
        self._index, self._processes, self._limits = index, processes, limits
        self._held_bytes = 0  # in memory and on the disk, of all uploads that are not done with

    @contextlib.asynccontextmanager
    async def received(self, request: Request, max_files: int = 1) -> AsyncIterator[Form]:
        """Read a form with files within limits. Its files vanish with the context.

        Args:
            request: the request; nobody has read its body, so the route must not declare a form or a body.
            max_files: how many files it may have.

        Raises:
            HTTPException: 408, 413, 415 or 422, see `vmr.retrieval.service.uploads.receiving.received`; 503 if others
                have uploaded too much.
        """
        held_bytes = 0

        def hold(num_bytes: int) -> None:
            nonlocal held_bytes
            if self._held_bytes + num_bytes > _MAX_AT_ONCE * self._limits.upload_bytes:
                raise HTTPException(503, "too many uploads at the same time: try again later", {"Retry-After": "5"})
            self._held_bytes += num_bytes
            held_bytes += num_bytes

        try:
            async with received(request, self._limits.upload_bytes, hold, max_files) as form:
                yield form
        finally:
            self._held_bytes -= held_bytes

    async def vector_of(self, file: ReceivedFile) -> tuple[NDArray[np.float32], str]:
        """Embed a picture, or a clip as a whole.

        Args:
            file: of a form that is open.

        Returns:
            The vector, (D,), of unit length; and what was searched for in words, such as "like cat.jpg".

        Raises:
            HTTPException: 413 if it has too many pixels or lasts too long; 415 if it is neither a picture nor a video;
                422 if it is damaged.
            TimeLimitError: it takes too long to decode.
            BusyError: too many files wait to be decoded.
        """
        frames = await self._index.frames()
        wanted = (frames.num_frames, 3, frames.size, frames.size)
        async with on_disk(file) as path:
            request = {
                "path": str(path),
                "spec": asdict(frames),
                "pixels": self._limits.upload_pixels,
                "seconds": self._limits.upload_s,
            }
            try:
                answer = await self._processes.run(FUNCTION, request, file.name)
            except VideoError as error:
                raise HTTPException(422, f"{file.name}: {error.reason}") from None
        if "status" in answer.values:
            raise HTTPException(int(answer.values["status"]), f"{file.name}: {answer.values['reason']}")
        if [picture.shape for picture in answer.pictures] != [wanted]:
            raise HTTPException(422, f"{file.name}: the decoder sent an answer that is not valid")
        return await self._index.embed_video(answer.pictures[0]), f"like {file.name}"
