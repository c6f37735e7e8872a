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
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "log"
        with started(index, *options, log=log) as process:
            try:
                yield address_of(process, log)
            finally:
                process.terminate()
                process.wait(timeout=PATIENCE_S)


def started(index: Path, *options: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start the command on a free port; what it prints is written to a file, which cannot be full as a pipe can."""
    command = [str(BIN / "vmr-serve"), str(index), "--port", "0", *options]
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
