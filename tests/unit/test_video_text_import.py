"""Upstream's video-text checkpoints load whole, or are refused by the key's name; nothing in them is executed."""

import builtins
import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.conftest import REPOSITORY
from tests.parity.fill import fill, small_video_text_weights
from vmr.errors import ModelError
from vmr.models.interpolation import interpolate_positions, interpolate_time
from vmr.models.student import StudentConfig
from vmr.models.text_encoder import TextConfig
from vmr.models.upstream import LoadReport
from vmr.models.upstream_video_text import (
    VideoTextSizes,
    infer_video_text_sizes,
    load_video_text,
    read_video_text,
    upstream_name,
)
from vmr.models.video_encoder import VideoMambaConfig
from vmr.models.video_text import VideoTextConfig, VideoTextModel

VIDEO = VideoMambaConfig(
    width=64, num_layers=4, image_size=64, num_frames=4, student=StudentConfig(teacher_dim=32, num_taps=1)
)
TEXT = TextConfig(
    vocab_size=1000, width=64, num_layers=4, num_text_layers=2, num_heads=4, feed_forward=128, max_positions=64
)
CONFIG = VideoTextConfig(VIDEO, TEXT, embed_dim=32, masked_lm=True)
SETTINGS = {"model": {"text_encoder": {"config": [{"num_attention_heads": 4}], "name": "bert"}}, "lr": 1e-4}
TEACHER = {"clip_teacher.proj": (64, 32), "clip_teacher.ln_pre.weight": (64,), "clip_teacher.conv1.weight": (64, 3, 1)}
HEAD = "text_encoder.cls.predictions"
COPIES = (f"{HEAD}.decoder.weight", f"{HEAD}.decoder.bias")

# One of each kind, by hand: the table itself is also what these tests rename with.
NAMES = {
    "temperature": "temp",
    "video_encoder.layers.3.mixer.A_b_log": "vision_encoder.layers.3.mixer.A_b_log",
    "video_encoder.clip_decoder.0.head.weight": "vision_encoder.clip_decoder.0.head.weight",
    "video_proj.weight": "vision_proj.weight",
    "text_proj.bias": "text_proj.bias",
    "matching_head.bias": "itm_head.bias",
    "text_encoder.embeddings.word.weight": "text_encoder.bert.embeddings.word_embeddings.weight",
    "text_encoder.embeddings.position.weight": "text_encoder.bert.embeddings.position_embeddings.weight",
    "text_encoder.embeddings.token_type.weight": "text_encoder.bert.embeddings.token_type_embeddings.weight",
    "text_encoder.embeddings.norm.bias": "text_encoder.bert.embeddings.LayerNorm.bias",
    "text_encoder.layers.1.attention.query.weight": "text_encoder.bert.encoder.layer.1.attention.self.query.weight",
    "text_encoder.layers.0.attention.out.bias": "text_encoder.bert.encoder.layer.0.attention.output.dense.bias",
    "text_encoder.layers.0.attention_norm.weight": (
        "text_encoder.bert.encoder.layer.0.attention.output.LayerNorm.weight"
    ),
    "text_encoder.layers.0.expand.weight": "text_encoder.bert.encoder.layer.0.intermediate.dense.weight",
    "fusion.layers.0.contract.bias": "text_encoder.bert.encoder.layer.2.output.dense.bias",
    "fusion.layers.1.feed_forward_norm.bias": "text_encoder.bert.encoder.layer.3.output.LayerNorm.bias",
    "fusion.layers.1.attention.value.bias": "text_encoder.bert.encoder.layer.3.attention.self.value.bias",
    "fusion.layers.0.cross_attention.key.weight": "text_encoder.bert.encoder.layer.2.crossattention.self.key.weight",
    "fusion.layers.0.cross_attention.out.bias": "text_encoder.bert.encoder.layer.2.crossattention.output.dense.bias",
    "fusion.layers.1.cross_attention_norm.bias": (
        "text_encoder.bert.encoder.layer.3.crossattention.output.LayerNorm.bias"
    ),
    "masked_lm_head.dense.weight": "text_encoder.cls.predictions.transform.dense.weight",
    "masked_lm_head.norm.bias": "text_encoder.cls.predictions.transform.LayerNorm.bias",
    "masked_lm_head.bias": "text_encoder.cls.predictions.bias",
}


