"""The video-text model as an encoder: vectors, matching logits and fingerprint of a tiny model of random weights."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from tests.models import PREPROCESS, make_encoder, make_video, tiny_model
from tests.upstream_checkpoints import save_as_upstream
from vmr.errors import ModelError, VmrError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from vmr.models.families import video_text as video_text_encoder
from vmr.models.families.video_text import VideoTextEncoder
from vmr.models.text.tokenizer import CaptionTokenizer


@pytest.fixture(scope="module")
def encoder() -> VideoTextEncoder:
    return make_encoder(tiny_model())


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.embed_dim, encoder.preprocess, encoder.name) == (16, PREPROCESS, "tiny")


def test_a_video_is_the_mean_of_its_unit_frames(encoder):
    video = make_video(3)
    pixels = (video / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    with torch.inference_mode():
        frames = tiny_model().encode_video(pixels).frame_embeddings  # (3, 2, 16)
    assert frames.shape == (3, 2, 16)
    expected = normalize(frames, dim=-1).mean(1)
    torch.testing.assert_close(encoder.encode_video(video), expected, atol=1e-5, rtol=1e-4)


def test_a_text_is_its_first_token_projected(encoder):
    ids, mask = CaptionTokenizer()(["two dogs run"], 150)
    with torch.inference_mode():
        expected = normalize(tiny_model().encode_text(ids, mask).embedding, dim=-1)
    torch.testing.assert_close(encoder.encode_text(["two dogs run"]), expected, atol=1e-6, rtol=1e-5)


def test_texts_are_unit_vectors_in_any_batch(encoder):
    texts = [f"caption number {'very ' * (i % 5)}{i}" for i in range(70)]  # more than one batch, of unequal lengths
    vectors = encoder.encode_text(texts)
    assert vectors.shape == (70, 16) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(70))
    torch.testing.assert_close(vectors[66:67], encoder.encode_text(texts[66:67]), atol=1e-6, rtol=1e-5)
    assert encoder.encode_text([]).shape == (0, 16)


def test_one_look_at_a_video_gives_its_vector_and_its_tokens(encoder):
    video = make_video(3)
    features = encoder.video_features(video)
    assert torch.equal(features.vectors, encoder.encode_video(video))
    assert torch.equal(features.tokens, encoder.video_tokens(video))


def test_a_text_limit_cuts_captions_and_nothing_else(encoder):
    limited = encoder.with_text_limit(4)  # [CLS], two words, [SEP]
    assert torch.equal(limited.encode_text(["two dogs run away"]), limited.encode_text(["two dogs sleep"]))
    assert not torch.equal(encoder.encode_text(["two dogs run"]), encoder.encode_text(["two dogs sleep"]))
    assert limited.fingerprint == encoder.fingerprint
    assert encoder.with_text_limit(10_000).max_text_tokens == encoder.max_text_tokens


@pytest.mark.parametrize("text", ["a dog", ""])
def test_one_text_is_not_a_list_of_letters(encoder, text):
    for read in (encoder.encode_text, encoder.read_texts):
        with pytest.raises(ModelError, match="expected a list of texts, got one text"):
            read(text)


def test_captions_are_cleaned_and_cut(encoder):
    assert torch.equal(encoder.encode_text(["Two dogs, running!"]), encoder.encode_text(["two dogs running"]))
    assert not torch.equal(encoder.encode_text(["two dogs running"]), encoder.encode_text(["two cats running"]))
    short = make_encoder(tiny_model(), max_text_tokens=5)  # [CLS] a b c [SEP]
    assert torch.equal(short.encode_text(["one two three four five"]), short.encode_text(["one two three"]))
    assert short.encode_text(["", "..."]).isfinite().all()


@pytest.mark.parametrize("read", [False, True], ids=["texts", "texts read before"])
def test_match_is_the_models_own(encoder, monkeypatch, read):
    """Matching all pairs in any batches gives the model's logits of each single pair."""
    monkeypatch.setattr(video_text_encoder, "TEXTS_AT_ONCE", 4)
    texts = [f"A caption, number {'very ' * (i % 3)}{i}" for i in range(18)]
    tokens = encoder.video_tokens(make_video(3))
    assert tokens.shape == (3, 2 * 2 * 2, 32)  # (V, T * G * G, C)
    logits = encoder.match(tokens, encoder.read_texts(texts) if read else texts)
    assert logits.shape == (3, 18) and logits.dtype == torch.float32
    model, tokenizer = tiny_model(), CaptionTokenizer()
    with torch.inference_mode():
        for j, text in enumerate(texts):
            ids, mask = tokenizer([text.lower().replace(",", "")], 150)
            text_tokens = model.encode_text(ids, mask).text_tokens
            for i in range(3):
                one = model.match(text_tokens, mask, model.project_video(tokens[i : i + 1]))  # (1, 2)
                torch.testing.assert_close(logits[i, j], one[0, 1], atol=1e-5, rtol=1e-4)
    assert logits.std(0).min() > 1e-4 and logits.std(1).min() > 1e-4  # videos and texts both matter


