"""From captions to tokens: the cleaning rule in examples, and a vocabulary that really exists."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoTokenizer

from vmr.errors import ModelError
from vmr.models.pip_weights import minilm_folder
from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "circle", "##s"]


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer()


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("A man is Playing-guitar, and singing!", "a man is playing guitar and singing"),
        ("  Two  dogs;   run / jump\n", "two dogs run jump"),
        ("<person> walks", "person walks"),
        ("50% & more", "50% & more"),
        ("...", ""),
        ("", ""),
    ],
)
def test_cleaning(caption: str, clean: str):
    assert clean_caption(caption) == clean
    assert clean_caption(clean) == clean


def test_the_whole_vocabulary_is_there(tokenizer):
    # a tokeniser built wrongly has 5 entries and makes every word [UNK]
    assert tokenizer.vocab_size == 30522
    ids, _ = tokenizer(["a man is playing guitar"], 32)
    assert ids.tolist() == [[101, 1037, 2158, 2003, 2652, 2858, 102]]
    assert tokenizer.unknown_id not in ids


def test_equals_transformers(tokenizer):
    texts = [
        "two dogs",
        "",
        "café naïve résumé",
        "unbelievably extraordinary " * 20,
        "日本語 text",
        "e-mail 50% [x] {y}",
    ]
    reference = AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    expected = reference(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    ids, mask = tokenizer(texts, 16)
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])


def test_padding_and_cutting(tokenizer):
    ids, mask = tokenizer(["dog", "a dog runs very far away"], 5)
    # [CLS] dog [SEP] and [CLS] a dog runs [SEP]
    assert ids.tolist() == [[101, 3899, 102, 0, 0], [101, 1037, 3899, 3216, 102]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_threads_do_not_disturb_each_other(tokenizer):
    """Each thread has its own length to cut at, and its own longest text to pad to."""
    batches = {
        max_length: [" ".join(["dog"] * count) for count in (1, max_length // 2, 40 - max_length)]
        for max_length in range(3, 35)
    }
    alone = {max_length: tokenizer(texts, max_length) for max_length, texts in batches.items()}

    def calls(max_length: int) -> bool:
        results = [tokenizer(batches[max_length], max_length) for _ in range(20)]
        return all(
            torch.equal(one, other) for found in results for one, other in zip(found, alone[max_length], strict=True)
        )

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(calls, [*batches] * 4))


def test_no_text(tokenizer):
    ids, mask = tokenizer([], 8)
    assert ids.shape == mask.shape == (0, 0)


def test_a_vocabulary_of_ones_own(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    for source in (tmp_path, tmp_path / "vocab.txt"):
        small = CaptionTokenizer(str(source))
        ids, _ = small(["red circles fly"], 8)
        assert ids.tolist() == [[2, 6, 7, 8, 1, 3]]  # [CLS] red circle ##s [UNK] [SEP]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("word", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "x\ry"])
def test_a_word_that_ends_lines_elsewhere_shifts_no_id(tmp_path, word, end):
    """bert-base-chinese has U+2028 as a word."""
    (tmp_path / "vocab.txt").write_bytes(end.join([*WORDS[:6], word, *WORDS[6:], ""]).encode())
    tokenizer = CaptionTokenizer(str(tmp_path))
    assert tokenizer.vocab_size == len(WORDS) + 1
    assert tokenizer(["a red circles"], 8)[0].tolist() == [[2, 5, 7, 8, 9, 3]]


def test_not_a_vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_text("red\ncircle\n")
    with pytest.raises(ModelError, match=r"vocab.txt: not a BERT vocabulary: \[PAD\].* among 2 lines"):
        CaptionTokenizer(str(tmp_path))


def test_no_such_vocabulary(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"no-such/vocabulary/vocab.txt cannot be downloaded.*HF_HUB_OFFLINE is set"):
        CaptionTokenizer("no-such/vocabulary")


def test_a_path_is_not_looked_for_on_the_hub(tmp_path):
    for source in (f"{tmp_path}/gone", "./gone", "../gone/vocab", "~/gone", "gone.txt", "words/gone.txt"):
        with pytest.raises(ModelError, match=r"gone[^ ]*: no such file or folder"):
            CaptionTokenizer(source)
    with pytest.raises(ModelError, match=r"vocab\.txt: not a vocabulary: .*No such file"):
        CaptionTokenizer(str(tmp_path))


@pytest.mark.parametrize("max_length", [1, 0, -3])
def test_lengths_without_room_for_cls_and_sep(tokenizer, max_length):
    with pytest.raises(ModelError, match=rf"max_length is {max_length}, but \[CLS\] and \[SEP\] take 2"):
        tokenizer(["a dog"], max_length)


@pytest.mark.parametrize("text", ["a dog", ""])
def test_one_text_is_not_a_list_of_letters(tokenizer, text):
    with pytest.raises(ModelError, match=rf"expected a list of texts, got one text, '{text}': put it into a list"):
        tokenizer(text, 8)
