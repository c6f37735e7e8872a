"""Looking after an index by the commands: upgrade, verify, compact, copy and move-root."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.indexes import TwoDimensional
from tests.integration.commands import BIN, refused, run_here
from tests.old_indexes import SPANS, VECTORS, content_of, old_index
from tests.video_matrix import X264, Recipe, write_video
from vmr.files import sha256_of
from vmr.retrieval.legacy import UNKNOWN, is_old_index, open_reader
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState, Generation, IndexSettings, NewVideo, Space, Text
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.update import update_index

SPACE = Space(0, "tiny", "tiny", "f00d", 8, "float16", {"num_frames": 4, "reader": "pyav"})
NOW = FileState(size=10, mtime_ns=10**18, inode=7, seen_ns=2 * 10**18)
BEFORE = 1_700_000_000  # a time before the old indexes were made


def put_videos(folder: Path, numbers: range, root: str = "/videos") -> None:
    """Put videos of four windows into an index, which is made if there is none."""
    settings = IndexSettings(2.0, 2.0)
    with IndexWriter(folder, settings, lambda changes: changes.add_space(SPACE)) as writer, writer.commit() as changes:
        for number in numbers:
            vectors = np.random.default_rng(number).normal(size=(4, 8)).astype(np.float32)
            spans = tuple((2.0 * i, 2.0 * i + 2) for i in range(4))
            video = NewVideo(root, f"{number:05d}.mp4", bytes(32), NOW, 8.0, (), spans, {1: vectors})
            changes.set_texts(changes.put_video(video), [Text(0, 1, "subtitle", f"number {number}")])


def put_generation(folder: Path, content: bytes) -> str:
    """Write a file as FAISS would, and note it."""
    name = f"gen-{'ab' * 16}.faiss"
    (folder / name).write_bytes(content)
    sha256 = bytes.fromhex(sha256_of(folder / name))
    with IndexWriter(folder) as writer, writer.commit() as changes:
        changes.put_generation(Generation(0, 1, name, len(content), sha256, "Flat", 1, 0, 4, 0))
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put_videos(tmp_path / "index", range(30))
    return tmp_path / "index"


# upgrade


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An old index of three videos; b.mp4 is as it was, the file with a strange name was changed, a/c.mp4 is gone."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, mtime in (("b.mp4", BEFORE), ("\udcff.mp4", 1_900_000_000)):
        (videos / name).write_bytes(name.encode("utf-8", "surrogateescape") * 1000)
        os.utime(videos / name, (mtime, mtime))
    old_index(tmp_path / "index", root=str(videos))
    return tmp_path / "index"


def test_upgrade(old):
    before = content_of(open_reader(old))
    done = run_here("vmr-index", "upgrade", old)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{old}: 3 videos, 5 windows: upgraded")
    assert "the files of 2 videos are not there or were changed" in done.stdout
    assert {file.name for file in old.iterdir()} == {"index.db", "seal", ".lock"}
    assert content_of(IndexReader(old)) == before and verify(old) == []
    with IndexReader(old) as reader, reader.snapshot() as snapshot:
        videos = {Path(video.path).name: video for video in snapshot.videos()}
        kept = videos["b.mp4"]
        assert kept.state.is_same(FileState.of(kept.file)) and kept.state.is_settled
        assert kept.content_hash.hex() == sha256_of(Path(kept.file))
        for name in ("c.mp4", "\udcff.mp4"):
            assert (videos[name].state, videos[name].content_hash) == (UNKNOWN, b"")
        assert snapshot.spaces()[0].dtype == "float32"
    again = run_here("vmr-index", "upgrade", old)
    assert (again.returncode, again.stdout) == (0, f"{old}: is of this version already, there is nothing to do\n")


def test_the_next_build_embeds_only_what_has_changed(tmp_path):
    """An old index of three real videos: one stays, one is changed, one is moved after the upgrade."""
    encoder = TwoDimensional()
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, name in enumerate(("changed.mp4", "moved.mp4", "same.mp4")):
        write_video(videos / name, Recipe(options=X264, num_frames=30 + number), 32, 32)
        os.utime(videos / name, (BEFORE, BEFORE))
    options = {"decode": vmr.DecodeOptions(num_workers=1), "vectors": vmr.VectorOptions("float32")}
    with contextlib.closing(vmr.build_index(videos, tmp_path / "new", encoder, window_s=1.0, **options)) as index:
        rows, vectors = list(index.windows), index.vectors
    spans = [(Path(row.file).name, row.start_s, row.end_s) for row in rows]
    about = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "num_frames": encoder.preprocess.num_frames}
    about |= {"window_s": 1.0, "stride_s": 0.5, "root": str(videos), "remarks": [], "failures": []}
    old_index(tmp_path / "index", spans, vectors, **about)
    assert run_here("vmr-index", "upgrade", tmp_path / "index").returncode == 0
    write_video(videos / "changed.mp4", Recipe(options=X264, num_frames=45), 32, 32)
    (videos / "moved.mp4").rename(videos / "moved away.mp4")
    done = update_index(videos, tmp_path / "index", encoder, SegmentOptions(window_s=1.0), **options)
    assert [Path(file).name for file in done.embedded] == ["changed.mp4"]
    assert (len(done.renamed), len(done.unchanged), done.removed) == (1, 1, [])
    assert verify(tmp_path / "index") == []
    with IndexReader(tmp_path / "index") as reader, reader.snapshot() as snapshot:
        assert [space.name for space in snapshot.spaces()] == [encoder.name]
        (kept,) = [video for video in snapshot.videos() if video.path == "same.mp4"]
        (block,) = snapshot.blocks_of(1, [kept.first_window])
        expected = vectors[[number for number, span in enumerate(spans) if span[0] == "same.mp4"]]
        assert block.vectors.tobytes() == expected.tobytes()


def test_upgrade_to_half_the_size(old):
    assert run_here("vmr-index", "upgrade", old, "--dtype", "float16").returncode == 0
    with IndexReader(old) as reader, reader.snapshot() as snapshot:
        assert snapshot.spaces()[0].dtype == "float16"
        found = sorted(block.vectors.tobytes() for block in snapshot.blocks(1))
    rows = [[i for i, span in enumerate(SPANS) if span[0] == name] for name in ("a/c.mp4", "b.mp4", "\udcff.mp4")]
    assert found == sorted(VECTORS[ids].astype(np.float16).astype(np.float32).tobytes() for ids in rows)


def test_upgrade_does_not_touch_what_it_cannot_read(old):
    (vectors,) = old.glob("*.faiss")
    vectors.write_bytes(vectors.read_bytes()[:-1])
    before = {file.name: file.read_bytes() for file in old.iterdir()}
    assert "is damaged: build the index again" in refused(run_here("vmr-index", "upgrade", old))
    assert {file.name: file.read_bytes() for file in old.iterdir()} == before
    assert "no such index" in refused(run_here("vmr-index", "upgrade", old.parent / "none"))
    assert "no such index" in refused(run_here("vmr-index", "upgrade", old.parent))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("kilobytes", [0, 20, 300])
def test_upgrade_without_room_leaves_the_old_index(tmp_path, kilobytes):
    spans = [("a.mp4", float(number), number + 1.0) for number in range(2000)]
    old_index(tmp_path / "index", spans, np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32))
    before = content_of(open_reader(tmp_path / "index"))
    command = f"ulimit -f {kilobytes}; exec {BIN / 'vmr-index'} upgrade {tmp_path / 'index'}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert f"{tmp_path / 'index'}" in refused(done) and "cannot be written" in done.stderr
    assert is_old_index(tmp_path / "index") and content_of(open_reader(tmp_path / "index")) == before
    assert run_here("vmr-index", "upgrade", tmp_path / "index").returncode == 0
    assert content_of(IndexReader(tmp_path / "index")) == before and verify(tmp_path / "index") == []


def test_upgrade_removes_what_a_killed_one_left(old):
    manifest = (old / "manifest.json").read_bytes()
    run_here("vmr-index", "upgrade", old)
    (old / "manifest.json").write_bytes(manifest)
    (old / f"vectors-{'1' * 32}.faiss").write_bytes(b"old")
    (old / "mine.txt").write_text("not of the index")
    assert run_here("vmr-index", "upgrade", old).stdout.endswith("there is nothing to do\n")
    assert {file.name for file in old.iterdir()} == {"index.db", "seal", ".lock", "mine.txt"}


def test_other_commands_name_the_upgrade(old, tmp_path):
    for command in (("compact", old), ("copy", old, tmp_path / "copy"), ("move-root", old, "/a", "/b")):
        assert f"run vmr-index upgrade {old} first" in refused(run_here("vmr-index", *command))
    done = run_here("vmr-index", "verify", old)
    assert (done.returncode, done.stdout) == (0, f"{old}: 3 videos, 5 windows, 0 texts: no fault\n")


# verify


def test_verify(folder):
    done = run_here("vmr-index", "verify", folder)
    assert (done.returncode, done.stdout) == (0, f"{folder}: 30 videos, 120 windows, 30 texts: no fault\n")
    name = put_generation(folder, b"some vectors")
    assert run_here("vmr-index", "verify", folder).returncode == 0
    (folder / name).write_bytes(b"same vectors")
    done = run_here("vmr-index", "verify", folder)
    assert done.returncode == 1
    assert done.stdout == f"{name}: is not the file that was written: vmr-index compact makes it again\n"
    database = folder / "index.db"
    database.write_bytes(database.read_bytes().replace(b"number 17", b"number 71"))
    done = run_here("vmr-index", "verify", folder)
    assert done.returncode == 1 and "videos: 00017.mp4: its rows are not those that were written\n" in done.stdout
    assert "no such index" in refused(run_here("vmr-index", "verify", folder / "none"))


# compact


def test_compact(folder):
    put_videos(folder, range(30, 3000))
    with IndexWriter(folder) as writer, writer.commit() as changes:
        for video in list(changes.snapshot.videos())[30:]:
            changes.remove_video(video.id)
    name = put_generation(folder, b"some vectors")
    orphan = f"gen-{'cd' * 16}.faiss"
    (folder / orphan).write_bytes(b"of a writer that was killed")
    before = content_of(IndexReader(folder))
    with IndexReader(folder) as reader:
        with reader.snapshot() as snapshot:
            version = snapshot.version
        done = run_here("vmr-index", "compact", folder)
        assert done.returncode == 0, done.stderr
        with reader.snapshot() as snapshot:
            assert snapshot.num_videos() == 30 and snapshot.version != version
    sizes = [float(word) for word in done.stdout.split() if word.replace(".", "").isdigit()]
    assert sizes[0] > 2 * sizes[1]
    assert content_of(IndexReader(folder)) == before and verify(folder) == []
    names = {file.name for file in folder.iterdir()}
    assert not names & {name, orphan}  # 120 rows need no file of FAISS


def test_compact_makes_a_damaged_file_again(folder):
    put_videos(folder, range(30, 1500))  # 6000 rows
    run_here("vmr-index", "compact", folder)
    (file,) = folder.glob("gen-*.faiss")
    right = file.read_bytes()
    file.write_bytes(right[:-100])
    assert run_here("vmr-index", "verify", folder).returncode == 1
    assert run_here("vmr-index", "compact", folder).returncode == 0
    (file,) = folder.glob("gen-*.faiss")
    assert file.stat().st_size == len(right) and verify(folder) == []


# copy


def test_copy(folder, tmp_path):
    name = put_generation(folder, b"some vectors")
    done = run_here("vmr-index", "copy", folder, tmp_path / "copy")
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path / 'copy'}: 30 videos, 120 windows, ")
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {"index.db", "seal", name}
    assert content_of(IndexReader(tmp_path / "copy")) == content_of(IndexReader(folder))
    assert verify(tmp_path / "copy") == []
    put_videos(tmp_path / "copy", range(30, 40))  # it is an index of its own
    assert verify(tmp_path / "copy") == [] and len(content_of(IndexReader(folder))["videos"]) == 30
    before = sha256_of(tmp_path / "copy" / "index.db")
    assert f"{tmp_path / 'copy'} exists" in refused(run_here("vmr-index", "copy", folder, tmp_path / "copy"))
    assert sha256_of(tmp_path / "copy" / "index.db") == before
    assert "no such index" in refused(run_here("vmr-index", "copy", tmp_path / "none", tmp_path / "x"))


def test_copy_without_a_derived_file(folder, tmp_path):
    name = put_generation(folder, b"some vectors")
    (folder / name).unlink()
    done = run_here("vmr-index", "copy", folder, tmp_path / "copy")
    assert done.returncode == 0
    assert (
        f"{name}: cannot be read: No such file or directory: vmr-index compact {tmp_path / 'copy'} makes" in done.stderr
    )
    assert content_of(IndexReader(tmp_path / "copy")) == content_of(IndexReader(folder))


def test_copy_of_damage_is_refused(folder, tmp_path):
    database = folder / "index.db"
    database.write_bytes(database.read_bytes().replace(b"number 17", b"number 71"))
    said = refused(run_here("vmr-index", "copy", folder, tmp_path / "copy"))
    assert f"{folder} is damaged, or its copy is: videos: 00017.mp4" in said
    assert {file.name for file in tmp_path.iterdir()} == {"index"}


def test_copies_while_it_is_written(folder, tmp_path):
    """Each commit replaces the FAISS file and adds videos; each copy is one of the states that were committed."""
    stop = threading.Event()
    counts, failures = {30}, []

    def write() -> None:
        try:
            number = 30
            while not stop.is_set():
                content = os.urandom(200_000)
                new = folder / f"gen-{number:032x}.faiss"
                new.write_bytes(content)
                with IndexWriter(folder) as writer, writer.commit() as changes:
                    old = [generation.file for generation in changes.snapshot.generations()]
                    vectors = np.ones((1, 8), np.float32)
                    video = NewVideo("/videos", f"{number}.mp4", b"", NOW, 1.0, (), ((0.0, 1.0),), {1: vectors})
                    changes.put_video(video)
                    digest = bytes.fromhex(sha256_of(new))
                    changes.put_generation(Generation(0, 1, new.name, len(content), digest, "Flat", 1, 0, 4, 0))
                for name in old:
                    (folder / name).unlink()
                number += 1
                counts.add(number)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    copies = [tmp_path / f"copy-{number}" for number in range(8)]
    try:
        done = [run_here("vmr-index", "copy", folder, copy) for copy in copies]
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * len(copies)
    found = []
    for copy in copies:
        assert verify(copy) == []
        found.append(len(content_of(IndexReader(copy))["videos"]))
    assert found == sorted(found) and set(found) <= counts and len(set(found)) > 1


# move-root


def test_move_root(folder, tmp_path):
    new = tmp_path / "new place"
    assert "no such folder: mount it, or use --force" in refused(
        run_here("vmr-index", "move-root", folder, "/videos", new)
    )
    new.mkdir()
    said = refused(run_here("vmr-index", "move-root", folder, "/videos", new))
    assert f"none of the 30 videos of /videos is in {new}, such as {new}/00000.mp4" in said
    assert "/nowhere is no folder of this index, which has /videos" in refused(
        run_here("vmr-index", "move-root", folder, "/nowhere", new)
    )
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert set(snapshot.roots().values()) == {"/videos"}
    shutil.copy(__file__, new / "00003.mp4")
    done = run_here("vmr-index", "move-root", folder, "/videos/../videos", new)
    assert (done.returncode, done.stdout) == (0, f"{folder}: 1 of 30 videos are in {new}\n")
    done = run_here("vmr-index", "move-root", folder, new / ".." / new.name, "/not mounted", "--force")
    assert (done.returncode, done.stdout) == (0, f"{folder}: 0 of 30 videos are in /not mounted\n")
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        assert {video.file for video in snapshot.videos()} == {f"/not mounted/{number:05d}.mp4" for number in range(30)}
    assert verify(folder) == []
