"""A small report of every part that a report can have, worked by hand."""

import numpy as np

from vmr.eval.metrics.ranks import bidirectional_ranks, bidirectional_summary
from vmr.eval.report.examples import Example, pick_examples
from vmr.eval.report.reference import reference_rows
from vmr.eval.report.report import ProtocolInfo, Report
from vmr.retrieval.results import Failure

TEXTS = ("a dog | barks", "a <b>cat</b> sleeps", "a man runs")
VIDEOS = ("dog.mp4", "cat.mp4", "man.mp4")
SCORES = np.array([[0.9, 0.1, 0.2], [0.4, 0.3, 0.1], [0.8, 0.7, 0.1]])  # ranks of the diagonal: 1, 2, 3


def make_report(**changes) -> Report:
    """Three texts of three videos; text to video ranks 1, 2, 3; a fourth video is missing."""
    ranks = bidirectional_ranks(SCORES, [0, 1, 2])
    kinds = ("embedding", "embedding+dsl")
    fields = {
        "dataset": "msrvtt",
        "encoder": "toy",
        "about": "a toy",
        "fingerprint": "f00d",
        "num_frames": 4,
        "sampling": "middle",
        "reader": "pyav",
        "num_videos": 3,
        "num_videos_asked": 4,
        "num_texts": 3,
        "num_texts_asked": 4,
        "failures": (Failure("gone.mp4", "no such file"),),
        "scores": {kind: bidirectional_summary(ranks) for kind in kinds},
        "protocol": ProtocolInfo("msrvtt", 1, "0123456789abcdef", "MSRVTT 1k-A", "not the full test split"),
        "intervals": {"embedding": {"text_to_video/R@1": (0.0, 100.0), "rsum": (250.0, 550.5)}},
        "ranks": {kind: {way: tuple(row.tolist()) for way, row in ranks._asdict().items()} for kind in kinds},
        "text_ids": TEXTS,
        "video_ids": VIDEOS,
        "reference": reference_rows("msrvtt"),
        "examples": {
            "embedding": pick_examples(
                SCORES, ranks.text_to_video, TEXTS, [0, 1, 2], VIDEOS, num_each=1, num_retrieved=2
            )
        },
        "date": "2030-01-02T03:04:05+00:00",
    }
    return Report(**{**fields, **changes})


def make_examples() -> tuple[Example, ...]:
    return (
        Example("worst", "a <b>cat</b> sleeps", "cat.mp4", 2, (("dog.mp4", 0.4), ("man.mp4", None))),
        Example("best", "a dog | barks", "dog.mp4", 1, (("dog.mp4", 0.9),)),
    )
