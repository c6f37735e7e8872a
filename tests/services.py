"""Serve an index for tests: in a process of its own, as `vmr-serve` does, or in this one without a network."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.patience import PATIENCE_S

BIN = Path(sys.executable).parent


@contextmanager
def serving(index: Path, *options: str, log: Path | None = None) -> Iterator[str]:
    """The address of a running `vmr-serve`, which ends with the context. What it prints is kept in `log`."""
    with started(index, *options, log=log) as (_, address):
        yield address


@contextmanager
def started(
    index: Path, *options: str, log: Path | None = None, largest_file: int | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The process of a running `vmr-serve` and its address. It ends with the context, unless it was killed in it.

    Args:
        index: folder of the index.
        *options: of the command.
        log: keeps what it prints.
        largest_file: how many bytes a file may have that it writes, as a disk may be full; None for no limit.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "log"
        process = launched(index, *options, log=log, largest_file=largest_file)
        try:
            yield process, address_of(process, log)
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


def launched(index: Path, *options: str, log: Path, largest_file: int | None = None) -> "subprocess.Popen[bytes]":
    """Start the command on a free port; what it prints is written to a file, which cannot be full as a pipe can."""
    command = [str(BIN / "vmr-serve"), str(index), "--port", "0", *options]
    if largest_file is not None:
        command = ["prlimit", f"--fsize={largest_file}", *command]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def address_of(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the line that says where the page is, and until the service answers."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        said = re.search(r"(http://\S+)/\s", log.read_text(errors="replace"))
        try:
            if said is not None:
                httpx.get(f"{said[1]}/api/v1/healthz").raise_for_status()
                return said[1]
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the service does not answer: {log.read_text(errors='replace')}")
