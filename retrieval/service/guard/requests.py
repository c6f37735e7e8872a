"""How large a request may be, and how long its answer may take to begin."""

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmr.retrieval.service.guard.problem import problem
from vmr.retrieval.service.options import Limits

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

Bodies = Sequence[tuple[re.Pattern[str], int]]
"""Which paths take forms with files, and of how many bytes."""

_DIGITS = 20  # of a length; Python refuses to read numbers of thousands


def takes_up_to(limit: str) -> Callable[[Endpoint], Endpoint]:
    """Let a route take larger forms with files than others do; a decorator of its function, below that of the router.

    Args:
        limit: the field of `Limits` that says how many bytes the files may have.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["body_limit"] = limit
        return endpoint

    return decorate


class RequestLimits:
    """Refuses requests that are too large, as soon as that is known, and those whose answers do not begin in time.

    Args:
        app: answers the others.
        limits: the limits.
        bodies: the paths that take forms with files.
    """

    def __init__(self, app: ASGIApp, limits: Limits, bodies: Bodies) -> None:
        self._app, self._limits, self._bodies = app, limits, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse the request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        one = _Request(scope, receive, send, self._most(scope), self._limits.answer_s)
        try:
            self._check_head(scope)
            one.check_length()
        except HTTPException as error:
            return await one.refuse(error)
        try:
            await self._app(scope, one.receive, one.send)
        except asyncio.CancelledError:
            if not one.is_late:
                raise
            if sys.version_info >= (3, 11) and (task := asyncio.current_task()) is not None:
                task.uncancel()
            await one.refuse(HTTPException(504, "this took too long: try again later, or ask for less"))
        finally:
            one.has_begun()
        return None

    def _most(self, scope: Scope) -> int:
        """How many bytes the body may have: JSON takes many times its size in memory, files of forms do not."""
        if not Headers(scope=scope).get("content-type", "").lower().startswith("multipart/"):
            return self._limits.body_bytes
        return self._limits.body_bytes + next((size for path, size in self._bodies if path.match(scope["path"])), 0)

    def _check_head(self, scope: Scope) -> None:
        target = len(scope["raw_path"] if "raw_path" in scope else scope["path"]) + len(scope["query_string"])
        if target > self._limits.target_bytes:
            raise HTTPException(414, f"the address has {target} bytes: at most {self._limits.target_bytes} are read")
        if len(scope["headers"]) > self._limits.headers:
            raise HTTPException(431, f"{len(scope['headers'])} headers: at most {self._limits.headers} are read")
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._limits.header_bytes:
            raise HTTPException(431, f"headers of {size} bytes: at most {self._limits.header_bytes} are read")


class _Request:
    """A request whose body is counted, and whose answer has to begin in time."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int, answer_s: float) -> None:
        headers = Headers(scope=scope)
        self._scope, self._receive, self._send, self._most, self._answer_s = scope, receive, send, most, answer_s
        self._length = headers.get("content-length", "")
        self._is_read = not self._length and "transfer-encoding" not in headers
        self._size = 0
        self.is_late = False
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(answer_s, self._be_late)

    def check_length(self) -> None:
        if len(self._length) > _DIGITS or (self._length.isdecimal() and int(self._length) > self._most):
            raise HTTPException(413, f"a body of {self._length[:_DIGITS]} bytes: at most {self._most} are read here")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not self._is_read:
            self._size += len(message.get("body", b""))
            self._is_read = not message.get("more_body", False)
            if self._size > self._most:
                self._is_read = False  # nothing else of it will be
                raise HTTPException(413, f"the body is larger than the {self._most} bytes that are read here")
            if not self._timer.cancelled():
                self._restart()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun()
            if not self._is_read:  # the rest would be read, and thrown away, before the next request
                MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    def has_begun(self) -> None:
        self._timer.cancel()

    async def refuse(self, error: HTTPException) -> None:
        await problem(error.status_code, error.detail)(self._scope, self._receive, self.send)

    def _restart(self) -> None:
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._answer_s, self._be_late)

    def _be_late(self) -> None:
        self.is_late = True
        if self._task is not None:
            self._task.cancel()
