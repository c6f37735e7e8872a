"""How many CPUs a process may use: its affinity, and the quota of its cgroup and of those above it."""

import math
import os
import subprocess
import sys

import pytest

from vmr.cpus import cgroup_quota, num_cpus


def written(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", V2 + "cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", V2 + "cpu.max": "250000 100000\n"}, 2.5),
        ({"proc/self/cgroup": "0::/a/b\n", V2 + "a/cpu.max": "150000 100000\n", V2 + "a/b/cpu.max": "max 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", V2 + "a/cpu.max": "800000 100000", V2 + "a/b/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/job\n0::/\n",
                V2 + "cpu/job/cpu.cfs_quota_us": "300000\n",
                V2 + "cpu/job/cpu.cfs_period_us": "100000\n",
                V2 + "cpu/cpu.cfs_quota_us": "-1\n",
                V2 + "cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
    ],
)
def test_quota_of_a_cgroup(tmp_path, files, quota):
    assert cgroup_quota(written(tmp_path, files)) == quota


def test_a_quota_is_rounded_up_and_limits_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for quota, expected in ((math.inf, 64), (2.5, 3), (0.1, 1), (100.0, 64)):
        monkeypatch.setattr("vmr.cpus.cgroup_quota", lambda quota=quota: quota)
        assert num_cpus() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_decode_workers_follow_the_affinity():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from vmr.data.decoding.pool import DecodePool\n"
        "from vmr.data.decoding.segments import FrameSpec\n"
        "print(DecodePool(FrameSpec(num_frames=1, size=32)).num_workers)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
