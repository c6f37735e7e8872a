"""From texts to vectors.

Imports the feature cache, and with it the readers of videos, only if it is used: a search does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vmr.models.encoder import Encoder, TextLimited, TextVectors, check_encoder, check_texts

if TYPE_CHECKING:
    from vmr.retrieval.feature_cache import FeatureCache

TEXTS_AT_ONCE = 1024  # at most this many texts per call; an encoder makes smaller batches itself


def embed_texts(texts: Sequence[str], encoder: Encoder, *, cache: FeatureCache | None = None) -> NDArray[np.float32]:
    """Embed texts; equal texts have equal vectors, to the last bit.

    Args:
        texts: N strings.
        encoder: the model.
        cache: if it holds the vectors of the same list, they are taken from it, else they are put into it.

    Returns:
        float32 unit vectors, (N, D).

    Raises:
        ModelError: `texts` is no list of texts, or `encoder` is no encoder.
    """
    check_texts(texts)
    check_encoder(encoder)
    limit = getattr(encoder, "max_text_tokens", None)
    if isinstance(encoder, TextLimited) and limit is None:
        cache = None  # its vectors depend on settings that this function cannot see
    if cache is not None:
        from vmr.retrieval.feature_cache import texts_key

        key = texts_key(texts, limit, encoder.fingerprint)
        kept = cache.texts(key)
        if kept is not None:
            return kept
    row_of_text = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    distinct = list(row_of_text)
    batches = [distinct[start : start + TEXTS_AT_ONCE] for start in range(0, len(distinct), TEXTS_AT_ONCE)] or [[]]
    each = np.concatenate([_vectors(batch, encoder) for batch in batches])
    vectors: NDArray[np.float32] = each[[row_of_text[text] for text in texts]]
    if cache is not None:
        cache.put_texts(key, vectors)
    return vectors


def _vectors(texts: Sequence[str], encoder: Encoder) -> NDArray[np.float32]:
    if isinstance(encoder, TextVectors):
        return encoder.text_vectors(texts)
    vectors: NDArray[np.float32] = encoder.encode_text(texts).float().cpu().numpy()
    return vectors
