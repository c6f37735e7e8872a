"""The CPUs of this process: how many it may use, and how the OpenMP threads of torch wait for each other.

In a container or a batch job there are fewer CPUs than the machine has.

A thread that has finished its part of an operation waits for the others, and for the next operation, in a loop that
keeps its core busy for some milliseconds. Where decoding or another process needs the core, every operation then waits
for a thread that has none: embedding took four times the CPU time. Threads that sleep while they wait give the core
away. `OMP_WAIT_POLICY=PASSIVE` says this to an OpenMP runtime that is not loaded yet; a library must also say it where
torch was imported before.
"""

import ctypes
import functools
import math
import os
import sys
import threading
from pathlib import Path

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses how threads wait."""

GRAIN = 32768  # elements that torch gives to one thread at least


def num_cpus() -> int:
    """Return how many CPUs this process may use: those of its affinity, and at most its cgroup's quota of time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, cgroup_quota())))


def cgroup_quota(root: Path = Path("/")) -> float:
    """Return how many CPUs' time the cgroup of this process may use; infinite without a limit.

    The limit of a cgroup holds for all cgroups below it, so every level is looked at.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = top / path.lstrip("/")
        for level in (folder, *folder.parents):
            if level.is_relative_to(top):
                quota = min(quota, _quota_of(level))
    return quota


def _quota_of(folder: Path) -> float:
    """The quota of one cgroup, of version 2 (cpu.max) or 1 (cpu.cfs_quota_us)."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no limit is "max" in version 2, and no file at the top
        return math.inf


def let_threads_sleep() -> None:
    """Let torch's OpenMP threads sleep while they wait, in this process from now on.

    Does nothing if torch is not imported, if a user chose how threads wait, by an environment variable of SETTINGS, or
    has torch use one thread.
    """
    if "torch" not in sys.modules:
        return
    import torch

    if torch.get_num_threads() == 1 or any(name in os.environ for name in SETTINGS):
        return
    runtime = ctypes.CDLL(None)  # all libraries of this process
    if hasattr(runtime, "kmp_set_blocktime"):  # LLVM's and Intel's runtimes have a function for it
        runtime.kmp_set_blocktime(0)
    else:
        _outnumber_the_cores()


@functools.cache
def _outnumber_the_cores() -> None:
    """Keep a second team of threads, which sleeps.

    GNU's runtime reads its settings when it is loaded, but its threads wait in a loop only while it has at most as many
    of them as there are cores (see GOMP_SPINCOUNT in its manual). Each thread of the program that runs an operation has
    a team of its own as long as it lives. So one that has run an operation and then sleeps makes them too many.
    """
    import torch

    has_a_team = threading.Event()

    def keep_a_team() -> None:
        torch.zeros(torch.get_num_threads() * GRAIN, dtype=torch.uint8).add_(1)
        has_a_team.set()
        threading.Event().wait()

    threading.Thread(target=keep_a_team, name="vmr-openmp", daemon=True).start()
    has_a_team.wait()