def with_teacher(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {key: fill(key, shape) for key, shape in TEACHER.items()}


def as_retrieval(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As upstream's retrieval stage loads and saves them: no teacher, no head, and no `bert.` in any key."""
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(("clip_teacher.", f"{HEAD}."))}
    return {key.replace("bert.", ""): tensor for key, tensor in kept.items()}


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


def make_model(config: VideoTextConfig = CONFIG) -> VideoTextModel:
    torch.manual_seed(0)
    return VideoTextModel(config)


def assert_holds(model: VideoTextModel, weights: dict[str, Tensor], bert_prefix: str = "bert.") -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[upstream_name(name, 2, bert_prefix)]), name


def assert_accounted(report: LoadReport, weights: dict[str, Tensor]) -> None:
    accounted = [*report.loaded, *report.fitted, *report.ignored]
    assert sorted(accounted) == sorted(weights)
    assert report.fresh == ()


def assert_refused(weights: dict[str, Tensor], message: str, config: VideoTextConfig = CONFIG) -> None:
    """Refused in one line, and the model is as it was."""
    model = make_model(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_video_text(model, read_video_text(weights))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_names_are_upstreams() -> None:
    for ours, theirs in NAMES.items():
        assert upstream_name(ours, 2) == theirs
    assert upstream_name("fusion.layers.0.expand.bias", 9, "") == "text_encoder.encoder.layer.9.intermediate.dense.bias"
    assert upstream_name("masked_lm_head.bias", 9, "") == "text_encoder.cls.predictions.bias"
    with pytest.raises(ModelError, match=r"fusion\.layers\.0\.gate\.weight: upstream's models have no such weight"):
        upstream_name("fusion.layers.0.gate.weight", 2)


@pytest.mark.parametrize("teacher", [True, False])
def test_a_training_save_loads_whole(tmp_path: Path, teacher: bool) -> None:
    weights = with_teacher(small_video_text_weights()) if teacher else small_video_text_weights()
    save_training(tmp_path / "ckpt_09.pth", weights, SETTINGS)
    model, report = VideoTextModel.from_upstream(tmp_path / "ckpt_09.pth")
    assert "utils.easydict" not in sys.modules
    assert model.config == CONFIG
    assert_holds(model, weights)
    assert_accounted(report, weights)
    assert report.ignored == {
        "text_encoder.bert.embeddings.position_ids": "a constant",
        COPIES[0]: "tied to text_encoder.bert.embeddings.word_embeddings.weight",
        COPIES[1]: "tied to text_encoder.cls.predictions.bias",
    } | (dict.fromkeys(TEACHER, "the frozen teacher") if teacher else {})
    assert len(report.loaded) == len(weights) - len(report.ignored) == 181  # 184 keys of the golden schema, less 3
    assert str(report).startswith("ckpt_09.pth: 181 weights loaded; ")


@pytest.mark.parametrize("layout", ["module", "bare", "safetensors"])
def test_other_layouts(tmp_path: Path, layout: str) -> None:
    weights = small_video_text_weights()
    file = tmp_path / ("m.safetensors" if layout == "safetensors" else "m.pth")
    if layout == "safetensors":
        save_file(weights, file)
    else:
        torch.save({"module": weights, "epoch": 1} if layout == "module" else weights, file)
    model, report = VideoTextModel.from_upstream(file, num_heads=4)
    assert_holds(model, weights)
    assert_accounted(report, weights)


def test_a_retrieval_checkpoint_has_other_names_and_no_head(tmp_path: Path) -> None:
    weights = as_retrieval(with_teacher(small_video_text_weights()))
    save_training(tmp_path / "ckpt_best.pth", weights, SETTINGS)
    model, report = VideoTextModel.from_upstream(tmp_path / "ckpt_best.pth")
    assert model.masked_lm_head is None
    assert_holds(model, weights, "")
    assert_accounted(report, weights)
    assert list(report.ignored) == ["text_encoder.embeddings.position_ids"]


def test_a_mapping_is_read_as_its_file_is() -> None:
    weights = small_video_text_weights()
    checkpoint = read_video_text({"model": weights, "config": SETTINGS, "optimizer": {}})
    assert checkpoint.source == "state dict"
    assert checkpoint.settings == SETTINGS
    assert checkpoint.weights.keys() == weights.keys()
    assert read_video_text(weights).settings == {}


def test_sizes_are_read_off_the_weights() -> None:
    checkpoint = read_video_text(small_video_text_weights())
    assert infer_video_text_sizes(checkpoint, num_heads=4) == VideoTextSizes(VIDEO, TEXT, 32, masked_lm=True)
    weights = as_retrieval(checkpoint.weights)
    without_student = {key: tensor for key, tensor in weights.items() if "clip_decoder" not in key}
    sizes = infer_video_text_sizes(read_video_text(without_student), num_heads=4)
    assert (sizes.masked_lm, sizes.video.student) == (False, None)


def test_heads_come_from_argument_config_or_published_width() -> None:
    weights = small_video_text_weights()

    def heads(settings: object, num_heads: int | None = None) -> int:
        checkpoint = read_video_text({"model": weights, "config": settings})
        return infer_video_text_sizes(checkpoint, num_heads=num_heads).text.num_heads

    assert heads(SETTINGS) == 4
    assert heads(SETTINGS, num_heads=8) == 8
    with pytest.raises(ModelError, match=r"\(no published width is 64\): pass num_heads"):
        heads({})
    with pytest.raises(ModelError, match=r"\(its config states 4, 8\): pass num_heads"):
        heads({"a": {"num_attention_heads": 8}, "b": {"num_attention_heads": 4}})
    for key, tensor in weights.items():
        if key.endswith("word_embeddings.weight"):
            weights[key] = torch.zeros(len(tensor), 768)
    assert heads({}) == 12


def test_other_files_are_not_video_text_checkpoints(tmp_path: Path) -> None:
    vision = {key: tensor for key, tensor in small_video_text_weights().items() if key.startswith("vision_encoder.")}
    with pytest.raises(
        ModelError, match=rf"not a video-text checkpoint: .*crossattention\.\* among {len(vision)} keys"
    ):
        VideoTextModel.from_upstream(vision)
    weights = small_video_text_weights()
    del weights["text_proj.weight"]
    with pytest.raises(ModelError, match=r"not a video-text checkpoint: no matrix text_proj\.weight"):
        VideoTextModel.from_upstream(weights, num_heads=4)
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match=r"empty\.pth: no weights"):
        VideoTextModel.from_upstream(tmp_path / "empty.pth")


