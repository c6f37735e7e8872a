"""`vmr-eval`: score an encoder by retrieval, or a classifier, and compare two such scores.

Each module holds a task or a subcommand. They may import every package of vmr, and torch only while a command runs.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import yaml

from vmr.cli.common import fail, run
from vmr.cli.eval.classify import DataOptions, ViewOptions, classify
from vmr.cli.eval.compare import compare
from vmr.cli.eval.retrieval import score

__all__ = ["classify", "compare", "main", "score"]

_OF_BOTH = {"data_dir", "video_dir", "limit"}  # options of both tasks
_CLASSIFY = "vmr-eval --task classify --dataset videos --model videomamba-ti-k400-f8 --out report.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["compare"]:
        example = "vmr-eval compare before.json after.json"
        run("vmr-eval compare", compare, ["a", "b", "more"], example, arguments[1:])
    elif _task(arguments) == "classify":
        run("vmr-eval --task classify", classify, [], _CLASSIFY, arguments)
    else:
        _refuse_options_of_classifiers(arguments)
        run("vmr-eval", score, [], "vmr-eval --dataset test.json --video-dir videos --out report.json", arguments)


def _refuse_options_of_classifiers(arguments: Sequence[str]) -> None:
    """Stop if the command line has an option that only classifiers have; the parser would name a similar option."""
    names = {"model", *(field.name for group in (DataOptions, ViewOptions) for field in fields(group))}
    flags = {f"--{name.replace('_', '-')}" for name in names - _OF_BOTH}
    given = next((flag for argument in arguments if (flag := argument.partition("=")[0]) in flags), None)
    if given is not None and _task(arguments) in (None, "retrieval"):
        fail(f"{given} is an option for classifiers: give --task classify (see vmr-eval --task classify --help)")


def _task(arguments: Sequence[str]) -> str | None:
    """The last task that the command line, or a file of options on it, names."""
    task = None
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        given = value if equals else following
        if flag == "--task":
            task = given or task  # the parser reports that the value is missing
        elif flag == "--config":
            task = _task_of_file(given) or task
    return task


def _task_of_file(file: str) -> str | None:
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # the parser reports what is wrong
    return content.get("task") if isinstance(content, dict) else None
