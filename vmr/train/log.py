"""What a run says while it goes: a progress line, `log.jsonl`, TensorBoard and Weights & Biases where they are.

log.jsonl has one object a line, each with a `step`: of training (losses, rates, times), of validation (`validation`),
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
from vmr.files import write_atomically
from vmr.progress import progress_bar
from vmr.train.config import RunConfig

LOG_FILE, SKIPPED_FILE = "log.jsonl", "skipped.jsonl"
WANDB_FILE = "wandb_id"
MAX_WAITING_SHARE = 0.2  # of the time; above it, the progress line says that the loop waits for data


class RunLog:
    """The log of a run; a context manager. Only the main process makes one that is `active`.

    A run that is taken up from `first_step` forgets what was logged after it. Raises VmrError where Weights & Biases is
    asked for but not installed, or does not let the user in.
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
        self._log = (out / LOG_FILE).open("a", encoding="utf-8")
        self._skipped = (out / SKIPPED_FILE).open("a", encoding="utf-8")
        if config.wandb is not None:
            self._writers.append(_WandbWriter(config.wandb, out, settings))
        tensorboard = _tensorboard_writer(out, first_step)
        if tensorboard is not None:
            self._writers.append(tensorboard)
        self._task = self._bar.add_task("training", total=num_steps, completed=first_step)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._active:
            for file in (self._log, self._skipped, *self._writers):
                file.close()

    def train(self, record: Mapping[str, Any]) -> None:
        """A line on the last steps: `step`, `loss`, the losses, and so on."""
        self._write(record)
        self._say(train_line(record))
        if self._task is not None:
            self._bar.update(self._task, description=f"{record['stage']}: loss {record['loss']:.3f}")

    def validation(self, step: int, metrics: Mapping[str, float], *, best: bool) -> None:
        """What a validation found."""
        self._write({"step": step, "validation": dict(metrics), "best": best})
        self._say(f"step {step}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")

    def event(self, step: int, message: str) -> None:
        """Something that the user should know of."""
        self._write({"step": step, "event": message})
        self._say(f"step {step}: {message}")

    def skipped(self, step: int, clips: Iterable[Skipped]) -> None:
        """Clips that could not be decoded; each is listed once, however many processes and stages meet it."""
        if self._active:
            for clip in clips:
                if (clip.source, clip.name) not in self._known_skipped:
                    self._known_skipped.add((clip.source, clip.name))
                    self._skipped.write(json.dumps({"step": step, **asdict(clip)}) + "\n")
            self._skipped.flush()

    @property
    def num_skipped(self) -> int:
        """How many clips could not be decoded."""
        return len(self._known_skipped)

    def advance(self, step: int) -> None:
        """So many steps are done."""
        if self._task is not None:
            self._bar.update(self._task, completed=step)

    def _write(self, record: Mapping[str, Any]) -> None:
        if not self._active:
            return
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()
        scalars = {name: value for name, value in record.items() if isinstance(value, int | float)}
        for group in ("losses", "validation"):
            scalars |= {f"{group}/{name}": value for name, value in record.get(group, {}).items()}
        step = int(scalars.pop("step"))
        for writer in self._writers:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

    def _say(self, line: str) -> None:
        """Above the bar, where there is one."""
        if self._active:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Window:
    """Means over the steps since the last line of the log."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether there is a step in it that was not left out."""
        return "grad_norm" in self._sums

    def add(self, step: Mapping[str, float], seconds: float, waited_s: float) -> None:
        """A step: its losses and `grad_norm` (nothing, if it was left out), its time, how much of that it waited."""
        values = {**step, "step_s": seconds, "waited_s": waited_s}
        self._sums.update(values)
        self._counts.update(values.keys())

    def pop_means(self) -> dict[str, Any]:
        """`loss`, `losses`, `grad_norm`, `step_s` and `waiting`, the share of the time spent so; starts anew."""
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
    """A record of training for a person."""
    losses = " ".join(f"{name} {value:.3f}" for name, value in record["losses"].items())
    line = (
        f"step {record['step']} {record['stage']}: loss {record['loss']:.3f} ({losses}) "
        f"lr {record['learning_rate']:.2e} temperature {record['temperature']:.4f} grad {record['grad_norm']:.2f} "
        f"{record['step_s']:.2f} s/step"
    )
    if record["waiting"] > MAX_WAITING_SHARE:
        line += f", {record['waiting']:.0%} of it waiting for data"
    if record["num_skipped"]:
        line += f"; {record['num_skipped']} clips skipped so far, see {SKIPPED_FILE}"
    return line


def _keep_until(file: Path, step: int) -> None:
    """Drop the lines of later steps, and one that a kill has cut off."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    write_atomically(file, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))


def _tensorboard_writer(out: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)


class _WandbWriter:
    """Weights & Biases, called as a TensorBoard writer is. A run that is taken up again is the same run there."""

    def __init__(self, project: str, out: Path, settings: Mapping[str, Any]) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError:
            raise VmrError("run.wandb needs wandb: pip install wandb") from None
        file = out / WANDB_FILE
        if not file.exists():
            write_atomically(file, lambda temporary: temporary.write_text(uuid.uuid4().hex))
        about = {"project": project, "name": out.name, "dir": str(out), "config": dict(settings)}
        try:
            self._run = wandb.init(**about, id=file.read_text(), resume="allow")
        except wandb.Error as error:
            message = " ".join(str(error).split())
            raise VmrError(f"run.wandb: {message} Or set WANDB_MODE=offline, or leave run.wandb out.") from error

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value}, step=step)

    def close(self) -> None:
        self._run.finish()
