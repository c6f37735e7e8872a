"""The published classifiers as data, and their files: both layouts, every key, other sizes, and known defects."""

import importlib
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models import make_video
from tests.paths import PARITY_SM
from tests.tiny_classifiers import SIZES as VIDEO
from tests.tiny_classifiers import as_image_file, tiny_network
from vmr.errors import ModelError
from vmr.models.catalogue import known_models, load_classifier, load_encoder, load_model
from vmr.models.classification.released import published_config
from vmr.models.upstream.published_vision import PUBLISHED_VISION
from vmr.models.upstream.vision import load_upstream
from vmr.models.videomamba.backbone import SIZES
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.train.tasks.initial import load_encoder_weights

IMAGE = replace(VIDEO, num_frames=1)
PRETRAINED = VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4, student=StudentConfig(8))


def refused(call) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: dict) -> Path:
    torch.save(content, path)
    return path


def pretrained_file() -> dict[str, torch.Tensor]:
    """A file of masked pre-training: no pooling norm, no head, and a last norm that is trained."""
    torch.manual_seed(3)
    weights = VideoMamba(PRETRAINED).state_dict()
    weights["norm.weight"] = torch.rand(32) + 0.5
    return {key: value for key, value in weights.items() if not key.startswith("pool_norm.")}


def test_the_table_in_its_corners():
    """Numbers of the model zoo and of the paper, typed again."""
    scores = {name: published.score for name, published in PUBLISHED_VISION.items()}
    assert len(scores) == 60 and sum(score is None for score in scores.values()) == 2
    assert scores["videomamba-ti-k400-f8"] == (76.9, 92.9)
    assert scores["videomamba-m-k400-mask-f64-384"] == (85.0, 96.9)
    assert scores["videomamba-s-ssv2-f16"] == (67.7, 90.9)
    assert scores["videomamba-m-coin-mask-f64"] == (90.4, None)
    assert scores["videomamba-b-in1k"] == (82.7, None) and scores["videomamba-m-in1k-576"] == (84.0, None)
    files = {name: published.file for name, published in PUBLISHED_VISION.items()}
    assert len(set(files.values())) == 60
    assert files["videomamba-ti-in1k-576"] == "videomamba_t16_in1k_res224to448to576.pth"
    assert files["videomamba-m-ssv2-mask-f16"] == "videomamba_m16_ssv2_mask_ft_f16_res224.pth"
    assert files["videomamba-m-k400-mask-pt"] == "videomamba_m16_k400_mask_pt_f8_res224.pth"
    assert PUBLISHED_VISION["videomamba-s-coin-f32"].views == (10, 3)
    assert PUBLISHED_VISION["videomamba-s-ssv2-f8"].frames == "sthsth"
    assert PUBLISHED_VISION["videomamba-m-ssv2-mask-f16-288"].frames == "sparse"


def test_all_names_are_known():
    known = known_models()
    for name, published in PUBLISHED_VISION.items():
        assert (name in known) == published.has_head, name
    assert "did you mean 'videomamba-ti-k400-f16'?" in refused(lambda: load_model("videomamba-ti-k400-f-16"))
    assert "is a classifier" in refused(lambda: load_encoder("videomamba-ti-k400-f8"))
    said = refused(lambda: load_model("videomamba-m-k400-mask-pt"))
    assert "videomamba-m-k400-mask-pt has no head" in said and "model.video_init" in said


