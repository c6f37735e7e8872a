"""Masked pre-training on a tiny encoder: exact resume after a kill, and fine-tuning from what it saves."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.integration.tiny_run import assert_same_state, kill_after, one_thread, start
from vmr.cli.train import main
from vmr.errors import VmrError
from vmr.from_json import from_json
from vmr.models.classification.config import NetworkConfig
from vmr.models.saved_folder import read_any_weights
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.processes import Processes
from vmr.train.build import build_loader, build_sources, build_task
from vmr.train.config import ModelConfig, StageConfig, TrainConfig
from vmr.train.config_file import save_config
from vmr.train.data_config import BatchSize, DataConfig
from vmr.train.loop import train
from vmr.train.optimizer import OptimizerConfig
from vmr.train.run_config import RunConfig, ValidationConfig
from vmr.train.source_config import FolderSourceConfig, ShapesSourceConfig
from vmr.train.tasks.config import LossWeights, MaskConfig, MaskedConfig, ObjectiveConfig
from vmr.train.tasks.masked import build_masked

STUDENT = StudentConfig(112, last_tap="after_last_layer")
VIDEO = VideoMambaConfig(
    width=16, num_layers=2, image_size=32, patch_size=8, num_frames=2, drop_path=0.2, student=STUDENT
)
NUM_STEPS = 12


def config_in(folder: Path) -> TrainConfig:
    return TrainConfig(
        task="masked",
        model=ModelConfig(video=VIDEO, teacher="efficientnet"),
        data=DataConfig([ShapesSourceConfig(num_clips=50)], batch_size=BatchSize(video=4), num_workers=0),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        stages=[
            StageConfig("rows", num_steps=6, video_mask=MaskConfig("clip_row", 0.5)),
            StageConfig("attention", num_steps=NUM_STEPS - 6),
        ],
        run=RunConfig(out=str(folder), ema=0.9, checkpoint_every=1, keep=9, device="cpu"),
    )


@pytest.fixture(scope="module", autouse=True)
def as_the_command() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """All steps without interruption."""
    return train(config_in(tmp_path_factory.mktemp("straight") / "run"))


def test_resume_is_exact_after_a_kill(straight, tmp_path):
    out = tmp_path / "run"
    save_config(config_in(out), tmp_path / "masked.yaml")
    kill_after(start(tmp_path / "masked.yaml"), out, 3)
    assert not (out / "model").exists()
    train(config_in(out))
    assert_same_state(out, straight, NUM_STEPS)


def test_the_moving_average_is_saved_with_its_sizes(straight):
    saved = json.loads((straight / "model" / "config.json").read_text())
    assert from_json(VideoMambaConfig, saved["encoder"], "") == VIDEO
    assert saved["training"]["step"] == NUM_STEPS
    weights = read_any_weights(straight / "model")
    average = load_file(straight / f"checkpoints/step-{NUM_STEPS:08}/ema.safetensors")
    assert weights.keys() == VideoMamba(VIDEO).state_dict().keys()
    assert all(torch.equal(tensor, average[f"module.{key}"]) for key, tensor in weights.items())


def test_pre_training_goes_on_from_it(straight, tmp_path):
    config = config_in(tmp_path / "run")
    task = build_masked(replace(config, model=replace(config.model, video_init=str(straight / "model"))), start=True)
    assert "fresh" not in task.notes[0]
    weights = read_any_weights(straight / "model")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in task.model.state_dict().items())


def test_fine_tuning_of_a_classifier_starts_from_it_and_says_what_is_fresh(straight, tmp_path):
    sizes = NetworkConfig(16, 2, 32, 8, num_frames=4, num_classes=3)
    model = ModelConfig(network=sizes, video_init=str(straight / "model"))
    task = build_task(TrainConfig(task="classification", model=model), start=True)
    weights, state = read_any_weights(straight / "model"), task.model.state_dict()
    fresh = {"head.weight", "head.bias", "temporal_pos_embedding"}  # the last one is interpolated from 2 frames to 4
    assert torch.equal(state["norm_f.weight"], weights["norm.weight"])
    assert all(torch.equal(state[key], weights[key]) for key in state.keys() - fresh - {"norm_f.weight"})
    (note,) = task.notes
    assert f"{straight / 'model'}: {len(state) - 2} weights loaded" in note
    assert "temporal_pos_embedding interpolated from 1x2x16 to 1x4x16" in note
    assert "2 weights left fresh, first: head.weight" in note


def test_clips_need_neither_captions_nor_labels(footage, tmp_path):
    sources = [FolderSourceConfig(path=str(footage))]
    config = replace(config_in(tmp_path), data=DataConfig(sources, batch_size=BatchSize(video=2), num_workers=0))
    task, sources = build_task(config, start=True), build_sources(config)
    task.check_sources([source for source, _ in sources])
    with build_loader(config, sources, config.stages[0], Processes(0, 1, torch.device("cpu"))) as loader:
        batch = next(loader.batches())
    assert batch.captions == ("", "") and batch.labels is None
    rng = np.random.default_rng(0)
    losses = task(task.prepare(batch, rng, rng))
    assert list(losses) == ["alignment"]
    losses["alignment"].backward()
    untouched = {name for name, p in task.model.named_parameters() if p.grad is None or not p.grad.any()}
    assert untouched == {"pool_norm.weight", "pool_norm.bias", "norm.weight"}  # one tap reads before the norm


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: replace(c, model=replace(c.model, teacher=None)), "model.teacher: masked pre-training needs one"),
        (lambda c: replace(c, model=replace(c.model, init="runs/x")), "model.init: masked pre-training has a video"),
        (lambda c: replace(c, model=replace(c.model, text_init="minilm")), "model.text_init: masked pre-training"),
        (
            lambda c: replace(c, model=replace(c.model, video=replace(VIDEO, student=StudentConfig(64)))),
            "teacher_dim is 64; this teacher has 112",
        ),
        (lambda c: replace(c, stages=[StageConfig(weights={"matching": 0.0})]), "stages: weights of 'train'"),
        (lambda c: replace(c, masked=MaskedConfig(MaskConfig("none"))), "mask kind none leaves nothing to learn"),
        (lambda c: replace(c, masked=MaskedConfig(alignment_norm="none")), "alignment_kind l2 compares unit vectors"),
        (lambda c: replace(c, objective=ObjectiveConfig(LossWeights(2.0))), "objective belongs to the task retrieval"),
        (lambda c: replace(c, task="retrieval", masked=MaskedConfig(alignment_kind="mse")), "masked belongs to the"),
    ],
)
def test_settings_that_do_not_fit_get_one_line(change, line, tmp_path):
    with pytest.raises(VmrError, match=line):
        config = change(config_in(tmp_path))
        build_task(config, start=True)


def test_a_function_of_ones_own_validates_the_encoder(tmp_path):
    def spread(encoder: VideoMamba) -> dict[str, float]:
        assert not encoder.training
        with torch.no_grad():
            return {"spread": encoder(torch.randn(4, 2, 3, 32, 32)).pooled.std().item()}

    config = config_in(tmp_path / "run")
    run = replace(config.run, validate_every=1, stop_after_steps=1)
    out = train(replace(config, run=run, validation=ValidationConfig("mine", metric="spread")), spread)
    assert read_any_weights(out / "best").keys() == VideoMamba(VIDEO).state_dict().keys()


def test_the_command_cannot_validate_it(tmp_path, capsys):
    config = config_in(tmp_path / "run")
    save_config(config, tmp_path / "masked.yaml")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "masked.yaml"), "--run.validate_every=1", "--validation.dataset=shapes"])
    assert "validation: an encoder of masked pre-training cannot retrieve" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