@pytest.mark.parametrize(
    "key",
    [
        "vision_encoder.layers.1.mixer.in_proj.weight",
        "vision_encoder.clip_decoder.0.head.bias",
        "text_encoder.bert.embeddings.word_embeddings.weight",
        "text_encoder.bert.encoder.layer.1.output.dense.weight",
        "text_encoder.bert.encoder.layer.3.crossattention.self.key.bias",
        "vision_proj.weight",
        "temp",
        "itm_head.weight",
        f"{HEAD}.bias",
        f"{HEAD}.transform.LayerNorm.weight",
    ],
)
def test_a_damaged_key_is_named_and_the_model_left_alone(key: str) -> None:
    weights = small_video_text_weights()
    tensor = weights.pop(key)
    lacks = "its masked language head lacks" if key.startswith(HEAD) else "lacks 1 of 181 keys, first:"
    assert_refused(weights, f"{lacks} {key}")
    assert_refused(weights | {f"{key}s": tensor}, f"{lacks} {key}")
    assert_refused(weights | {key: tensor.new_zeros((*tensor.shape, 2))}, key)


def test_left_over_keys_are_named() -> None:
    weights = small_video_text_weights()
    assert_refused(weights | {"itm_head.scale": torch.ones(1)}, "has 1 left over, first: itm_head.scale")
    both = weights | {"text_encoder.embeddings.LayerNorm.bias": torch.ones(64)}
    assert_refused(both, "has 1 left over, first: text_encoder.embeddings.LayerNorm.bias")
    retrieval = as_retrieval(weights)
    del retrieval["text_encoder.encoder.layer.0.output.dense.bias"]
    no_head = VideoTextConfig(VIDEO, TEXT, embed_dim=32, masked_lm=False)
    message = "lacks 1 of 176 keys, first: text_encoder.encoder.layer.0.output.dense.bias"  # 181 less the head's 5
    assert_refused(retrieval, message, no_head)


@pytest.mark.parametrize("masked_lm", [True, False])
@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_tied_weights_are_there_and_equal(copy: str, masked_lm: bool) -> None:
    config = VideoTextConfig(VIDEO, TEXT, embed_dim=32, masked_lm=masked_lm)
    weights = small_video_text_weights()
    weights[copy].view(-1)[-1] += 1e-3
    assert_refused(weights, f"{copy} differs from text_encoder.", config)
    del weights[copy]
    assert_refused(weights, f"its masked language head lacks {copy}", config)


def test_a_checkpoint_without_head_does_not_fill_a_model_with_one() -> None:
    weights = {key: tensor for key, tensor in small_video_text_weights().items() if not key.startswith(HEAD)}
    assert_refused(weights, f"lacks 5 of 181 keys, first: {HEAD}.bias")


