"""Checkpoints of a run: folders `step-00000040` of safetensors and one JSON file. No pickles.

    model.safetensors      weights
    optimizer.safetensors  its state, one tensor for each PARAMETER/KEY
    ema.safetensors        the moving average, if the run has one
    state.json             step, data positions, counters, the run's config, SHA-256 of the files above

A checkpoint is written under a hidden name, compared with what was to be written, flushed and renamed: if the run is
killed or the disk is full, the checkpoint is complete or absent. A checkpoint whose files do not have the SHA-256 sums
in its state.json is damaged and is not loaded.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vmr.errors import VmrError
from vmr.files import Put, remove_folder, sha256_of, write_folder_atomically
from vmr.processes import Processes
from vmr.train.config import TrainConfig, with_defaults
from vmr.train.distributed import fill, full_tensor

SCHEMA = "vmr-checkpoint/1"
STATE_FILE = "state.json"

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class TrainState:
    """The state of a run except its tensors.

    Attributes:
        step: optimiser steps made or skipped so far.
        positions: the positions in the data, one for each rank.
        scaler: the state of the fp16 loss scaler; empty for other precisions.
        num_bad_steps: steps skipped so far because a number was not finite.
        best: the best validation so far, as `step` and `metrics`; None before the first.
        config: `TrainConfig.essentials` of the run.
    """

    step: int
    positions: list[dict[str, Any]]
    scaler: dict[str, Any]
    num_bad_steps: int
    best: dict[str, Any] | None
    config: dict[str, Any]


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that can be loaded.

    Attributes:
        path: its folder.
        state: the state in it.
        problems: what is wrong with each newer checkpoint.
    """

    path: Path
    state: TrainState
    problems: list[str]


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: TrainState) -> Path:
    """Write a checkpoint `step-...`.

    Args:
        folder: the folder of all checkpoints of the run.
        tensors: name of a file without suffix -> name of a tensor -> tensor, on the CPU.
        state: everything else; its step names the checkpoint.

    Returns:
        The folder of the new checkpoint.

    Raises:
        VmrError: a file cannot be written. The checkpoints that were there before are still there.
    """
    checkpoint = folder / checkpoint_name(state.step)

    def fill(put: Put) -> None:
        names = {f"{stem}.safetensors": content for stem, content in tensors.items()}
        sums = {name: put(name, save(dict(content))) for name, content in names.items()}
        text = json.dumps({"schema": SCHEMA, **asdict(state), "files": sums}, indent=1)
        put(STATE_FILE, f"{text}\n".encode())

    # It replaces a checkpoint of the same step, written before the run was resumed from an earlier one.
    write_folder_atomically(checkpoint, fill, replace=True)
    return checkpoint


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of a checkpoint."""
    return f"step-{step:08}"


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a folder without opening them.

    Args:
        folder: the folder of all checkpoints of a run; it may be absent.

    Returns:
        Their folders, the newest first.
    """
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Read the step from the name of a checkpoint.

    Args:
        checkpoint: its folder.

    Returns:
        The step.
    """
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> TrainState:
    """Check the files of a checkpoint and read its state.

    Args:
        checkpoint: its folder.

    Returns:
        The state.

    Raises:
        VmrError: a file is missing or damaged, which the message names, or was written by another version.
    """
    try:
        content = json.loads((checkpoint / STATE_FILE).read_bytes())
        schema, sums = content.pop("schema"), content.pop("files")
        state = TrainState(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VmrError(f"{checkpoint / STATE_FILE} is damaged: {error!s:.80}") from error
    if schema != SCHEMA:
        raise VmrError(f"{checkpoint / STATE_FILE}: schema is {schema!r:.40}, but this version reads {SCHEMA!r}")
    for name, expected in sums.items():
        file = checkpoint / name
        if not file.is_file():
            raise VmrError(f"{file} is missing")
        if sha256_of(file) != expected:
            raise VmrError(f"{file} is damaged: it is not the file that was saved")
    return state


def newest_intact(folder: Path) -> Resumable | None:
    """Find the newest checkpoint that is not damaged.

    Args:
        folder: the folder of all checkpoints of a run; it may be absent.

    Returns:
        The checkpoint; None if there are no checkpoints.

    Raises:
        VmrError: there are checkpoints, but all are damaged.
    """
    problems: list[str] = []
    for checkpoint in list_checkpoints(folder):
        try:
            return Resumable(checkpoint, read_state(checkpoint), problems)
        except VmrError as error:
            problems.append(str(error))
    if problems:
        raise VmrError(f"{folder}: no checkpoint can be read: {problems[0]}: name another run.out to start anew")
    return None


def find_resumable(out: Path, folder: Path, config: TrainConfig, processes: Processes) -> Resumable | None:
    """Find the checkpoint that a run resumes from. Every process must call it.

    Args:
        out: the folder of the run, for messages.
        folder: the folder of its checkpoints.
        config: the config of the run.
        processes: the processes of the run.

    Returns:
        The newest checkpoint that is not damaged; None if there are no checkpoints.

    Raises:
        VmrError: the checkpoint is of a run with another config or another number of processes, `run.resume` is false,
            or there are checkpoints and all are damaged.
    """
    found = processes.share(newest_intact(folder) if processes.is_main else None)
    if found is None:
        return None
    if not config.run.resume:
        raise VmrError(f"{out}: holds a run already: name another run.out, or leave run.resume true to go on with it")
    difference = first_difference(config.essentials(), with_defaults(found.state.config))
    if difference is not None:
        raise VmrError(f"{out}: holds another run: {difference}: name another run.out, or use its config")
    if len(found.state.positions) != processes.world:
        raise VmrError(f"{out}: its run has {len(found.state.positions)} processes, not {processes.world}: use as many")
    return found


def first_difference(own: Any, other: Any, key: str = "") -> str | None:
    """Find the first difference between two configs.

    Args:
        own: a config as JSON values.
        other: the config to compare with.
        key: the name of the part that is compared, for the message.

    Returns:
        The difference, as in "stages[1].num_steps is 4, but 3 in the other"; None if there is none.
    """
    if isinstance(own, dict) and isinstance(other, dict):
        for name in [*own, *(name for name in other if name not in own)]:
            found = first_difference(own.get(name), other.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    if isinstance(own, list) and isinstance(other, list):
        for number, pair in enumerate(zip(own, other, strict=False)):
            found = first_difference(*pair, f"{key}[{number}]")
            if found is not None:
                return found
        return None if len(own) == len(other) else f"{key} are {len(own)}, but {len(other)} in the other"
    return None if own == other else f"{key} is {own!r:.60}, but {other!r:.60} in the other"


def prune(folder: Path, keep: int, best_step: int | None, last_step: int) -> None:
    """Remove old checkpoints, and the unfinished ones that killed runs have left.

    Args:
        folder: the folder of all checkpoints of the run.
        keep: how many of the newest checkpoints stay.
        best_step: the step of the best checkpoint, which stays too; None if there is none.
        last_step: the step that the run has reached. Later checkpoints were damaged when the run was resumed: they are
            not counted, and stay until the run reaches their steps.
    """
    own = [checkpoint for checkpoint in list_checkpoints(folder) if step_of(checkpoint) <= last_step]
    for checkpoint in own[keep:]:
        if step_of(checkpoint) != best_step:
            remove_folder(checkpoint)
    for remains in folder.glob(".step-*"):
        shutil.rmtree(remains, ignore_errors=True)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Gather a model's weights on the CPU. Every process must call it.

    Args:
        model: the model; under FSDP, its weights are split over the processes.

    Returns:
        Name -> full tensor.
    """
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Gather the state of an optimiser on the CPU. Every process must call it.

    Args:
        optimizer: an optimiser over `parameter_groups`.

    Returns:
        PARAMETER/KEY -> full tensor.
    """
    return {
        f"{name}/{key}": full_tensor(value)
        for name, parameter in named_parameters(optimizer)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_weights(model: nn.Module, file: Path) -> None:
    """Load a model's weights from a file of a checkpoint.

    Args:
        model: the model; its weights are overwritten.
        file: a safetensors file.

    Raises:
        VmrError: the file is of another model.
    """
    with safe_open(file, framework="pt") as content:
        for name, tensor in _matched(file, content.keys(), model.state_dict()).items():
            fill(tensor, _of_shape(file, name, content.get_tensor(name), tensor))


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Load an optimiser's state from a file of a checkpoint. A parameter that never had a gradient has no state.

    Args:
        optimizer: an optimiser over `parameter_groups`; its state is replaced.
        file: a safetensors file.

    Raises:
        VmrError: the file is of another model.
    """
    parameters = dict(named_parameters(optimizer))
    optimizer.state.clear()
    with safe_open(file, framework="pt") as content:
        for entry in content.keys():  # noqa: SIM118  # a file is not a mapping
            name, _, key = entry.rpartition("/")
            if name not in parameters:
                raise VmrError(f"{file}: the model has no parameter {name}")
            parameter, values = parameters[name], content.get_tensor(entry)
            if values.dim() == 0 and key == "step":
                optimizer.state[parameter][key] = values  # on the CPU, where torch keeps it too
                continue
            optimizer.state[parameter][key] = torch.zeros_like(parameter, requires_grad=False)
            fill(optimizer.state[parameter][key], _of_shape(file, entry, values, parameter))


def named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """List the parameters of an optimiser with their names.

    Args:
        optimizer: an optimiser over `parameter_groups`.

    Returns:
        Pairs of a name and a parameter.
    """
    groups = optimizer.param_groups
    return [pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)]


def _matched(file: Path, names: list[str], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    missing, left_over = [name for name in wanted if name not in names], [name for name in names if name not in wanted]
    if missing or left_over:
        first = (missing or left_over)[0]
        raise VmrError(f"{file}: is of another model: {'lacks' if missing else 'has'} {first}")
    return dict(wanted)


def _of_shape(file: Path, name: str, values: Tensor, wanted: Tensor) -> Tensor:
    if values.shape != wanted.shape:
        raise VmrError(f"{file}: {name} is {tuple(values.shape)}, but this model takes {tuple(wanted.shape)}")
    return values
