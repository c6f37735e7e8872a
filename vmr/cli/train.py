"""`vmr-train`: train a model as its config says."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from vmr.cli import common
from vmr.cli.common import Parser, fail
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.eval.classification.load import LabelledData
    from vmr.eval.classification.task import ClassifyOptions
    from vmr.models.classifier import Classifier
    from vmr.models.encoder import Encoder
    from vmr.train.config import TaskName
    from vmr.train.loop import Validate
    from vmr.train.run_config import ValidationConfig

_DESCRIPTION = """Train a model as a config says, or continue the run in its folder.

Any key of the config can be given on the line: --run.out runs/mine. `vmr-train CONFIG --help` lists all of them,
`vmr-train CONFIG --print_config` prints the config with what it is based on, `vmr-train --print_config` the defaults.
On several devices: torchrun --nproc-per-node 8 -m vmr.cli.train CONFIG
"""


def train(config: str | None, overrides: list[str]) -> None:
    """Train as a config file says.

    Args:
        config: the YAML file; None prints how to name one.
        overrides: keys of the config with other values, as on the command line: `--run.out runs/mine`.
    """
    from vmr.train.config_file import read_config

    parsed = read_config(config, overrides)
    if config is None:
        fail("name a config, such as configs/train/shapes_nano.yaml (see vmr-train --help)")

    from vmr.train.loop import train as run

    out = run(parsed, None if parsed.validation is None else make_validate(parsed.validation, parsed.task))
    if os.environ.get("RANK", "0") == "0":  # one of torchrun's processes prints
        print(f"trained: {out}")


def make_validate(config: "ValidationConfig", task: "TaskName") -> "Validate":
    """Return the function that evaluates a model in training; the data set is loaded once.

    It is loaded here, except for a list of labels of one's own, which the classifier helps to read.

    Args:
        config: the data set and the metric.
        task: what the run learns.

    Returns:
        A function from a model in use to its metrics.

    Raises:
        VmrError: the data set cannot be loaded, or the config names a metric that does not exist, or one for which
            lower is better; or the task has no evaluation.
        MissingExtraError: FAISS is not installed, which retrieval needs.
    """
    if task == "masked":
        raise VmrError("validation: an encoder of masked pre-training cannot retrieve yet: leave validation out")
    return _ByAccuracy(config) if task == "classification" else _by_retrieval(config)


def _by_retrieval(config: "ValidationConfig") -> "Validate":
    """Evaluate an encoder: the metrics are those of the column `embedding`, without the column's name."""
    from vmr.eval.metrics.ranks import RECALL_AT, DirectionRanks
    from vmr.eval.metrics.scoring import CHOICE_METRIC
    from vmr.eval.protocols.load import load_dataset
    from vmr.eval.runner import EvalOptions, evaluate
    from vmr.retrieval.vectors.faiss_store import require_faiss

    require_faiss()
    with _keys_in_errors(config):
        loaded = load_dataset(config.dataset, config.video_dir, config.data_dir)
    data = replace(loaded.data, needs_time=False)  # skips the controls and the matching, which would take long
    options = EvalOptions(rerank_depth=config.rerank)
    names = ["rsum", *(f"{direction}/R@{k}" for direction in DirectionRanks._fields for k in RECALL_AT)]
    names = [CHOICE_METRIC] if data.choices else names
    if config.rerank:
        names += [f"vtm/{name}" for name in names]
    _check_metric(config, names)

    def validate(encoder: "Encoder") -> dict[str, float]:
        columns = evaluate(replace(loaded, data=data), encoder, options=options).scores
        return {
            name if column == "embedding" else f"{column}/{name}": value
            for column, metrics in columns.items()
            for name, value in metrics.items()
        }

    return validate


class _ByAccuracy:
    """Evaluates classifiers, by default with one view of each video."""

    def __init__(self, config: "ValidationConfig") -> None:
        from vmr.eval.classification.load import labelled_for

        self._config = config
        with _keys_in_errors(config):
            self._load = cache(labelled_for(config.dataset, data_dir=config.data_dir, video_dir=config.video_dir))

    def check(self, classifier: "Classifier") -> None:
        from vmr.eval.classification.task import prepare_classification

        try:
            prepare_classification(*self._prepared(classifier))
        except VmrError as error:
            raise VmrError(f"validation: {error}") from error
        names = {"single": ["top-1", "top-5", "mean class accuracy"], "multi": ["mAP"], "regression": ["-MSE"]}
        _check_metric(self._config, names[classifier.target])

    def __call__(self, classifier: "Classifier") -> dict[str, float]:
        from vmr.eval.classification.report.report import MAIN
        from vmr.eval.classification.runner import evaluate_classifier

        data, classifier, options = self._prepared(classifier)
        found = evaluate_classifier(data, classifier, options=options).scores[MAIN]
        return {**found, "-MSE": -found["MSE"]} if "MSE" in found else found

    def _prepared(self, classifier: "Classifier") -> "tuple[LabelledData, Classifier, ClassifyOptions]":
        from vmr.eval.classification.task import ClassifyOptions

        with _keys_in_errors(self._config):
            data = self._load(classifier.target)
        # Clips that are drawn have one view. The controls would take as long again.
        options = ClassifyOptions(views=None if data.drawn else self._config.views, controls=False)
        return data, classifier, options


@contextmanager
def _keys_in_errors(config: "ValidationConfig") -> Iterator[None]:
    """Name the keys of the data in what is wrong with it: the run has another data set, which has keys of its own."""
    try:
        yield
    except VmrError as error:
        given = {name: getattr(config, name) for name in ("dataset", "data_dir", "video_dir")}
        keys = ", ".join(f"validation.{name} {value}" for name, value in given.items() if value is not None)
        raise VmrError(f"{keys}: {error}") from error


def _check_metric(config: "ValidationConfig", names: Sequence[str]) -> None:
    if config.metric is not None and config.metric not in names:
        raise VmrError(f"validation.metric: no {config.metric!r}; use one of {', '.join(names)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    config = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if config is None and set(arguments) <= {"-h", "--help"}:
        # Listing all keys of the config needs torch; this help does not.
        epilog = "example: vmr-train configs/train/shapes_nano.yaml --run.out runs/mine"
        parser = Parser(prog="vmr-train", description=_DESCRIPTION, epilog=epilog)
        parser.positional = ["CONFIG"]
        parser.add_argument("CONFIG", help="a YAML file; configs/train holds some")
        parser.parse_args(arguments)
    common.call_command(train, Namespace(config=config, overrides=arguments))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
