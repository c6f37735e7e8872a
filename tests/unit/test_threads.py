"""Torch's OpenMP threads sleep while they wait, whatever was imported first, unless a user chose otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vmr.cpus import SETTINGS

needs_two_threads = pytest.mark.skipif(
    torch.get_num_threads() == 1 or not Path("/proc/self/task").is_dir(),
    reason="needs two threads of torch, and /proc to see what each of them does",
)

# Prints the CPU time, in nanoseconds, of all threads but the first while they have nothing to do for most of the time.
WAITING = """
import time
from pathlib import Path
import torch

def others():
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != Path("/proc/self").resolve().name]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

numbers = torch.zeros(1 << 17)
numbers.add_(1)
before = others()
for _ in range(20):
    numbers.add_(1)
    time.sleep(0.02)
print(others() - before)
"""
LOAD = 'import vmr; vmr.load_model("videomamba-nano-shapes", "cpu")\n'
CUSTOM = """
import numpy as np, torch, vmr
class Model:
    name, about, embed_dim, fingerprint = "mine", "", 3, "0"
    preprocess = vmr.Preprocess(1, 8, "crop", (0.0,) * 3, (1.0,) * 3)
    def encode_video(self, video): return torch.ones(len(video), 3)
    def encode_text(self, texts): return torch.ones(len(texts), 3)
vmr.embed_videos([], Model())
"""


def waiting(program: str, **also: str) -> int:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS} | also
    command = [sys.executable, "-c", program + WAITING]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@needs_two_threads
def test_threads_use_no_core_while_they_wait():
    """Processor time, not time that passes: a thread that waits in a loop uses some however busy the machine is."""
    left_alone = waiting("")
    for program in (LOAD, f"import torch; torch.ones(1 << 20).add_(1)\n{LOAD}", CUSTOM):
        assert waiting(program) < left_alone / 4, program


# Prints, for each assignment of the command line, how many threads there are that let the others sleep. Each is made
# in a fork, as torch takes seconds to import; an empty one changes nothing.
COUNTING = """
import os, sys, threading
import torch
for assignment in sys.argv[1:]:
    if os.fork() == 0:
        name, _, value = assignment.partition("=")
        if name:
            os.environ[name] = value
        for _ in range(2):
            import vmr
            vmr.load_model("videomamba-nano-shapes", "cpu")
        print(sum(thread.name == "vmr-openmp" for thread in threading.enumerate()), flush=True)
        os._exit(0)
    os.wait()
"""


@needs_two_threads
def test_what_a_user_chose_is_kept():
    def counted(*assignments: str, **also: str) -> list[int]:
        environment = {key: value for key, value in os.environ.items() if key not in SETTINGS} | also
        command = [sys.executable, "-c", COUNTING, *assignments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [int(line) for line in result.stdout.splitlines()]

    assert counted("", *(f"{name}=0" for name in SETTINGS)) == [1, 0, 0, 0]
    assert counted("", OMP_NUM_THREADS="1") == [0]  # torch reads it when it is imported
