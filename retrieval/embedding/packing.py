"""Tokens on disk, without those that repeat: a model that leaves out patches gives many tokens several times.

Shapes: N tokens of a window, K different ones, C their width.
"""

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.float32]


def distinct(tokens: Tokens) -> tuple[NDArray[np.uint32], Tokens]:
    """Find the tokens that differ, bit by bit.

    Args:
        tokens: little-endian float32 (N, C).

    Returns:
        The number of each token among the different ones, uint32 (N,), and those in the order in which they first
        come, (K, C): the second indexed by the first gives the tokens.
    """
    known: dict[bytes, int] = {}
    numbers = np.array([known.setdefault(token.tobytes(), len(known)) for token in tokens], "<u4")
    return numbers, tokens[np.unique(numbers, return_index=True)[1]]


def pack(tokens: Tokens) -> bytes:
    """Write the tokens of a window: what `distinct` finds if that is shorter, and else as they are.

    Args:
        tokens: float32 (N, C).

    Returns:
        At most 4 * N * C bytes, little-endian.
    """
    tokens = np.ascontiguousarray(tokens, "<f4")
    numbers, rows = distinct(tokens)
    return numbers.tobytes() + rows.tobytes() if numbers.nbytes + rows.nbytes < tokens.nbytes else tokens.tobytes()


def unpack(data: bytes | memoryview, shape: tuple[int, int]) -> Tokens:
    """Read what `pack` wrote.

    Args:
        data: its bytes.
        shape: N and C.

    Returns:
        The tokens, (N, C), which may be written to.

    Raises:
        ValueError: no tokens of this shape are written so.
    """
    num_tokens, width = shape
    if len(data) == 4 * num_tokens * width:
        return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    numbers = np.frombuffer(data, "<u4", num_tokens)
    rows = np.frombuffer(data, "<f4", offset=numbers.nbytes).reshape(-1, width)
    if numbers.max() >= len(rows):
        raise ValueError(f"there are {len(rows)} different tokens, and no number {numbers.max()}")
    tokens: Tokens = rows[numbers].astype(np.float32, copy=False)
    return tokens
