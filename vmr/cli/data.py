"""`vmr-data`: make the synthetic benchmark."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse.typing import PositiveInt

from vmr.cli.common import run_subcommands


def make(kind: Literal["shapes"], dir: str, n: PositiveInt = 200, seed: int = 0) -> None:
    """Make short videos of moving coloured shapes, with captions that need colour, shape, direction, speed and order.

    Args:
        kind: shapes
        dir: folder to write, absent or empty
        n: how many clips
        seed: the same seed makes the same clips
    """
    from vmr.data.shapes import make_shapes

    made = make_shapes(dir, n, seed, progress=True)
    print(f"{dir}: {made.num_train} clips to train on (train.json), {made.num_test} to test on (test.json)")
    print(f"next: vmr-eval --dataset {dir}/test.json --video-dir {dir}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run_subcommands(
        "vmr-data",
        "Make data sets.",
        {"make": (make, ["kind", "dir"], "vmr-data make shapes shapes --n 200")},
        argv,
    )
