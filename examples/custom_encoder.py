"""An encoder of your own in thirty lines: it knows the colours of things, and is searched and scored like any other.

python examples/custom_encoder.py
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

import vmr
from vmr.data.shapes.files import make_shapes
from vmr.models.encoder import fingerprint

COLOURS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
NAMES = ("red", "green", "blue", "yellow", "white")


class ColourEncoder:
    """The vector of a video says how many of its pixels have each colour; that of a text, which colours it names."""

    name = "colour"
    about = "an example: it knows five words for colours, and nothing else"
    embed_dim = len(NAMES)
    preprocess = vmr.Preprocess(num_frames=4, size=64, resize="stretch", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    fingerprint = fingerprint({"colours": COLOURS}, preprocess, {"family": "colour"})

    def encode_video(self, video: Tensor) -> Tensor:
        """Take uint8 (B, T, 3, S, S) in [0, 255]; return float32 (B, 5)."""
        pixels = self.preprocess(video).movedim(2, -1)  # (B, T, S, S, 3), in [0, 1]
        near = torch.cdist(pixels.reshape(len(video), -1, 3), COLOURS) < 0.4  # (B, T*S*S, 5)
        return normalize(near.float().mean(dim=1).sqrt(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Take B strings; return unit vectors, float32 (B, 5)."""
        return normalize(torch.tensor([[text.count(name) + 0.01 for name in NAMES] for text in texts]), dim=-1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shapes = Path(folder, "shapes")
        make_shapes(shapes, num_clips=60, split="test")
        report = vmr.evaluate(shapes / "test.json", ColourEncoder(), video_dir=shapes)
    for metric, value in report.scores["embedding"].items():
        print(f"{metric} {value:.1f}")
