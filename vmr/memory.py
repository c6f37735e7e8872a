"""Amounts of memory: the memory of this process, and bytes as text that people write and read."""

import math
import re
import resource
import sys
from pathlib import Path

from vmr.errors import VmrError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(text: str) -> int:
    """Return the bytes of `4GiB`, `800 MB` or `1e9`.

    Raises:
        VmrError: the text is not an amount of memory.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]i?B)?\s*", text, re.IGNORECASE)
    try:
        assert match is not None
        return int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    except (AssertionError, ValueError, KeyError) as error:
        raise VmrError(f"{text!r} is no amount of memory: write it as 4GiB or 800MiB") from error


def format_bytes(num_bytes: int) -> str:
    """Return bytes as text for people: 1.5 GiB, 800 MiB; rounded up, so that the amount is enough."""
    if num_bytes >= 2**30:
        return f"{math.ceil(num_bytes / 2**30 * 100) / 100:.2f} GiB"
    return f"{math.ceil(num_bytes / 2**20)} MiB"


def resident_bytes() -> int:
    """Return the memory that this process uses; on other systems than Linux, the most that it ever used."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return _most_bytes()
    return pages * resource.getpagesize()


def peak_bytes(process: int | None = None) -> int:
    """Return the most memory that a process ever used.

    Args:
        process: its number; None for this one.

    Returns:
        Bytes; 0 for another process that has ended, and for any other process on other systems than Linux.
    """
    try:
        status = Path(f"/proc/{process or 'self'}/status").read_text(encoding="ascii", errors="replace")
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024
    except (OSError, IndexError):  # not Linux, or the process has ended
        return _most_bytes() if process is None else 0


def _most_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