def test_match_reads_each_text_and_each_video_once(monkeypatch):
    encoder = make_encoder(tiny_model())
    monkeypatch.setattr(video_text_encoder, "TEXTS_AT_ONCE", 4)
    calls = []
    encoder.model.text_encoder.register_forward_hook(lambda *_: calls.append("text"))
    encoder.model.fusion.layers[0].cross_attention.key.register_forward_hook(lambda *_: calls.append("video"))
    encoder.match(encoder.video_tokens(make_video(3)), ["a"] * 10)
    assert (calls.count("text"), calls.count("video")) == (3, 3)  # 10 texts are batches of 4, 4 and 2; 3 videos


def test_texts_that_are_read_can_be_chosen_from(encoder):
    texts = ["a dog", "a very long caption about a dog", "a cat"]
    read, tokens = encoder.read_texts(texts), encoder.video_tokens(make_video(2))
    chosen = read.select(torch.tensor([2, 0]))
    assert (len(read), len(chosen), chosen.tokens.shape[1]) == (3, 2, 4)  # [CLS] a cat [SEP]
    torch.testing.assert_close(encoder.match(tokens, chosen), encoder.match(tokens, texts)[:, [2, 0]])


def test_match_of_nothing(encoder):
    tokens = encoder.video_tokens(make_video(2))
    assert encoder.match(tokens, []).shape == (2, 0)
    assert encoder.match(tokens[:0], ["a dog"]).shape == (0, 1)


def test_fingerprint_changes_with_any_weight(encoder):
    model = tiny_model()
    assert make_encoder(model).fingerprint == encoder.fingerprint
    seen = {encoder.fingerprint: "none"}
    for key, parameter in model.named_parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] += 0.25
        changed = make_encoder(model).fingerprint
        assert changed not in seen, f"{key}: as with {seen[changed]}"
        seen[changed] = key
        parameter.data = before
    assert make_encoder(model).fingerprint == encoder.fingerprint


def test_fingerprint_changes_with_the_settings(encoder, tmp_path):
    crop = replace(PREPROCESS, resize="crop")
    vocabulary = tmp_path / "vocab.txt"
    words = CaptionTokenizer().words
    vocabulary.write_text("\n".join(words) + "\n")
    assert make_encoder(tiny_model(), tokenizer=CaptionTokenizer(str(vocabulary))).fingerprint == encoder.fingerprint
    vocabulary.write_text("\n".join([*words[:2000], *reversed(words[2000:])]) + "\n")
    others = [
        make_encoder(tiny_model(), crop),
        make_encoder(tiny_model(), max_text_tokens=32),
        make_encoder(tiny_model(), tokenizer=CaptionTokenizer(str(vocabulary))),
    ]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_no_gradients_and_packed_weights(encoder):
    assert not encoder.encode_video(make_video(1)).requires_grad
    assert not encoder.model.training
    weight = encoder.model.video_encoder.layers[0].mixer.in_proj.weight
    assert encoder.model.video_encoder.packed.find(weight) is not None or not torch.backends.mkldnn.is_available()


def test_what_does_not_belong_to_the_model_is_refused(encoder, tmp_path):
    words = CaptionTokenizer().words
    (tmp_path / "vocab.txt").write_text("\n".join(words[:2000]) + "\n")
    cases = [
        ({"preprocess": replace(PREPROCESS, num_frames=8)}, "makes 8 frames of 32 pixels, .* takes 2 of 32"),
        ({"preprocess": replace(PREPROCESS, size=64)}, "makes 2 frames of 64 pixels"),
        ({"tokenizer": CaptionTokenizer(str(tmp_path))}, "has 2000 entries, but the model was made for 30522"),
        ({"max_text_tokens": 513}, "max_text_tokens is 513"),
        ({"max_text_tokens": 1}, "max_text_tokens is 1"),
    ]
    for options, line in cases:
        with pytest.raises(ModelError, match=f"^tiny: .*{line}") as caught:
            make_encoder(tiny_model(), **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(VmrError, match="expected video uint8"):
        encoder.encode_video(make_video(1).float())


def test_from_upstream_embeds_as_the_model_did(encoder, tmp_path):
    save_as_upstream(tiny_model(), tmp_path / "m.pth")
    loaded = VideoTextEncoder.from_upstream(tmp_path / "m.pth", name="tiny", about="")
    assert loaded.preprocess == PREPROCESS
    video = make_video(2)
    assert torch.equal(loaded.encode_video(video), encoder.encode_video(video))
    assert torch.equal(loaded.encode_text(["a dog"]), encoder.encode_text(["a dog"]))
    assert loaded.report is not None
    assert set(loaded.report.ignored.values()) >= {"the frozen teacher", "a constant"}


def test_from_upstream_at_another_size(tmp_path):
    save_as_upstream(tiny_model(), tmp_path / "m.pth")
    loaded = VideoTextEncoder.from_upstream(tmp_path / "m.pth", name="tiny", about="", num_frames=4, image_size=48)
    assert (loaded.preprocess.num_frames, loaded.preprocess.size) == (4, 48)
    model = tiny_model()
    model.video_encoder = model.video_encoder.resized(num_frames=4, image_size=48)
    video = make_video(2, 4, 48)
    with torch.inference_mode():
        frames = model.encode_video(loaded.preprocess(video)).frame_embeddings
    expected = normalize(frames, dim=-1).mean(1)
    torch.testing.assert_close(loaded.encode_video(video), expected, atol=1e-5, rtol=1e-4)
