"""Work that is given up when the client has gone away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import HTTPException, Request

T = TypeVar("T")

_LOOK_S = 0.25  # most work is done before


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work as long as the client waits for it.

    Args:
        request: whose body was read.
        work: is cancelled when the client has gone away.

    Returns:
        The result of the work.

    Raises:
        HTTPException: the client has gone away; nobody sees it.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            if await request.is_disconnected():
                raise HTTPException(408, "the client has gone away")
        return task.result()
    finally:
        task.cancel()
