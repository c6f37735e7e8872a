"""The jobs of a comparison: measure a training step, train, score, and measure what a clip costs."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.fair.lanes import Job
from benchmarks.fair.plan import FRAMES, NEEDED, SAME_NETWORK, Folder, Settings, config_of, scored
from vmr.files import write_atomically
from vmr.train.log import LOG_FILE

PROBED_STEPS, BLOCK = 60, 10
_MIN_STEPS = 20


def jobs_of(settings: Settings, folder: Folder) -> list[Job]:
    """List the jobs, those of the first seed first, so that a comparison that is stopped early has all networks."""
    jobs = []
    for seed in range(settings.seeds):
        for name in settings.names:
            if seed == 0 and settings.steps is None:
                jobs.append(_probe(name, folder, settings))
            jobs.append(_training(name, seed, folder, settings))
    for seed in range(settings.seeds):
        jobs += [_scoring(name, seed, folder, settings) for name in scored(settings)]
    networks = dict.fromkeys(SAME_NETWORK.get(name, name) for name in scored(settings))
    return jobs + [_costing(name, folder) for name in networks]


def steps_of(name: str, folder: Folder, settings: Settings) -> int:
    """Return the steps of a run of a config; the probe has been made."""
    return settings.steps or int(json.loads(folder.probe(name).read_text("utf-8"))["num_steps"])


def _probe(name: str, folder: Folder, settings: Settings) -> Job:
    """Train a few steps under the conditions of the comparison: on one core, while another network is trained."""
    out = folder.probe(name).with_suffix("")

    def finish() -> None:
        records = [json.loads(line) for line in (out / LOG_FILE).read_text("utf-8").splitlines()]
        blocks = [record["step_s"] for record in records if "step_s" in record and record["step"] > BLOCK]
        step_s = median(blocks)
        num_steps = max(int(settings.seconds_of(name) / step_s), _MIN_STEPS)
        content = {"step_s": step_s, "blocks_s": blocks, "num_steps": num_steps}
        write_atomically(folder.probe(name), json.dumps(content).encode())

    options = ["--run.stop_after_steps", str(PROBED_STEPS), "--run.log_every", str(BLOCK)]
    command = partial(_train_command, name, 0, folder, [*options, "--run.out", str(out)])
    return Job(f"probe-{name}", folder.probe(name), command, _needs(name, 0, folder), finish)


def _training(name: str, seed: int, folder: Folder, settings: Settings) -> Job:
    def command() -> Sequence[str]:
        stages = json.dumps([{"name": "train", "num_steps": steps_of(name, folder, settings)}])
        options = ["--stages", stages, "--run.out", str(folder.run(name, seed))]
        return _train_command(name, seed, folder, options)

    probed = () if settings.steps else (folder.probe(name),)
    needs = (*probed, *_needs(name, seed, folder))
    return Job(f"{name}-{seed}", folder.trained(name, seed), command, needs)


def _needs(name: str, seed: int, folder: Folder) -> tuple[str, ...]:
    return (folder.trained(NEEDED[name][0], seed),) if name in NEEDED else ()


def _train_command(name: str, seed: int, folder: Folder, options: Sequence[str]) -> list[str]:
    """A run of `vmr-train`. Runs of different seeds see different clips, and start from different weights."""
    command = [sys.executable, "-m", "vmr.cli.train", str(config_of(name)), *options]
    command += ["--run.device", "cpu", "--run.seed", str(seed)]
    if name in NEEDED:
        other, option = NEEDED[name]
        command += [option, str(folder.model(other, seed))]
    return command


def _scoring(name: str, seed: int, folder: Folder, settings: Settings) -> Job:
    model, out = str(folder.model(name, seed)), folder.scores(name, seed)
    command = [sys.executable, "-m", "benchmarks.fair.score", model, str(out), "--frames", *map(str, FRAMES)]
    if settings.limit:
        command += ["--limit", str(settings.limit)]
    return Job(f"score-{name}-{seed}", out, lambda: command, (folder.trained(name, seed),))


def _costing(name: str, folder: Folder) -> Job:
    command = [sys.executable, "-m", "benchmarks.fair.cost", str(config_of(name)), str(folder.costs(name))]
    return Job(f"cost-{name}", folder.costs(name), lambda: [*command, "--frames", *map(str, FRAMES)])