def test_every_name_has_the_shapes_of_its_file(monkeypatch):
    """The rules for shapes were checked against upstream's own models."""
    if not PARITY_SM.is_dir():
        pytest.skip(f"needs the rules in {PARITY_SM}")
    monkeypatch.syspath_prepend(str(PARITY_SM))
    schema = importlib.import_module("schema")
    try:
        for published in PUBLISHED_VISION.values():
            if not published.has_head:
                continue
            sizes = published_config(published)
            assert schema.SIZES[published.size] == {"depth": sizes.num_layers, "embed_dim": sizes.width}
            with torch.device("meta"):  # all layers are alike
                found = VideoMambaClassifier(replace(sizes, num_layers=1)).state_dict()
            shapes = {key: tuple(tensor.shape) for key, tensor in found.items()}
            cfg = {"kind": "video", "depth": 1, "embed_dim": sizes.width, "img_size": published.image_size}
            cfg |= {"num_frames": published.num_frames, "num_classes": published.num_classes}
            if published.num_frames == 1:
                cfg["kind"] = "image"
                del shapes["temporal_pos_embedding"]
                shapes["patch_embed.proj.weight"] = (sizes.width, 3, 16, 16)
            assert shapes == schema.classifier(cfg), published.name
    finally:
        sys.modules.pop("schema")


def test_a_file_of_videos(tmp_path):
    network = tiny_network()
    path = write(tmp_path / "mine.pth", network.state_dict())
    classifier, video = load_model(path, device="cpu"), make_video(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(video), network(classifier.clip(video)))
    assert classifier.labels == ("class 0", "class 1", "class 2") and classifier.frames is None
    assert len(classifier.report.loaded) == len(network.state_dict())
    longer = load_classifier(path, "cpu", num_frames=6, image_size=48)
    assert set(longer.report.fitted) == {"pos_embed", "temporal_pos_embedding"}  # read from the weights, not a flag
    assert longer.logits(make_video(1, 6, 48)).shape == (1, 3)
    assert "num_heads cannot be chosen" in refused(lambda: load_model(path, "cpu", num_heads=4))


def test_a_file_of_images(tmp_path):
    network = tiny_network(sizes=IMAGE)
    path = write(tmp_path / "image.pth", as_image_file(network))
    classifier, image = load_model(path, device="cpu"), make_video(2, 1)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(image), network(classifier.clip(image)))
    assert classifier.num_frames == 1 and classifier.report.fresh == ("temporal_pos_embedding",)
    inflated = load_classifier(path, "cpu", num_frames=4)
    assert not inflated.network.temporal_pos_embedding.any()  # as upstream begins
    assert inflated.logits(make_video(1, 4)).shape == (1, 3)
    assert torch.allclose(inflated.logits(image), classifier.logits(image))


