"""Ctrl-C and SIGTERM that wait for the end of a step, so that nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

STOPS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notes SIGINT (Ctrl-C) and SIGTERM instead of ending the process; a context manager.

    A SIGINT after the first signal ends the process at once. A signal that the process ignored before is ignored
    still. Python handles signals in the main thread only: in other threads this class does nothing.

    Attributes:
        received: the first signal; None before it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: handler for one in STOPS if (handler := signal.getsignal(one)) != signal.SIG_IGN}
        for one in self._before:
            signal.signal(one, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def flags(self) -> list[bool]:
        """For each of STOPS, whether it is the signal that was received."""
        return [self.received == one for one in STOPS]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the context has ended."""
    with StopSignals() as signals:
        yield
    if signals.received is not None:
        signal.raise_signal(signals.received)
