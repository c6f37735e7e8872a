"""Checkpoints of a run: folders `step-00000040` of safetensors and one JSON file. No pickles.

    model.safetensors      weights
    optimizer.safetensors  its state, one tensor for each PARAMETER/KEY
    ema.safetensors        the moving average, where the run has one
    state.json             step, data positions, counters, the run's config, SHA-256 of the files above

A checkpoint is written under a hidden name, flushed and renamed, so that a kill at any moment leaves it whole or
absent; one whose files do not have the sums in its state.json is damaged and not loaded.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vmr.errors import VmrError
from vmr.files import sha256_of
from vmr.processes import Processes
from vmr.train.config import TrainConfig, with_defaults
from vmr.train.distributed import fill, full_tensor

SCHEMA = "vmr-checkpoint/1"
STATE_FILE = "state.json"

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class TrainState:
    """All of a run that is no tensor.

    Attributes:
        step: optimiser steps made, or left out as bad.
        positions: of the data, for each rank.
        scaler: the state of the fp16 loss scaler, empty where there is none.
        num_bad_steps: steps left out.
        best: the best validation so far: step and metrics; None before the first.
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
    """A checkpoint that is whole; problems: what is wrong with newer ones."""

    path: Path
    state: TrainState
    problems: list[str]


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: TrainState) -> Path:
    """Write `step-...` in `folder`: tensors, on the CPU, by name of file (without its suffix); returns its path."""
    name = f"step-{state.step:08}"
    hidden = folder / f".{name}.tmp"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    sums = {}
    for stem, content in tensors.items():
        file = hidden / f"{stem}.safetensors"
        save_file(dict(content), file)
        sums[file.name] = sha256_of(file)
    text = json.dumps({"schema": SCHEMA, **asdict(state), "files": sums}, indent=1)
    (hidden / STATE_FILE).write_text(f"{text}\n", encoding="utf-8")
    for path in [*hidden.iterdir(), hidden]:
        _flush(path)
    _remove(folder / name)  # of the same step, made before its run was taken up from an earlier one
    hidden.rename(folder / name)
    _flush(folder)
    return folder / name


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest first; nothing is opened."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> TrainState:
    """The state in a checkpoint, its files having been checked. Raises VmrError, saying which of them is damaged."""
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
    """The newest checkpoint that is whole; None if there is none.

    Raises VmrError where there are checkpoints and none is whole.
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
    """The checkpoint in `folder`, of the run in `out`, to go on from; None if there is none. Every process must ask.

    Raises VmrError if it is another run's, or there are checkpoints and none can be read.
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
    """Where two configs, as JSON, differ first: "stages[1].num_steps is 4, there 3"."""
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
        return None if len(own) == len(other) else f"{key} are {len(own)}, there {len(other)}"
    return None if own == other else f"{key} is {own!r:.60}, there {other!r:.60}"


def prune(folder: Path, keep: int, best_step: int | None, last_step: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best, and what killed runs have left behind.

    last_step: of the run so far. A checkpoint of a later step could not be read when the run was taken up: it counts
    for nothing, and stays until the run has come so far.
    """
    own = [checkpoint for checkpoint in list_checkpoints(folder) if step_of(checkpoint) <= last_step]
    for checkpoint in own[keep:]:
        if step_of(checkpoint) != best_step:
            _remove(checkpoint)
    for remains in folder.glob(".step-*"):
        shutil.rmtree(remains, ignore_errors=True)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights, whole and on the CPU; every process must ask."""
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser over `parameter_groups`, as PARAMETER/KEY -> tensor; every process must ask."""
    return {
        f"{name}/{key}": full_tensor(value)
        for name, parameter in named_parameters(optimizer)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill a model from a file of a checkpoint. Raises VmrError for one of another model."""
    with safe_open(file, framework="pt") as content:
        for name, tensor in _matched(file, content.keys(), model.state_dict()).items():
            fill(tensor, _of_shape(file, name, content.get_tensor(name), tensor))


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Fill an optimiser from a file of a checkpoint. Raises VmrError for one of another model.

    A parameter that has had no gradient has no state.
    """
    parameters = dict(named_parameters(optimizer))
    optimizer.state.clear()
    with safe_open(file, framework="pt") as content:
        for entry in content.keys():  # noqa: SIM118  # a file, no mapping
            name, _, key = entry.rpartition("/")
            if name not in parameters:
                raise VmrError(f"{file}: the model has no parameter {name}")
            parameter, values = parameters[name], content.get_tensor(entry)
            if values.dim() == 0 and key == "step":
                optimizer.state[parameter][key] = values  # where torch keeps it, too: on the CPU
                continue
            optimizer.state[parameter][key] = torch.zeros_like(parameter, requires_grad=False)
            fill(optimizer.state[parameter][key], _of_shape(file, entry, values, parameter))


def named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """The parameters of `parameter_groups` with their names."""
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


def _remove(checkpoint: Path) -> None:
    """Renamed first: a kill halfway leaves no part of it under its name."""
    if checkpoint.exists():
        hidden = checkpoint.with_name(f".{checkpoint.name}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        checkpoint.rename(hidden)
        shutil.rmtree(hidden)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
