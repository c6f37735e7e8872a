"""Every layout of upstream's vision files loads completely or is refused by name; no code in a file is executed."""

import argparse
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.checkpoint_file import read_checkpoint
from vmr.models.upstream.vision import infer_config, load_upstream
from vmr.models.videomamba.backbone import SIZES, Size
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig

CONFIG = VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4, student=StudentConfig(teacher_dim=8))
NUM_KEYS = 12 + 2 * 17


def encoder_weights() -> dict[str, Tensor]:
    """The encoder under upstream's names, which are also ours."""
    torch.manual_seed(0)
    return {key: torch.randn_like(tensor) for key, tensor in VideoMamba(CONFIG).state_dict().items()}


def classifier_weights(num_classes: int = 5) -> dict[str, Tensor]:
    weights = {k: v for k, v in encoder_weights().items() if not k.startswith(("clip_decoder.", "pool_norm."))}
    weights["norm_f.weight"] = weights.pop("norm.weight")
    return weights | {"head.weight": torch.randn(num_classes, 32), "head.bias": torch.randn(num_classes)}


def image_weights() -> dict[str, Tensor]:
    weights = classifier_weights()
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"][:, :, 0]
    del weights["temporal_pos_embedding"]
    return weights


def make_classifier(num_classes: int = 5) -> VideoMambaClassifier:
    return VideoMambaClassifier(
        ClassifierConfig(width=32, num_layers=2, image_size=32, num_frames=4, num_classes=num_classes)
    )


def assert_same_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.equal(state[key], tensor), key


