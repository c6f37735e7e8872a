"""Fine-tune the model that comes with vmr for a few steps, and load the result.

The config is `configs/train/shapes_nano.yaml` with other values for a few keys; `vmr-train` takes the same options. On
videos of your own, set `data.root` and `data.sources` as in `configs/train/clips_smoke.yaml`.

    python examples/finetune.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import vmr
from vmr.train.config_file import read_config
from vmr.train.loop import train

START = Path(vmr.__file__).parent / "models" / "shipped" / "videomamba-nano-shapes"  # or a folder or file of your own


def main(out: Path, num_steps: int = 4) -> None:
    """Train for a few steps, without a teacher and without validation, and load the model that is saved at the end."""
    no_mask = "{kind: none, ratio: 0.0}"
    overrides = [
        f"--model.init={START}",
        "--model.teacher=null",
        "--objective.weights.alignment=0",
        f"--objective.video_mask={no_mask}",
        f"--objective.image_mask={no_mask}",
        "--data.sources=[{kind: shapes, num_clips: 1000, group: 4}]",
        "--data.batch_size.video=8",
        "--optimizer.learning_rate=1e-4",
        f"--stages=[{{name: fine, num_steps: {num_steps}, warmup: 1}}]",
        "--run.validate_every=null",
        "--validation=null",
        "--run.log_every=1",
        f"--run.out={out}",
    ]
    train(read_config("configs/train/shapes_nano.yaml", overrides))
    model = vmr.load_model(out / "model")  # the folder is a model: for vmr-index and vmr-eval as well
    print(model.name, tuple(model.encode_text(["a red square moves left"]).shape))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
