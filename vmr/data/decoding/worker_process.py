"""One decoding process, seen from the program that starts it.

The workers are plain programs on pipes, not `multiprocessing`: spawn and forkserver run the user's main script again in
each worker (a ten-line script without a `__main__` guard would start itself over), and fork is unsafe once torch or
OpenMP threads run. They are processes, not threads, because a decoder that hangs or crashes in C can only be ended with
its process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from vmr.data.decoding.segments import DecodedSegment
from vmr.errors import VmrError

_START_S = 120.0  # for a worker to start on a busy machine
_LONGEST_HEADER = 1 << 16


class DecodeJob(Protocol):
    """What a decoding process can be told to do with one file."""

    @property
    def kind(self) -> str:
        """The function of vmr that does it in the process, as "module:function"; see `vmr.data.decoding.worker`."""

    @property
    def path(self) -> str:
        """The file."""

    def request(self) -> dict[str, Any]:
        """Return what the function is told, as JSON."""

    def answer(self, question: dict[str, Any]) -> Any:
        """Return, as JSON, the answer to a question that the function asks."""

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether a segment may have this shape: a process is not trusted to say how much to read."""


@dataclass(frozen=True)
class DecodedVideo:
    """The end of a video: all its segments have been given.

    Attributes:
        path: the video.
        num_segments: how many there were.
        duration_s: where the last one ends.
    """

    path: str
    num_segments: int
    duration_s: float


@dataclass(frozen=True)
class DecodeFailure:
    """The end of a video that could not be decoded, or not to its end.

    Attributes:
        path: the video.
        reason: why, in one line.
    """

    path: str
    reason: str


Decoded = DecodedSegment | DecodedVideo | DecodeFailure


class _WorkerLostError(Exception):
    """The worker is gone; the message says why."""


class WorkerProcess:
    """A decoding process, started when it is first needed, and again after it was lost.

    Args:
        timeout_s: how many seconds it may take for each answer.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, job: DecodeJob) -> Iterator[Decoded]:
        """Yield what the process makes of one file: segments, then one end, good or bad.

        Raises:
            VmrError: the process cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            self._send({"kind": job.kind, **job.request()})
            while True:
                with self._watched(self._timeout_s):
                    item = self._next_item(job)
                yield item
                if not isinstance(item, DecodedSegment):
                    return
        except (OSError, _WorkerLostError) as error:
            self.end()
            yield DecodeFailure(job.path, str(error))
        except VmrError:  # of whoever answers the questions; the process still waits for an answer
            self.end()
            raise

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer learns that it is gone."""
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """End the process and leave nothing of it behind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (self._requests, self._replies, self._stderr):
                with contextlib.suppress(OSError):  # a request that was never read cannot be flushed any more
                    stream.close()

    def _start(self) -> None:
        self.end()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process lives
        command = [sys.executable, "-c", _WORKER_PROGRAM, *_import_path()]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert process.stdin is not None and process.stdout is not None
        self._requests, self._replies, self._process = process.stdin, process.stdout, process
        try:
            with self._watched(_START_S):
                self._header()
        except _WorkerLostError as error:
            self.end()
            raise VmrError(f"the decoding process does not start: {error}") from None

    def _send(self, message: Any) -> None:
        self._requests.write(json.dumps(message).encode() + b"\n")
        self._requests.flush()

    def _next_item(self, job: DecodeJob) -> Decoded:
        header, path = self._header(), job.path
        try:
            while header["kind"] == "question":
                self._send(job.answer(header["question"]))
                header = self._header()
            if header["kind"] == "failure":
                return DecodeFailure(path, str(header["reason"]))
            if header["kind"] == "video":
                return DecodedVideo(path, int(header["num_segments"]), float(header["duration_s"]))
            if not job.accepts(header["shape"]):
                raise ValueError
            video = np.empty(header["shape"], np.uint8)
            if self._replies.readinto(video.data.cast("B")) < video.nbytes:  # type: ignore[attr-defined]
                raise EOFError
            return DecodedSegment(path, float(header["start_s"]), float(header["end_s"]), video)
        except (KeyError, TypeError, ValueError):
            raise _WorkerLostError("the decoder gave an answer that makes no sense") from None

    def _header(self) -> Any:
        line = self._replies.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            return json.loads(line)
        except ValueError:
            raise _WorkerLostError("the decoder gave an answer that makes no sense") from None

    @contextlib.contextmanager
    def _watched(self, timeout_s: float) -> Iterator[None]:
        """Kill the worker if it takes longer than this; say why, if its answer ends early."""
        process = self._process
        if process is None:
            raise _WorkerLostError("the decoder was stopped")
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        watchdog = threading.Timer(timeout_s, expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        except EOFError:
            late = f"no answer for {timeout_s:g} s, decoder stopped"
            raise _WorkerLostError(late if expired.is_set() else self._how_it_ended(process)) from None
        finally:
            watchdog.cancel()
            watchdog.join()

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            status = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the decoder stopped answering"
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (out of memory, or ended by hand)" if name == "SIGKILL" else ""
            return f"the decoder was killed by {name}{hint}"
        self._stderr.seek(0)
        last_words = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"the decoder exited with status {status}" + "".join(f": {line}" for line in last_words)


# Started with -c rather than -m: -m would search the current folder first, where a user may keep a file named av.py,
# and only Python 3.11 has an option against that.
_WORKER_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from vmr.data.decoding.worker import main; main()"


def _import_path() -> list[str]:
    """Where the worker looks for modules: where this process does, save for the current folder and the script's own.

    Those two are the user's, and a file there may bear the name of a module that the worker needs. A vmr that was
    itself found there, or through the hook of an editable install, is put first.
    """
    package_root = str(Path(__file__).absolute().parents[3])
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    users = {str(Path.cwd()), str(Path(script).absolute().parent) if script else ""}
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    path = [entry for entry in path if entry not in users]
    return path if package_root in path else [package_root, *path]
