"""The encoded texts that matching needs, computed once and kept in a file; memory holds one batch."""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.models.encoder import EncodedTexts, Matcher
from vmr.retrieval.reranking.plan import Lengths, batches


class TextStore:
    """The tokens of texts as float32, in a temporary file without a name that vanishes with the process.

    The file is read, not mapped: pages of a mapped file count as memory of the process.

    Args:
        matcher: encodes the texts.
        texts: Q strings.
        lengths: int64 (Q,), tokens of each text, as returned by `Matcher.text_lengths`.
        tokens_at_once: how many tokens are encoded at a time, with padding.
        folder: where the file lies; None for the system's folder of temporary files.

    Raises:
        VmrError: the disk is full, or the folder cannot be written to.
    """

    def __init__(
        self, matcher: Matcher, texts: Sequence[str], lengths: Lengths, tokens_at_once: int, folder: Path | None
    ) -> None:
        self._lengths, self._width = lengths, matcher.matching_sizes.text_width
        self._offsets = np.zeros(len(texts), np.int64)  # in bytes
        place = folder or Path(tempfile.gettempdir())
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  # closed by `close`
            for batch in batches(lengths, tokens_at_once):
                read = matcher.read_texts([texts[index] for index in batch])
                for index, tokens in zip(batch, read.tokens.float().cpu().numpy(), strict=True):
                    self._offsets[index] = self._file.tell()
                    self._file.write(np.ascontiguousarray(tokens[: lengths[index]]).data)
            self._file.flush()
        except OSError as error:
            raise VmrError(f"{place}: cannot take the features of {len(texts)} texts: {error.strerror}") from error

    def batch(self, texts: NDArray[np.int64]) -> EncodedTexts:
        """Return the texts of these numbers, (B,), padded to the longest of them."""
        lengths = self._lengths[texts]
        tokens = np.zeros((len(texts), int(lengths.max()), self._width), np.float32)
        for row, text, length in zip(tokens, texts, lengths, strict=True):
            self._file.seek(int(self._offsets[text]))
            self._file.readinto(row[:length].data)
        mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int64)
        return EncodedTexts(torch.from_numpy(tokens), torch.from_numpy(mask))

    def close(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # all that was needed of it has been read
            self._file.close()
