"""A pre-trained encoder as a folder: what comes back, who starts from it, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from tests.models import tiny_model
from vmr.errors import ModelError
from vmr.from_json import from_json
from vmr.models.catalogue import load_model
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.saved import save_classifier
from vmr.models.classifier import ClipInput
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vmr.models.saved_model import save_model
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.upstream.vision import load_upstream, read_vision
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.saved import save_encoder
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
    saved, weights, state = json.loads((folder / "config.json").read_text()), read_vision(folder), encoder.state_dict()
    assert saved["schema"] == "vmr-encoder/1" and saved["training"] == {"step": 7}
    assert from_json(VideoMambaConfig, saved["encoder"], "") == CONFIG
    assert from_json(Preprocess, saved["preprocess"], "") == PREPROCESS
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


def test_an_encoder_for_more_frames_starts_from_it(encoder: VideoMamba, folder: Path) -> None:
    longer = VideoMamba(VideoMambaConfig(16, 2, 32, 8, num_frames=4, student=StudentConfig(24, num_taps=2)))
    report = start_encoder(longer, str(folder))
    assert report.fresh == ()
    assert list(report.fitted) == ["temporal_pos_embedding"]
    state = encoder.state_dict()
    assert all(
        torch.equal(tensor, state[key]) for key, tensor in longer.state_dict().items() if key not in report.fitted
    )


def test_encoders_start_from_classifiers_and_from_video_text_models(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, model = VideoMambaClassifier(NetworkConfig(32, 2, 32, num_frames=2, num_classes=3)), tiny_model()
    save_classifier(tmp_path / "classifier", network, "abc", "single", ClipInput(2, 32))
    save_model(tmp_path / "retrieval", model, PREPROCESS, CaptionTokenizer())
    for folder, source, lacks in (
        ("classifier", network.state_dict() | {"norm.weight": network.norm_f.weight}, ("pool_norm", "clip_decoder")),
        ("retrieval", model.video_encoder.state_dict(), ("clip_decoder",)),
    ):
        student = VideoMamba(VideoMambaConfig(32, 2, 32, num_frames=2, student=StudentConfig(24)))
        report = start_encoder(student, str(tmp_path / folder))
        assert {key.partition(".")[0] for key in report.fresh} == set(lacks)
        state = student.state_dict()
        assert all(torch.equal(state[key], source[key]) for key in report.loaded)


def test_nobody_searches_with_it(folder: Path) -> None:
    with pytest.raises(ModelError, match="model: a pre-trained video encoder, which knows neither texts nor classes"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["null", '"../../model.safetensors"', "3"])
def test_a_folder_that_names_no_weights_is_refused(folder: Path, name: str) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "weights_file": json.loads(name)}))
    with pytest.raises(ModelError, match=r"config\.json is not a saved model's"):
        read_vision(folder)


def test_damaged_weights_are_named(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match=f"{file.name} is damaged"):
        load_upstream(VideoMamba(CONFIG), folder)
