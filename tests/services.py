"""Serve an index for tests: in a process of its own, as `vmr-serve` does, or in this one without a network."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.patience import PATIENCE_S

BIN = Path(sys.executable).parent


@contextmanager
def serving(index: Path, *options: str) -> Iterator[str]:
    """The address of a running `vmr-serve`, which ends with the context."""
    with started(index, *options) as (_, address):
        yield address


@contextmanager
def started(
    index: Path, *options: str, largest_file: int | None = None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process of a running `vmr-serve` and its address. It ends with the context, unless it was killed in it.

    Args:
        index: folder of the index.
        *options: of the command.
        largest_file: how many bytes a file may have that it writes, as a disk may be full; None for no limit.
    """
    command = [str(BIN / "vmr-serve"), str(index), "--port", "0", *options]
    if largest_file is not None:
        command = ["prlimit", f"--fsize={largest_file}", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process, _address(process)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def _address(process: "subprocess.Popen[str]") -> str:
    """Wait for the line that says where the page is, and until the service answers."""
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "http://" in line:
            address = line[line.index("http://") :].split()[0].rstrip("/")
            break
    else:
        raise AssertionError("".join(printed))
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            httpx.get(f"{address}/api/v1/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return address
    raise AssertionError("the service does not answer")
