"""The process that decodes for `DecodePool` and `ClipPool`: told what by JSON lines, answering on its standard output.

It says {"kind": "ready"}, then for each request (the fields of a `SegmentsJob` or a `ClipJob`) any number of segments,
one for a `ClipJob`, and one line of kind "video" or "failure". A segment is a JSON line with kind, start_s, end_s and
shape, then the raw uint8 frames. Nothing is pickled: a decoder that a hostile file has taken over can send wrong
pictures, but no code to run.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any, BinaryIO, cast

from vmr.data.decoding.segments import DecodedSegment, FrameSpec, read_clip
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip
from vmr.errors import VideoError


def main() -> None:
    """Serve requests from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides what ends
    requests, replies = _take_over(0, os.O_RDONLY, "rb"), _take_over(1, os.O_WRONLY, "wb")
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, lines), daemon=True).start()
    _send(replies, {"kind": "ready"})
    while True:
        _serve(json.loads(lines.get()), replies)


def _take_over(descriptor: int, flags: int, mode: str) -> BinaryIO:
    """Keep a standard stream for ourselves: what a library prints must not land between our bytes."""
    private = cast("BinaryIO", os.fdopen(os.dup(descriptor), mode))
    if descriptor == 1:
        os.dup2(2, 1)
    else:
        nothing = os.open(os.devnull, flags)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    return private


def _listen(requests: BinaryIO, lines: "queue.SimpleQueue[bytes]") -> None:
    """Pass requests on; leave at once when the parent is gone, even if the decoder hangs."""
    for line in requests:
        lines.put(line)
    os._exit(0)


def _decode(request: dict[str, Any]) -> Generator[DecodedSegment, None, None]:
    if "seed" in request:
        spec, seed = ClipSpec(**request.pop("spec")), tuple(request.pop("seed"))
        job = ClipJob(spec=spec, seed=seed, **request)
        yield DecodedSegment(job.path, 0.0, 0.0, read_train_clip(job))
    else:
        yield from read_clip(request["path"], FrameSpec(**request["spec"]))


def _serve(request: dict[str, Any], replies: BinaryIO) -> None:
    num_segments, end_s = 0, 0.0
    try:
        with contextlib.closing(_decode(request)) as segments:
            for segment in segments:
                num_segments, end_s = num_segments + 1, segment.end_s
                header = {"kind": "segment", "start_s": segment.start_s, "end_s": end_s, "shape": segment.video.shape}
                _send(replies, header, segment.video.tobytes())
    except BrokenPipeError:
        sys.exit(0)
    except VideoError as error:
        _send(replies, {"kind": "failure", "reason": error.reason})
    except Exception as error:  # one strange file must not end the job for the others
        reason = " ".join(str(error).split())
        _send(replies, {"kind": "failure", "reason": f"{type(error).__name__}: {reason}"})
    else:
        _send(replies, {"kind": "video", "num_segments": num_segments, "duration_s": end_s})


def _send(replies: BinaryIO, header: dict[str, Any], frames: bytes = b"") -> None:
    replies.write(json.dumps(header).encode() + b"\n" + frames)
    replies.flush()
