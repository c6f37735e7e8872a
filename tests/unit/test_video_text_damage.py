"""A video-text checkpoint with missing or additional keys is refused by name; no code in it is executed."""

import builtins
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.fill import small_video_text_weights
from tests.upstream_checkpoints import (
    BERT,
    COPIES,
    HEAD,
    POSITION_IDS,
    SETTINGS,
    TEXT,
    VIDEO,
    assert_refused,
    released_weights,
    save_training,
    with_teacher,
)
from vmr.errors import ModelError
from vmr.models.upstream.released import MIDDLE
from vmr.models.upstream.video_text import (
    UpstreamVideoText,
    infer_video_text_config,
    read_video_text,
    video_text_from_upstream,
)
from vmr.models.video_text import VideoTextConfig


@pytest.mark.parametrize("damage", ["dropped", "renamed", "reshaped"])
def test_damage_to_any_key_is_refused(damage: str) -> None:
    """All keys are tested, including those that show sizes: a damaged file is never loaded as a smaller model."""
    whole = with_teacher(small_video_text_weights())
    for key, tensor in whole.items():
        weights = {name: value for name, value in whole.items() if name != key}
        if damage == "renamed":
            weights[f"{key}s"] = tensor
        if damage == "reshaped":
            weights[key] = reshaped(tensor)
        if damage != "renamed" and key == POSITION_IDS:
            continue  # a constant, which newer files lack
        if damage == "reshaped" and key.startswith("clip_teacher."):
            continue  # not loaded
        with pytest.raises(ModelError) as caught:
            video_text_from_upstream(weights, num_heads=4)
        named = "position_embeddings" if damage == "reshaped" and "word_embeddings" in key else key
        assert named in str(caught.value) and "\n" not in str(caught.value)


def reshaped(tensor: Tensor) -> Tensor:
    """Transposed where that changes the shape; else of another rank."""
    if tensor.dim() > 1:
        return tensor.transpose(0, 1) if tensor.shape[0] != tensor.shape[1] else tensor.flatten()
    return tensor[None]


@pytest.mark.parametrize("num_dims", range(6))
@pytest.mark.parametrize(
    "key",
    [
        "vision_encoder.pos_embed",
        "vision_encoder.temporal_pos_embedding",
        "vision_encoder.patch_embed.proj.weight",
        "vision_encoder.clip_decoder.0.head.weight",
        "text_encoder.bert.embeddings.word_embeddings.weight",
        "text_encoder.bert.embeddings.position_embeddings.weight",
        f"{BERT}.0.intermediate.dense.weight",
        "text_proj.weight",
    ],
)
def test_a_key_that_tells_a_size_has_its_rank(key: str, num_dims: int) -> None:
    weights = small_video_text_weights()
    if num_dims == weights[key].dim():
        num_dims = 7
    weights[key] = torch.zeros([1] * num_dims)
    with pytest.raises(ModelError, match=rf"^m\.pth: {re.escape(key)} is (scalar|1(x1)*), but must be [0-9?x]+$"):
        infer_video_text_config(UpstreamVideoText("m.pth", weights, {}), num_heads=4)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("itm_head.bias", torch.tensor([0.0, float("nan")]), "itm_head.bias is not finite in float32"),
        ("temp", torch.tensor(float("inf")), "temp is not finite in float32"),
        ("temp", torch.tensor(1e300, dtype=torch.float64), "temp is not finite in float32"),
        ("vision_proj.bias", torch.zeros(32, dtype=torch.int8), "vision_proj.bias holds int8, not floating-point"),
        ("temp", torch.tensor(True), "temp holds bool, not floating-point numbers"),
    ],
)
def test_weights_are_finite_numbers(key: str, value: Tensor, said: str) -> None:
    assert_refused(small_video_text_weights() | {key: value}, f"state dict: {said}")


def without(weights: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    kept = {key: tensor for key, tensor in weights.items() if not key.startswith(prefixes)}
    assert len(kept) < len(weights)
    return kept


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("vision_encoder.layers.3.", "the video encoder has 3 layers of width 64, its config says 4: a layer's keys"),
        ("vision_encoder.layers.0.", "all keys of vision_encoder.layers.0.* are missing"),
        ("vision_encoder.layers.", "all keys of vision_encoder.layers.0.* are missing"),
        (f"{BERT}.3.", "BERT has 3 layers of width 64, its config says 4: a layer's keys are missing"),
        (f"{BERT}.1.", f"all keys of {BERT}.1.* are missing"),
        (
            f"{BERT}.2.crossattention.",
            "before its first crossattention has 3 layers of width 64, its config says 2",
        ),
        (f"{BERT}.3.crossattention.", f"lacks 10 of 181 keys, first: {BERT}.3.crossattention.self.query.weight"),
    ],
)
def test_keys_that_all_go_missing_are_missed(lost: str, said: str) -> None:
    settings: dict[str, Any] = {
        "vision_encoder": {"depth": 4},
        "text_encoder": {"num_attention_heads": 4, "num_hidden_layers": 4, "fusion_layer": 2},
    }
    content = {"model": without(small_video_text_weights(), lost), "config": {"model": settings}}
    with pytest.raises(ModelError, match=re.escape(said)):
        video_text_from_upstream(content)


@pytest.mark.parametrize(
    ("lost", "settings", "said"),
    [
        (
            "vision_encoder.layers.31.",
            {"vision_encoder": {"depth": 31}},
            "the video encoder has 31 layers of width 576, the published size has 32: a layer's keys are missing",
        ),
        (
            f"{BERT}.11.",
            {"text_encoder": {"num_hidden_layers": 11}},
            "BERT has 11 layers of width 768, the published size has 12: a layer's keys are missing",
        ),
        (
            f"{BERT}.9.crossattention.",
            {"text_encoder": {"fusion_layer": 10}},
            "BERT before its first crossattention has 10 layers of width 768, the published size has 9",
        ),
    ],
)
def test_published_widths_have_their_layers(lost: str, settings: dict[str, Any], said: str) -> None:
    """This holds for files without a config; a config may state another number of layers."""
    weights = without(released_weights(), lost)
    with pytest.raises(ModelError, match=re.escape(said)):
        infer_video_text_config(read_video_text(weights))
    stated = infer_video_text_config(read_video_text({"model": weights, "config": {"model": settings}}))
    assert stated != MIDDLE


@pytest.mark.parametrize("change", ["dropped", "renamed", "added"])
def test_a_teacher_is_whole(change: str) -> None:
    keys = [
        "clip_teacher.proj",
        "clip_teacher.ln_post.bias",
        "clip_teacher.transformer.resblocks.0.attn.in_proj_weight",
        "clip_teacher.transformer.resblocks.2.mlp.c_fc.bias",
    ]
    for key in keys:
        weights = with_teacher(small_video_text_weights())
        tensor = weights[key]
        if change != "added":
            del weights[key]
        if change != "dropped":
            weights[f"{key}s"] = tensor
        lacks, has = f"lacks 1 of 44 keys, first: {key}", f"has 1 left over, first: {key}s"  # 8, and 3 blocks of 12
        said = {"dropped": lacks, "renamed": f"{lacks}; {has}", "added": has}[change]
        assert_refused(weights, f"state dict: its teacher {said}")
    middle = without(with_teacher(small_video_text_weights()), "clip_teacher.transformer.resblocks.1.")
    assert_refused(middle, "all keys of clip_teacher.transformer.resblocks.1.* are missing")


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


class Malicious:
    """An object that calls a function if it is unpickled in the ordinary way."""

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
    assert marker.exists()  # so the object really works


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
