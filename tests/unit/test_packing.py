"""Tokens on disk without those that repeat: the same bits come back, in no more room."""

import numpy as np
import pytest

from vmr.retrieval.embedding.packing import distinct, pack, unpack


def test_each_token_has_the_number_of_the_first_like_it():
    tokens = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]], np.float32)
    numbers, rows = distinct(tokens)
    assert numbers.tolist() == [0, 1, 0, 2, 1] and numbers.dtype == np.uint32
    assert rows.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(("num_distinct", "size"), [(1, 4 * (8 + 4)), (5, 4 * (8 + 20)), (6, 128), (7, 128), (8, 128)])
def test_the_shorter_form_is_written(num_distinct, size):
    """8 tokens of 4 numbers are 128 bytes, as are 8 numbers of tokens and 6 tokens."""
    tokens = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    tokens[num_distinct:] = tokens[0]
    data = pack(tokens)
    assert len(data) == size
    found = unpack(data, (8, 4))
    assert np.array_equal(found, tokens) and found.dtype == np.float32 and found.flags.writeable


def test_bits_come_back():
    """Zeros of both signs are equal numbers, and NaN is not equal to itself."""
    tokens = np.array([[0.0], [-0.0], [np.nan], [np.inf]] * 4, np.float32).repeat(8, 1)
    data = pack(tokens)
    assert len(data) == 4 * (16 + 4 * 8)
    assert unpack(data, (16, 8)).tobytes() == tokens.tobytes()


def test_an_array_that_lies_otherwise_in_memory():
    tokens = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for other in (np.asfortranarray(tokens), tokens.astype(">f4")):
        assert pack(other) == tokens.tobytes()


def test_what_does_not_fit_is_refused():
    for data in (b"", bytes(12), bytes(16), bytes(17), b"\1" * 24):
        with pytest.raises(ValueError):
            unpack(data, (4, 2))
