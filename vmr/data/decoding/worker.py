"""The program of a decoding process: it reads requests as lines of JSON, and answers on its standard output.

It first sends {"kind": "ready"}. Then, for each request {"kind": "module:function", ...}, it calls that function. It
sends any number of segments, and one line of kind "video" or "failure" at the end. A segment is a line of JSON with
kind, start_s, end_s, shape and the numbers of its frames, followed by raw uint8 frames: those that the segment before
did not have, each once. In between it may send a "question"; the next line of input is the answer.

Nothing is pickled. If a hostile file takes over the decoder, the decoder can send wrong pictures, but no code to run.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any, BinaryIO, Literal

import numpy as np

from vmr.data.decoding.segments import Frame, Segments
from vmr.errors import VideoError

Lines = queue.SimpleQueue[bytes]


def main() -> None:
    """Serve requests from standard input until it ends."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)  # Ctrl-C, or a scheduler, tells all processes; the parent handles it
    requests, replies = take_over(0), take_over(1)
    lines: Lines = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, lines), daemon=True).start()
    _send(replies, {"kind": "ready"})
    while True:
        _serve(json.loads(lines.get()), lines, replies)


def take_over(descriptor: Literal[0, 1]) -> BinaryIO:
    """Return a private copy of standard input or output, which is redirected: libraries cannot read or print there."""
    private: BinaryIO = os.fdopen(os.dup(descriptor), "wb" if descriptor else "rb")
    if descriptor == 1:
        os.dup2(2, 1)
    else:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    return private


def _listen(requests: BinaryIO, lines: Lines) -> None:
    """Put requests into the queue; end the process when the parent has ended, even if the decoder hangs."""
    for line in requests:
        lines.put(line)
    os._exit(0)


def _segments(request: dict[str, Any], lines: Lines, replies: BinaryIO) -> Segments:
    """Call the function of vmr that the request names."""
    module, _, function = request.pop("kind").partition(":")

    def ask(question: dict[str, Any]) -> Any:
        _send(replies, {"kind": "question", "question": question})
        return json.loads(lines.get())

    segments: Segments = getattr(import_module(module), function)(request, ask)
    return segments


def _serve(request: dict[str, Any], lines: Lines, replies: BinaryIO) -> None:
    try:
        with contextlib.closing(_segments(request, lines, replies)) as segments:
            end = _send_segments(segments, replies)
    except BrokenPipeError:
        sys.exit(0)
    except VideoError as error:
        end = {"kind": "failure", "reason": error.reason}
    except Exception as error:  # an unexpected error with one file must not end the work on the others
        end = {"kind": "failure", "reason": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    _send(replies, end)


def _send_segments(segments: Segments, replies: BinaryIO) -> dict[str, Any]:
    """Send all segments; return the line that ends them."""
    num_segments, end_s = 0, 0.0
    before: frozenset[int] = frozenset()
    while True:
        try:
            segment = next(segments)
        except StopIteration as end:
            return {"kind": "video", "num_segments": num_segments, "duration_s": end_s, **asdict(end.value)}
        num_segments, end_s = num_segments + 1, max(end_s, segment.end_s)
        header = {
            "kind": "segment",
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "shape": (len(segment.frames), *segment.frames[0].shape),
            "numbers": segment.numbers,
        }
        shown = dict(zip(segment.numbers, segment.frames, strict=True))
        _send(replies, header, [frame for number, frame in shown.items() if number not in before])
        before = frozenset(shown)


def _send(replies: BinaryIO, header: dict[str, Any], frames: Sequence[Frame] = ()) -> None:
    replies.write(json.dumps(header).encode() + b"\n")
    for frame in frames:
        replies.write(np.ascontiguousarray(frame).data)
    replies.flush()
