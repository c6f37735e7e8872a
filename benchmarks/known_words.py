"""Which words of the synthetic benchmark a model knows: it tells apart clips whose captions differ in nothing else.

    python -m benchmarks.known_words
    python -m benchmarks.known_words --encoder runs/mine/model runs/other/model

Clips come in groups, of pairs of objects that training may show. Every caption of a group is compared with the clips
of its group alone, by embedding. R@1 on all clips cannot say which words are missing; here chance is 1 / group.
"""

import argparse
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import vmr
from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import Difference, TrainScenes
from vmr.models.encoder import Encoder

NUM_CLIPS = 480
SEED = 99  # of no source in configs/
AT_ONCE = 40


class Question(NamedTuple):
    """What the clips of a group differ in.

    Attributes:
        part: the kind of scenes.
        difference: see `vmr.data.shapes.split.Difference`.
        group: clips in a group.
    """

    part: str
    difference: Difference
    group: int


QUESTIONS = (
    Question("pairs", "motion", 8),
    Question("pairs", "shape", 8),
    Question("order", "motion", 8),
    Question("order", "relation", 2),
    Question("collision", "motion", 8),
    Question("collision", "relation", 2),
    Question("passage", "motion", 8),
)


def accuracy(encoder: Encoder, question: Question) -> float:
    """Return the share of captions, in percent, whose own clip is the most similar one of the group."""
    scenes = TrainScenes((question.part,), NUM_CLIPS, SEED, question.group, question.difference)
    vectors = []
    for start in range(0, NUM_CLIPS, AT_ONCE):
        clips = [render(scenes[i], scenes.render_seed(i)) for i in range(start, start + AT_ONCE)]
        vectors.append(encoder.encode_video(torch.from_numpy(np.stack(clips))))
    videos = torch.cat(vectors).unflatten(0, (-1, question.group))  # (groups, group, D)
    texts = encoder.encode_text([scenes[i].captions[0] for i in range(NUM_CLIPS)]).unflatten(0, (-1, question.group))
    best = (texts @ videos.mT).argmax(dim=2)
    return 100 * (best == torch.arange(question.group)).double().mean().item()


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print the table.

    Args:
        argv: the command line; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["videomamba-nano-shapes"])
    args = parser.parse_args(argv)
    encoders = [vmr.load_model(name, "cpu") for name in args.encoder]
    table = Table(title="captions whose own clip is the most similar one of its group, in %", title_justify="left")
    for column in ("part", "clips differ in", "chance", *args.encoder):
        table.add_column(column, justify="right")
    for question in QUESTIONS:
        found = [f"{accuracy(encoder, question):.0f}" for encoder in encoders]
        table.add_row(question.part, question.difference, f"{100 / question.group:.0f}", *found)
    Console().print(table)


if __name__ == "__main__":
    main()
