"""The database of an index: rows by hand, digests, commits, readers beside a writer, and what `verify` finds."""

import contextlib
import hashlib
import os
import sqlite3
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmr.data.remark import Remark
from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.storage.digests import _OF_A_VIDEO, digest
from vmr.retrieval.storage.paths import path_to_text, text_to_path
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import (
    LARGEST_NS,
    FailedFile,
    FileState,
    Generation,
    IndexSettings,
    NewVideo,
    Removed,
    Space,
    Text,
    Window,
)
from vmr.retrieval.storage.rows import decode_block, encode_block
from vmr.retrieval.storage.seal import read_seal, sealed
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import IndexWriter

STATE = FileState(size=10, mtime_ns=1_000_000_000, inode=7, seen_ns=5_000_000_000)
SPACE = Space(0, "two", "two", "f" * 16, 2, "float16", {"num_frames": 1, "reader": "pyav"})
SETTINGS = IndexSettings(8.0, 4.0)


def new_video(path, *vectors, space_id=1, root="/videos", content=b"", remarks=()):
    """A video with a window of 8 s every 4 s for each vector."""
    spans = tuple((4.0 * number, 4.0 * number + 8.0) for number in range(len(vectors)))
    content_hash = hashlib.sha256(content or path.encode("utf-8", "surrogateescape")).digest()
    array = np.array(vectors, np.float32)
    return NewVideo(root, path, content_hash, STATE, spans[-1][1], remarks, spans, {space_id: array})


@pytest.fixture
def folder(tmp_path):
    """An index of two videos, a.mp4 (2 windows) and b/c.mp4 (1 window), with a failure and texts."""
    with IndexWriter(tmp_path / "index", SETTINGS) as writer:
        with writer.commit() as changes:
            assert changes.add_space(SPACE) == 1
            changes.put_video(new_video("b/c.mp4", (0, 1)))
        with writer.commit() as changes:
            a = changes.put_video(new_video("a.mp4", (1, 0), (0.6, 0.8), remarks=(Remark("damage", "cut"),)))
            changes.set_texts(a, [Text(None, None, "title", "A dog runs"), Text(1.0, 2.5, "subtitle", "Run, dog!")])
            changes.put_failure(FailedFile("/videos", "d.mp4", STATE, "is empty"))
            changes.put_failure(FailedFile("/videos", "locked", None, "cannot list this folder"))
            changes.set_other_files("/videos", {".txt": 2})
    return tmp_path / "index"


def read(folder):
    """Everything that an index holds, as values."""
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        spaces = snapshot.spaces()
        return {
            "videos": list(snapshot.videos()),
            "windows": list(snapshot.windows()),
            "vectors": {
                block.first_window: block.vectors.tolist() for each in spaces for block in snapshot.blocks(each.id)
            },
            "spaces": spaces,
            "failures": snapshot.failures(),
            "texts": {video.path: snapshot.texts(video.id) for video in snapshot.videos()},
            "commit": snapshot.meta("commit"),
        }


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_by_hand(folder):
    content = read(folder)
    a, c = content["videos"]
    assert (a.id, a.path, a.root, a.file, a.first_window, a.num_windows) == (
        2,
        "a.mp4",
        "/videos",
        "/videos/a.mp4",
        2,
        2,
    )
    assert (c.id, c.path, c.first_window, c.num_windows, c.metadata) == (1, "b/c.mp4", 1, 1, {})
    assert (a.remarks, a.state, a.duration_s) == ((Remark("damage", "cut"),), STATE, 12.0)
    assert a.content_hash == hashlib.sha256(b"a.mp4").digest()
    # The order is that of the paths, although b/c.mp4 was written first.
    assert content["windows"] == [
        Window(2, "/videos/a.mp4", 0.0, 8.0),
        Window(3, "/videos/a.mp4", 4.0, 12.0),
        Window(1, "/videos/b/c.mp4", 0.0, 8.0),
    ]
    assert content["vectors"][2] == [[1.0, 0.0], [pytest.approx(0.6, abs=2e-4), pytest.approx(0.8, abs=2e-4)]]
    assert content["failures"] == [
        FailedFile("/videos", "d.mp4", STATE, "is empty"),
        FailedFile("/videos", "locked", None, "cannot list this folder"),
    ]
    # the commit that made the tables, and the two of the fixture
    assert content["commit"] == 3 == read_seal(folder)
    assert verify(folder) == []


