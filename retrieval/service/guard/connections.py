"""How many connections there may be, and how slow they may be.

A server that waits for ever for the next byte of a request can be filled with connections that send nothing (slow
headers, slow bodies) or take nothing. uvicorn limits the time between two requests alone, so its protocol is watched
here, where the bytes arrive.
"""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from vmr.retrieval.service.options import Limits

_LOOKS = 10  # at a connection, in the shortest time that it is given


def connections_within(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol of connections within limits, as `uvicorn.Config` takes it for `http`.

    Args:
        limits: the limits.
    """
    return type("LimitedConnection", (_Connection,), {"limits": limits})


class _Connection(H11Protocol):
    """A connection that is looked at now and then, and ended if what it waits for has taken too long."""

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.limits
        self._every_s = min(1.0, min(limits.header_s, limits.body_s, limits.stalled_s) / _LOOKS)
        self._phase: tuple[object, ...] = ()
        self._since = self._next_look = self.loop.time()
        self._received = self._pauses = 0
        self._look_later = self.loop.call_later(self._every_s, self._look)
        if len(self.connections) > limits.connections:
            self._refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_later.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if not self.transport.is_closing():
            super().data_received(data)

    def pause_writing(self) -> None:
        self._pauses += 1
        super().pause_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP, or has headers without an end."""
        self._refuse(400, "this is no request of HTTP/1.1, or its headers are too large")

    def _look(self) -> None:
        self._look_later = self.loop.call_later(self._every_s, self._look)
        now, phase = self.loop.time(), self._now_in()
        if phase != self._phase:
            self._phase, self._since, self._received = phase, now, 0
        waited = now - self._since
        match phase:
            case ("head", _) if waited > self.limits.header_s:
                if self.conn.trailing_data[0]:
                    self._refuse(408, f"the headers did not arrive within {self.limits.header_s:g} s")
                else:
                    self.transport.close()
            case ("body", _) if waited > self.limits.body_s + self._received / self.limits.body_rate:
                self.transport.abort()
            case ("stalled" | "closing", _) if waited > self.limits.stalled_s:
                self.transport.abort()

    def _now_in(self) -> tuple[object, ...]:
        """What the connection waits for, and what tells this time from the next."""
        if self.transport.is_closing():
            return ("closing", self.cycle)
        if self.flow.write_paused:
            return ("stalled", self._pauses)
        if self.conn.their_state is h11.IDLE:
            return ("head", self.cycle)
        if self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            return ("body", self.cycle)
        return ("answer", self.cycle)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in place of the application, and end the connection."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps({"detail": detail}).encode()
        headers: list[Any] = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
