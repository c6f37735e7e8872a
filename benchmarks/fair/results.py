"""All numbers of a comparison, from its files."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.common import environment
from benchmarks.fair.jobs import steps_of
from benchmarks.fair.plan import Folder, Settings, scored
from vmr.train.log import LOG_FILE


def collect(settings: Settings, folder: Folder, command: str) -> dict[str, Any]:
    """Put the numbers of a complete comparison together.

    Args:
        settings: of the comparison.
        folder: its files.
        command: the command line that made it.

    Returns:
        The machine, the settings; for each run its steps, seconds, losses and scores; for each network its costs.
    """
    processes = _records(folder.processes)
    cpu_s: dict[str, float] = defaultdict(float)
    for process in processes:
        cpu_s[process["job"]] += process["cpu_s"]
    runs: dict[str, dict[str, Any]] = {}
    for name in settings.names:
        runs[name] = {}
        for seed in range(settings.seeds):
            log = [record for record in _records(folder.run(name, seed) / LOG_FILE) if "step_s" in record]
            lasts = [0, *(record["step"] for record in log[:-1])]
            run = {
                "steps": steps_of(name, folder, settings),
                "train_s": sum((one["step"] - last) * one["step_s"] for last, one in zip(lasts, log, strict=True)),
                "cpu_s": cpu_s[f"{name}-{seed}"],
                "losses": [[record["step"], record["loss"]] for record in log],
            }
            if name in scored(settings):
                run["scores"] = json.loads(folder.scores(name, seed).read_text("utf-8"))
            runs[name][str(seed)] = run
    return {
        "command": command,
        "environment": environment(),
        "settings": json.loads(folder.plan.read_text("utf-8")),
        "runs": runs,
        "costs": {name: json.loads(folder.costs(name).read_text("utf-8")) for name in scored(settings)},
        "processes": processes,
    }


def _records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
