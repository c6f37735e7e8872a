"""Upstream's video-text checkpoints load completely, in every layout; test_video_text_damage tests damaged files."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.fill import small_teacher_weights, small_video_text_weights
from tests.paths import REPOSITORY
from tests.upstream_checkpoints import (
    CONFIG,
    COPIES,
    HEAD,
    SETTINGS,
    TEXT,
    VIDEO,
    assert_refused,
    make_model,
    released_weights,
    save_training,
    with_teacher,
)
from vmr.errors import ModelError
from vmr.models.text.encoder import TextConfig
from vmr.models.upstream.released import MIDDLE
from vmr.models.upstream.video_text import (
    infer_video_text_config,
    load_video_text,
    read_video_text,
    upstream_name,
    video_text_from_upstream,
)
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.interpolation import interpolate_positions, interpolate_time
from vmr.models.weights import LoadReport

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


def as_retrieval(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As upstream's retrieval stage loads and saves them: no teacher, no head, and no `bert.` in any key."""
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(("clip_teacher.", f"{HEAD}."))}
    return {key.replace("bert.", ""): tensor for key, tensor in kept.items()}


def assert_holds(model: VideoTextModel, weights: dict[str, Tensor], bert_prefix: str = "bert.") -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[upstream_name(name, 2, bert_prefix)]), name


def assert_accounted(report: LoadReport, weights: dict[str, Tensor]) -> None:
    accounted = [*report.loaded, *report.fitted, *report.ignored]
    assert sorted(accounted) == sorted(weights)
    assert report.fresh == ()


def test_names_are_upstreams() -> None:
    for ours, theirs in NAMES.items():
        assert upstream_name(ours, 2) == theirs
    assert upstream_name("fusion.layers.0.expand.bias", 9, "") == "text_encoder.encoder.layer.9.intermediate.dense.bias"
    assert upstream_name("masked_lm_head.bias", 9, "") == "text_encoder.cls.predictions.bias"
    with pytest.raises(ModelError, match=r"fusion\.layers\.0\.gate\.weight: BERT has no such weight"):
        upstream_name("fusion.layers.0.gate.weight", 2)
    with pytest.raises(ModelError, match=r"gate\.weight: upstream's models have no such weight"):
        upstream_name("gate.weight", 2)


@pytest.mark.parametrize("teacher", [True, False])
def test_a_training_save_loads_whole(tmp_path: Path, teacher: bool) -> None:
    weights = with_teacher(small_video_text_weights()) if teacher else small_video_text_weights()
    save_training(tmp_path / "ckpt_09.pth", weights, SETTINGS)
    model, report = video_text_from_upstream(tmp_path / "ckpt_09.pth")
    assert "utils.easydict" not in sys.modules
    assert model.config == CONFIG
    assert_holds(model, weights)
    assert_accounted(report, weights)
    assert report.ignored == {
        "text_encoder.bert.embeddings.position_ids": "a constant",
        COPIES[0]: "tied to text_encoder.bert.embeddings.word_embeddings.weight",
        COPIES[1]: "tied to text_encoder.cls.predictions.bias",
    } | (dict.fromkeys(small_teacher_weights(), "the frozen teacher") if teacher else {})
    assert len(report.loaded) == len(weights) - len(report.ignored) == 181  # 184 keys of the golden schema, less 3
    assert str(report).startswith(f"{tmp_path / 'ckpt_09.pth'}: 181 weights loaded; ")


@pytest.mark.parametrize("layout", ["module", "bare", "safetensors"])
def test_other_layouts(tmp_path: Path, layout: str) -> None:
    weights = small_video_text_weights()
    file = tmp_path / ("m.safetensors" if layout == "safetensors" else "m.pth")
    if layout == "safetensors":
        save_file(weights, file)
    else:
        torch.save({"module": weights, "epoch": 1} if layout == "module" else weights, file)
    model, report = video_text_from_upstream(file, num_heads=4)
    assert_holds(model, weights)
    assert_accounted(report, weights)


def test_a_retrieval_checkpoint_has_other_names_and_no_head(tmp_path: Path) -> None:
    weights = as_retrieval(with_teacher(small_video_text_weights()))
    save_training(tmp_path / "ckpt_best.pth", weights, SETTINGS)
    model, report = video_text_from_upstream(tmp_path / "ckpt_best.pth")
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
    assert infer_video_text_config(checkpoint, num_heads=4) == CONFIG
    weights = as_retrieval(checkpoint.weights)
    without_student = {key: tensor for key, tensor in weights.items() if "clip_decoder" not in key}
    config = infer_video_text_config(read_video_text(without_student), num_heads=4)
    assert (config.masked_lm, config.video.student) == (False, None)


