"""Functions that are run in a fork of this process: one that crashes or hangs does no harm, and leaves nothing open.

A fork of a process that has threads may hang, so only programs of `tests.faults` use this, which have none.
"""

import faulthandler
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any

from tests.patience import PATIENCE_S


class ChildError(Exception):
    """What went wrong in a child: an error that it did not handle, with its kind, or the signal that killed it."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


def start(function: Callable[[], object]) -> int:
    """Run a function in a child; returns the id of its process, which ends with the function."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def call(function: Callable[[], Any], seconds: int = PATIENCE_S) -> Any:
    """Run a function in a child and return its value.

    Raises:
        ChildError: the function raised an error, or the child crashed or took too long.
    """
    return begin(function, seconds)()


def begin(function: Callable[[], Any], seconds: int = PATIENCE_S) -> Callable[[], Any]:
    """Begin to run a function in a child; returns what waits for it, as `call` does."""
    read_end, write_end = os.pipe()

    def run() -> None:
        faulthandler.dump_traceback_later(max(1, seconds - 5))  # says where a child hangs
        signal.alarm(seconds)
        try:
            result = ("value", function())
        except BaseException as error:
            result = (type(error).__name__, str(error) or traceback.format_exc())
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump(result, pipe)

    child = start(run)
    os.close(write_end)

    def end() -> Any:
        with os.fdopen(read_end, "rb") as pipe:
            data = pipe.read()
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            raise ChildError(signal.Signals(os.WTERMSIG(status)).name, "the process was killed")
        kind, value = pickle.loads(data)
        if kind != "value":
            raise ChildError(kind, value)
        return value

    return end
