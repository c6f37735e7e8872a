"""Where a report was made: commit of the code, machine, versions of the libraries. Imports no torch."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vmr.cpus import num_cpus

PACKAGES = ("vmr", "torch", "numpy", "av", "transformers", "timm", "open_clip_torch", "faiss-cpu", "faiss-gpu")


@dataclass(frozen=True)
class Commit:
    """The git commit of the code.

    Attributes:
        id: its hash.
        dirty: whether tracked files differ from it.
    """

    id: str
    dirty: bool


@dataclass(frozen=True)
class Hardware:
    """The machine.

    Attributes:
        cpu: name of the processor.
        num_cores: cores that this process may use.
        memory_bytes: memory of the machine.
        gpu: its name; None if torch finds none or was not imported.
    """

    cpu: str
    num_cores: int
    memory_bytes: int
    gpu: str | None


def command_line() -> str:
    """Return the command line of this process, without the folder of the command."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def now() -> str:
    """Return the time, ISO 8601, UTC, in whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@cache
def commit() -> Commit | None:
    """Return the commit of the checkout that vmr runs from; None if it is an installed package or git is missing."""
    root = Path(__file__).resolve().parents[2]  # eval/report/environment.py, below the top of a checkout
    if not (root / ".git").exists():
        return None
    # With a lock, a git command that the user runs at the same moment would fail.
    git = ("git", "--no-optional-locks", "-C", str(root))
    try:
        head = _output(*git, "rev-parse", "HEAD")
        changes = _output(*git, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return Commit(head, bool(changes))


def hardware() -> Hardware:
    """Return the facts about this machine from the operating system, and from torch if it is imported already."""
    cores = num_cpus()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(_cpu_name(), cores, memory_bytes, _gpu_name())


def versions() -> dict[str, str]:
    """Return the versions of the platform, of Python, and of those PACKAGES that are installed."""
    found = {"platform": platform.platform(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
