"""Python programs in new processes: one process, or several that share the work."""

import os
import subprocess
import sys

from tests.paths import REPOSITORY
from tests.patience import PATIENCE_S


def launch(*command: object, world: int | None = None) -> subprocess.Popen:
    """Start `python COMMAND` with one thread, in `world` processes under torchrun if given; it may import tests.

    The processes are a group of their own, as those of a command in a terminal are: a test may signal all of them.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world else []
    return subprocess.Popen(
        [sys.executable, *torchrun, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, timeout_s: int = PATIENCE_S) -> str:
    """Return all output of a process, which must end without an error."""
    printed, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, printed
    return printed
