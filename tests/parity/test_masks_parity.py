"""Masks equal upstream's bit for bit when they are drawn with its random numbers.

The masks were drawn by upstream for 2 frames of 4 x 4 patches, of which it drops 0.75, after `np.random.seed`.
"""

import numpy as np
import pytest

from tests.parity.adapter_sm import Adapter


@pytest.mark.parametrize(
    ("kind", "seed", "mask"),
    [
        ("tube", 1, "01101110101111110110111010111111"),
        ("random", 1, "10111111111111001010101011111110"),
        ("frame_row", 0, "11111111111100000000111111111111"),
        ("clip_row", 7, "11111111000011111111000011111111"),
    ],
)
def test_drawn_as_upstream_draws(kind: str, seed: int, mask: str) -> None:
    drawn = Adapter().mask(kind, (2, 4, 4), 0.75, np.random.RandomState(seed))
    assert "".join(map(str, drawn)) == mask
