"""One decoding process, seen from the program that starts it.

The workers are programs that are connected by pipes. They do not use `multiprocessing`: its methods spawn and
forkserver run the user's main script again in each worker, so that a short script without a `__main__` guard would
start itself again, and fork is unsafe when threads of torch or OpenMP run. The workers are processes and not threads,
because a decoder that hangs or crashes in C can be ended only by ending its process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from vmr.data.decoding.segments import DecodedSegment, Frame, Part
from vmr.data.decoding.segments_job import WorkerMessageError
from vmr.data.remark import Remark
from vmr.errors import VmrError
from vmr.from_json import from_json
from vmr.memory import peak_bytes

_START_TIMEOUT_S = 120.0  # a worker may take long to start on a busy machine
_MAX_HEADER_BYTES = 1 << 16


class DecodeJob(Protocol):
    """A job that a decoding process can do with one file."""

    @property
    def kind(self) -> str:
        """The function of vmr that does the job, as "module:function"; see `vmr.data.decoding.worker`."""

    @property
    def path(self) -> str:
        """The file."""

    def request(self) -> dict[str, Any]:
        """Return the argument of the function, as a JSON object."""

    def answer(self, question: dict[str, Any]) -> Any:
        """Return the answer to a question of the function, as JSON."""

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether a segment may have this shape; the process is not trusted to say how many bytes to read."""


@dataclass(frozen=True)
class DecodedVideo:
    """The end of a video: all its segments have been delivered.

    Attributes:
        path: the video.
        num_segments: the number of segments.
        duration_s: the end of the last segment, in seconds.
        remarks: what was noticed about the video, see `VideoReader.remarks`.
        width: of its pictures, upright, in pixels; 0 if it was not looked at.
        height: likewise.
    """

    path: str
    num_segments: int
    duration_s: float
    remarks: tuple[Remark, ...] = ()
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class DecodeFailure:
    """The end of a video that could not be decoded completely.

    Attributes:
        path: the video.
        reason: why, in one line.
        is_damage: whether it was decoded, but with damage, and damaged videos are left out.
    """

    path: str
    reason: str
    is_damage: bool = False


@dataclass(frozen=True)
class DecodedPart:
    """The end of a part of a video: its segments have been delivered, and those of other parts not yet.

    Attributes:
        path: the video.
        part: the part.
    """

    path: str
    part: Part


@dataclass(frozen=True)
class DecodeRestart:
    """A video must be decoded as a whole: all its segments come again, from the first on.

    Attributes:
        path: the video.
    """

    path: str


Decoded = DecodedSegment | DecodedPart | DecodeRestart | DecodedVideo | DecodeFailure


def damage_failure(path: str, remarks: Sequence[Remark]) -> DecodeFailure | None:
    """Make the failure of a damaged video that is to be left out; None if no damage was noticed."""
    texts = [remark.text for remark in remarks if remark.kind == "damage"]
    return DecodeFailure(path, texts[0], is_damage=True) if texts else None


class _WorkerLostError(Exception):
    """The worker has ended; the message says why."""


