"""Score a model of your own and compare it with another, query by query.

Here "your own model" is the one that comes with vmr, changed so that it sees no motion: it gets the first frame of each
clip, repeated.

    python examples/evaluate_your_model.py
"""

import tempfile
from pathlib import Path

from torch import Tensor

import vmr
from vmr.data.shapes.files import make_shapes


class OneFrame:
    """An encoder that gives only the first frame of a clip to another encoder. Any object with these members works."""

    name = "one frame"
    about = "an example: it sees no motion"

    def __init__(self, encoder: vmr.Encoder) -> None:
        self.encode_text = encoder.encode_text
        self.preprocess, self.embed_dim = encoder.preprocess, encoder.embed_dim
        self.fingerprint = encoder.fingerprint + "-one-frame"  # other vectors need another fingerprint
        self._encoder = encoder

    def encode_video(self, video: Tensor) -> Tensor:
        """Take uint8 (B, T, 3, S, S) in [0, 255]; return float32 (B, D)."""
        return self._encoder.encode_video(video[:, :1].expand_as(video).contiguous())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shapes = Path(folder, "shapes")
        make_shapes(shapes, num_clips=60, split="test")
        model = vmr.load_model("videomamba-nano-shapes")
        whole = vmr.evaluate(shapes / "test.json", model, video_dir=shapes)
        still = vmr.evaluate(shapes / "test.json", OneFrame(model), video_dir=shapes)
    print(whole.to_markdown())
    for row in still.compare(whole).columns[0].rows:
        print(f"{row.metric}: {row.a:.1f} by one frame, {row.b:.1f} by all; {row.low:+.1f} to {row.high:+.1f}")
