"""Classifiers: what they say of clips, and saving and loading them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vmr
from tests.films import write_film
from tests.models import CONFIG, PREPROCESS, make_video, tiny_model
from tests.tiny_classifiers import CLIP, LABELS, SIZES, tiny_classifier, tiny_network
from vmr.errors import ModelError, VmrError
from vmr.models.catalogue import KNOWN, SHIPPED, load_classifier, load_encoder, load_model
from vmr.models.classification.family import VideoClassifier
from vmr.models.classification.saved import load_saved_classifier, save_classifier
from vmr.models.classifier import Classifier, ClipInput
from vmr.models.saved_model import save_model
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.videomamba.encoder import VideoMamba
from vmr.models.videomamba.saved import save_encoder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "model", tiny_network(), LABELS, "single", CLIP, training={"epochs": 3})
    return tmp_path / "model"


def refused(call) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_saved_is_what_is_loaded(saved):
    loaded, original = load_model(saved, device="cpu"), tiny_classifier()
    assert isinstance(loaded, Classifier) and loaded.name == str(saved)
    assert (loaded.labels, loaded.target, loaded.clip) == (LABELS, "single", CLIP)
    assert loaded.fingerprint == original.fingerprint != tiny_classifier(1).fingerprint
    video = make_video(3, 4)
    assert torch.equal(loaded.logits(video), original.logits(video))
    assert json.loads((saved / "config.json").read_text())["training"] == {"epochs": 3}
    assert not list(saved.glob("*.pt*")) and len(list(saved.glob("model-*.safetensors"))) == 1


def test_a_classifier_that_comes_along_goes_by_its_name(saved, monkeypatch):
    monkeypatch.setitem(SHIPPED, "shapes-of-mine", saved)
    monkeypatch.setitem(KNOWN, "shapes-of-mine", "comes along")
    loaded = load_model("shapes-of-mine", device="cpu")
    assert (loaded.name, loaded.about) == ("shapes-of-mine", "comes along")
    assert loaded.fingerprint == tiny_classifier().fingerprint
    assert "shapes-of-mine is a classifier" in refused(lambda: load_encoder("shapes-of-mine"))


def test_the_likeliest_classes_come_first():
    classifier, video = tiny_classifier(), make_video(2, 4)
    network = tiny_network()
    with torch.no_grad():
        expected = network(CLIP(video)).softmax(dim=1)
    for said, row in zip(classifier.classify(video, k=9), expected, strict=True):
        assert said.labels == tuple(LABELS[i] for i in row.argsort(descending=True))
        np.testing.assert_allclose(said.probabilities, row.sort(descending=True).values, rtol=1e-5)
    assert [len(said.labels) for said in classifier.classify(video, k=2)] == [2, 2]
    with pytest.raises(VmrError, match="k is 0"):
        classifier.classify(video, k=0)
    with pytest.raises(VmrError, match="expected video uint8"):
        classifier.classify(video.float())


def test_several_classes_have_probabilities_of_their_own():
    network = tiny_network()
    several = VideoClassifier(network, LABELS, "multi", CLIP, name="tiny", about="")
    (said,) = several.classify(make_video(1, 4), k=3)
    expected = several.logits(make_video(1, 4)).sigmoid()[0].sort(descending=True).values
    np.testing.assert_allclose(said.probabilities, expected, rtol=1e-6)


def test_a_number_has_no_classes():
    network = tiny_network(sizes=replace(SIZES, num_classes=1))
    number = VideoClassifier(network, ["likes"], "regression", CLIP, name="tiny", about="")
    assert number.logits(make_video(2, 4)).shape == (2, 1)
    assert "tiny predicts a number, not classes" in refused(lambda: number.classify(make_video(1, 4)))


def test_what_does_not_fit_is_refused(tmp_path):
    cases = [
        (LABELS[:2], "single", CLIP, "2 labels for a network of 3 classes"),
        (LABELS, "regression", CLIP, "a regression has one output, but the network has 3"),
        (LABELS, "single", ClipInput(8, 32), "clips of 8 frames of 32 pixels, but the network takes 4 of 32"),
    ]
    for labels, target, clip, said in cases:
        with pytest.raises(ModelError, match=said):
            save_classifier(tmp_path, tiny_network(), labels, target, clip)
    assert not list(tmp_path.iterdir())
    assert "frames is 'some'" in refused(lambda: ClipInput(4, 32, "some"))
    broken = tiny_network()
    broken.head.bias.data[0] = torch.nan
    assert "head.bias is not finite" in refused(lambda: save_classifier(tmp_path, broken, LABELS, "single", CLIP))


def test_other_names_for_the_classes():
    classifier = tiny_classifier()
    named = classifier.with_labels(["a", "b", "c"])
    assert named.labels == ("a", "b", "c") and classifier.labels == LABELS
    assert named.fingerprint == classifier.fingerprint  # the logits are the same
    assert "4 labels for a network of 3 classes" in refused(lambda: classifier.with_labels("abcd"))


def test_another_size_is_interpolated(saved):
    loaded = load_saved_classifier(saved, num_frames=8, image_size=48)
    expected = tiny_network().resized(num_frames=8, image_size=48)
    video = make_video(1, 8, 48)
    with torch.no_grad():
        torch.testing.assert_close(loaded.logits(video), expected(loaded.clip(video)))
    assert loaded.clip == ClipInput(8, 48, "sthsth")
    assert loaded.report.fitted == {
        "pos_embed": "interpolated from 1x5x32 to 1x10x32",
        "temporal_pos_embedding": "interpolated from 1x4x32 to 1x8x32",
    }


@pytest.mark.parametrize("file", ["safetensors", "config.json"])
def test_a_save_that_fails_leaves_the_old_classifier(saved, monkeypatch, file):
    before, real = load_saved_classifier(saved).fingerprint, Path.replace

    def cut_off(self, target):
        if Path(target).name.endswith(file):
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            save_classifier(saved, tiny_network(1), LABELS, "single", CLIP)
    assert load_saved_classifier(saved).fingerprint == before
    assert len(list(saved.glob("model-*.safetensors"))) == 1
    save_classifier(saved, tiny_network(1), LABELS, "single", CLIP)
    assert load_saved_classifier(saved).fingerprint == tiny_classifier(1).fingerprint
    assert len(list(saved.glob("model-*.safetensors"))) == 1


def test_a_damaged_classifier_is_refused(saved):
    weights = next(saved.glob("model-*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"?")
    assert "is damaged" in refused(lambda: load_model(saved, "cpu"))
    weights.write_bytes(content)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "labels": ["walk"]}))
    assert "1 labels for a network of 3 classes" in refused(lambda: load_model(saved, "cpu"))
    (saved / "config.json").write_text(json.dumps({**config, "schema": "vmr-classifier/9"}))
    assert "schema is 'vmr-classifier/9'" in refused(lambda: load_model(saved, "cpu"))


def test_encoders_and_classifiers_do_not_replace_each_other(saved, tmp_path):
    tokenizer = CaptionTokenizer()
    said = refused(lambda: save_model(saved, tiny_model(), PREPROCESS, tokenizer))
    assert "config.json is not a saved model's" in said
    save_model(tmp_path / "encoder", tiny_model(), PREPROCESS, tokenizer)
    said = refused(lambda: save_classifier(tmp_path / "encoder", tiny_network(), LABELS, "single", CLIP))
    assert "config.json is not a saved classifier's" in said
    assert f"{saved} is a classifier, which has no vectors to search by" in refused(lambda: load_encoder(saved))
    assert "is an encoder, which names no classes" in refused(lambda: load_classifier(tmp_path / "encoder"))
    assert "is an encoder, which names no classes" in refused(lambda: load_classifier("offline"))
    save_encoder(tmp_path / "pretrained", VideoMamba(CONFIG.video), PREPROCESS)
    said = refused(lambda: load_model(tmp_path / "pretrained"))
    assert "knows neither texts nor classes" in said and "model.video_init" in said


def test_what_is_no_classifier_is_called_by_its_name(saved, tmp_path):
    run = tmp_path / "run"
    step = run / "checkpoints" / "step-00000001"
    step.mkdir(parents=True)
    assert "a run of vmr-train that has no model yet" in refused(lambda: load_classifier(run))
    (step / "state.json").write_text("{}")
    assert "a checkpoint to resume a run from: name the folder model or best" in refused(lambda: load_classifier(step))
    shutil.copytree(saved, run / "best")
    for load in (load_classifier, load_encoder, load_model):
        assert f"a run of vmr-train, whose model is in {run / 'best'}" in refused(lambda load=load: load(run))
    (tmp_path / "empty").mkdir()
    said = refused(lambda: load_classifier(tmp_path / "empty"))
    assert said.endswith("empty: no saved model here (no config.json)")
    config = run / "best" / "config.json"
    config.write_text("{")
    assert "config.json is damaged" in refused(lambda: load_classifier(run / "best"))
    config.write_text('{"architectures": ["CLIPModel"]}')
    assert "config.json: of no model that vmr can read" in refused(lambda: load_classifier(run / "best"))
    save_encoder(tmp_path / "pretrained", VideoMamba(CONFIG.video), PREPROCESS)
    assert "knows neither texts nor classes" in refused(lambda: load_classifier(tmp_path / "pretrained"))
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    for load in (load_classifier, load_model):
        said = refused(lambda load=load: load(tmp_path / "other.pth"))
        assert said.endswith("other.pth: no weights of VideoMamba: it has fc.weight, but no patch_embed.proj.weight")


def test_a_video_is_read_for_a_classifier(tmp_path):
    film = write_film(tmp_path / "a.mp4", num_frames=20)
    classifier = tiny_classifier()
    video = vmr.read_video(film, classifier)
    assert video.shape == (1, 4, 3, 32, 32) and len(classifier.classify(video)) == 1
