"""The processes of an evaluation, as torchrun starts them: who they are, and how they put their results together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

PATIENCE = timedelta(days=7)  # for the slowest of them


@dataclass(frozen=True)
class Ranks:
    """Those of a run, seen from one of them."""

    rank: int = 0
    world: int = 1

    def share(self, value: T) -> T:
        """What rank 0 has, on all of them."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        shared: T = box[0]
        return shared

    def collect(self, value: T) -> list[T]:
        """What each has, in the order of ranks, on all of them."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


ALONE = Ranks()


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """Joins the processes that torchrun started, by gloo, and leaves them; without torchrun there is one.

    Where a process group exists already it is used, and left as it is.
    """
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
