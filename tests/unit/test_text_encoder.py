"""BERT in two halves: equal to transformers' results, and independent of padding and of the video memory's batch."""

import pytest
import torch
from transformers import BertConfig, BertModel

from vmr.errors import ModelError
from vmr.models.text.bert_weights import load_bert
from vmr.models.text.encoder import TextConfig, TextEncoder
from vmr.models.text.fusion import FusionEncoder, MaskedLMHead

CONFIG = TextConfig(vocab_size=50, width=32, num_layers=3, num_text_layers=2, num_heads=4, feed_forward=64)
VIDEO_WIDTH = 24


@pytest.fixture
def text_encoder():
    torch.manual_seed(0)
    return TextEncoder(CONFIG).eval()


@pytest.fixture
def fusion():
    torch.manual_seed(1)
    return FusionEncoder(CONFIG, VIDEO_WIDTH).eval()


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 50, (6, 7), generator=generator)
    mask = (torch.arange(7) < torch.tensor([7, 4, 2, 7, 5, 3])[:, None]).long()
    return ids * mask, mask


def test_equals_transformers(texts):
    ids, mask = texts
    torch.manual_seed(3)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    reference = BertModel(BertConfig(**sizes, intermediate_size=64), add_pooling_layer=False).eval()
    text_encoder, fusion = TextEncoder(CONFIG).eval(), FusionEncoder(CONFIG, VIDEO_WIDTH)
    load_bert(text_encoder, fusion, reference.state_dict())
    with torch.no_grad():
        expected = reference(ids, attention_mask=mask, output_hidden_states=True).hidden_states[2]
        result = text_encoder(ids, mask)
    assert torch.allclose(result, expected, atol=1e-5)


def test_padding_changes_nothing(text_encoder, fusion, texts):
    ids, mask = texts
    memory = fusion.project_video(torch.randn(1, 5, VIDEO_WIDTH))
    with torch.no_grad():
        whole = text_encoder(ids, mask)
        alone = text_encoder(ids[2:3, :2], mask[2:3, :2])
        assert torch.allclose(whole[2:3, :2], alone, atol=1e-6)
        seen, seen_alone = fusion(whole, mask, memory), fusion(alone, mask[2:3, :2], memory)
    assert torch.allclose(seen[2:3, :2], seen_alone, atol=1e-6)


def test_one_memory_for_many_texts(text_encoder, fusion, texts):
    ids, mask = texts
    video_tokens = torch.randn(2, 5, VIDEO_WIDTH)
    with torch.no_grad():
        text_tokens = text_encoder(ids, mask)
        shared = fusion(text_tokens, mask, fusion.project_video(video_tokens))  # three texts for each video
        repeated = fusion.project_video(video_tokens.repeat_interleave(3, dim=0))
        expected = fusion(text_tokens, mask, repeated)
    assert (shared - expected).norm() <= 1e-5 * expected.norm()


def test_select_is_the_memory_of_those_videos(fusion):
    video_tokens = torch.randn(3, 5, VIDEO_WIDTH)
    video_mask = torch.ones(3, 5).tril()
    chosen = torch.tensor([2, 0, 2])
    selected = fusion.project_video(video_tokens, video_mask).select(chosen)
    expected = fusion.project_video(video_tokens[chosen], video_mask[chosen])
    assert selected.num_videos == 3
    for ours, theirs in zip((*selected.keys, *selected.values), (*expected.keys, *expected.values), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.equal(selected.bias, expected.bias)


def test_hidden_video_tokens_are_not_seen(text_encoder, fusion, texts):
    ids, mask = texts
    video_tokens = torch.randn(1, 5, VIDEO_WIDTH)
    shown = torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad():
        text_tokens = text_encoder(ids, mask)
        masked = fusion(text_tokens, mask, fusion.project_video(video_tokens, shown))
        cut = fusion(text_tokens, mask, fusion.project_video(video_tokens[:, :3]))
    assert torch.allclose(masked, cut, atol=1e-6)


def test_a_token_counts_as_often_as_it_is_told(text_encoder, fusion, texts):
    ids, mask = texts
    video_tokens = torch.randn(1, 3, VIDEO_WIDTH)
    with torch.no_grad():
        text_tokens = text_encoder(ids, mask)
        counted = fusion(text_tokens, mask, fusion.project_video(video_tokens, torch.tensor([[2, 1, 3]])))
        repeated = fusion(text_tokens, mask, fusion.project_video(video_tokens[:, [0, 1, 2, 2, 0, 2]]))
    assert (counted - repeated).norm() <= 1e-5 * repeated.norm()


def test_the_video_is_looked_at(text_encoder, fusion, texts):
    ids, mask = texts
    with torch.no_grad():
        text_tokens = text_encoder(ids, mask)
        one, other = (fusion(text_tokens, mask, fusion.project_video(torch.randn(1, 5, VIDEO_WIDTH))) for _ in range(2))
    assert (one - other).abs().max() > 1e-4


def test_texts_that_cannot_be_shared_out(fusion):
    memory = fusion.project_video(torch.randn(4, 5, VIDEO_WIDTH))
    with pytest.raises(ModelError, match="6 texts cannot be divided evenly among 4 videos"):
        fusion(torch.randn(6, 7, 32), torch.ones(6, 7), memory)


def test_a_text_beyond_the_positions():
    config = TextConfig(vocab_size=50, width=32, num_layers=2, num_text_layers=1, num_heads=4, max_positions=4)
    with pytest.raises(ModelError, match="5 tokens is longer than the 4"):
        TextEncoder(config)(torch.ones(1, 5, dtype=torch.long), torch.ones(1, 5))


def test_words_are_scored_by_the_word_vectors():
    head = MaskedLMHead(CONFIG).eval()
    words = torch.randn(50, 32)
    hidden = torch.randn(2, 3, 32)
    with torch.no_grad():
        features = head.norm(torch.nn.functional.gelu(head.dense(hidden)))
        assert torch.allclose(head(hidden, words), features @ words.T + head.bias, atol=1e-5)


def test_the_padding_word_starts_at_zero(text_encoder):
    assert text_encoder.embeddings.word.weight[0].abs().max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "no multiple of num_heads"),
        ({"num_text_layers": 4}, "num_text_layers is 4, but there are 3 layers"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"max_positions": 1}, "max_positions is 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_make_no_sense(change, message):
    sizes = {"width": 32, "num_layers": 3, "num_text_layers": 2, "num_heads": 4} | change
    with pytest.raises(ModelError, match=message):
        TextConfig(**sizes)
