"""The tokens that an index keeps: what was put is read to the bit, and damage counts as absent."""

import hashlib
import json
import os
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vmr.errors import VmrError
from vmr.retrieval.embedding.token_files import TOKENS, TokenFolder, TokenSpool, bytes_of_window, file_name

SPANS = [(0.0, 8.0), (4.0, 12.0), (8.0, 13.5)]
NAME = file_name(b"\1" * 32, "f" * 16, {"num_frames": 2})


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


@pytest.fixture
def kept(tmp_path: Path, values: np.ndarray) -> TokenFolder:
    with closing(TokenSpool(tmp_path)) as spool:
        spool.append(values[:2])
        spool.append(values[2:])
        folder = TokenFolder(tmp_path)
        folder.put(NAME, SPANS, spool)
    return folder


def test_a_spool_gives_what_it_was_given_and_leaves_nothing(tmp_path, values):
    with closing(TokenSpool(tmp_path)) as spool:
        spool.append(values[:1])
        spool.append(values[1:])
        assert (len(spool), spool.shape) == (3, (5, 4))
        for window in (2, 0, 1):
            assert np.array_equal(spool.read(window), values[window])
        with pytest.raises(VmrError, match="lost tokens of window 3"):
            spool.read(3)
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_is_read_to_the_bit(kept, values):
    for window, span in enumerate(SPANS):
        found, tokens = kept.read(NAME, window)
        assert found == span and tokens.dtype == np.float32 and np.array_equal(tokens, values[window])
        assert tokens.flags.writeable
    assert kept.read(NAME, 3) is None and kept.read(NAME, -1) is None
    assert kept.read(NAME.replace(NAME[0], "f" if NAME[0] != "f" else "0"), 0) is None
    assert kept.is_sound(NAME, 3) and not kept.is_sound(NAME, 2)
    assert kept.names() == {NAME}
    assert kept.num_bytes() == 16 + 3 * bytes_of_window(5, 4) == (kept.folder / NAME).stat().st_size


def test_the_format_is_as_it_is_written_down(kept, values):
    """A reader that knows nothing of vmr."""
    data = (kept.folder / NAME).read_bytes()
    magic, version, n, c = struct.unpack_from("<4sIII", data)
    assert (magic, version, n, c) == (b"vmrT", 1, 5, 4)
    size = 32 + 4 * n * c
    for window, span in enumerate(SPANS):
        record = data[16 + window * size : 16 + (window + 1) * size]
        assert struct.unpack_from("<dd", record) == span
        digest = hashlib.blake2b(data[:16] + record[:16] + record[32:], digest_size=16).digest()
        assert record[16:32] == digest
        assert record[32:] == values[window].tobytes()


def test_no_flipped_bit_is_read(kept, values):
    """Whatever byte is damaged: a window reads as it was written, or as absent."""
    path = kept.folder / NAME
    sound = path.read_bytes()
    lost = 0
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        found = [kept.read(NAME, window) for window in range(3)]
        assert None in found and not kept.is_sound(NAME, 3)
        lost += found.count(None)
        for window, one in enumerate(found):
            assert one is None or (one[0] == SPANS[window] and np.array_equal(one[1], values[window]))
    assert lost == 3 * 16 + (len(sound) - 16)  # damage of the beginning costs all windows, other damage one


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100, 300])
def test_a_file_that_is_cut_short_counts_as_absent(kept, size):
    os.truncate(kept.folder / NAME, size)
    assert [kept.read(NAME, window) for window in range(3)] == [None] * 3


def test_what_no_video_needs_is_removed_and_nothing_else(kept):
    other, left = "0" * 32 + ".tokens", f".{NAME}.12ab34cd.tmp"
    for name in (other, left):
        (kept.folder / name).write_bytes(b"")
    assert not kept.holds_others()
    (kept.folder / "mine.txt").write_text("mine")
    assert kept.holds_others()
    kept.remove_all_but([NAME])
    assert {path.name for path in kept.folder.iterdir()} == {NAME, "mine.txt"}


def test_without_a_folder_there_is_nothing(tmp_path):
    folder = TokenFolder(tmp_path)
    assert folder.names() == set() and folder.num_bytes() == 0 and folder.read(NAME, 0) is None
    folder.remove_all_but([])
    assert not (tmp_path / TOKENS).exists()


def test_the_name_depends_on_content_encoder_and_frames():
    written_down = json.dumps(["01" * 32, "f" * 16, {"num_frames": 2}], sort_keys=True).encode()
    assert f"{hashlib.sha256(written_down).hexdigest()[:32]}.tokens" == NAME
    names = {
        file_name(content, fingerprint, frames)
        for content in (b"\1" * 32, b"\2" * 32)
        for fingerprint in ("a", "b")
        for frames in ({"num_frames": 2, "reader": "pyav"}, {"num_frames": 4, "reader": "pyav"})
    }
    assert len(names) == 8
    assert file_name(b"\1", "a", {"x": 1, "y": 2}) == file_name(b"\1", "a", {"y": 2, "x": 1})