def test_counts(folder):
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert (snapshot.num_videos(), snapshot.num_windows(), snapshot.num_windows(1), snapshot.num_windows(2)) == (
            (2, 3, 3, 0)
        )
        assert (snapshot.num_damaged(), snapshot.num_failures(), snapshot.other_files()) == (1, 2, {".txt": 2})
        assert snapshot.settings == SETTINGS and snapshot.roots() == {1: "/videos"}
        assert snapshot.video(2) == snapshot.video_at("/videos/a.mp4")
        assert snapshot.video(9) is snapshot.video_at("/videos/x.mp4") is snapshot.video_at("/a.mp4") is None
        assert set(snapshot.hits([1, 3, 8])) == {1, 3}
        assert [window.id for window in snapshot.windows(video_ids=[2])] == [2, 3]
        assert snapshot.video_ranges(1).tolist() == [[1, 1], [2, 2]]
        assert [block.first_window for block in snapshot.blocks_of(1, [3, 5, 1, 2])] == [1, 2]
        both = np.concatenate([block.vectors for block in snapshot.blocks(1)])  # of windows 1, 2 and 3
        vectors, is_there = snapshot.vectors(1, np.array([3, 9, 1, 3, -1]))
        assert is_there.tolist() == [True, False, True, True, False]
        assert np.array_equal(vectors[is_there], both[[2, 0, 2]])
        assert [block.id for block in snapshot.blocks(1, after_block=1)] == [2]


def test_a_video_is_replaced_and_keeps_its_metadata(folder):
    with IndexWriter(folder) as writer:
        with writer.commit() as changes:
            changes.set_metadata(2, {"camera": 3})
        with writer.commit() as changes:
            assert changes.put_video(new_video("a.mp4", (0, 1))) == 3
    a, _ = read(folder)["videos"]
    assert (a.id, a.first_window, a.num_windows, a.metadata) == (3, 4, 1, {"camera": 3})
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert (
            snapshot.removed() == [Removed(1, 2, 2)]
            and snapshot.texts(3) == []
            and snapshot.find_texts(["dog"], 5) == []
        )
    assert verify(folder) == []


def test_a_video_that_is_read_at_last_is_no_failure_any_more(folder):
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.put_video(new_video("d.mp4", (1, 0)))
        changes.remove_failure("/videos", "unknown.mp4")
    assert [failure.path for failure in read(folder)["failures"]] == ["locked"]
    assert verify(folder) == []


