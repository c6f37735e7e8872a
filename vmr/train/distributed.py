"""Training on several processes: how they share weights and gradients.

DDP: each process has all weights, and gradients are averaged. FSDP2: each process keeps a part of every weight and of
its optimiser state (as DTensors) and gathers a layer's weights when it needs them. Without torchrun there is one
process, which uses neither.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vmr.errors import VmrError
from vmr.processes import Processes, choose_device, joined
from vmr.train.run_config import Parallel
from vmr.train.tasks.task import Task

TIMEOUT = timedelta(hours=2)  # one process validates while the others wait


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end.

    Args:
        device: `run.device`, see `choose_device`.

    Yields:
        The processes.

    Raises:
        VmrError: this machine has no such device.
    """
    try:
        chosen = choose_device(device)
    except VmrError as error:
        raise VmrError(f"run.{error}") from error
    with joined(chosen, TIMEOUT) as processes:
        yield processes


class Parallelised:
    """A task on all processes: it is called like the task itself.

    Modules and parameters keep their names. FSDP turns the parameters into DTensors, so make the optimiser after this.

    Args:
        task: changed in place if `parallel` is "fsdp" and there are several processes.
        parallel: "ddp" or "fsdp".
        processes: the processes of the run.

    Attributes:
        task: as given.
    """

    def __init__(self, task: Task, parallel: Parallel, processes: Processes) -> None:
        self.task = task
        self._processes = processes
        self._ddp: DistributedDataParallel | None = None
        self._kept_whole: list[nn.Parameter] = []
        if processes.world > 1 and parallel == "ddp":
            # With images the temporal positions get no gradient, and in unmasked stages the student outputs.
            self._ddp = DistributedDataParallel(task, find_unused_parameters=True)
        elif processes.world > 1:
            self._kept_whole = task.scalars_of(task.model)
            shard(task, task.layers_of(task.model), self._kept_whole, processes)

    def __call__(self, *arguments: Any) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            *arguments: as `Task.forward` takes them.

        Returns:
            Name -> weighted loss.
        """
        losses: dict[str, Tensor] = (self._ddp or self.task)(*arguments)
        return losses

    @contextmanager
    def accumulating(self, more_to_come: bool) -> Iterator[None]:
        """Wrap the forward and backward pass of one batch of a step.

        Args:
            more_to_come: True for all batches of a step but the last: gradients are averaged over the processes once,
                after the last.
        """
        if self._ddp is not None:
            with self._ddp.no_sync() if more_to_come else nullcontext():
                yield
            return
        if self._kept_whole:
            self.task.set_requires_gradient_sync(not more_to_come)  # type: ignore[operator]  # FSDP's
        yield
        for parameter in self._kept_whole:
            if not more_to_come and parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self._processes.world


def shard(
    root: nn.Module, layers: Sequence[nn.Module], kept_whole: Sequence[nn.Parameter], processes: Processes
) -> None:
    """Split a model over the processes by FSDP2: one unit for each layer, and one for the rest of `root`.

    Args:
        root: the module that holds the model, or the model itself; changed in place.
        layers: parts of it.
        kept_whole: parameters that each process keeps whole: a scalar cannot be split.
        processes: the processes of the run.

    Raises:
        VmrError: PyTorch before 2.10 adds gradients up on CPUs where it was told to average them.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not averages(processes):
        raise VmrError("run.parallel: fsdp on CPUs needs PyTorch 2.10 or newer: choose ddp")
    mesh = init_device_mesh(processes.device.type, (processes.world,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh, ignored_params=set(kept_whole))


def averages(processes: Processes) -> bool:
    """Find out whether the processes can average as FSDP2 does; before 2.10, Gloo sums instead, without an error."""
    mean = torch.empty(1, device=processes.device)
    dist.reduce_scatter_tensor(mean, torch.ones(processes.world, device=processes.device), op=dist.ReduceOp.AVG)
    return mean.item() == 1


def full_tensor(tensor: Tensor) -> Tensor:
    """Copy a tensor, or all parts of a DTensor, to the CPU. Every process must call it.

    Args:
        tensor: a tensor or a DTensor.

    Returns:
        A contiguous tensor without gradient.
    """
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).detach().cpu().contiguous()


@torch.no_grad()
def fill(tensor: Tensor, values: Tensor) -> None:
    """Copy values into a tensor, or this process's part of them into a DTensor.

    Args:
        tensor: a tensor or a DTensor; written.
        values: the full values, in the same shape.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(tensor, DTensor):
        values = distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(values)


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Compute the L2 norm of all gradients together. Under FSDP every process must call it.

    Args:
        parameters: the parameters; those without a gradient are skipped.

    Returns:
        A scalar tensor, the same on all processes.
    """
    plain, parts = _gradients(parameters)
    norm = torch.nn.utils.get_total_norm(plain)
    if not parts:
        return norm
    square = torch.nn.utils.get_total_norm(parts) ** 2
    dist.all_reduce(square)
    return (norm**2 + square).sqrt()


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float, norm: Tensor) -> None:
    """Scale gradients down, in place, if their norm is above a limit.

    Args:
        parameters: the parameters; those without a gradient are skipped.
        max_norm: the limit.
        norm: their norm, from `gradient_norm`.
    """
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradients in _gradients(parameters):
        if gradients:
            torch._foreach_mul_(gradients, scale)


def _gradients(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients that each process has in full, and its parts of split gradients."""
    from torch.distributed.tensor import DTensor

    plain: list[Tensor] = []
    parts: list[Tensor] = []
    for parameter in parameters:
        if isinstance(parameter.grad, DTensor):
            parts.append(parameter.grad.to_local())
        elif parameter.grad is not None:
            plain.append(parameter.grad)
    return plain, parts
