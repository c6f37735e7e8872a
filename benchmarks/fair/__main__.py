"""Compare networks of equal size that train for the same time on the same clips, see docs/comparison.md.

    python -m benchmarks.fair --out runs/fair
    python -m benchmarks.fair --out runs/fair --minutes 2 --seeds 1 --only videomamba vit

Every run is a run of `vmr-train` on one core; two run side by side. The same command goes on after an interruption:
runs go on from their checkpoints, and what is finished is kept.
"""

import argparse
import json
import os
import shlex
import signal
import sys
from functools import partial
from pathlib import Path

from benchmarks.fair.jobs import jobs_of
from benchmarks.fair.kept import keep_plan
from benchmarks.fair.lanes import run_jobs
from benchmarks.fair.plan import ABLATIONS, KINDS, NEEDED, Folder, Settings, scored
from benchmarks.fair.plots import draw_plots
from benchmarks.fair.report import markdown
from benchmarks.fair.results import collect
from vmr.errors import VmrError
from vmr.files import write_atomically

_PROBE_S, _SCORE_S, _COST_S = 25, 60, 25  # about, on one core of 2025


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that the options name.

    Raises:
        VmrError: a number is out of range, or a network starts from one that is left out.
    """
    if options.minutes <= 0 or options.seeds < 1 or options.lanes < 1:
        raise VmrError("--minutes must be above 0, --seeds and --lanes at least 1")
    names = tuple(name for name in (*KINDS, *ABLATIONS) if name in options.only)
    for name in names:
        if name in NEEDED and NEEDED[name][0] not in names:
            raise VmrError(f"--only: {name} starts from {NEEDED[name][0]}: name that too")
    return Settings(options.minutes, options.seeds, names, options.steps, options.limit)


def estimate_minutes(settings: Settings, lanes: int) -> float:
    """Estimate how long all of it takes on idle cores.

    Args:
        settings: of the comparison.
        lanes: how many jobs run at once.
    """
    num_scored = len(scored(settings))
    training = sum(settings.seconds_of(name) for name in settings.names) * settings.seeds
    others = _PROBE_S * len(settings.names) + (_SCORE_S * settings.seeds + _COST_S) * num_scored
    return (training + others) / 60 / lanes


def main() -> int:
    """Run the comparison, or what is left of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the comparison")
    parser.add_argument("--minutes", type=float, default=6.0, help="of training for each network and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[*KINDS, *ABLATIONS], choices=[*KINDS, *ABLATIONS], metavar="NAME")
    parser.add_argument("--lanes", type=int, default=2, help="how many jobs run at once, each on a core of its own")
    parser.add_argument("--steps", type=int, help="steps of every run instead of a time")
    parser.add_argument("--limit", type=int, help="score only the first clips of the test")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        settings, folder = settings_of(options), Folder(options.out)
        keep_plan(settings, folder)
        num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if options.lanes > num_cores:
            raise VmrError(f"--lanes {options.lanes}: this process may use {num_cores} cores")
        if settings.steps is None:
            estimate = estimate_minutes(settings, options.lanes)
            print(f"about {estimate:.0f} minutes in all, if nothing else runs on these cores", flush=True)
        jobs = jobs_of(settings, folder)
        keep = partial(keep_plan, settings, folder)  # none of the table is made by other code than the rest
        run_jobs(jobs, options.lanes, folder, lambda line: print(line, flush=True), keep)
        command = f"python -m benchmarks.fair {shlex.join(sys.argv[1:])}"
        results = collect(settings, folder, command)
        text = markdown(results)
        write_atomically(folder.results, (json.dumps(results, indent=1) + "\n").encode())
        write_atomically(folder.out / "results.md", text.encode())
        plots = draw_plots(results, folder)
    except VmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    print(f"{text}\n{folder.results}, results.md, {', '.join(plot.name for plot in plots)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