def test_videos_move_with_their_rows(folder):
    before = read(folder)
    state = replace(STATE, inode=8)
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.move_video(2, "/others", "sub/z.mp4", state)
        changes.move_root("/videos", "/moved")
    after = read(folder)
    c, a = after["videos"]
    assert (a.file, a.state, c.file) == ("/others/sub/z.mp4", state, "/moved/b/c.mp4")
    assert after["vectors"] == before["vectors"] and after["texts"]["sub/z.mp4"] == before["texts"]["a.mp4"]
    assert [failure.file for failure in after["failures"]] == ["/moved/d.mp4", "/moved/locked"]
    assert verify(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda changes: changes.move_root("/nowhere", "/x"), "/nowhere is no folder of this index, which has /videos"),
        (lambda changes: changes.move_root("/videos", "/videos"), "/videos is a folder of this index already"),
        (lambda changes: changes.remove_video(77), "the index has no video with number 77"),
        (lambda changes: changes.put_video(new_video("x.mp4", (1, 0, 0))), "vectors of shape (1, 3), but"),
        (lambda changes: changes.put_video(new_video("x.mp4", (1e6, 0))), "do not fit into float16"),
        (lambda changes: changes.put_video(new_video("x.mp4", (np.nan, 0))), "do not fit into float16"),
        (lambda changes: changes.set_metadata(2, {"x": float("nan")}), "cannot be kept as JSON"),
        (lambda changes: changes.set_metadata(2, {"x": b""}), "cannot be kept as JSON"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_made_undoes_its_commit(folder, change, message):
    before = read(folder)
    with IndexWriter(folder) as writer:
        with pytest.raises(VmrError) as caught, writer.commit() as changes:
            changes.remove_video(1)
            change(changes)
        assert message in str(caught.value)
        with writer.commit() as changes:  # the writer goes on
            changes.set_other_files("/videos", {})
    assert read(folder) == {**before, "commit": 4}
    assert verify(folder) == []


def test_another_space_for_the_same_windows(folder):
    with IndexWriter(folder) as writer, writer.commit() as changes:
        other = changes.add_space(replace(SPACE, name="three", dim=3, dtype="float32"))
        changes.add_vectors(2, other, np.arange(6, dtype=np.float32).reshape(2, 3) / 7)
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        (block,) = snapshot.blocks(other)
        assert (block.first_window, block.vectors.tolist()) == (
            2,
            (np.arange(6, dtype=np.float32).reshape(2, 3) / 7).tolist(),
        )
        assert [window.id for window in snapshot.windows(space_id=other)] == [2, 3]
        assert (snapshot.num_windows(other), snapshot.num_windows(1)) == (2, 3)
    assert verify(folder) == []
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.remove_video(2)
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert list(snapshot.blocks(other)) == []
    assert verify(folder) == []


def test_an_index_starts_anew(folder):
    with IndexWriter(folder) as writer:
        with writer.reader.snapshot() as snapshot:
            seen = snapshot.meta("next_removed")
        with writer.commit() as changes:
            changes.clear(IndexSettings(None, None))
            changes.add_space(replace(SPACE, name="new"))
            changes.put_video(new_video("n.mp4", (1, 0), root="/new"))
        with writer.reader.snapshot() as snapshot:
            assert snapshot.settings == IndexSettings(None, None) and list(snapshot.roots().values()) == ["/new"]
            assert [video.file for video in snapshot.videos()] == ["/new/n.mp4"] and snapshot.failures() == []
            assert snapshot.removed() == [] and snapshot.meta("removed_from") > seen  # readers load everything again
    assert verify(folder) == []


def test_removals_that_nobody_needs_are_forgotten(folder):
    """Without a FAISS file only open readers need them; the last thousand are kept."""
    with IndexWriter(folder) as writer:
        for round_ in range(3):
            with writer.commit() as changes:
                for number in range(1000):
                    changes.remove_video(changes.put_video(new_video(f"x{round_}-{number}.mp4", (1, 0))))
        with writer.reader.snapshot() as snapshot:
            assert len(snapshot.removed()) == 1000 and snapshot.meta("removed_from") == 2001
    assert verify(folder) == []


def test_files_of_faiss_are_noted(folder):
    one = Generation(0, 1, "gen-1.faiss", 3, hashlib.sha256(b"abc").digest(), "Flat", 2, 0, 3, 3)
    with IndexWriter(folder) as writer:
        for number in (1, 2):
            with writer.commit() as changes:
                assert changes.put_generation(replace(one, upto_removed=number - 1)) == number
            with writer.commit() as changes:
                changes.remove_video(number)
        with writer.reader.snapshot() as snapshot:
            assert [each.id for each in snapshot.generations(1)] == [2] and snapshot.generations(5) == []
            # the second file lacks the first removal already
            assert [line.seq for line in snapshot.removed()] == [2] and snapshot.meta("removed_from") == 2
    (folder / "gen-1.faiss").write_bytes(b"abc")
    assert verify(folder) == []
    (folder / "gen-1.faiss").write_bytes(b"abd")
    (fault,) = verify(folder)
    assert (fault.where, fault.is_derived) == ("gen-1.faiss", True)
    (folder / "gen-1.faiss").unlink()
    assert [fault.is_derived for fault in verify(folder)] == [True]


def test_texts_are_found(folder):
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        first, second = snapshot.find_texts(["dog"], 5)
        assert (first.video_id, first.score) >= (second.video_id, second.score) and first.video_id == 2
        assert {first.text.text, second.text.text} == {"A dog runs", "Run, dog!"}
        assert [found.text.kind for found in snapshot.find_texts(["runs", "dog"], 5)] == ["title"]
        assert snapshot.find_texts(["runs", "cat"], 5) == [] == snapshot.find_texts(["-"], 5)
        assert snapshot.find_texts(["dog"], 5, Where.parse('path = "b/c.mp4"')) == []
        assert snapshot.find_texts(["dog"], 5, Where.parse('path = "a.mp4"')) == [first, second]
        assert len(snapshot.find_texts(["dog"], 1)) == 1 and snapshot.find_texts(['"; DROP TABLE texts'], 5) == []


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_digest_by_hand():
    """N; I and 8 bytes; F and 8 bytes; T, the length and UTF-8; B, the length and bytes."""
    data = b"N" + b"I" + struct.pack("<q", -2) + b"F" + struct.pack("<d", 0.5)
    data += b"T" + struct.pack("<Q", 2) + "é".encode() + b"B" + struct.pack("<Q", 1) + b"\xff"
    assert digest([None, -2, 0.5, "é", b"\xff"]) == hashlib.blake2b(data, digest_size=16).digest()
    assert len({digest(values) for values in (["ab", "c"], ["a", "bc"], [b"ab", "c"], [1], [1.0], [None], [])}) == 7


def test_the_seal_by_hand(folder):
    assert sealed(258) == b"\x02\x01\0\0\0\0\0\0" + zlib.crc32(b"\x02\x01\0\0\0\0\0\0").to_bytes(4, "little")
    assert (folder / "seal").read_bytes() == sealed(3)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a/b c.mp4", "a/b c.mp4"),
        ("vidéo \U0001f600.mp4", "vidéo \U0001f600.mp4"),
        (os.fsdecode(b"bad\xff\xfe.mp4"), "bad//ff//fe.mp4"),
        (os.fsdecode(b"/\xc3/x"), "///c3/x"),
        ("//".join("ab").replace("//", "/"), "a/b"),
        ("back\\slash\nline", "back\\slash\nline"),
    ],
)
def test_paths_as_texts(path, text):
    assert path_to_text(path) == text and text_to_path(text) == path


