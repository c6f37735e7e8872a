"""Video-text checkpoints as upstream writes them: with its names, and with the other content of its training files.

`VIDEO`, `TEXT` and `CONFIG` are the sizes of `tests.parity.fill.small_video_text_weights`.
"""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import tiny_model
from tests.parity.fill import small_teacher_weights
from vmr.errors import ModelError
from vmr.models.text.bert_names import tied_copies
from vmr.models.text.encoder import TextConfig
from vmr.models.upstream.released import MIDDLE, RELEASED
from vmr.models.upstream.video_text import load_video_text, read_video_text, upstream_name
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig

VIDEO = VideoMambaConfig(
    width=64, num_layers=4, image_size=64, num_frames=4, student=StudentConfig(teacher_dim=32, num_taps=1)
)
TEXT = TextConfig(
    vocab_size=1000, width=64, num_layers=4, num_text_layers=2, num_heads=4, feed_forward=128, max_positions=64
)
CONFIG = VideoTextConfig(VIDEO, TEXT, embed_dim=32, masked_lm=True)
SETTINGS = {
    "model": {
        "vision_encoder": {"depth": 4, "num_attention_heads": 16},
        "text_encoder": {"config": [{"num_attention_heads": 4}], "fusion_layer": 2, "name": "bert"},
    },
    "lr": 1e-4,
}
BERT = "text_encoder.bert.encoder.layer"
POSITION_IDS = "text_encoder.bert.embeddings.position_ids"
HEAD = "text_encoder.cls.predictions"
COPIES = (f"{HEAD}.decoder.weight", f"{HEAD}.decoder.bias")


def save_as_upstream(model: VideoTextModel, path: Path) -> None:
    """A file as upstream's pre-training writes it: its names, tied copies, a constant, a teacher, optimiser, config."""
    config = model.config.text
    weights = {upstream_name(key, config.num_text_layers): value for key, value in model.state_dict().items()}
    weights |= {copy: weights[original] for copy, original in tied_copies("text_encoder.", "bert.").items()}
    weights["text_encoder.bert.embeddings.position_ids"] = torch.arange(config.max_positions)[None]
    weights |= small_teacher_weights()
    settings = {"model": {"text_encoder": {"num_attention_heads": config.num_heads}}}
    torch.save({"model": weights, "optimizer": {}, "config": settings, "epoch": 9}, path)


def put_into_cache(cache: Path, name: str) -> Path:
    """Put a tiny checkpoint where huggingface_hub keeps the file of that released model."""
    repository = cache / "models--OpenGVLab--VideoMamba"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    path = repository / "snapshots" / commit / RELEASED[name].file
    path.parent.mkdir(parents=True)
    save_as_upstream(tiny_model(), path)
    return path


def with_teacher(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | small_teacher_weights()


def save_training(path: Path, weights: dict[str, Tensor], settings: dict[str, Any], **more: Any) -> None:
    """As upstream saves: beside the weights an optimiser, and a pickled config whose class is unknown to readers."""
    easydict: Any = type("EasyDict", (dict,), {"__module__": "utils.easydict"})

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(item) for item in value]
        if not isinstance(value, dict):
            return value
        record = easydict({name: convert(item) for name, item in value.items()})
        vars(record).update(record)  # upstream's class keeps its items as attributes as well
        return record

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    module = types.ModuleType("utils.easydict")
    module.EasyDict = easydict  # type: ignore[attr-defined]
    content = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"last_epoch": 3, "_last_lr": [1e-4]},
        "scaler": {"scale": 65536.0, "_growth_tracker": 7},
        "config": convert(settings),
        "epoch": 9,
        "global_step": 1234,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "utils", types.ModuleType("utils"))
        patch.setitem(sys.modules, "utils.easydict", module)
        torch.save(content | more, path)


def released_weights() -> dict[str, Tensor]:
    """A file of the released sizes whose weights are one 0 each."""
    with torch.device("meta"):
        model = VideoTextModel(MIDDLE)
    shapes = {upstream_name(key, 9): tensor.shape for key, tensor in model.state_dict().items()}
    shapes |= {copy: shapes[original] for copy, original in tied_copies("text_encoder.", "bert.").items()}
    block = "clip_teacher.transformer.resblocks."
    for key, tensor in small_teacher_weights().items():
        if not key.startswith(block):
            shapes[key] = tensor.shape
        elif key.startswith(f"{block}0."):
            shapes |= {key.replace(f"{block}0.", f"{block}{index}."): tensor.shape for index in range(12)}
    weights = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    return weights | {POSITION_IDS: torch.arange(512)[None]}


def make_model(config: VideoTextConfig = CONFIG) -> VideoTextModel:
    torch.manual_seed(0)
    return VideoTextModel(config)


def assert_refused(weights: dict[str, Tensor], message: str, config: VideoTextConfig = CONFIG) -> None:
    """Check that weights are refused in one line, and that the model has not changed."""
    model = make_model(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_video_text(model, read_video_text(weights))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
