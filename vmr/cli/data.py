"""`vmr-data`: make the synthetic benchmark, list the published data sets, check one of them or a training set."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse.typing import PositiveInt

from vmr.cli.common import run_subcommands
from vmr.cli.data_check import check
from vmr.cli.data_labels import check_labels
from vmr.cli.data_protocols import list_protocols
from vmr.errors import VmrError

Part = Literal["pairs", "order", "passage", "collision", "twins", "all"]


def make(
    kind: Literal["shapes"],
    dir: str,
    part: Part = "pairs",
    n: PositiveInt = 200,
    seed: int = 0,
    split: Literal["both", "train", "test"] = "both",
) -> None:
    """Make short lossless videos of two moving coloured shapes, with captions that one frame does not decide.

    Args:
        kind: shapes
        dir: folder to write; it must be absent or empty
        part: kind of scenes: two objects that move at the same time (pairs), one before the other (order), into or out
            of the picture (passage), or until they meet (collision); twins are test clips of the kind pairs, whose
            captions differ in one word
        n: number of training clips, and largest number of test clips of each part; there are 1000 pairs, 500 twins and
            300 of each other part
        seed: seed of the training clips; the test clips are always the same
        split: which clips to make
    """
    from vmr.data.shapes.files import make_shapes
    from vmr.data.shapes.split import PARTS

    if split == "test" and seed:
        raise VmrError("--seed is for training clips, and --split test makes none: leave out one of them")
    made = make_shapes(dir, PARTS if part == "all" else (part,), n, seed, split, progress=True)
    if made.num_train:
        print(f"{dir}: {made.num_train} clips to train on (train.json)")
    if made.num_test:
        print(f"{dir}: {made.num_test} clips to test on (test.json)")
        print(f"next: vmr-eval --dataset {dir}/test.json --video-dir {dir}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run_subcommands(
        "vmr-data",
        "Make data sets, and check them.",
        {
            "make": (make, ["kind", "dir"], "vmr-data make shapes shapes --n 200"),
            "check": (check, ["file"], "vmr-data check train.json --video-dir videos"),
            "check-labels": (check_labels, ["place"], "vmr-data check-labels train.csv --video-dir videos"),
            "list": (list_protocols, [], "vmr-data list"),
        },
        argv,
    )
