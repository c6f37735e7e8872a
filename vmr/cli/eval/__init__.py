"""`vmr-eval`: score an encoder by retrieval, or a classifier, and compare two such scores.

Each module holds a task or a subcommand. They may import every package of vmr, and torch only while a command runs.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from vmr.cli.common import run
from vmr.cli.eval.classify import classify
from vmr.cli.eval.compare import compare
from vmr.cli.eval.retrieval import score

__all__ = ["classify", "compare", "main", "score"]

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
        run("vmr-eval", score, [], "vmr-eval --dataset test.json --video-dir videos --out report.json", arguments)


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
