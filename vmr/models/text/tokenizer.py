"""Captions to BERT's WordPiece tokens.

The vocabulary is a `vocab.txt`: BERT uncased's own comes along with a pip package, so that nothing need be downloaded.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vmr.errors import ModelError
from vmr.models.hub import download_file, local_path

MINILM = "minilm"  # BERT uncased's vocabulary, 30522 entries, from the wheel of all-MiniLM-L6-v2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_DELETED = re.compile(r"[,.'!?\"()*#:;~]")
_WORD_BREAK = re.compile(r"[-/]")
_SPACES = re.compile(r"\s{2,}")


def clean_caption(caption: str) -> str:
    """A caption as the released models read it (upstream's pre_text): lower case, no punctuation, single spaces.

    Hyphens and slashes part words, `<person>` (LSMDC) is a person. A clean caption stays as it is.
    """
    text = _DELETED.sub("", caption.lower())
    text = _WORD_BREAK.sub(" ", text).replace("<person>", "person")
    return _SPACES.sub(" ", text).rstrip("\n").strip(" ")


def check_texts(texts: Sequence[str]) -> None:
    """Raise ModelError for a string, which would pass as a list of its letters."""
    if isinstance(texts, str):
        raise ModelError(f"expected a list of texts, got one text, {texts!r:.40}: put it into a list")


class CaptionTokenizer:
    """BERT's uncased WordPiece, by any vocabulary.

    source: `minilm`, a vocab.txt or a folder that holds one, or a repository of the Hugging Face hub such as
    `bert-base-uncased`. Raises ModelError where there is no such file, or it lacks BERT's special tokens;
    MissingExtraError where `minilm` is not installed.
    """

    def __init__(self, source: str = MINILM) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.source = source
        self.words = _read_vocabulary(source)
        # Handed over as a dict: a tokeniser that is given a file under a wrong keyword has 5 entries, and says nothing.
        self._tokenizer = BertWordPieceTokenizer({word: index for index, word in enumerate(self.words)})
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(self.words.index, SPECIAL)

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary."""
        return len(self.words)

    def __call__(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Texts as they are, uncleaned, to (input_ids, attention_mask), int64 (B, L) each.

        [CLS] stands first and [SEP] last; a longer text is cut to max_length tokens with them, a shorter one padded to
        the longest of the batch, which is L. Raises ModelError for a max_length below 2, and for one text in place of a
        list of them.
        """
        check_texts(texts)
        if max_length < 2:
            raise ModelError(f"max_length is {max_length}, but [CLS] and [SEP] take 2")
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.enable_padding(pad_id=self.pad_id)
        encoded = self._tokenizer.encode_batch(list(texts))
        length = len(encoded[0].ids) if encoded else 0
        ids = torch.tensor([one.ids for one in encoded], dtype=torch.int64).view(len(encoded), length)
        mask = torch.tensor([one.attention_mask for one in encoded], dtype=torch.int64).view(len(encoded), length)
        return ids, mask


def _read_vocabulary(source: str) -> list[str]:
    path = _vocabulary_file(source)
    try:
        words = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not a vocabulary: {error}") from error
    missing = [token for token in SPECIAL if token not in words]
    if missing:
        raise ModelError(f"{path}: not a BERT vocabulary: {', '.join(missing)} missing among {len(words)} lines")
    return words


def _vocabulary_file(source: str) -> Path:
    if source == MINILM:
        from vmr.models.pip_weights import minilm_folder

        return minilm_folder() / "vocab.txt"
    path = local_path(source, suffixes=(".txt",))
    if path is None:
        return download_file(source, "vocab.txt")
    return path / "vocab.txt" if path.is_dir() else path
