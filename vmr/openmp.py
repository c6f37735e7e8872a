"""The OpenMP threads of torch: how they wait for each other.

A thread that has finished its part of an operation waits for the others, and for the next operation, in a loop that
keeps its core busy for some milliseconds. Where decoding or another process needs the core, every operation then waits
for a thread that has none: embedding took four times the CPU time. Threads that sleep while they wait give the core
away. `OMP_WAIT_POLICY=PASSIVE` says this to an OpenMP runtime that is not loaded yet; a library must also say it where
torch was imported before.
"""

import ctypes
import functools
import os
import threading

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user chooses how threads wait."""

GRAIN = 32768  # elements that torch gives to one thread at least


def let_threads_sleep() -> None:
    """Let torch's OpenMP threads sleep while they wait, in this process from now on.

    Does nothing if a user chose how threads wait, by an environment variable of SETTINGS, or has torch use one thread.
    """
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
