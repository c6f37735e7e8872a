"""Score a trained model on the test of shapes-actions at several numbers of frames, and write the numbers as JSON.

python -m benchmarks.fair.score runs/fair_videomamba/model scores.json --frames 4 8 16 32
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from vmr.eval.classification.report.report import ClassificationReport
from vmr.eval.classification.runner import evaluate_classifier
from vmr.eval.classification.task import ClassifyOptions, load_classifier
from vmr.files import write_atomically

DATASET = "shapes-actions"


def score(model: str, num_frames: int, limit: int | None) -> dict[str, Any]:
    """Evaluate a model as `vmr-eval --task classify --dataset shapes-actions --num-frames` does.

    Args:
        model: its folder.
        num_frames: frames of a clip; positions in time are interpolated.
        limit: how many clips are scored; None for all.

    Returns:
        For each column the accuracies in percent, the interval of the first, and the parts of the class that are right.
    """
    classifier = load_classifier(model, num_frames=num_frames)
    report = evaluate_classifier(DATASET, classifier, options=ClassifyOptions(limit=limit))
    scores: dict[str, Any] = {"num_clips": report.num_videos}
    for column, metrics in report.scores.items():
        interval = report.intervals[column]["top-1"]
        scores[column] = {**metrics, "interval": list(interval), **_parts(report, column)}
    return scores


def _parts(report: ClassificationReport, column: str) -> dict[str, float]:
    """How often order, turn and side are right, in percent. Class number = 4 * order + 2 * turn + side."""
    found = np.array([classes[0] for classes in report.results[column].top])
    wanted = np.array([classes[0] for classes in report.labels])
    right = {
        "order": found // 4 == wanted // 4,
        "turn": found // 2 % 2 == wanted // 2 % 2,
        "side": found % 2 == wanted % 2,
    }
    return {part: 100 * float(equal.mean()) for part, equal in right.items()}


def main() -> None:
    """Write the scores of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[8])
    parser.add_argument("--limit", type=int, help="score the first clips only")
    options = parser.parse_args()
    scores = {str(frames): score(options.model, frames, options.limit) for frames in options.frames}
    write_atomically(options.out, json.dumps(scores, indent=1).encode())


if __name__ == "__main__":
    main()
