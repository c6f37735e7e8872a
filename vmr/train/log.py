"""The log of a run: a progress line, `log.jsonl`, and TensorBoard and Weights & Biases if they are installed.

log.jsonl has one object per line, each with a `step`: of training (losses, rates, times), of validation (`validation`),
or of an `event`. skipped.jsonl lists every clip that could not be decoded, by name.
"""

import importlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import TaskID
from typing_extensions import Self

from vmr.data.training.loader import Skipped
from vmr.errors import VmrError
from vmr.files import AppendedFile, write_atomically, write_errors
from vmr.progress import progress_bar
from vmr.train.run_config import RunConfig

LOG_FILE, SKIPPED_FILE = "log.jsonl", "skipped.jsonl"
WANDB_FILE = "wandb_id"
MAX_WAITING_SHARE = 0.2  # share of the time; above it, the progress line says that the loop waits for data


class RunLog:
    """The log of a run; a context manager.

    A run that is resumed at `first_step` deletes what was logged after that step.

    Args:
        config: where the run writes, and the project on Weights & Biases, if any.
        num_steps: steps of the whole run.
        first_step: the step that the run starts or is resumed at.
        settings: the whole config, as JSON values, for Weights & Biases.
        active: True in the main process; the log of any other process writes nothing.

    Raises:
        VmrError: Weights & Biases was asked for, but it is not installed or refuses the user; or, from every method, a
            file of the log cannot be written.
    """

    def __init__(
        self, config: RunConfig, num_steps: int, first_step: int, settings: Mapping[str, Any], *, active: bool
    ) -> None:
        self._active = active
        self._writers: list[Any] = []
        self._bar = progress_bar(active)
        self._task: TaskID | None = None
        self._known_skipped: set[tuple[str, str]] = set()
        if not active:
            return
        out = Path(config.out)
        for name in (LOG_FILE, SKIPPED_FILE):
            _keep_until(out / name, first_step)
        if (out / SKIPPED_FILE).exists():
            lines = (out / SKIPPED_FILE).read_text("utf-8").splitlines()
            self._known_skipped = {(clip["source"], clip["name"]) for clip in map(json.loads, lines)}
        self._log, self._skipped = AppendedFile(out / LOG_FILE), AppendedFile(out / SKIPPED_FILE)
        if config.wandb is not None:
            self._writers.append(_WandbWriter(config.wandb, out, settings))
        try:
            self._writers.append(_TensorboardWriter(out / "tensorboard", first_step))
        except ImportError:
            self.event(first_step, "writes no TensorBoard events: they need tensorboard: pip install 'vmr[train]'")
        self._task = self._bar.add_task("training", total=num_steps, completed=first_step)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._active:
            failures = []
            for file in (self._log, self._skipped, *self._writers):
                try:
                    file.close()
                except VmrError as failure:
                    failures.append(failure)
            if failures and error is None:  # otherwise the error that ended the run says more
                raise failures[0]

    def train(self, record: Mapping[str, Any]) -> None:
        """Log the mean losses of the last steps.

        Args:
            record: `step`, `stage`, `loss`, `losses`, `learning_rate` and the other keys that `train_line` shows.
        """
        self._write(record)
        self._print(train_line(record))
        if self._task is not None:
            self._bar.update(self._task, description=f"{record['stage']}: loss {record['loss']:.3f}")

    def validation(self, step: int, metrics: Mapping[str, float], *, best: bool) -> None:
        """Log a validation.

        Args:
            step: optimiser steps made so far.
            metrics: name -> value.
            best: whether it is the best so far.
        """
        self._write({"step": step, "validation": dict(metrics), "best": best})
        self._print(f"step {step}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")

    def event(self, step: int, message: str) -> None:
        """Log something that the user should know.

        Args:
            step: optimiser steps made so far.
            message: one line.
        """
        self._write({"step": step, "event": message})
        self._print(f"step {step}: {message}")

    def skipped(self, step: int, clips: Iterable[Skipped]) -> None:
        """List clips that could not be decoded. Each is listed once, however many processes and stages skip it.

        Args:
            step: optimiser steps made so far.
            clips: the clips, including those listed before.
        """
        if self._active:
            for clip in clips:
                if (clip.source, clip.name) not in self._known_skipped:
                    self._known_skipped.add((clip.source, clip.name))
                    self._skipped.append(json.dumps({"step": step, **asdict(clip)}))

    @property
    def num_skipped(self) -> int:
        """The number of different clips that could not be decoded so far."""
        return len(self._known_skipped)

    def advance(self, step: int) -> None:
        """Move the progress bar.

        Args:
            step: optimiser steps made so far.
        """
        if self._task is not None:
            self._bar.update(self._task, completed=step)

    def _write(self, record: Mapping[str, Any]) -> None:
        if not self._active:
            return
        self._log.append(json.dumps(record))
        scalars = {name: value for name, value in record.items() if isinstance(value, int | float)}
        for group in ("losses", "validation"):
            scalars |= {f"{group}/{name}": value for name, value in record.get(group, {}).items()}
        step = int(scalars.pop("step"))
        for writer in self._writers:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

    def _print(self, line: str) -> None:
        """Print a line above the progress bar, if there is one."""
        if self._active:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class RunningMeans:
    """Means over the steps since the last line of the log; false if there was no step, or all steps were skipped."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether it holds a step that was not skipped."""
        return "grad_norm" in self._sums

    def add(self, step: Mapping[str, float], seconds: float, waited_s: float) -> None:
        """Add a step.

        Args:
            step: its losses and `grad_norm`; empty if the step was skipped.
            seconds: how long it took.
            waited_s: how much of that it waited for data.
        """
        values = {**step, "step_s": seconds, "waited_s": waited_s}
        self._sums.update(values)
        self._counts.update(values.keys())

    def pop_means(self) -> dict[str, Any]:
        """Return the means and start again.

        Returns:
            `loss`, `losses`, `grad_norm`, `step_s` (seconds per step) and `waiting` (share of the time spent waiting
            for data, in [0, 1]).
        """
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        grad_norm, step_s, waited_s = (means.pop(name) for name in ("grad_norm", "step_s", "waited_s"))
        waiting = waited_s / step_s
        return {
            "loss": sum(means.values()),
            "losses": means,
            "grad_norm": grad_norm,
            "step_s": step_s,
            "waiting": waiting,
        }


