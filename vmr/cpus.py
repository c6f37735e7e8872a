"""How many CPUs this process may use, which in a container or a batch job are fewer than the machine has."""

import math
import os
from pathlib import Path


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