def test_the_head_of_self_distillation_is_accounted_for(tmp_path):
    content = as_image_file(tiny_network(sizes=IMAGE))
    content["model"] |= {"distill_head.0.weight": torch.ones(32), "distill_head.1.weight": torch.ones(8, 32)}
    report = load_model(write(tmp_path / "a.pth", content), device="cpu").report
    assert report.ignored == dict.fromkeys(
        ("distill_head.0.weight", "distill_head.1.weight"), "this model has no such part"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm_f.weight": None}, "lacks 1 of 42 keys, first: norm_f.weight"),
        ({"layers.1.mixer.A_log": None}, "lacks 1 of 42 keys, first: layers.1.mixer.A_log"),
        ({"layers.0.mixer.extra": torch.ones(2)}, "layers.0.mixer.extra"),
        ({"cls_token": torch.ones(1, 2, 32)}, "cls_token is 1x2x32, but this model takes 1x1x32"),
        ({"head.bias": torch.ones(4)}, "head.bias is 4, but this model takes 3"),
        ({"head.weight": None}, "has no head"),
        ({"head.weight": torch.ones(3)}, "head.weight is 3, but must be ?x32"),
        ({"pos_embed": torch.ones(1, 4, 32)}, "pos_embed has CLS and 3 patches, which is no square grid"),
        ({"norm_f.weight": torch.full((32,), torch.inf)}, "norm_f.weight is not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, said):
    weights = {**tiny_network().state_dict(), **change}
    path = write(tmp_path / "a.pth", {key: value for key, value in weights.items() if value is not None})
    assert said in (line := refused(lambda: load_model(path, "cpu"))) and str(path) in line


def test_a_head_is_replaced_only_when_asked():
    wider = tiny_network(sizes=replace(VIDEO, num_classes=5))
    kept = wider.head.weight.clone()
    assert "head.weight is 3x32, but this model takes 5x32" in refused(
        lambda: load_upstream(wider, tiny_network(1).state_dict())
    )
    report = load_upstream(wider, tiny_network(1).state_dict(), fresh=("head.",))
    assert report.fresh == ("head.weight", "head.bias") and torch.equal(wider.head.weight, kept)
    assert torch.equal(wider.norm_f.weight, tiny_network(1).norm_f.weight)


def test_the_trained_norm_of_masked_pretraining_is_kept_unless_asked(tmp_path):
    weights = pretrained_file()
    network = VideoMambaClassifier(VIDEO)
    report = load_upstream(network, weights, fresh=("head.",))
    assert torch.equal(network.norm_f.weight, weights["norm.weight"])
    assert set(report.ignored) == {key for key in weights if key.startswith("clip_decoder.")}
    as_upstream, path = VideoMambaClassifier(VIDEO), write(tmp_path / "a.pth", weights)
    report = load_encoder_weights(as_upstream, str(path), fresh_norm=True)
    assert torch.equal(as_upstream.norm_f.weight, torch.ones(32))
    assert report.ignored["norm_f.weight"] == "asked to start fresh"


def test_an_encoder_without_a_head_is_refused(tmp_path):
    path = write(tmp_path / "a.pth", pretrained_file())
    assert "has no head, so that it names no classes" in refused(lambda: load_model(path, "cpu"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache without internet, and a function that writes a file to it; VideoMamba-M is a tiny network."""
    monkeypatch.setitem(SIZES, "middle", (32, 2))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit, folder = "0" * 40, tmp_path / "models--OpenGVLab--VideoMamba"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return lambda name, content: write(folder / "snapshots" / commit / PUBLISHED_VISION[name].file, content)


def test_a_published_file(hub, caplog):
    """The file of Breakfast that holds half the positions in time that it should."""
    published = PUBLISHED_VISION["videomamba-m-breakfast-mask-f64"]
    file = hub(published.name, tiny_network(sizes=replace(VIDEO, num_frames=32, num_classes=10)).state_dict())
    with caplog.at_level(logging.WARNING):
        classifier = load_model(published.name, device="cpu")
    assert (classifier.name, classifier.about) == (published.name, published.about)
    assert (classifier.num_frames, classifier.size) == (64, 224)
    assert classifier.report.fitted["temporal_pos_embedding"] == "interpolated from 1x32x32 to 1x64x32"
    assert "32 frames, not 64: they are interpolated" in caplog.text
    assert "the classes of Breakfast have numbers for names" in caplog.text
    small = load_model(file, device="cpu", num_frames=32, image_size=32)  # a file of this name is that file
    assert small.about == published.about and set(small.report.fitted) == set()
    hub(published.name, tiny_network().state_dict())
    assert f"num_classes is 3, but 10 in what was published as {published.name}" in refused(
        lambda: load_model(published.name, "cpu")
    )


def test_a_training_starts_from_a_published_encoder_by_name(hub):
    weights = pretrained_file()
    hub("videomamba-m-k400-mask-pt", weights)
    network = VideoMambaClassifier(VIDEO)
    report = load_encoder_weights(network, "videomamba-m-k400-mask-pt")
    assert report.source == "videomamba-m-k400-mask-pt" and report.fresh == ("head.weight", "head.bias")
    assert torch.equal(network.norm_f.weight, weights["norm.weight"])


def test_names_of_classes():
    pytest.importorskip("torchvision", reason="needs torchvision: pip install vmr[train]")
    from vmr.models.classification.class_names import known_names

    kinetics, imagenet = known_names("k400"), known_names("in1k")
    assert (len(kinetics), kinetics[0], kinetics[-1]) == (400, "abseiling", "zumba")
    assert (len(imagenet), imagenet[0]) == (1000, "tench") and known_names("ssv2") is None