def test_parts_that_the_model_lacks_are_ignored_by_name() -> None:
    weights = small_video_text_weights()
    bare_video = VideoMambaConfig(width=64, num_layers=4, image_size=64, num_frames=4)
    model = make_model(VideoTextConfig(bare_video, TEXT, embed_dim=32, masked_lm=False))
    report = load_video_text(model, read_video_text(weights))
    assert_holds(model, weights)
    assert_accounted(report, weights)
    rules = list(report.ignored.values())
    assert rules.count("this model has no student") == 4
    assert rules.count("this model has no masked language head") == 5


def test_another_cut_between_text_and_fusion_is_refused() -> None:
    text = TextConfig(
        vocab_size=1000, width=64, num_layers=4, num_text_layers=3, num_heads=4, feed_forward=128, max_positions=64
    )
    message = "has 10 left over, first: text_encoder.bert.encoder.layer.2.crossattention.self.query.weight"
    assert_refused(small_video_text_weights(), message, VideoTextConfig(VIDEO, text, embed_dim=32))


def test_positions_are_interpolated_to_other_frames_and_sizes() -> None:
    weights = small_video_text_weights()
    model, report = VideoTextModel.from_upstream(weights, num_frames=8, image_size=96, num_heads=4)
    assert report.fitted == {
        "vision_encoder.pos_embed": "interpolated from 1x17x64 to 1x37x64",  # 1 + 6 * 6
        "vision_encoder.temporal_pos_embedding": "interpolated from 1x4x64 to 1x8x64",
    }
    assert_accounted(report, weights)
    video = model.video_encoder
    assert torch.equal(video.pos_embed, interpolate_positions(weights["vision_encoder.pos_embed"], 6))
    assert torch.equal(
        video.temporal_pos_embedding, interpolate_time(weights["vision_encoder.temporal_pos_embedding"], 8)
    )
    assert_refused(
        weights | {"vision_encoder.pos_embed": torch.zeros(1, 18, 64)}, "17 patches, which is no square grid"
    )


class Malicious:
    """Unpickled the ordinary way, this calls something."""

    def __init__(self, call: Callable[[str], object], argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self.call, (self.argument,)


@pytest.mark.parametrize(
    ("call", "argument"),
    [(os.system, "touch {}"), (builtins.eval, "open({!r}, 'w').close()")],
    ids=["os.system", "eval"],
)
def test_nothing_in_a_file_is_executed(tmp_path: Path, call: Callable[[str], object], argument: str) -> None:
    marker, file = tmp_path / "executed", tmp_path / "m.pth"
    malicious = Malicious(call, argument.format(str(marker)))
    save_training(file, small_video_text_weights(), SETTINGS, scheduler=malicious)
    with pytest.raises(ModelError, match=r"m\.pth: refused: it asks for \S*(system|eval), and only tensors"):
        read_video_text(file)
    assert not marker.exists()
    pickle.loads(pickle.dumps(malicious))
    assert marker.exists()  # so it is no dud


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 5_000, -1])
def test_truncated_files_are_one_clear_line(tmp_path: Path, name: str, kept: int) -> None:
    file = tmp_path / name
    if file.suffix == ".safetensors":
        save_file(small_video_text_weights(), file)
    else:
        save_training(file, small_video_text_weights(), SETTINGS)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=rf"{name}: not a readable checkpoint") as caught:
        read_video_text(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "num_keys"), [("umt_m25m", 950), ("umt_m25m_retrieval", 791)])
def test_every_key_of_the_released_model_has_its_place(name: str, num_keys: int) -> None:
    """Names and shapes alone, of the real size."""
    path = REPOSITORY.parent / "shared" / "parity" / "schema.json"
    if not path.is_file():
        pytest.skip(f"needs the key lists in {path.relative_to(REPOSITORY.parent)}")
    schema = json.loads(path.read_text())[name]
    checkpoint = read_video_text({key: torch.empty(shape, device="meta") for key, (shape, _) in schema.items()})
    sizes = infer_video_text_sizes(checkpoint)
    assert sizes.text == TextConfig()  # BERT base, fused from its 9th layer on
    with torch.device("meta"):
        model = VideoTextModel(VideoTextConfig(sizes.video, sizes.text, sizes.embed_dim, sizes.masked_lm))
    ours = {
        upstream_name(key, sizes.text.num_text_layers, checkpoint.bert_prefix): list(tensor.shape)
        for key, tensor in model.state_dict().items()
    }
    ignored = [key for key in schema if key.startswith("clip_teacher.") or key.endswith("position_ids")]
    ignored += [key for key in COPIES if key in schema]
    assert len(schema) == num_keys
    assert ours == {key: shape for key, (shape, _) in schema.items() if key not in ignored}
