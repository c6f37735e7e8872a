"""The encoder `offline`: real weights, exact arithmetic, and identical bits every time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vmr.errors import ModelError, VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import fingerprint
from vmr.models.families.offline import OfflineEncoder, imagenet_class_names


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randint(0, 256, (3, 8, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_unit_vectors_of_one_space(offline, noise):
    videos, texts = offline.encode_video(noise), offline.encode_text(["a dog", "", "two cats " * 400])
    for vectors in (videos, texts):
        assert vectors.shape == (3, offline.embed_dim) and vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_no_texts_give_no_vectors(offline):
    assert offline.encode_text([]).shape == (0, offline.embed_dim)


def test_conse_by_hand(offline, monkeypatch):
    """Two classes at p = 0.81 and 0.16, power 0.75 -> weights 0.8538 and 0.2530, in all 1.1068 -> 0.7714 and 0.2286."""
    monkeypatch.setattr("vmr.models.families.offline.TOP_CLASSES", 2)
    probabilities = torch.full((1, 1000), 0.03 / 998)
    probabilities[0, 10], probabilities[0, 20] = 0.81, 0.16
    monkeypatch.setattr(offline, "classifier", lambda images: probabilities.log().expand(len(images), -1))
    video = torch.zeros(1, 4, 3, 224, 224, dtype=torch.uint8)
    mixture = 0.7714 * offline.class_vectors[10] + 0.2286 * offline.class_vectors[20] - offline.class_vectors.mean(0)
    expected = mixture / mixture.norm()
    torch.testing.assert_close(offline.encode_video(video)[0], expected, atol=1e-4, rtol=0)


def test_the_classifier_knows_what_it_sees(offline, footage):
    from vmr.retrieval.frames import read_video

    video = read_video(footage / "bikes.mp4", offline)
    logits = offline.classifier(offline.preprocess(video).flatten(0, 1)).mean(0)
    best = [imagenet_class_names()[index] for index in logits.topk(10).indices]
    assert {"cab", "unicycle", "parking meter"} <= set(best), best  # a cyclist among taxis in a city


def test_sentences_are_understood(offline):
    man, woman, car = offline.encode_text(["a man plays a guitar", "someone is playing an instrument", "a car drives"])
    assert man @ woman > man @ car + 0.2


def test_same_bits_and_same_fingerprint(offline, noise):
    again = OfflineEncoder()
    assert again.fingerprint == offline.fingerprint
    assert torch.equal(again.encode_video(noise), offline.encode_video(noise))
    assert torch.equal(again.encode_text(["a red car"]), offline.encode_text(["a red car"]))


def test_fingerprint_tells_one_weight(offline):
    weights = offline.classifier.state_dict()
    changed = {name: value.clone() for name, value in weights.items()}
    changed["classifier.bias"][0] += 1e-3
    assert fingerprint(changed, offline.preprocess, {}) != fingerprint(weights, offline.preprocess, {})
    assert fingerprint(weights, offline.preprocess, {"power": 1}) != fingerprint(weights, offline.preprocess, {})
    assert fingerprint(weights, replace(offline.preprocess, num_frames=4), {}) != fingerprint(
        weights, offline.preprocess, {}
    )


@pytest.mark.parametrize(
    "video",
    [
        torch.zeros(1, 8, 3, 200, 224, dtype=torch.uint8),
        torch.zeros(1, 8, 3, 224, 224),
        torch.zeros(8, 3, 224, 224, dtype=torch.uint8),
    ],
    ids=["size", "float", "rank"],
)
def test_a_wrong_video_is_refused(offline, video):
    with pytest.raises(VmrError, match=r"expected video uint8 \(B, T, 3, 224, 224\)"):
        offline.encode_video(video)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ModelError, match="unknown model 'ofline': did you mean 'offline'"):
        load_model("ofline")
    with pytest.raises(ModelError, match="unknown model 'x'"):
        load_model("x")
    with pytest.raises(ModelError, match="device 'tpu' is not available"):
        load_model("offline", device="tpu")


def test_normalisation_by_hand(offline):
    """(255 / 255 - 0.5) / 0.5 = 1, (0 - 0.5) / 0.5 = -1."""
    video = torch.zeros(1, 1, 3, 224, 224, dtype=torch.uint8)
    video[..., 0] = 255
    pixels = offline.preprocess(video)
    assert np.unique(pixels[..., 0]).tolist() == [1.0] and np.unique(pixels[..., 1:]).tolist() == [-1.0]