class WorkerProcess:
    """A decoding process. It is started at the first job, and again if it has ended.

    Args:
        timeout_s: how many seconds the process may take for each answer.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: dict[int, Frame] = {}  # the frames of the segment before, by their numbers

    def decode(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job in the process.

        Args:
            job: the job.

        Yields:
            The segments of the file, and at the end one `DecodedVideo`, `DecodeFailure` or, for a part of a video,
            `DecodeRestart`.

        Raises:
            VmrError: the process cannot be started.
            Exception: whatever the job raises when it answers a question.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            self._shown = {}
            self._send({"kind": job.kind, **job.request()})
            while True:
                with self._time_limit(self._timeout_s):
                    item = self._next_item(job)
                if item is not None:
                    yield item
                if isinstance(item, DecodedVideo | DecodeFailure | DecodeRestart):
                    return
        except (OSError, _WorkerLostError, WorkerMessageError) as error:
            self.end()
            yield DecodeFailure(job.path, str(error))
        except BaseException:  # raised by job.answer; the process still waits for an answer
            self.end()
            raise

    def peak_bytes(self) -> int:
        """Return the most memory that the process has used; 0 if it does not run, see `vmr.memory.peak_bytes`."""
        process = self._process
        return 0 if process is None else peak_bytes(process.pid)

    def kill(self) -> None:
        """Kill the process. A thread that waits for its answer gets a `DecodeFailure`."""
        process = self._process
        if process is not None:
            process.kill()

    def end(self) -> None:
        """Kill the process, wait for its end, and close its pipes. Does nothing if it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (self._requests, self._replies, self._stderr):
                with contextlib.suppress(OSError):  # a request that was never read cannot be flushed
                    stream.close()

    def _start(self) -> None:
        self.end()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process lives
        command = command_of("vmr.data.decoding.worker")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
        assert process.stdin is not None and process.stdout is not None
        self._requests, self._replies, self._process = process.stdin, process.stdout, process
        try:
            with self._time_limit(_START_TIMEOUT_S):
                self._header()
        except (_WorkerLostError, WorkerMessageError) as error:
            self.end()
            raise VmrError(f"the decoding process does not start: {error}") from None

    def _send(self, message: Any) -> None:
        self._requests.write(json.dumps(message).encode() + b"\n")
        self._requests.flush()

    def _next_item(self, job: DecodeJob) -> Decoded | None:
        """Read what comes next; answer it, and return None, if it is a question."""
        path, header = job.path, self._header()
        if header.get("kind") == "question":
            self._send(job.answer(header.get("question", {})))
            return None
        try:
            if header["kind"] == "failure":
                return DecodeFailure(path, str(header["reason"]))
            if header["kind"] == "video" and header["is_unsound"]:
                return DecodeRestart(path)
            if header["kind"] == "video":
                remarks = tuple(from_json(Remark, remark, "") for remark in header["remarks"])
                counts = {name: int(header[name]) for name in ("num_segments", "width", "height")}
                return DecodedVideo(path, duration_s=float(header["duration_s"]), remarks=remarks, **counts)
            if not job.accepts(header["shape"]):
                raise ValueError
            numbers = tuple(int(number) for number in header["numbers"])
            self._read_frames(numbers, *header["shape"])
            pictures = tuple(self._shown[number] for number in numbers)
            return DecodedSegment(path, float(header["start_s"]), float(header["end_s"]), pictures, numbers)
        except (KeyError, TypeError, ValueError, VmrError):
            raise WorkerMessageError from None

    def _read_frames(self, numbers: Sequence[int], num_frames: int, *picture: int) -> None:
        """Read the frames of a segment that the segment before did not have, and forget those that it has not."""
        if len(numbers) != num_frames:
            raise ValueError
        new = [number for number in dict.fromkeys(numbers) if number not in self._shown]
        frames = np.empty((len(new), *picture), np.uint8)
        if new and self._replies.readinto(frames.data.cast("B")) < frames.nbytes:  # type: ignore[attr-defined]
            raise EOFError
        known = self._shown | dict(zip(new, frames, strict=True))
        self._shown = {number: known[number] for number in numbers}

    def _header(self) -> dict[str, Any]:
        line = self._replies.readline(_MAX_HEADER_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            return dict(json.loads(line))
        except (TypeError, ValueError):
            raise WorkerMessageError from None

    @contextlib.contextmanager
    def _time_limit(self, timeout_s: float) -> Iterator[None]:
        """Kill the worker if it takes longer than this, and raise the reason if its answer is incomplete."""
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
        except (EOFError, BrokenPipeError):
            timed_out = f"no answer for {timeout_s:g} s, decoder stopped"
            raise _WorkerLostError(timed_out if expired.is_set() else self._reason_it_ended(process)) from None
        finally:
            watchdog.cancel()
            watchdog.join()

    def _reason_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            status = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the decoder stopped answering"
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (out of memory, or killed by a user)" if name == "SIGKILL" else ""
            return f"the decoder was killed by {name}{hint}"
        self._stderr.seek(0)
        last_line = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"the decoder exited with status {status}" + "".join(f": {line}" for line in last_line)


def command_of(module: str) -> list[str]:
    """Return the command that calls `main` of a module of vmr in a process of its own.

    It is started with -c because -m would first search the current folder, where a user may have a file named av.py.
    Only Python 3.11 and later have an option against that.
    """
    program = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import main; main()"
    return [sys.executable, "-c", program, *_import_path()]


def _import_path() -> list[str]:
    """Return the folders in which the worker looks for modules: those of this process without the user's folders.

    The user's folders are the current folder and the folder of the user's script. Files in them may have the names of
    modules that the worker needs. If vmr itself was found in one of them, or by the import hook of an editable install,
    its folder comes first.
    """
    package_root = str(Path(__file__).absolute().parents[3])
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    user_folders = {str(Path.cwd()), str(Path(script).absolute().parent) if script else ""}
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    path = [entry for entry in path if entry not in user_folders]
    return path if package_root in path else [package_root, *path]
