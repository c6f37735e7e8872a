"""The device check: parity on this GPU, then times beside lower bounds and other implementations.

    python -m benchmarks.gpu --budget 520 --out gpu-check
    python -m benchmarks.gpu --steps machine parity --out gpu-check

Every step is a process with its own time limit. It writes OUT/STEP.json when it ends; if it fails, the other steps
still run. The tables are printed at the end and written to OUT/report.md. Nothing is timed if parity fails, unless
parity is left out of the steps. `--tune` writes the best tile sizes into vmr/ops/gpu/tiles.json.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# The time limit of each step in seconds; the last steps get less if the budget runs out.
STEPS = {
    "machine": 40, "warm_up": 90, "parity": 90, "compiled": 90, "tuning": 90, "kernels": 60, "training": 90,
    "encoders": 90, "peers": 150,
}  # fmt: skip
TOGETHER = ("warm_up", "parity", "compiled")  # run at the same time: they compile, and time nothing
MODULES = {"peers": "encoders", "encoders": "encoders"}  # the module of a step, where it has another name
NEEDS_PARITY = ("tuning", "kernels", "training", "encoders", "peers")


def main(argv: list[str] | None = None) -> int:
    """Run the steps and print the tables.

    Args:
        argv: the command line; `sys.argv` if None.

    Returns:
        The exit status: 1 if parity was checked and failed, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=520.0, help="seconds for all of it (default: 520)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--tune", action="store_true", help="write the best tile sizes into the package")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # the child process
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.step:
        result = _measure(options.step, options.out, tune="tuning" in options.steps)
        _write(options.out / f"{options.step}.json", result)
        return 0
    deadline = time.monotonic() + options.budget
    seconds = {}
    for group in _groups(options.steps):
        if group[0] in NEEDS_PARITY and "parity" in options.steps and _parity_failed(options.out):
            seconds |= dict.fromkeys(group, "not run: parity failed, or was not measured")
            continue
        with ThreadPoolExecutor(len(group)) as pool:
            seconds |= zip(group, pool.map(lambda step: _run_step(step, options, deadline), group), strict=True)
        print(*(f"{step}: {seconds[step]}" for step in group), sep="\n", flush=True)
        if group == ["tuning"] and options.tune:
            _keep_tiles(options.out)
    _write(options.out / "steps.json", seconds)
    from benchmarks.gpu.report import write_report

    print(write_report(options.out))
    return int("parity" in options.steps and _parity_failed(options.out))


def _groups(steps: Sequence[str]) -> list[list[str]]:
    """The steps in their order, in groups that may run side by side."""
    groups: list[list[str]] = []
    for step in (step for step in STEPS if step in steps):
        if groups and step in TOGETHER and groups[-1][-1] in TOGETHER:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _run_step(step: str, options: argparse.Namespace, deadline: float) -> str:
    """Run a step as a process; returns how long it took or how it failed."""
    limit = min(STEPS[step], deadline - time.monotonic())
    (options.out / f"{step}.json").unlink(missing_ok=True)
    if limit < 10:
        return "not run: the budget is spent"
    command = [sys.executable, "-m", "benchmarks.gpu", "--step", step, "--out", str(options.out)]
    command += ["--steps", *options.steps]
    start = time.monotonic()
    with (options.out / f"{step}.log").open("wb") as log:
        try:
            status = subprocess.run(command, stdout=log, stderr=log, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"stopped at its limit of {limit:.0f} s"
    if status:
        return f"failed: {_last_line(options.out / f'{step}.log')}"
    return f"{time.monotonic() - start:.0f} s"


def _measure(step: str, out: Path, *, tune: bool) -> dict[str, Any]:
    """Run a step in this process: the function `measure` of its module."""
    measure = importlib.import_module(f"benchmarks.gpu.{MODULES.get(step, step)}").measure
    if step in ("kernels", "training"):
        return dict(measure(_read(out / "machine.json")))
    if step == "warm_up":
        return dict(measure(tune=tune))
    if MODULES.get(step):
        return dict(measure(peers=step == "peers"))
    return dict(measure())


def _parity_failed(out: Path) -> bool:
    file = out / "parity.json"
    return not file.exists() or bool(_read(file)["failed"])


def _keep_tiles(out: Path) -> None:
    """Write the best tile sizes into the table in the package."""
    from vmr.ops.gpu.tiles import TABLE

    if not (out / "tuning.json").exists():
        return
    found = _read(out / "tuning.json")
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    table[found["architecture"]] = found["tiles"]
    _write(TABLE, table)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _last_line(log: Path) -> str:
    """Return the last line that names an error; PyTorch adds advice below it."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (named or lines or ["no output"])[-1][:300]


if __name__ == "__main__":
    sys.exit(main())