def train_line(record: Mapping[str, Any]) -> str:
    """Format a record of training as one line for people.

    Args:
        record: as `RunLog.train` takes it.

    Returns:
        The line.
    """
    losses = " ".join(f"{name} {value:.3f}" for name, value in record["losses"].items())
    temperature = f" temperature {record['temperature']:.4f}" if "temperature" in record else ""
    line = (
        f"step {record['step']} {record['stage']}: loss {record['loss']:.3f} ({losses}) "
        f"lr {record['learning_rate']:.2e}{temperature} grad {record['grad_norm']:.2f} "
        f"{record['step_s']:.2f} s/step"
    )
    if record["waiting"] > MAX_WAITING_SHARE:
        line += f", {record['waiting']:.0%} of it waiting for data"
    if record["num_skipped"]:
        line += f"; {record['num_skipped']} clips skipped so far, see {SKIPPED_FILE}"
    return line


def _keep_until(file: Path, step: int) -> None:
    """Drop the lines of later steps, and a last line that was cut off when the run was killed."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    write_atomically(file, "".join(kept).encode())


class _TensorboardWriter:
    """TensorBoard's own writer, whose errors name its folder. Raises ImportError if it is not installed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        with write_errors(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=first_step + 1)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        with write_errors(self._folder):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        with write_errors(self._folder):
            self._writer.close()


class _WandbWriter:
    """Weights & Biases with the methods of a TensorBoard writer. A resumed run continues the same run there."""

    def __init__(self, project: str, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError:
            raise VmrError("run.wandb needs wandb: pip install wandb") from None
        file = out / WANDB_FILE
        if not file.exists():
            write_atomically(file, uuid.uuid4().hex.encode())
        options = {"project": project, "name": out.name, "dir": str(out), "config": dict(settings)}
        try:
            self._run = wandb.init(**options, id=file.read_text(), resume="allow")
        except wandb.Error as error:
            message = " ".join(str(error).split())
            raise VmrError(f"run.wandb: {message} Or set WANDB_MODE=offline, or leave run.wandb out.") from error

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value}, step=step)

    def close(self) -> None:
        self._run.finish()