@given(
    st.lists(
        st.binary(min_size=1, max_size=8).map(lambda part: part.replace(b"/", b".").replace(b"\0", b".")), min_size=1
    )
)
def test_every_path_survives(parts):
    path = os.fsdecode(b"/".join(parts))
    text = path_to_text(path)
    assert text.encode("utf-8") and text_to_path(text) == path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_blocks(dtype):
    vectors = np.array([[0.1, -2.5], [3.0, 0.0], [1e-8, 65504]], np.float32)
    data, crc = encode_block(vectors, dtype)
    assert len(data) == vectors.size * (2 if dtype == "float16" else 4) and crc == zlib.crc32(data)
    found = decode_block(data, 2, dtype, 3, crc)
    assert found.dtype == np.float32 and np.array_equal(found, vectors.astype(dtype).astype(np.float32))
    for wrong in ((data[:-1], 2, 3, crc), (data, 2, 2, crc), (data, 3, 3, crc), (data, 2, 3, crc ^ 1)):
        with pytest.raises(IndexFileError, match="damaged"):
            decode_block(wrong[0], wrong[1], dtype, wrong[2], wrong[3])


def test_a_time_that_no_index_can_keep(tmp_path):
    """A file may say that it changed in the year 2300: the database keeps the latest time that it can."""
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1234")
    os.utime(file, ns=(0, 10_413_792_000 * 10**9))
    if file.stat().st_mtime_ns <= LARGEST_NS:
        pytest.skip("this file system keeps no such time")
    state = FileState.of(file)
    assert state.mtime_ns == LARGEST_NS and state.is_same(FileState.of(file)) and not state.is_settled
    with IndexWriter(tmp_path / "index", SETTINGS) as writer, writer.commit() as changes:
        changes.put_failure(FailedFile(str(tmp_path), "a.mp4", state, "no video"))
        (kept,) = changes.snapshot.failures()
    assert kept.state == state


def test_whether_a_file_is_settled(tmp_path):
    """A file may change twice within the resolution of its time, so what has just changed is not trusted."""
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1234")
    state = FileState.of(file)
    assert state is not None and state.size == 4 and not state.is_settled
    os.utime(file, ns=(0, state.mtime_ns - 3_000_000_000))
    settled = FileState.of(file)
    assert settled is not None and settled.is_settled and not settled.is_same(state)
    assert settled.is_same(replace(settled, seen_ns=0))
    assert FileState.of(tmp_path) is FileState.of(tmp_path / "none") is FileState.of("a\0b") is None


