"""The training loop. Pre-training and fine-tuning differ in their configs only."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from vmr.cpus import let_threads_sleep
from vmr.data.training.loader import TrainBatch, TrainLoader
from vmr.data.training.order import LoaderPosition
from vmr.errors import VmrError
from vmr.locks import locked_folder
from vmr.processes import Processes
from vmr.signals import STOPS, StopSignals
from vmr.train.build import build_loader, build_optimizer, build_sources, build_task, learning_rate_factor
from vmr.train.checkpoint import TrainState, checkpoint_name, find_resumable, prune, save_checkpoint
from vmr.train.config import StageConfig, TrainConfig
from vmr.train.config_file import save_config
from vmr.train.distributed import Parallelised, join_processes, shard
from vmr.train.log import RunLog, RunningMeans
from vmr.train.step import Stepper, StepResult
from vmr.train.weights import Weights, averaged

Validate = Callable[[Any], dict[str, float]]
"""From the model in use, an encoder or a classifier as the task makes it, to metrics by name."""


@runtime_checkable
class CheckedValidate(Protocol):
    """A `Validate` that can tell before training starts that a model does not fit its data."""

    def check(self, model: Any) -> None:
        """Check a model in use, as for the call itself.

        Args:
            model: an encoder or a classifier with its initial weights.

        Raises:
            VmrError: it does not fit the data of the validation.
        """


FIRST_CHECKPOINT_MINUTES = 5.0  # whatever `run.checkpoint_every` says: the first hours of a run are worth keeping

# These keep the random numbers of a task apart from the loader's.
_OWN = 5  # of each process
_SHARED = 6  # the same in all processes


def train(config: TrainConfig, validate: Validate | None = None) -> Path:
    """Train a model, or resume the run that is found in `config.run.out`.

    The folder will hold `config.yaml`, `log.jsonl`, `skipped.jsonl`, `checkpoints/` and, at the end, the trained model
    as `model/`; after a validation also the best model as `best/`. `vmr.load_model` loads both. Under torchrun, every
    process calls this function. A run from Python:

        config = read_config("configs/train/shapes_nano.yaml", ["--run.out=runs/mine"])
        encoder = vmr.load_model(train(config) / "model")

    Args:
        config: the run, from `vmr.train.config_file.read_config` or made of the classes in `vmr.train.config`.
        validate: called in the main process every `run.validate_every` steps with the current model (its moving
            average, if there is one) as an encoder or a classifier. It returns metrics by name, among them
            `validation.metric`, by which the best model is chosen. `config.validation` must be set, but only its
            `metric` is read. None for no validation.

    Returns:
        `config.run.out` as a path. If `run.stop_after_steps` or `run.max_minutes` stopped the run early, there is no
        `model/` yet; a call without that limit resumes the run.

    Raises:
        VmrError: something that the config names is missing or does not fit (a `ModelError` for the model, a
            `MissingExtraError` for a package), the folder holds another run or is in use, too many clips cannot be
            decoded, or a loss or gradient was not finite.
        KeyboardInterrupt: the run was stopped by SIGINT (Ctrl-C), after it wrote a checkpoint. A second SIGINT ends the
            process at once.
        SystemExit: the same for SIGTERM, with status 143.
    """
    let_threads_sleep()
    out = Path(config.run.out)
    busy = VmrError(f"{out}: another run is writing here: name another run.out")
    with (
        join_processes(config.run.device) as processes,
        locked_folder(out, busy) if processes.is_main else nullcontext(),
    ):
        run = Run(config, validate, processes)
        with run.log:
            stopped_by = run.train()
    if stopped_by is signal.SIGTERM:
        raise SystemExit(128 + stopped_by)
    if stopped_by is not None:
        raise KeyboardInterrupt(f"{out}: stopped after a checkpoint")
    return out


class Run:
    """A training run in one of its processes. The constructor sets up weights, data, optimiser and log.

    Args:
        config: the run.
        validate: as for `train`.
        processes: the processes of the run.

    Attributes:
        config: as given.
        validate: as given.
        processes: as given.
        out: the folder of the run.
        task: the model with its losses.
        stepper: makes the optimiser steps.
        weights: all tensors of the run.
        state: the rest of its state.
        position: the position in the data; None before the first step.
        log: the log; a context manager.

    Raises:
        VmrError: as for `train`.
    """

    def __init__(self, config: TrainConfig, validate: Validate | None, processes: Processes) -> None:
        self.config, self.processes, self.out = config, processes, Path(config.run.out)
        self.validate = validate
        found = find_resumable(self.out, self.out / "checkpoints", config, processes)
        self._sources = build_sources(config, processes.rank)
        for stage in config.stages:
            self._loader(stage)  # wrong settings of a later stage raise an error now
        self.task = build_task(config, start=found is None)
        self.task.check_sources([source for source, _ in self._sources])
        self.task.place(processes.device)
        self.stepper, self.weights = self._wrap()
        self.state = TrainState(0, [], {}, 0, None, config.essentials())
        self.position: LoaderPosition | None = None
        events = [note for source, _ in self._sources for note in source.notes] + [*self.task.notes]
        if found is not None:
            self.state = found.state
            self.position = LoaderPosition.of(found.state.positions[processes.rank])
            self.weights.load(found.path, found.state.scaler)
            events += [f"ignores a checkpoint: {problem}" for problem in found.problems] + [
                f"resumes from {found.path}"
            ]
        elif processes.is_main:
            save_config(config, self.out / "config.yaml")
        self._check(validate)
        self.log = RunLog(config.run, config.num_steps, self.state.step, asdict(config), active=processes.is_main)
        for event in events:
            self.log.event(self.state.step, event)

    def _check(self, validate: object) -> None:
        """Let a validation look at the model before training, if it can."""
        if isinstance(validate, CheckedValidate):
            model = self.weights.snapshot(self.task.new_model)
            if self.processes.is_main:
                validate.check(self.task.as_validated(model))

    def _wrap(self) -> tuple[Stepper, Weights]:
        """Copy the average before the model is split over the processes; make the optimiser afterwards."""
        run, model = self.config.run, self.task.model
        average = averaged(model, run.ema) if run.ema is not None else None
        if average is not None and self.processes.world > 1 and run.parallel == "fsdp":
            copy = average.module
            shard(copy, self.task.layers_of(copy), self.task.scalars_of(copy), self.processes)
        parallelised = Parallelised(self.task, run.parallel, self.processes)
        optimizer = build_optimizer(self.config, model)
        if run.cuda_graphs:
            if self.processes.device.type != "cuda" or self.processes.world > 1:
                raise VmrError("run.cuda_graphs needs one process with a GPU: leave it out here")
            backbone = self.task.backbone()
            if backbone is None:
                raise VmrError("run.cuda_graphs runs the layers of a VideoMamba: leave it out for this model")
            if backbone.config.checkpointed_layers:
                raise VmrError("run.cuda_graphs keeps all activations: set checkpointed_layers to 0, or leave it out")
            backbone.graph_layers()
        if run.compile:
            for module in self.task.compiled_modules():
                module.compile()
        max_norm = self.config.optimizer.max_grad_norm
        stepper = Stepper(parallelised, optimizer, self.processes, precision=run.precision, max_grad_norm=max_norm)
        return stepper, Weights(model, average, optimizer, stepper.scaler)

    def train(self) -> signal.Signals | None:
        """Make all remaining steps, or those up to `run.stop_after_steps`, `run.max_minutes` or a signal.

        Returns:
            The signal that stopped the run, the same in all processes; None if there was none, or no step was left.
        """
        num_steps = self.config.num_steps
        stop_at = min(self.config.run.stop_after_steps or num_steps, num_steps)
        clock = Clock(self.config.run.max_minutes, self.config.run.checkpoint_minutes)
        means, stopped_by = RunningMeans(), None
        with StopSignals() as signals:
            while self.state.step < stop_at:
                stage, first = self.config.stage_at(self.state.step)
                self.task.set_stage(stage)
                end = min(stop_at, self.state.step - first + stage.num_steps)
                with self._loader(stage) as loader:
                    batches = loader.batches(self.position, pin_memory=self.processes.device.type == "cuda")
                    while self.state.step < end:
                        self._step(batches, means)
                        is_best = self._is_best()
                        is_over, is_due, *stops = self.processes.any(clock.is_over(), clock.is_due(), *signals.flags())
                        stopped_by = next((one for one, stops_now in zip(STOPS, stops, strict=True) if stops_now), None)
                        if is_over or stopped_by is not None:
                            stop_at = end = self.state.step
                        step = self.state.step
                        if is_due or is_best or step == stop_at or step % self.config.run.checkpoint_every == 0:
                            self._checkpoint()
                            clock.saved()
            if self.state.step == num_steps:
                self._save_model(self.out / "model")
                return None
            self._say_stopped(stopped_by)
        return stopped_by

    def _say_stopped(self, stopped_by: signal.Signals | None) -> None:
        """Say after which step the run stopped, and where its checkpoint is; then wait until it is written."""
        step, by = self.state.step, f" by {stopped_by.name}" if stopped_by else ""
        checkpoint = self.out / "checkpoints" / checkpoint_name(step)
        message = (
            f"stopped{by} after {step} of {self.config.num_steps} steps; the same command goes on from {checkpoint}"
        )
        self.log.event(step, message)
        self.processes.share(None)  # torchrun kills the main process, which writes, when another one has ended

    def _step(self, batches: Iterator[TrainBatch], means: RunningMeans) -> None:
        """Make one optimiser step and log it."""
        began, run, step = time.perf_counter(), self.config.run, self.state.step
        seeds = np.random.SeedSequence((run.seed, step, self.processes.rank))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        self.task.step = step
        factor = learning_rate_factor(self.config, step)
        for group in self.weights.optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor
        batches_of_step = [next(batches) for _ in range(run.accumulate)]
        result = self.stepper([self._prepare(batch) for batch in batches_of_step])
        self.position = batches_of_step[-1].position
        self.state = replace(self.state, step=step + 1)
        is_good = result.bad is None and not result.overflow
        if result.bad is not None:
            self._skip_step(result)
        elif is_good:
            self.weights.update_average()
        self._log_skipped(batches_of_step)
        losses = {**result.losses, "grad_norm": result.grad_norm} if is_good else {}
        means.add(losses, time.perf_counter() - began, sum(batch.waited_s for batch in batches_of_step))
        self.log.advance(step + 1)
        stage, step_in_stage = self.config.stage_at(step)
        is_due = step == 0 or (step + 1) % run.log_every == 0 or step_in_stage + 1 == stage.num_steps
        if is_due and means:
            facts = {
                "learning_rate": self.config.optimizer.learning_rate * factor,
                **self.task.facts(),
                "num_skipped": self.log.num_skipped,
                "num_bad_steps": self.state.num_bad_steps,
            }
            self.log.train({"step": step + 1, "stage": stage.name, **means.pop_means(), **facts})

    def _prepare(self, batch: TrainBatch) -> Any:
        """Turn the loader's arrays into what the task takes; its draws depend on the seed and on the batch alone."""
        seed, number = self.config.run.seed, batch.position.batch
        shared = np.random.default_rng((seed, _SHARED, number))
        return self.task.prepare(batch, shared, np.random.default_rng((seed, _OWN, number, self.processes.rank)))

    def _skip_step(self, result: StepResult) -> None:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in result.losses.items())
        message = f"{result.bad} is not finite (losses: {losses})"
        allowed = self.config.run.skip_bad_steps
        self.state = replace(self.state, num_bad_steps=self.state.num_bad_steps + 1)
        if self.state.num_bad_steps > allowed:
            raise VmrError(
                f"step {self.state.step}: {message}: lower optimizer.learning_rate, or set "
                f"run.skip_bad_steps above {allowed} to skip more such steps"
            )
        self.log.event(self.state.step, f"skipped: {message}")

    def _log_skipped(self, batches: list[TrainBatch]) -> None:
        """List the clips that any process could not decode. They are exchanged only if there are some."""
        own = [clip for batch in batches for clip in batch.skipped]
        (are_some,) = self.processes.any(bool(own))
        if are_some:
            self.log.skipped(self.state.step, [clip for clips in self.processes.collect(own) for clip in clips])

    def _is_best(self) -> bool:
        """Validate the model, if it is time; returns whether it is the best so far."""
        every = self.config.run.validate_every
        return every is not None and self.state.step % every == 0 and self._validate()

    def _validate(self) -> bool:
        """Validate the model and save it if it is the best so far; returns whether it is."""
        if self.validate is None or self.config.validation is None:
            return False
        metrics = self.processes.share(self._metrics(self.validate))
        name = self.config.validation.metric or self.task.metric
        if name is None or name not in metrics:
            raise VmrError(f"validation.metric: no {name!r}; there are {', '.join(metrics)}")
        before = self.state.best["metrics"].get(name) if self.state.best else None  # None: another metric was used
        is_best = before is None or metrics[name] > before
        self.log.validation(self.state.step, metrics, best=is_best)
        if is_best:
            self.state = replace(self.state, best={"step": self.state.step, "metrics": metrics})
            self._save_model(self.out / "best")
        return is_best

    def _metrics(self, validate: Validate) -> dict[str, float]:
        """Return the metrics of the current model; empty in all processes except the main one."""
        model = self.weights.snapshot(self.task.new_model)
        return validate(self.task.as_validated(model)) if self.processes.is_main else {}

    def _checkpoint(self) -> None:
        assert self.position is not None  # a step has been made
        positions = self.processes.collect(asdict(self.position))
        tensors = self.weights.tensors()
        self.state = replace(self.state, positions=positions, scaler=self.weights.scaler.state_dict())
        if self.processes.is_main:
            folder = self.out / "checkpoints"
            save_checkpoint(folder, tensors, self.state)
            best_step = self.state.best["step"] if self.state.best else None
            prune(folder, self.config.run.keep, best_step, self.state.step)

    def _save_model(self, folder: Path) -> None:
        model = self.weights.snapshot(self.task.new_model)
        if self.processes.is_main:
            record = {"step": self.state.step, "best": self.state.best, "config": self.config.essentials()}
            self.task.save_model(folder, model, record)

    def _loader(self, stage: StageConfig) -> TrainLoader:
        return build_loader(self.config, self._sources, stage, self.processes)


class Clock:
    """When a run has taken its time, and when a checkpoint is due by time.

    Args:
        max_minutes: `run.max_minutes`.
        checkpoint_minutes: `run.checkpoint_minutes`.
        now: the seconds of a clock that never goes back.
    """

    def __init__(
        self, max_minutes: float | None, checkpoint_minutes: float | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._start = self._last = now()
        self._max_minutes = math.inf if max_minutes is None else max_minutes
        self._later = math.inf if checkpoint_minutes is None else checkpoint_minutes
        self._wait = min(FIRST_CHECKPOINT_MINUTES, self._later)

    def is_over(self) -> bool:
        """Whether the run has taken its time."""
        return self._now() - self._start >= 60 * self._max_minutes

    def is_due(self) -> bool:
        """Whether the first checkpoint, or the next one by time, should be written now."""
        return self._now() - self._last >= 60 * self._wait

    def saved(self) -> None:
        """Count anew: a checkpoint has been written."""
        self._last, self._wait = self._now(), self._later
