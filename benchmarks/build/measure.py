"""Running a command, and what it cost: time, CPU time and memory of all its processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

COMMAND = "import sys; from vmr.cli.index import main; main(sys.argv[1:])"
REPOSITORY = Path(__file__).parents[2]

# The two parts of the least that a build must do, each in a process of its own, which prints the CPU seconds.
DECODE = """
import sys, time, av
before = time.process_time()
with av.open(sys.argv[1]) as file:
    file.streams.video[0].thread_count = 1
    for frame in file.decode(video=0):
        pass
print(time.process_time() - before)
"""
ENCODE = """
import sys, time, numpy as np, vmr
encoder, num_frames = vmr.load_model("offline"), int(sys.argv[1])
size, batch = encoder.preprocess.size, encoder.frames_at_once
frames = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size), np.uint8)
encoder.encode_frames(frames)
before = time.process_time()
for start in range(0, num_frames, batch):
    encoder.encode_frames(frames[: num_frames - start])
print(time.process_time() - before)
"""


@dataclass(frozen=True)
class Cost:
    """What a command cost, with all processes that it started.

    Attributes:
        cpu_s: CPU time of the user and the system.
        wall_s: time.
        peak_bytes: the most memory that its processes held together. Pages that they share count for each of them.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int


def build(videos: Path, tree: Path, *options: str) -> Cost:
    """Run `vmr-index build` of a working tree once, into a new index.

    Args:
        videos: a folder or a file.
        tree: the working tree.
        options: of the command.

    Raises:
        SystemExit: it failed.
    """
    with TemporaryDirectory() as folder:
        out = str(Path(folder, "index"))
        return run(
            [sys.executable, "-c", COMMAND, "build", str(videos), "--out", out, *options], {"PYTHONPATH": str(tree)}
        )


def alone(program: str, argument: str | int) -> float:
    """Run one of the programs above, and return the CPU seconds that it prints."""
    command = [sys.executable, "-c", program, str(argument)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def run(command: Sequence[str], also: Mapping[str, str]) -> Cost:
    """Run a command, and measure it.

    Args:
        command: its arguments.
        also: environment variables to set.

    Raises:
        SystemExit: it failed.
    """
    with TemporaryFile() as output:
        before_s = time.monotonic()
        process = subprocess.Popen(
            command, env={**os.environ, **also}, cwd="/", stdout=output, stderr=subprocess.STDOUT
        )
        peak = _Peak(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - before_s
        peak.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, peak.num_bytes)


class _Peak:
    """Looks at the memory of a process and its children, five times in a second."""

    def __init__(self, process: int) -> None:
        self.num_bytes = 0
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            self.num_bytes = max(self.num_bytes, sum(map(_resident_bytes, _family(self._process))))


def _family(process: int) -> list[int]:
    """A process, and all those that it started, and so on."""
    found = [process]
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                found += _family(int(child))
    return found


def _resident_bytes(process: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
