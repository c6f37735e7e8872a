"""Turn captions into BERT's WordPiece tokens.

A vocabulary is a file `vocab.txt`. BERT uncased's vocabulary comes with a pip package, so nothing must be downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.errors import ModelError
from vmr.models.encoder import check_texts
from vmr.models.hub import download_file, local_path

if TYPE_CHECKING:
    from torch import Tensor

MINILM = "minilm"  # BERT uncased's vocabulary, 30522 entries, from the wheel of all-MiniLM-L6-v2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_DELETED = re.compile(r"[,.'!?\"()*#:;~]")
_WORD_BREAK = re.compile(r"[-/]")
_SPACES = re.compile(r"\s{2,}")


def clean_caption(caption: str) -> str:
    """Clean a caption as it was cleaned for the released models (upstream's pre_text).

    Letters become lower case, punctuation is removed, hyphens and slashes become spaces, `<person>` (in LSMDC) becomes
    `person`, and several spaces become one. A clean caption does not change.

    Args:
        caption: any text.

    Returns:
        The clean caption.
    """
    text = _DELETED.sub("", caption.lower())
    text = _WORD_BREAK.sub(" ", text).replace("<person>", "person")
    return _SPACES.sub(" ", text).rstrip("\n").strip(" ")


class CaptionTokenizer:
    """BERT's uncased WordPiece tokeniser, with any vocabulary.

    Attributes:
        source: where the vocabulary comes from.
        words: the vocabulary; the index of a word is its token id.
        pad_id: id of [PAD].
        unknown_id: id of [UNK].
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        mask_id: id of [MASK].
    """

    def __init__(self, source: str = MINILM) -> None:
        """Read a vocabulary.

        Args:
            source: `minilm` (that of BERT uncased, from a pip package), a vocab.txt, a folder that holds one, or a
                repository of the Hugging Face hub such as `bert-base-uncased`.

        Raises:
            ModelError: there is no such file, or it lacks BERT's special tokens.
            MissingExtraError: the package of `minilm` is not installed.
        """
        from tokenizers import BertWordPieceTokenizer

        self.source = source
        self.words = _read_vocabulary(source)
        # A dict, not a file: if a file is passed under a wrong keyword, the class silently makes a vocabulary of 5
        # entries.
        self._tokenizer = BertWordPieceTokenizer({word: index for index, word in enumerate(self.words)})
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = map(self.words.index, SPECIAL)

    @property
    def vocab_size(self) -> int:
        """Number of entries of the vocabulary."""
        return len(self.words)

    def __call__(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Turn texts into token ids as `ids` does, padded to the longest of the batch, which has L tokens.

        Args:
            texts: B texts.
            max_length: at least 2.

        Returns:
            input_ids and attention_mask, int64 (B, L) each; the mask is 1 for tokens and 0 for padding.

        Raises:
            ModelError: max_length is below 2, or `texts` is one string.
        """
        import torch

        rows = self.ids(texts, max_length)
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.pad_id)
        mask = torch.zeros((len(rows), length), dtype=torch.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return ids, mask

    def ids(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Turn texts into token ids; texts are not cleaned.

        [CLS] stands first and [SEP] last. A longer text is cut to max_length tokens including them. Any number of
        threads may call this at the same time.

        Args:
            texts: B texts.
            max_length: at least 2.

        Returns:
            The ids of each text, at least 2 and at most max_length.

        Raises:
            ModelError: max_length is below 2, or `texts` is one string.
        """
        check_texts(texts)
        if max_length < 2:
            raise ModelError(f"max_length is {max_length}, but [CLS] and [SEP] take 2")
        # Cut here and padded by the caller: the settings of the tokeniser for both are shared by all threads.
        return [_cut(one.ids, max_length) for one in self._tokenizer.encode_batch(list(texts))]


def _cut(ids: list[int], max_length: int) -> list[int]:
    """Cut the tokens of a text to max_length; the last, [SEP], stays."""
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]


def _read_vocabulary(source: str) -> list[str]:
    path = _vocabulary_file(source)
    try:
        # Only "\n" ends a word: some vocabularies hold U+2028, at which splitlines would shift the ids that follow.
        lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        words = [line.removesuffix("\r") for line in lines]
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
