"""A pre-trained encoder as a folder: what comes back, who starts from it, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from vmr.errors import ModelError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.saved import read_encoder, save_encoder
from vmr.models.videomamba.student import StudentConfig
from vmr.train.tasks.student import start_encoder

CONFIG = VideoMambaConfig(16, 2, 32, 8, num_frames=2, student=StudentConfig(24, num_taps=2))
PREPROCESS = Preprocess(2, 32, "crop", IMAGENET_MEAN, IMAGENET_STD)


@pytest.fixture(scope="module")
def encoder() -> VideoMamba:
    """Every weight is random, also those of the norms."""
    torch.manual_seed(0)
    encoder = VideoMamba(CONFIG)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return encoder


@pytest.fixture
def folder(encoder: VideoMamba, tmp_path: Path) -> Path:
    save_encoder(tmp_path / "model", encoder, PREPROCESS, training={"step": 7})
    return tmp_path / "model"


def test_what_was_saved_comes_back(encoder: VideoMamba, folder: Path) -> None:
    saved, weights = read_encoder(folder)
    assert (saved.encoder, saved.preprocess, saved.training) == (CONFIG, PREPROCESS, {"step": 7})
    state = encoder.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[key], state[key]) for key in state)


def test_a_classifier_starts_from_every_trained_weight(encoder: VideoMamba, folder: Path) -> None:
    """Upstream loses the trained norm, which classifiers call norm_f."""
    classifier = VideoMambaClassifier(ClassifierConfig(16, 2, 32, 8, num_frames=2, num_classes=3))
    report = load_upstream(classifier, folder, fresh=("head.",))
    assert report.fresh == ("head.weight", "head.bias")
    assert {key.partition(".")[0] for key in report.ignored} == {"clip_decoder", "pool_norm"}
    source, state = encoder.state_dict(), classifier.state_dict()
    names = {key: "norm.weight" if key == "norm_f.weight" else key for key in state if not key.startswith("head.")}
    assert all(torch.equal(state[key], source[name]) for key, name in names.items())


def test_upstreams_loss_of_the_norm_is_an_option(folder: Path) -> None:
    classifier = VideoMambaClassifier(ClassifierConfig(16, 2, 32, 8, num_frames=2, num_classes=3))
    report = load_upstream(classifier, folder, fresh=("head.", "norm_f."))
    assert set(report.fresh) == {"norm_f.weight", "head.weight", "head.bias"}
    assert torch.equal(classifier.norm_f.weight, torch.ones(16))


def test_retrieval_starts_from_it_for_more_frames(encoder: VideoMamba, folder: Path) -> None:
    longer = VideoMamba(VideoMambaConfig(16, 2, 32, 8, num_frames=4, student=StudentConfig(24, num_taps=2)))
    report = start_encoder(longer, str(folder))
    assert report.fresh == ("pool_norm.weight", "pool_norm.bias")  # masked pre-training does not train it
    assert list(report.fitted) == ["temporal_pos_embedding"]
    assert torch.equal(longer.norm.weight, encoder.norm.weight)
    assert torch.equal(longer.clip_decoder[1].head.weight, encoder.clip_decoder[1].head.weight)


@pytest.mark.parametrize(
    ("schema", "line"),
    [("vmr-model/1", "schema is 'vmr-model/1'"), ("vmr-encoder/2", "reads 'vmr-encoder/1'")],
)
def test_another_kind_of_folder_is_refused(folder: Path, schema: str, line: str) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": schema}))
    with pytest.raises(ModelError, match=line):
        read_encoder(folder)


def test_damaged_weights_are_named(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match=f"{file.name} is damaged"):
        load_upstream(VideoMamba(CONFIG), folder)
