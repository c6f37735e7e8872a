"""Work that several requests wait for, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class SharedWork:
    """Work by its key. Whoever asks for what is being done waits for it; when nobody waits, it is cancelled."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[asyncio.Task[Any], list[None]]] = {}

    async def once(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of some work, which is begun unless it is being done.

        Args:
            key: of the work.
            work: does it.

        Raises:
            Exception: as the work, for all who wait for it.
        """
        if key not in self._running:
            begun = asyncio.ensure_future(work())
            begun.add_done_callback(_look)
            self._running[key] = (begun, [])
        task, waiting = self._running[key]
        waiting.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.pop()
            if not waiting:
                task.cancel()
                self._running.pop(key, None)


def _look(task: asyncio.Task[Any]) -> None:
    """Look at the error of some work, which is logged otherwise if all who waited have left."""
    if not task.cancelled():
        task.exception()
