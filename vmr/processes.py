"""The processes of a run, as torchrun starts them: who they are, and how they put together what they have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Those of a run, seen from one of them: rank of world, and the device that it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """What the main process has, on all of them."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        shared: T = box[0]
        return shared

    def collect(self, value: T) -> list[T]:
        """What each process has, in the order of ranks, on all of them."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is true in any process."""
        if self.world == 1:
            return list(flags)
        tensor = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [bool(flag) for flag in tensor.tolist()]


ALONE = Processes(0, 1, torch.device("cpu"))


@contextmanager
def joined(device: torch.device, timeout: timedelta) -> Iterator[Processes]:
    """Joins the processes that torchrun started, and leaves them; without torchrun there is one.

    device: that of this process; where it is CUDA they talk by nccl, else by gloo. patience: how long one may let the
    others wait.
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