@pytest.fixture
def easydict(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A class like upstream's, under the module name that its checkpoints record; gone again before loading."""

    class EasyDict(dict):  # type: ignore[type-arg]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            super().__setitem__(name, value)

        def __init__(self, **items: object) -> None:
            for name, value in items.items():
                setattr(self, name, value)

    EasyDict.__module__, EasyDict.__qualname__ = "utils.easydict", "EasyDict"
    module = types.ModuleType("utils.easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "utils", types.ModuleType("utils"))
    monkeypatch.setitem(sys.modules, "utils.easydict", module)
    yield EasyDict


class Malicious:
    """An object that runs a command if it is unpickled in the ordinary way."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("wrap", [None, "model", "module"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder."])
def test_layouts(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    weights = encoder_weights()
    content: dict[str, Any] = {prefix + key: tensor for key, tensor in weights.items()}
    torch.save({wrap: content, "epoch": 3} if wrap else content, tmp_path / "m.pth")
    model = VideoMamba(CONFIG)
    report = load_upstream(model, tmp_path / "m.pth")
    assert_same_weights(model, weights)
    assert len(report.loaded) == NUM_KEYS
    assert not (report.fitted or report.ignored or report.fresh)
    assert str(report) == f"{tmp_path / 'm.pth'}: {NUM_KEYS} weights loaded"


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_configs_are_read_without_their_classes(
    tmp_path: Path, easydict: Any, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    weights = encoder_weights()
    config = easydict(lr=1e-4, model=easydict(name="videomamba", sizes=[1, (2, None)]))
    content = {"model": weights, "config": config, "args": argparse.Namespace(seed=1), "global_step": 7}
    torch.save(content, tmp_path / "ckpt_latest.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "utils.easydict")
    model = VideoMamba(CONFIG)
    load_upstream(model, tmp_path / "ckpt_latest.pth")
    assert_same_weights(model, weights)
    assert read_checkpoint(tmp_path / "ckpt_latest.pth")["config"]["model"]["sizes"] == [1, (2, None)]
    assert "utils.easydict" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    victim, file = tmp_path / "executed", tmp_path / "m.pth"
    torch.save({"model": encoder_weights(), "config": Malicious(victim)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"refused: it asks for posix\.system") as caught:
        load_upstream(VideoMamba(CONFIG), file)
    assert "\n" not in str(caught.value)
    assert not victim.exists()


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    torch.save({"model": encoder_weights(), "where": tmp_path}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match=r"refused: it asks for pathlib\."):
        read_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_zip_is_mapped_so_that_an_optimiser_is_not_read(tmp_path: Path, zipped: bool) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip(f"needs {maps}")
    file = tmp_path / "m.pth"
    torch.save({"model": encoder_weights(), "optimizer": {}}, file, _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(file)
    assert (str(file) in maps.read_text()) == zipped
    for key, tensor in encoder_weights().items():
        assert torch.equal(content["model"][key], tensor), key


def test_torch_adds_no_lines_of_its_own(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    torch.save(encoder_weights(), tmp_path / "protocol4.pt", pickle_protocol=4)
    for name, warned in (("script.pt", "TorchScript archive"), ("protocol4.pt", "pickle protocol 4")):
        recwarn.clear()
        with pytest.raises(ModelError, match=rf"{name}: not a readable checkpoint"):
            read_checkpoint(tmp_path / name)
        assert not recwarn.list
        with pytest.raises((RuntimeError, pickle.UnpicklingError)):
            torch.load(tmp_path / name, weights_only=True)
        assert warned in str(recwarn.pop().message)


@pytest.mark.parametrize("kept", [0, 1, 100, 20_000, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_one_clear_line(tmp_path: Path, kept: int, zipped: bool) -> None:
    file = tmp_path / "m.pth"
    torch.save(encoder_weights(), file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"m\.pth: not a readable checkpoint \(0\.\d MB on disk") as caught:
        read_checkpoint(file)
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pth")
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match=r"no weights .* found epoch, lr"):
        load_upstream(VideoMamba(CONFIG), tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="other entries among them: epoch"):
        load_upstream(VideoMamba(CONFIG), {**encoder_weights(), "epoch": 1})  # type: ignore[dict-item]


def test_missing_and_left_over_keys_are_named() -> None:
    weights = encoder_weights()
    weights["layers.1.mixer.in_project.weight"] = weights.pop("layers.1.mixer.in_proj.weight")
    model = VideoMamba(CONFIG)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_upstream(model, weights)
    assert str(caught.value) == (
        f"state dict lacks 1 of {NUM_KEYS} keys, first: layers.1.mixer.in_proj.weight; "
        "has 1 left over, first: layers.1.mixer.in_project.weight"
    )
    assert_same_weights(model, before)


def test_wrong_shapes_are_named_and_leave_the_model_alone() -> None:
    weights = encoder_weights()
    weights["layers.0.norm.weight"] = torch.zeros(33)
    model = VideoMamba(CONFIG)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"layers\.0\.norm\.weight is 33, but this model takes 32"):
        load_upstream(model, weights)
    assert_same_weights(model, before)


def test_one_name_twice_is_refused() -> None:
    weights = encoder_weights()
    weights["backbone.cls_token"] = weights["cls_token"]
    with pytest.raises(ModelError, match=r"two keys stand for cls_token"):
        load_upstream(VideoMamba(CONFIG), weights)


def test_positions_are_interpolated_and_reported() -> None:
    larger = VideoMamba(VideoMambaConfig(width=32, num_layers=2, image_size=48, num_frames=6, student=CONFIG.student))
    report = load_upstream(larger, encoder_weights())
    assert report.fitted == {
        "pos_embed": "interpolated from 1x5x32 to 1x10x32",
        "temporal_pos_embedding": "interpolated from 1x4x32 to 1x6x32",
    }
    assert len(report.loaded) == NUM_KEYS - 2
    assert "interpolated" in str(report)


def test_student_keys_are_ignored_by_a_model_without_student() -> None:
    model = VideoMamba(VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4))
    report = load_upstream(model, encoder_weights())
    keys = ("head.weight", "head.bias", "norm.weight", "norm.bias")
    assert list(report.ignored) == [f"clip_decoder.0.{key}" for key in keys]
    assert "4 keys ignored (this model has no such part)" in str(report)


def test_parts_may_start_fresh_when_asked_to() -> None:
    weights = {key: tensor for key, tensor in encoder_weights().items() if not key.startswith("pool_norm.")}
    with pytest.raises(ModelError, match=r"lacks 2 of \d+ keys, first: pool_norm\.weight"):
        load_upstream(VideoMamba(CONFIG), weights)
    report = load_upstream(VideoMamba(CONFIG), weights, fresh=["pool_norm."])
    assert report.fresh == ("pool_norm.weight", "pool_norm.bias")
    report = load_upstream(make_classifier(7), classifier_weights(5), fresh=["head."])
    assert report.fresh == ("head.weight", "head.bias")
    assert report.ignored == {"head.weight": "asked to start fresh", "head.bias": "asked to start fresh"}


def test_classifier_and_encoder_exchange_weights() -> None:
    model = make_classifier()
    load_upstream(model, classifier_weights())
    assert_same_weights(model, {key: classifier_weights_like(model)[key] for key in model.state_dict()})
    encoder = VideoMamba(VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4))
    report = load_upstream(encoder, model.state_dict(), fresh=["pool_norm."])
    assert torch.equal(encoder.norm.weight, model.norm_f.weight)
    assert set(report.ignored) == {"head.weight", "head.bias"}


def classifier_weights_like(model: VideoMambaClassifier) -> dict[str, Tensor]:
    weights = encoder_weights()
    return {**model.state_dict(), **{key: tensor for key, tensor in weights.items() if key in model.state_dict()}}


def test_kinetics_710_head_is_cut_to_400() -> None:
    weights = classifier_weights(710)
    model = make_classifier(400)
    report = load_upstream(model, weights)
    assert torch.equal(model.head.weight, weights["head.weight"][:400])
    assert report.fitted["head.bias"] == "cut from 710 to its first 400 classes"
    with pytest.raises(ModelError, match=r"head\.weight is 710x32"):
        load_upstream(make_classifier(174), weights)


def test_image_weights_become_video_weights() -> None:
    weights = image_weights()
    model = make_classifier()
    report = load_upstream(model, weights)
    assert report.fresh == ("temporal_pos_embedding",)
    assert not model.temporal_pos_embedding.any()
    assert report.fitted == {"patch_embed.proj.weight": "inflated from 32x3x16x16 to 32x3x1x16x16"}


def test_the_encoder_is_taken_out_of_a_full_model() -> None:
    weights = encoder_weights()
    full = {f"vision_encoder.{key}": tensor for key, tensor in weights.items()}
    full |= {"temp": torch.tensor(0.07), "text_encoder.bert.x": torch.zeros(1), "vision_proj.weight": torch.zeros(1)}
    model = VideoMamba(CONFIG)
    report = load_upstream(model, full)
    assert_same_weights(model, weights)
    assert set(report.ignored) == {"temp", "text_encoder.bert.x", "vision_proj.weight"}


def test_config_is_read_off_the_weights() -> None:
    assert infer_config(encoder_weights()) == CONFIG
    from_image = infer_config(image_weights())
    assert (from_image.num_frames, from_image.image_size, from_image.student) == (1, 32, None)
    with pytest.raises(ModelError, match=r"lacks patch_embed\.proj\.weight, from which a size is read, among 1 keys"):
        infer_config({"text_proj.weight": torch.zeros(1)})


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder.", "vision_encoder."])
@pytest.mark.parametrize("damage", ["dropped", "renamed", "reshaped"])
def test_damage_to_any_key_is_refused(prefix: str, damage: str) -> None:
    """All keys are tested, including those that show sizes: a damaged file is never loaded as a smaller model."""
    whole = {f"{prefix}{key}": tensor for key, tensor in encoder_weights().items()}
    assert infer_config(whole) == CONFIG
    for key, tensor in whole.items():
        weights = {name: value for name, value in whole.items() if name != key}
        if damage == "renamed":
            weights[f"{key}s"] = tensor
        if damage == "reshaped":
            weights[key] = tensor[None]
        with pytest.raises(ModelError) as caught:
            load_upstream(VideoMamba(infer_config(weights, source="m.pth")), weights)
        assert key.removeprefix(prefix) in str(caught.value) and "\n" not in str(caught.value)


def test_errors_about_sizes_name_file_and_key() -> None:
    weights = {f"backbone.{key}": tensor for key, tensor in encoder_weights().items()}
    weights["backbone.pos_embed"] = torch.zeros(())
    with pytest.raises(ModelError, match=r"^m\.pth: backbone\.pos_embed is scalar, but must be 1x\?x32$"):
        infer_config(weights, source="m.pth")
    weights["backbone.pos_embed"] = torch.zeros(1, 7, 32)
    with pytest.raises(ModelError, match=r"^m\.pth: backbone\.pos_embed has CLS and 6 patches, which is no square"):
        infer_config(weights, source="m.pth")


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 32), (1, 0, 32), (1, 6, 32)])
def test_positions_that_nothing_fits_are_refused(shape: tuple[int, ...]) -> None:
    for key in ("pos_embed", "temporal_pos_embedding"):
        if key == "temporal_pos_embedding" and shape[1:2] > (0,):
            continue  # any length of time fits
        with pytest.raises(ModelError, match=f"^state dict.*{key}"):
            load_upstream(VideoMamba(CONFIG), encoder_weights() | {key: torch.zeros(shape)})


def test_heads_of_no_rank_are_refused() -> None:
    with pytest.raises(ModelError, match=r"head\.bias is scalar, but this model takes 400"):
        load_upstream(make_classifier(400), classifier_weights(710) | {"head.bias": torch.zeros(())})


@pytest.mark.parametrize(("layer", "lost"), [(0, 0), (1, 1)])
def test_whole_layers_go_missing(layer: int, lost: int) -> None:
    weights = {key: tensor for key, tensor in encoder_weights().items() if not key.startswith(f"layers.{layer}.")}
    said = {0: r"all keys of layers\.0\.\* are missing", 1: "has 1 layers of width 32, its config says 2"}[lost]
    with pytest.raises(ModelError, match=said):
        infer_config(weights, stated_layers=[2])


@pytest.mark.parametrize("size", ["tiny", "small", "middle", "base"])
def test_published_sizes_have_their_layers(size: Size) -> None:
    with torch.device("meta"):
        weights = VideoMamba(VideoMambaConfig.of_size(size)).state_dict()
    assert infer_config(weights) == VideoMambaConfig.of_size(size)
    width, num_layers = SIZES[size]
    less = {key: tensor for key, tensor in weights.items() if not key.startswith(f"layers.{num_layers - 1}.")}
    with pytest.raises(ModelError, match=f"has {num_layers - 1} layers of width {width}, the published size has"):
        infer_config(less)
    assert infer_config(less, stated_layers=[num_layers - 1]).num_layers == num_layers - 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((32,), float("nan")), "norm.weight is not finite in float32"),
        (torch.ones(32, dtype=torch.int64), "norm.weight holds int64, not floating-point numbers"),
    ],
)
def test_weights_are_finite_numbers(value: Tensor, said: str) -> None:
    with pytest.raises(ModelError, match=f"state dict: {said}"):
        load_upstream(VideoMamba(CONFIG), encoder_weights() | {"norm.weight": value})
    half = {key: tensor.half() for key, tensor in encoder_weights().items()}
    load_upstream(VideoMamba(CONFIG), half)  # halves are floating-point numbers


def test_what_distributed_training_saves_loads() -> None:
    model = VideoMamba(CONFIG)
    load_upstream(model, {f"module.{key}": tensor for key, tensor in encoder_weights().items()})
    assert_same_weights(model, encoder_weights())
