"""open_clip through `load_model`: a small model of random weights, saved and loaded as a user's file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vmr.errors import ModelError, VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import FrameEncoder

open_clip = pytest.importorskip("open_clip")

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "vmr-small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(open_clip.create_model("vmr-small").state_dict(), folder / "small.pt")
    return folder / "small.pt"


@pytest.fixture(scope="module")
def encoder(weights: Path):
    return load_model(f"open_clip:vmr-small/{weights}", device="cpu")


def test_a_video_is_the_mean_of_its_unit_frames(encoder):
    video = torch.randint(0, 256, (2, 5, 3, 32, 32), dtype=torch.uint8)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    with torch.inference_mode():
        one_by_one = torch.stack(
            [normalize(encoder.model.encode_image((frame[None] / 255 - mean) / std), dim=-1)[0] for frame in video[1]]
        )
    expected = normalize(one_by_one.mean(0), dim=-1)
    torch.testing.assert_close(encoder.encode_video(video)[1], expected, atol=1e-5, rtol=1e-4)


def test_a_frame_has_the_same_features_whatever_else_is_in_the_batch(encoder):
    frames = np.random.default_rng(0).integers(0, 256, (11, 3, 32, 32), dtype=np.uint8)  # more than one batch
    features = encoder.encode_frames(frames)
    assert isinstance(encoder, FrameEncoder) and len(frames) > encoder.frames_at_once
    assert features.shape == (11, encoder.embed_dim) and encoder.encode_frames(frames[:0]).shape == (0, 32)
    order = np.random.default_rng(1).permutation(11)
    assert np.array_equal(encoder.encode_frames(frames[order]), features[order])
    for number in range(11):
        assert np.array_equal(encoder.encode_frames(frames[number : number + 1])[0], features[number])


def test_a_video_is_made_of_its_frames(encoder):
    videos = np.random.default_rng(0).integers(0, 256, (3, 5, 3, 32, 32), dtype=np.uint8)
    features = encoder.encode_frames(videos.reshape(-1, 3, 32, 32)).reshape(3, 5, -1)
    pooled = encoder.pool_frames(features)
    assert np.array_equal(encoder.encode_video(torch.from_numpy(videos)).numpy(), pooled)
    assert np.array_equal(encoder.pool_frames(features[1:2])[0], pooled[1])


def test_unit_vectors_and_text_batches(encoder):
    texts = [f"caption number {i}" for i in range(70)]  # more than one batch
    vectors = encoder.encode_text(texts)
    assert vectors.shape == (70, 32) == (len(texts), encoder.embed_dim)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(70))
    torch.testing.assert_close(vectors[66:67], encoder.encode_text(texts[66:67]), atol=1e-5, rtol=1e-4)
    assert encoder.encode_text([]).shape == (0, 32)


def test_fingerprint_is_that_of_the_weights(weights, encoder, tmp_path):
    assert load_model(f"open_clip:vmr-small/{weights}").fingerprint == encoder.fingerprint
    state = torch.load(weights)
    state["visual.proj"][0, 0] += 1
    torch.save(state, tmp_path / "other.pt")
    assert load_model(f"open_clip:vmr-small/{tmp_path / 'other.pt'}").fingerprint != encoder.fingerprint


def test_weights_that_do_not_fit_are_refused(weights, tmp_path):
    state = torch.load(weights)
    del state["visual.proj"]
    torch.save(state, tmp_path / "lacking.pt")
    with pytest.raises(ModelError, match=r"the file does not fit vmr-small: .*visual\.proj"):
        load_model(f"open_clip:vmr-small/{tmp_path / 'lacking.pt'}")


def test_weights_out_of_reach_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"open_clip:ViT-B-32/openai: weights cannot be reached: connect .* or give a file"
    ):
        load_model("open_clip:ViT-B-32/openai")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("open_clip:ViT-B-23/openai", "no model 'ViT-B-23': did you mean"),
        ("open_clip:ViT-B-32", "name its weights.*openai"),
        ("open_clip:ViT-B-32/opnai", "'opnai' is neither a file nor one of its weights"),
    ],
)
def test_wrong_names_get_one_helpful_line(name, line):
    with pytest.raises(VmrError, match=line) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_openai_weights_get_their_own_gelu(monkeypatch, weights):
    asked = {}

    def create_model(architecture, **options):
        asked.update(options)
        raise RuntimeError("stop here: only the options are looked at")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    for name, quick_gelu in (("openai", True), ("laion2b_s34b_b79k", False)):
        with pytest.raises(ModelError):
            load_model(f"open_clip:ViT-B-32/{name}")
        assert asked["force_quick_gelu"] is quick_gelu
        assert asked["require_pretrained"] is True