# --- writers and readers ----------------------------------------------------------------------------------------------


def test_a_reader_sees_one_moment_and_then_the_next(folder):
    with IndexReader(folder) as reader, IndexWriter(folder) as writer:
        with reader.snapshot() as snapshot:
            version = snapshot.version
            with writer.commit() as changes:
                changes.remove_video(1)
            assert snapshot.num_videos() == 2
            with reader.snapshot() as same:
                assert (same.version, same.num_videos()) == (version, 2)
        with reader.snapshot() as snapshot:
            assert snapshot.version != version and snapshot.num_videos() == 1
            version = snapshot.version
        with reader.snapshot() as snapshot:
            assert snapshot.version == version


def test_one_writer_at_a_time(folder):
    message = f"{folder} is being written by another process: wait for it"
    with IndexWriter(folder), pytest.raises(IndexFileError, match=message), IndexWriter(folder):
        pass
    with IndexWriter(folder):
        pass


def test_an_index_appears_with_its_first_content_or_not_at_all(tmp_path):
    folder = tmp_path / "index"

    def fill(changes):
        changes.add_space(SPACE)
        changes.put_video(new_video("a.mp4", (1, 0)))
        raise VmrError("no")

    with pytest.raises(VmrError, match="no"), IndexWriter(folder, SETTINGS, fill):
        pass
    with pytest.raises(IndexFileError, match="is not a finished index"):
        IndexReader(folder)
    with pytest.raises(IndexFileError, match="is not a finished index"), IndexWriter(folder):
        pass
    with IndexWriter(folder, SETTINGS):
        pass
    assert read(folder)["videos"] == [] and verify(folder) == []


def test_what_is_no_index(tmp_path, folder):
    with pytest.raises(IndexFileError, match="no such index"), IndexWriter(tmp_path / "nowhere"):
        pass
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(IndexFileError, match="no such index"):
        verify(tmp_path)
    with sqlite3.connect(folder / "index.db") as database:
        database.execute("PRAGMA application_id = 5")
    for open_it in (IndexReader, lambda folder: IndexWriter(folder).__enter__()):
        with pytest.raises(IndexFileError, match="is a database of another program"):
            open_it(folder)
    with sqlite3.connect(folder / "index.db") as database:
        database.execute(f"PRAGMA application_id = {0x766D7231}")
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(IndexFileError, match="of version 9, but this vmr reads version 2: install a newer vmr"):
        IndexReader(folder)


def test_a_folder_that_may_not_be_written_is_read(folder):
    """SQLite cannot make its own files there."""
    script = f"""
import os
from pathlib import Path
from vmr.retrieval.storage.reader import IndexReader
if os.getuid() == 0:  # who may write everywhere
    os.setuid(65534)
with IndexReader(Path({str(folder)!r})) as reader, reader.snapshot() as snapshot:
    print(snapshot.num_videos(), [block.id for block in snapshot.blocks(1)])
"""
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o555)
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o755)
    assert done.stdout == "2 [1, 2]\n", done.stderr


def test_commits_that_are_gone_are_noticed(folder):
    with IndexWriter(folder) as writer:
        before = (folder / "index.db").read_bytes()
        with writer.commit() as changes:
            changes.remove_video(1)
        assert (folder / "index.db-wal").stat().st_size > 0
        copy = folder.with_name("copy")
        copy.mkdir()
        (copy / "index.db").write_bytes(before)  # without the log
        (copy / "seal").write_bytes((folder / "seal").read_bytes())
    message = "commits 4 to 4 are gone"
    with pytest.raises(IndexFileError, match=message):
        IndexReader(copy)
    with pytest.raises(IndexFileError, match=message), IndexWriter(copy):
        pass
    assert any(message in fault.what for fault in verify(copy))
    (copy / "seal").write_bytes(b"\0" * 12)  # as after a power cut: nothing is known
    assert len(read(copy)["videos"]) == 2
    (copy / "seal").write_bytes(b"\1" * 12)
    with pytest.raises(IndexFileError, match="seal is damaged"):
        IndexReader(copy)


