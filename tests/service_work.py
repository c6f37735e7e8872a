"""Functions that the tests of the service run in its decoding processes."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from vmr.errors import VideoError


def double(request: dict[str, Any]):
    """Answer with twice a number, the number of the process, and pictures of two shapes."""
    pictures = [np.full((2, 3, 4), 7, np.uint8), np.frombuffer(b"bytes", np.uint8)]
    return {"number": 2 * request["number"], "process": os.getpid()}, pictures


def refuse(request: dict[str, Any]):
    """Say that the file is no video."""
    raise VideoError("elsewhere", "is no video")


def hang(request: dict[str, Any]):
    """Say that it began, and never answer."""
    Path(request["began"]).touch()
    time.sleep(1000)


def crash(request: dict[str, Any]):
    """End as a decoder that reads freed memory."""
    os.kill(os.getpid(), 11)


def fill_memory(request: dict[str, Any]):
    """Ask for much more memory than a video needs."""
    return {"sum": int(np.ones(10 * 2**30, np.uint8).sum())}, []


def send_much(request: dict[str, Any]):
    """Send more bytes than were asked for."""
    return {}, [np.zeros(1000, np.uint8)]
