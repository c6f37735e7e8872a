"""The program of the process that does a job: it adds videos to an index, and says how far it is in lines of JSON.

The first line of its input is the request. The end of its input, which also comes when the server is killed, ends it as
Ctrl-C ends `vmr-index add`: what was committed stays. Its last line of output is of kind "done", "failed" or "stopped".
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from vmr.data.decoding.worker import take_over
from vmr.errors import IndexBusyError, VmrError
from vmr.progress import VideoProgress, printable
from vmr.retrieval.results import Failure
from vmr.retrieval.service.jobs.places import AllowedFolders
from vmr.retrieval.storage.records import FileState
from vmr.retrieval.updating.done import Update
from vmr.retrieval.updating.hooks import Hooks

GRACE_S = 20.0
"""How long the process may take to end when its input has ended."""

_NICE = 10  # searches go first
_TELL_S = 0.25  # between two lines
_ASK_AGAIN_S = 1.0  # whether another process still writes the index
_MAX_REASON = 500  # characters


class _Reporter:
    """Sends what has changed, in a thread of its own."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._progress: VideoProgress | None = None
        self._message = ""
        self._num_embedded = 0
        self._failures: list[Failure] = []
        self._told: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._tell, name="vmr-job", daemon=True)
        self._thread.start()

    def say(self, message: str) -> None:
        """Say what is being done, or waited for."""
        self._message = message

    def follow(self, progress: VideoProgress) -> None:
        """Note that the progress has moved."""
        self._message, self._progress = "", progress

    def embed(self, path: str) -> None:
        """Count a video that is in the index now."""
        self._num_embedded += 1

    def fail(self, failure: Failure) -> None:
        """Note a file that was left out."""
        with self._lock:
            self._failures.append(failure)

    def end(self, line: dict[str, Any]) -> None:
        """Send what is left, and the last line."""
        self._ended.set()
        self._thread.join()
        self._send(line)

    def _tell(self) -> None:
        while True:
            has_ended = self._ended.wait(_TELL_S)
            with self._lock:
                failures, self._failures = self._failures, []
            progress = self._progress
            reached = None if progress is None else asdict(progress.reached())
            state = {"message": self._message, "reached": reached, "num_embedded": self._num_embedded}
            if failures or state != self._told:
                shown = [{"path": printable(each.video), "reason": _line(each.reason)} for each in failures]
                self._send({"kind": "state", **state, "failures": shown})
                self._told = state
            if has_ended:
                return

    def _send(self, line: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the server has ended, and so will this process
            self._out.write(json.dumps(line).encode() + b"\n")
            self._out.flush()


def main() -> None:
    """Do the job that standard input names."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the server with it ignored
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager tells all processes; the server handles it
    os.nice(_NICE)
    requests, replies = take_over(0), take_over(1)
    request = json.loads(requests.readline())
    reporter = _Reporter(replies)
    try:
        threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
        done = _add(request, reporter)
    except KeyboardInterrupt:
        end: dict[str, Any] = {"kind": "stopped"}
    except VmrError as error:
        end = {"kind": "failed", "message": _line(str(error))}
    except Exception as error:  # it ends the job, and not the service
        end = {"kind": "failed", "message": _line(f"{type(error).__name__}: {error}")}
    else:
        end = {"kind": "done", "counts": _counts(done)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is over
    reporter.end(end)
    sys.stderr.flush()
    os._exit(0)  # threads of libraries may still run


def _end_with(requests: BinaryIO) -> None:
    """Interrupt the work when the input ends; end the process if that takes too long."""
    while requests.read(1):
        pass
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(1)


def _add(request: dict[str, Any], reporter: _Reporter) -> Update:
    """Add what the request names, when no other process writes the index."""
    from vmr.retrieval.updating.update import add_videos

    allowed = AllowedFolders([Path(folder) for folder in request["folders"]])

    def hold(file: str, state: FileState) -> bool:
        """Leave out what a link has brought in from elsewhere."""
        is_allowed = allowed.contains(file)
        if not is_allowed:
            reporter.fail(Failure(file, "lies outside of the folders that --allow-indexing names: a link leads to it"))
        return not is_allowed

    hooks = Hooks(hold=hold, embed=reporter.embed, fail=reporter.fail, follow=reporter.follow)
    reporter.say("looking for videos")
    while True:
        try:
            return add_videos(request["index"], [request["path"]], hooks=hooks)
        except IndexBusyError:
            reporter.say("waiting: another process is writing the index")
        time.sleep(_ASK_AGAIN_S)


def _counts(done: Update) -> dict[str, int]:
    """How many videos were treated in each way, besides those that were embedded."""
    return {
        "copied": len(done.copied),
        "renamed": len(done.renamed),
        "removed": len(done.removed),
        "unchanged": len(done.unchanged) + len(done.refreshed) + len(done.kept),
    }


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:_MAX_REASON]