def test_heads_come_from_argument_published_width_or_the_text_encoders_config() -> None:
    weights = small_video_text_weights()

    def heads(settings: object, num_heads: int | None = None) -> int:
        checkpoint = read_video_text({"model": weights, "config": settings})
        return infer_video_text_config(checkpoint, num_heads=num_heads).text.num_heads

    assert heads(SETTINGS) == 4  # and not the 16 of the vision section
    assert heads(SETTINGS, num_heads=8) == 8
    for settings in ({}, {"num_attention_heads": 4}, {"model": {"text_encoder": {"num_attention_heads": True}}}):
        with pytest.raises(ModelError, match=r"\(no published width is 64\): .*load_model\(path, num_heads="):
            heads(settings)
    two = {"model": {"text_encoder": [{"num_attention_heads": 8}, {"num_attention_heads": 4}]}}
    with pytest.raises(ModelError, match=r"\(its config states 4, 8\): .*load_model"):
        heads(two)
    with pytest.raises(ModelError, match="state dict: text: width 64 is no multiple of num_heads 7"):
        heads({}, num_heads=7)
    weights = released_weights()
    assert heads({"model": {"text_encoder": {"num_attention_heads": 16}}}) == 12  # those of BERT base


def test_other_files_are_not_video_text_checkpoints(tmp_path: Path) -> None:
    weights = small_video_text_weights()
    file = tmp_path / "m.pth"

    def refused(content: dict[str, Any]) -> str:
        torch.save(content, file)
        with pytest.raises(ModelError) as caught:
            video_text_from_upstream(file, num_heads=4)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    vision = {key: tensor for key, tensor in weights.items() if key.startswith("vision_encoder.")}
    bare = {key.removeprefix("vision_encoder."): tensor for key, tensor in vision.items()}
    for content in (vision, bare, {f"backbone.{key}": tensor for key, tensor in bare.items()}):
        assert refused({"model": content}) == (
            f"{file} holds VideoMamba vision weights only: for training name it as model.video_init"
        )
    assert refused({"visual.proj": torch.zeros(1), "logit_scale": torch.zeros(1)}) == (
        f"{file}: not a video-text checkpoint of VideoMamba: no text_encoder.encoder.layer.*.crossattention.* among "
        "2 keys, first: visual.proj"
    )
    assert refused({key: tensor for key, tensor in weights.items() if key != "text_proj.weight"}) == (
        f"{file} lacks text_proj.weight, from which a size is read, among 183 keys"
    )
    assert refused({"epoch": 1}).startswith(f"{file}: no weights")


def test_what_distributed_training_saves_loads(tmp_path: Path) -> None:
    weights = small_video_text_weights()
    torch.save({"model": {f"module.{key}": tensor for key, tensor in weights.items()}}, tmp_path / "m.pth")
    model, report = video_text_from_upstream(tmp_path / "m.pth", num_heads=4)
    assert_holds(model, weights)
    assert_accounted(report, weights)


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
    model, report = video_text_from_upstream(weights, num_frames=8, image_size=96, num_heads=4)
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
    not_square = weights | {"vision_encoder.pos_embed": torch.zeros(1, 18, 64)}
    assert_refused(not_square, "state dict: vision_encoder.pos_embed: spatial positions are 17 patches, which is no sq")


@pytest.mark.parametrize(
    ("layout", "num_keys", "names", "num_parameters"),
    [
        ("pretraining", 950, "0bc9af5ae60d6df0", 276_547_261 - 86_192_640),  # less the teacher's
        ("retrieval", 791, "c079d7f33930d358", 189_731_971),
    ],
)
def test_a_file_of_the_released_size_loads_whole(layout: str, num_keys: int, names: str, num_parameters: int) -> None:
    """All keys of the real size are loaded; the digests are of the sorted key lists of upstream's own models."""
    weights = released_weights()
    weights = as_retrieval(weights) if layout == "retrieval" else weights
    assert len(weights) == num_keys
    assert hashlib.sha256("\n".join(sorted(weights)).encode()).hexdigest()[:16] == names
    model, report = video_text_from_upstream(weights)
    assert model.config == replace(MIDDLE, masked_lm=layout == "pretraining")
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert_accounted(report, weights)
    assert not any(parameter.any() for parameter in model.parameters())  # no weight keeps its initial value


@pytest.mark.parametrize(("name", "num_keys"), [("umt_m25m", 950), ("umt_m25m_retrieval", 791)])
def test_every_key_of_the_released_model_has_its_place(name: str, num_keys: int) -> None:
    """Only names and shapes, of the real size."""
    path = REPOSITORY.parent / "shared" / "parity" / "schema.json"
    if not path.is_file():
        pytest.skip(f"needs the key lists in {path.relative_to(REPOSITORY.parent)}")
    schema = json.loads(path.read_text())[name]
    checkpoint = read_video_text({key: torch.empty(shape, device="meta") for key, (shape, _) in schema.items()})
    config = infer_video_text_config(checkpoint)
    assert config == replace(MIDDLE, masked_lm=config.masked_lm)
    with torch.device("meta"):
        model = VideoTextModel(config)
    ours = {
        upstream_name(key, config.text.num_text_layers, checkpoint.bert_prefix): list(tensor.shape)
        for key, tensor in model.state_dict().items()
    }
    ignored = [key for key in schema if key.startswith("clip_teacher.") or key.endswith("position_ids")]
    ignored += [key for key in COPIES if key in schema]
    assert len(schema) == num_keys
    assert ours == {key: shape for key, (shape, _) in schema.items() if key not in ignored}