def test_the_log_does_not_grow_beside_a_busy_reader(folder):
    vectors = np.ones((400, 2), np.float32) * 0.5
    with IndexWriter(folder) as writer, IndexReader(folder) as reader:
        with writer.commit() as changes:
            wide = changes.add_space(replace(SPACE, name="wide", dim=20_000))
        for number in range(12):
            with reader.snapshot() as snapshot:
                snapshot.num_videos()
            with writer.commit() as changes:
                changes.put_video(new_video(f"{number}.mp4", *np.tile(vectors[0], (100, 10_000)), space_id=wide))
            assert (folder / "index.db-wal").stat().st_size < 40 << 20
    assert (folder / "index.db").stat().st_size > 12 * 100 * 20_000 * 2


# --- what verify finds ------------------------------------------------------------------------------------------------

CHANGED = {
    "UPDATE windows SET end_s = 8.5 WHERE id = 2": "videos",
    "DELETE FROM windows WHERE id = 2": "videos",
    "INSERT INTO windows VALUES (99, 2, 0.0, 1.0)": "windows",
    "UPDATE videos SET path = 'x.mp4' WHERE id = 2": "videos",
    "UPDATE videos SET metadata = '{\"a\": 1}' WHERE id = 2": "videos",
    "DELETE FROM videos WHERE id = 2": "videos",
    "UPDATE videos SET digest = zeroblob(16) WHERE id = 2": "videos",
    "UPDATE vectors SET data = zeroblob(8) WHERE id = 2": "vectors",
    "UPDATE vectors SET crc = 5 WHERE id = 2": "vectors",
    "DELETE FROM vectors WHERE id = 2": "videos",
    "INSERT INTO vectors VALUES (9, 1, 77, 1, 0, x'00000000')": "vectors",
    "UPDATE texts SET text = 'A cat runs' WHERE id = 1": "videos",
    "UPDATE texts SET start_s = 0.5 WHERE id = 2": "videos",
    "INSERT INTO texts VALUES (9, 99, NULL, NULL, 'x', 'y')": "texts",
    "DELETE FROM texts_fts_data WHERE id > 10": "texts_fts",
    "UPDATE failures SET reason = 'x' WHERE path = 'd.mp4'": "failures",
    "DELETE FROM failures": "failures",
    "UPDATE roots SET path = '/x'": "roots",
    "UPDATE spaces SET dim = 4": "spaces",
    "UPDATE spaces SET search = '{\"a\": 1}'": "spaces",
    "UPDATE meta SET value = 5.0 WHERE key = 'window_s'": "meta",
    "DELETE FROM meta WHERE key = 'created'": "meta",
    "INSERT INTO removed VALUES (9, 1, 1)": "removed",
    "INSERT INTO generations VALUES (1, 1, 'gen-0.faiss', 1, x'', 'Flat', 1, 1, 1, 1)": "generations",
    "DELETE FROM totals WHERE name = 'roots'": "totals",
    "UPDATE totals SET count = 7 WHERE name = 'videos'": "videos",
    "DROP INDEX videos_content": "index.db",
    "CREATE TABLE mine (a)": "index.db",
    "DROP TRIGGER texts_removed": "index.db",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "where"), CHANGED.items())
def test_every_change_behind_the_back_of_vmr_is_found(folder, statement, where):
    with sqlite3.connect(folder / "index.db") as database:
        database.execute(statement)
    database.close()
    assert where in {fault.where for fault in verify(folder)}


def test_a_damaged_database_is_named(folder):
    data = bytearray((folder / "index.db").read_bytes())
    for damaged in (data[:20], data[:16384], bytes(len(data)), b"SQLite format 3\0" + b"x" * len(data)):
        (folder / "index.db").write_bytes(damaged)
        assert verify(folder)
        with pytest.raises(IndexFileError) as caught:
            read(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_the_rows_of_a_video_are_found_without_reading_those_of_others(tmp_path):
    with IndexWriter(tmp_path / "index", SETTINGS):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / "index.db")) as database:
        for query in _OF_A_VIDEO:
            rows = database.execute(f"EXPLAIN QUERY PLAN {query}", {"id": 1, "first": 1, "n": 1})
            assert {step for *_, step in rows if step.startswith("SCAN")} <= {"SCAN s"}  # the spaces, which are few
