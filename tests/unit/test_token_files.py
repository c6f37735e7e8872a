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


@pytest.fixture
def still_values() -> list[np.ndarray]:
    """3 windows of 3 steps of 2 places; in the first and the last nothing changes."""
    values = np.random.default_rng(1).normal(size=(3, 6, 4)).astype(np.float32)
    values[0, 2:] = np.tile(values[0, :2], (2, 1))
    values[2, 2:] = np.tile(values[2, :2], (2, 1))
    return list(values)


@pytest.fixture
def still(tmp_path: Path, still_values: list[np.ndarray]) -> TokenFolder:
    folder = TokenFolder(tmp_path / "still")
    folder.folder.mkdir(parents=True)
    with closing(TokenSpool(tmp_path / "still")) as spool:
        spool.append(np.stack([still_values[2], still_values[0], still_values[1]]))
        spool.reorder([1, 2, 0])
        assert all(np.array_equal(spool.read(window), one) for window, one in enumerate(still_values))
        folder.put(NAME, SPANS, spool)
    return folder


def test_a_spool_gives_what_it_was_given_and_leaves_nothing(tmp_path, values, monkeypatch):
    with closing(TokenSpool(tmp_path)) as spool:
        spool.append(values[:1])
        spool.append(values[1:])
        assert (len(spool), spool.shape) == (3, (5, 4))
        for window in (2, 0, 1):
            assert np.array_equal(spool.read(window), values[window])
        monkeypatch.setattr(os, "pread", lambda *_: b"")
        with pytest.raises(VmrError, match="lost tokens of window 2"):
            spool.read(2)
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
    assert kept.num_bytes() == 36 + 3 * bytes_of_window(5, 4) == (kept.folder / NAME).stat().st_size


def digest_of(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def test_the_format_is_as_it_is_written_down(still, still_values):
    """A reader that knows nothing of vmr. Window 1 has no repetition; the others have 2 tokens, each 3 times."""
    data = (still.folder / NAME).read_bytes()
    magic, version, n, c, num_windows, *sizes = struct.unpack_from("<4sIII4I", data)
    assert (magic, version, n, c, num_windows) == (b"vmrT", 2, 6, 4, 3)
    assert sizes == [6 * 4 + 2 * 16, 6 * 16, 6 * 4 + 2 * 16]  # numbers and 2 tokens; 6 tokens
    assert data[32:48] == digest_of(data[:32])
    start = 48
    for window, (span, size) in enumerate(zip(SPANS, sizes, strict=True)):
        record, start = data[start : start + 32 + size], start + 32 + size
        assert struct.unpack_from("<dd", record) == span
        assert record[16:32] == digest_of(data[:16], record[:16], record[32:])
        tokens = record[32:]
        if size < 4 * n * c:
            rows = tokens[4 * n :]
            tokens = b"".join(rows[4 * c * i : 4 * c * (i + 1)] for i in struct.unpack_from(f"<{n}I", tokens))
        assert tokens == still_values[window].tobytes()
    assert start == len(data) == 352 == still.num_bytes()  # 48 + 3 * 32 + 56 + 96 + 56; at most 36 + 3 * 132
    assert still.is_sound(NAME, 3) and bytes_of_window(6, 4) == 132


def test_a_file_of_version_1_is_read(kept, values):
    header = struct.pack("<4sIII", b"vmrT", 1, 5, 4)
    data = header
    for span, tokens in zip(SPANS, values, strict=True):
        times = struct.pack("<dd", *span)
        data += times + digest_of(header, times, tokens.tobytes()) + tokens.tobytes()
    (kept.folder / NAME).write_bytes(data)
    assert kept.is_sound(NAME, 3) and kept.holds(NAME, 3) and not kept.holds(NAME, 2)
    for window, span in enumerate(SPANS):
        found, tokens = kept.read(NAME, window)
        assert found == span and np.array_equal(tokens, values[window]) and tokens.flags.writeable
    assert flip_each(kept, list(values), 4) == 3 * 16 + (len(data) - 16)
    assert flip_each(kept, list(values), 3) == 3 * 16 + (len(data) - 16)


def flip_each(folder: TokenFolder, values: list[np.ndarray], bits: int) -> int:
    """Damage each byte in turn; return how many windows are lost in all. A window is as it was written, or absent."""
    path = folder.folder / NAME
    sound = path.read_bytes()
    lost = 0
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ bits]) + sound[place + 1 :])
        found = [folder.read(NAME, window) for window in range(3)]
        assert None in found and not folder.is_sound(NAME, 3)
        lost += found.count(None)
        for window, one in enumerate(found):
            assert one is None or (one[0] == SPANS[window] and np.array_equal(one[1], values[window]))
    path.write_bytes(sound)
    return lost


@pytest.mark.parametrize("bits", [3, 4])  # 3 turns version 2 into 1
def test_no_flipped_bit_is_read(still, still_values, bits):
    """Damage of the beginning costs all windows, other damage one."""
    assert flip_each(still, still_values, bits) == 3 * 48 + (still.num_bytes() - 48)


def test_what_no_vmr_has_written_is_not_read(kept):
    """Digests are right, but there are no tokens of the numbers, or they are cut off."""
    header, times = struct.pack("<4sIII", b"vmrT", 2, 5, 4), struct.pack("<dd", *SPANS[0])
    for tokens in (struct.pack("<5I4f", 0, 0, 0, 1, 0, *range(4)), struct.pack("<5I", *[0] * 5), bytes(23), b""):
        table = struct.pack("<II", 1, len(tokens))
        record = times + digest_of(header, times, tokens) + tokens
        (kept.folder / NAME).write_bytes(header + table + digest_of(header, table) + record)
        assert kept.holds(NAME, 1) and kept.read(NAME, 0) is None and not kept.is_sound(NAME, 1)


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
