"""A vector that is searched by, as a part of an address: so a search by a picture can be shared without the picture."""

import base64
import binascii
import hashlib

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.retrieval.storage.records import Space

_MARK_BYTES = 4


def vector_to_text(vector: NDArray[np.float32], space: Space) -> str:
    """Write a vector for an address.

    Args:
        vector: (D,), of unit length.
        space: the space that it belongs to.
    """
    content = _mark(space) + np.asarray(vector, "<f2").tobytes()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def vector_of_text(text: str, space: Space) -> NDArray[np.float32]:
    """Read a vector of an address.

    Args:
        text: what `vector_to_text` wrote, or anything else.
        space: the space that is searched.

    Returns:
        float32 (D,).

    Raises:
        VmrError: it is no vector of this space.
    """
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    mark, numbers = content[:_MARK_BYTES], content[_MARK_BYTES:]
    if mark != _mark(space) or len(numbers) != 2 * space.dim:
        raise VmrError("by: this address is of a search by a file with another model: choose the file again")
    vector = np.frombuffer(numbers, "<f2").astype(np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise VmrError("by: this address is damaged: choose the file again")
    return vector


def _mark(space: Space) -> bytes:
    """What tells the vectors of one model from those of others."""
    return hashlib.blake2b(space.fingerprint.encode(), digest_size=_MARK_BYTES).digest()
