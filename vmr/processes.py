"""The processes of a run, as torchrun starts them, and how they exchange values."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from vmr.errors import VmrError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: the number of this process, from 0.
        world: how many processes there are.
        device: the device that this process computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the main one, which writes the files."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """Send the value of the main process to all processes. Every process must call it.

        Args:
            value: anything that pickles; only the main process's value is used.

        Returns:
            The main process's value.
        """
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        shared: T = box[0]
        return shared

    def collect(self, value: T) -> list[T]:
        """Gather one value from each process. Every process must call it.

        Args:
            value: anything that pickles.

        Returns:
            All values in the order of ranks, the same list on every process.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """Combine flags of all processes. Every process must call it with the same number of flags.

        Args:
            *flags: the flags of this process.

        Returns:
            For each flag, whether it is true in any process.
        """
        if self.world == 1:
            return list(flags)
        tensor = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [bool(flag) for flag in tensor.tolist()]


def choose_device(name: str) -> torch.device:
    """Choose the device of this process, and check that it is there.

    This is the only place that chooses one. Without a number, `cuda` is the current GPU, and under torchrun the GPU
    with the number LOCAL_RANK, so that no two processes of a machine share one. A launcher may show each process a
    single GPU, which has the number 0 in all of them.

    Args:
        name: "cpu", "cuda", "cuda:1", "auto" (a GPU if there is one), or another name that torch knows.

    Returns:
        The device; a GPU with its number.

    Raises:
        VmrError: there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and ":" not in name:
            own = os.environ.get("LOCAL_RANK") if torch.cuda.device_count() > 1 else "0"
            device = torch.device("cuda", torch.cuda.current_device() if own is None else int(own))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise VmrError(f"device {name!r} is not available: use cpu, cuda or auto") from error
    return device


ALONE = Processes(0, 1, torch.device("cpu"))


@contextmanager
def joined(device: torch.device, timeout: timedelta) -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end; without torchrun there is one process.

    Args:
        device: the device of this process. Processes on CUDA devices communicate by NCCL, others by Gloo.
        timeout: how long a process waits for the others before it fails.

    Yields:
        The processes.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    try:
        yield Processes(rank, world, device)
    finally:
        dist.destroy_process_group()
