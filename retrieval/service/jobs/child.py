"""The process that does a job, seen from the server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from typing_extensions import Self

from vmr.data.decoding.worker_process import command_of
from vmr.retrieval.service.jobs.process import GRACE_S

_MAX_LINE_BYTES = 4 << 20
_PATIENCE_S = GRACE_S + 5.0  # after this the process is killed


class JobProcess:
    """A process that adds videos; a context manager that ends it. It ends with the server, however that ends.

    Args:
        request: what `vmr.retrieval.service.jobs.process` is to do.

    Attributes:
        has_ended: whether everything has been read that it says; the reader sets it.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self.has_ended = False

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *command_of("vmr.retrieval.service.jobs.process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the server, and it can be killed with the processes that it starts
        )
        self._killer: asyncio.TimerHandle | None = None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._request).encode() + b"\n")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        await self._process.wait()
        if self._killer is not None:
            self._killer.cancel()

    def stop(self) -> None:
        """Let the process end as after Ctrl-C; it is killed if that takes too long."""
        if self._killer is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._killer = asyncio.get_running_loop().call_later(_PATIENCE_S, self._kill)

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the process says, until it ends; the last line says how it ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            yield json.loads(line)
        status = await self._process.wait()
        if status:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            yield {"kind": "failed", "message": f"the process that adds videos {how}: add the same again to go on"}

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
