"""Bringing an index up to date: what is embedded, moved, copied, removed, and what stays after a kill or an error."""

import os
import shutil
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

import vmr
from tests.indexes import Other, TwoDimensional
from tests.integration.processes import finish, launch
from tests.patience import PATIENCE_S
from tests.video_matrix import X264, Recipe, cut, write_video
from vmr.errors import IndexBusyError, IndexFileError, ModelError, VmrError
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.results import Failure
from vmr.retrieval.segments import SegmentOptions, window_segmenter
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.updating.folder import OWN_FILES
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.plan import UpdateOptions
from vmr.retrieval.updating.spaces import VectorOptions
from vmr.retrieval.updating.update import add_videos, remove_videos, update_index

ONE_WORKER = vmr.DecodeOptions(num_workers=1)
SECONDS = SegmentOptions(window_s=1.0)
OLD = (1_000_000_000, 1_000_000_000)  # times of access and change, long ago


class Counting(TwoDimensional):
    """Counts the windows that it embeds."""

    def __init__(self, name="two", num_frames=1):
        self.name, self.num_windows = name, 0
        self.fingerprint = f"{name:f<16}"
        self.preprocess = vmr.Preprocess(num_frames, 16, "stretch", *([0.5] * 3,) * 2)

    def encode_video(self, video):
        self.num_windows += len(video)
        return super().encode_video(video)


class Interfering(Counting):
    """Does something when it embeds for the first time."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def encode_video(self, video):
        action, self.action = self.action, lambda: None
        action()
        return super().encode_video(video)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Videos of 1.2 s, each of another colour: in windows of 1 s they have 2 rows."""
    folder = tmp_path_factory.mktemp("clips")

    def coloured(number):
        def store(picture):
            picture = np.zeros_like(picture)
            picture[..., 0], picture[..., 2] = 25 * number, 255 - 25 * number
            return picture

        return store

    return [
        write_video(folder / f"{number}.mp4", Recipe(options=X264, num_frames=30, stored=coloured(number)), 32, 32)
        for number in range(8)
    ]


@pytest.fixture
def videos(clips, tmp_path) -> Path:
    """A folder with a.mp4, b.mp4 and sub/c.mp4."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for clip, name in zip(clips, ("a.mp4", "b.mp4", "sub/c.mp4"), strict=False):
        put(clip, folder / name)
    return folder


def put(clip: Path, path: Path) -> Path:
    """Copy a clip; it was changed long ago."""
    shutil.copy(clip, path)
    os.utime(path, OLD)
    return path


def update(videos, out, encoder=None, *, window_s=1.0, stride_s=None, **options):
    """Bring an index up to date, and check the whole of it."""
    encoder = Counting() if encoder is None else encoder
    windows = SegmentOptions(window_s=window_s, stride_s=stride_s)
    done = update_index(videos, out, encoder, windows, decode=options.pop("decode", ONE_WORKER), **options)
    assert verify(Path(out)) == []
    return done


def content(out: Path) -> dict[str, tuple]:
    """File -> spans and vectors by space of each video of an index."""
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        found = {}
        for video in snapshot.videos():
            spans = [(row.start_s, row.end_s) for row in snapshot.windows([video.id])]
            vectors = {
                space.name: block.vectors.tolist()
                for space in snapshot.spaces()
                for block in snapshot.blocks_of(space.id, [video.first_window])
            }
            found[video.file] = (spans, vectors)
    return found


def failures(out: Path) -> dict[str, str]:
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        return {Path(failure.file).name: failure.reason for failure in snapshot.failures()}


def is_as_fresh(out: Path, videos, tmp_path, encoder=None, **options) -> bool:
    """Whether an index holds exactly what a new one of the same videos would."""
    update(videos, tmp_path / "fresh", encoder, **options)
    same = content(out) == content(tmp_path / "fresh") and failures(out) == failures(tmp_path / "fresh")
    shutil.rmtree(tmp_path / "fresh")
    return same


def stems(files) -> list[str]:
    return sorted(Path(file).stem for file in files)


def refused(call, kind=VmrError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


# --- what is done with each file --------------------------------------------------------------------------------------


def test_the_first_build_embeds_everything(videos, tmp_path):
    (videos / "notes.txt").write_text("a man in a car")
    (videos / "empty.mp4").write_bytes(b"")
    encoder, out = Counting(), tmp_path / "index"
    done = update(videos, out, encoder)
    assert stems(done.embedded) == ["a", "b", "c"] and encoder.num_windows == 6
    assert done.failed == [Failure(f"{videos}/empty.mp4", "is empty (0 bytes)")]
    embedded = embed_videos(sorted(videos.rglob("?.mp4")), Counting(), None, window_segmenter(1.0), decode=ONE_WORKER)
    for video in embedded.videos:  # the vectors are those of embed_videos, rounded to half precision
        spans, vectors = content(out)[video.path]
        assert tuple(spans) == video.spans
        assert np.array_equal(vectors["two"], video.vectors.astype(np.float16).astype(np.float32))
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert snapshot.other_files() == {".txt": 1} and list(snapshot.roots().values()) == [str(videos)]
        assert [video.path for video in snapshot.videos()] == ["a.mp4", "b.mp4", "sub/c.mp4"]
    assert {file.name for file in out.iterdir()} <= {".lock", "index.db", "index.db-wal", "index.db-shm", "seal"}


def test_files_that_have_not_changed_are_not_opened(videos, tmp_path):
    """Other bytes are put into the files without a change of size, time or inode: nobody notices."""
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    before = content(out)
    for path in videos.rglob("*.mp4"):
        with path.open("r+b") as file:
            file.write(b"\0" * path.stat().st_size)
        os.utime(path, OLD)
    done = update(videos, out, encoder)
    assert stems(done.unchanged) == ["a", "b", "c"] and encoder.num_windows == 0
    assert not (done.embedded or done.failed or done.refreshed) and content(out) == before
    done = update(videos, out, encoder, update=UpdateOptions(check_content=True))
    assert len(done.failed) == 3 and content(out) == {}


def test_an_update_that_finds_nothing_to_do_writes_nothing(videos, tmp_path):
    (videos / "notes.txt").write_text("")
    (videos / "empty.mp4").write_bytes(b"")
    os.utime(videos / "empty.mp4", OLD)
    update(videos, tmp_path / "index")
    seal = (tmp_path / "index" / "seal").read_bytes()
    update(videos, tmp_path / "index")
    assert (tmp_path / "index" / "seal").read_bytes() == seal


def test_a_model_is_not_loaded_for_nothing(videos, tmp_path):
    update(videos, tmp_path / "index", "videomamba-nano-shapes")
    script = (
        "import sys; from vmr.cli.index import main; "
        f"main(['build', {str(videos)!r}, '--out', {str(tmp_path / 'index')!r}, '--window', '1']); "
        "print('torch' in sys.modules)"
    )
    said = finish(launch("-c", script)).splitlines()
    assert said[0] == "3 unchanged" and said[-1] == "False"


def test_changed_and_new_files_are_embedded(videos, clips, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    put(clips[5], videos / "a.mp4")
    put(clips[6], videos / "sub" / "d.mp4")
    done = update(videos, out, encoder)
    assert stems(done.embedded) == ["a", "d"] and stems(done.unchanged) == ["b", "c"] and encoder.num_windows == 4
    assert is_as_fresh(out, videos, tmp_path)


def test_a_file_that_was_touched_is_read_and_not_decoded(videos, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    os.utime(videos / "a.mp4", (5, 5))
    assert stems(update(videos, out, encoder).refreshed) == ["a"]
    done = update(videos, out, encoder)
    assert stems(done.unchanged) == ["a", "b", "c"] and encoder.num_windows == 0


def test_moved_files_and_renamed_folders_are_not_decoded(videos, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    (videos / "sub").rename(videos / "other")
    (videos / "a.mp4").rename(videos / "other" / "z.mp4")
    done = update(videos, out, encoder)
    assert sorted((Path(old).name, Path(new).name) for old, new in done.renamed) == [
        ("a.mp4", "z.mp4"),
        ("c.mp4", "c.mp4"),
    ]
    assert encoder.num_windows == 0 and not done.removed and is_as_fresh(out, videos, tmp_path)


def test_a_renamed_root_is_not_decoded(videos, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    videos.rename(tmp_path / "renamed")
    done = update(tmp_path / "renamed", out, encoder)
    assert len(done.renamed) == 3 and not done.copied and encoder.num_windows == 0
    assert is_as_fresh(out, tmp_path / "renamed", tmp_path)


def test_files_that_have_changed_places(videos, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    for old, new in (("a.mp4", "x"), ("b.mp4", "a.mp4"), ("sub/c.mp4", "b.mp4"), ("x", "sub/c.mp4")):
        (videos / old).rename(videos / new)
    done = update(videos, out, encoder)
    assert len(done.renamed) == 3 and encoder.num_windows == 0 and is_as_fresh(out, videos, tmp_path)
    (videos / "a.mp4").replace(videos / "b.mp4")
    done = update(videos, out, encoder)
    assert len(done.renamed) == 1 and encoder.num_windows == 0 and is_as_fresh(out, videos, tmp_path)


def test_a_video_that_moves_keeps_its_metadata(videos, tmp_path):
    from vmr.retrieval.storage.writer import IndexWriter

    out = tmp_path / "index"
    update(videos, out)
    with IndexWriter(out) as writer, writer.commit() as changes:
        changes.set_metadata(changes.snapshot.video_at(f"{videos}/a.mp4").id, {"camera": 1})
    (videos / "a.mp4").rename(videos / "sub" / "moved.mp4")
    update(videos, out)
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert snapshot.video_at(f"{videos}/sub/moved.mp4").metadata == {"camera": 1}


def test_a_copy_takes_the_vectors_of_its_original(videos, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out)
    shutil.copy(videos / "a.mp4", videos / "sub" / "copy.mp4")  # with another time
    os.link(videos / "b.mp4", videos / "link.mp4")
    done = update(videos, out, encoder)
    assert sorted(Path(new).name for _, new in done.copied) == ["copy.mp4", "link.mp4"] and encoder.num_windows == 0
    assert is_as_fresh(out, videos, tmp_path)


def test_gone_files_are_removed(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    before = content(out)
    (videos / "a.mp4").unlink()
    done = update(videos, out, update=UpdateOptions(keep_missing=True))
    assert stems(done.kept) == ["a"] and content(out) == before
    done = update(videos, out)
    assert stems(done.removed) == ["a"] and is_as_fresh(out, videos, tmp_path)


def test_nothing_is_removed_below_a_folder_that_was_not_named(videos, clips, tmp_path):
    out = tmp_path / "index"
    (tmp_path / "more").mkdir()
    put(clips[4], tmp_path / "more" / "d.mp4")
    update([videos, tmp_path / "more"], out)
    (videos / "a.mp4").unlink()
    assert stems(update(tmp_path / "more", out).unchanged) == ["d"] and len(content(out)) == 4
    assert stems(update(videos / "sub", out).unchanged) == ["c"] and len(content(out)) == 4
    assert stems(update([videos], out).removed) == ["a"]
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert sorted(snapshot.roots().values()) == [str(tmp_path / "more"), str(videos)]


def test_an_error_removes_nothing(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    before = content(out)
    videos.rename(tmp_path / "away")
    assert refused(lambda: update(videos, out)) == f"{videos}: no such folder"
    videos.mkdir()  # as a disk that is not mounted
    assert "no video in this folder" in refused(lambda: update(videos, out))
    assert content(out) == before


def test_a_folder_that_cannot_be_listed_keeps_its_videos(videos, tmp_path, monkeypatch):
    out, scandir = tmp_path / "index", os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    update(videos, out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        done = update(videos, out)
    assert not done.removed and len(content(out)) == 3 and stems(done.unchanged) == ["a", "b"]
    assert failures(out) == {"sub": "cannot list this folder: Permission denied"}
    update(videos, out)
    assert failures(out) == {}


def test_a_file_that_failed_is_tried_again_when_it_has_changed(videos, clips, tmp_path):
    out = tmp_path / "index"
    bad = videos / "bad.mp4"
    bad.write_bytes(b"not a video")
    os.utime(bad, OLD)
    update(videos, out)
    for options, is_tried in ((UpdateOptions(), False), (UpdateOptions(retry_failed=True), True)):
        done = update(videos, out, update=options)
        assert (stems(failure.video for failure in done.failed) == ["bad"]) == is_tried
        assert (stems(failure.video for failure in done.failed_before) == ["bad"]) != is_tried
    assert list(failures(out)) == ["bad.mp4"]
    put(clips[4], bad)
    assert stems(update(videos, out).embedded) == ["bad"] and is_as_fresh(out, videos, tmp_path)
    bad.write_bytes(b"not a video")  # what was known of it is no longer true
    assert [failure.video for failure in update(videos, out).failed] == [str(bad)]
    assert str(bad) not in content(out) and list(failures(out)) == ["bad.mp4"]
    bad.unlink()
    update(videos, out)
    assert failures(out) == {}


def test_a_damaged_video_is_left_out_on_request(videos, tmp_path):
    whole = write_video(tmp_path / "whole.mkv", Recipe(options=X264, gop=1, suffix=".mkv"))
    cut(whole, videos / "cut.mkv", stop=0.6)
    kept = update(videos, tmp_path / "1")
    assert [(remark.video, remark.kind) for remark in kept.remarks] == [(f"{videos}/cut.mkv", "damage")]
    left_out = update(videos, tmp_path / "2", decode=vmr.DecodeOptions(num_workers=1, strict=True))
    assert stems(failure.video for failure in left_out.failed) == ["cut"] and not left_out.remarks
    assert stems(left_out.embedded) == ["a", "b", "c"]


def test_strange_names(clips, tmp_path):
    out, videos = tmp_path / "index", tmp_path / "videos"
    videos.mkdir()
    for clip, name in zip(clips, (b"caf\xe9.mp4", b"two\nlines.mp4", b"-dash [1].mp4"), strict=False):
        put(clip, Path(os.fsdecode(os.fsencode(videos) + b"/" + name)))
    (videos / "link.mp4").symlink_to(clips[7])
    assert len(update(videos, out).embedded) == 4
    done = update(videos, out)
    assert len(done.unchanged) == 4 and os.fsdecode(b"caf\xe9.mp4") in {Path(file).name for file in done.unchanged}
    assert len(remove_videos(out, ["-dash [1].mp4", os.fsdecode(b"caf\xe9*")]).removed) == 2


# --- files that change while they are read ----------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_read_once_more(clips, tmp_path):
    out, video = tmp_path / "index", put(clips[0], tmp_path / "a.mp4")
    encoder = Interfering(lambda: put(clips[1], video))
    assert stems(update([video], out, encoder).embedded) == ["a"] and encoder.num_windows == 4
    assert is_as_fresh(out, [video], tmp_path)


def test_a_file_that_does_not_stop_changing_is_a_failure(clips, videos, tmp_path):
    out, video = tmp_path / "index", videos / "a.mp4"

    class Changing(Counting):
        def encode_video(self, frames):
            with video.open("ab") as file:
                file.write(b"\0")
            return super().encode_video(frames)

    update(videos, out)
    before = content(out)
    put(clips[5], video)
    done = update(videos, out, Changing())
    reason = "changed while it was read: it is tried again at the next update"
    assert done.failed == [Failure(str(video), reason)]
    assert content(out) == before and failures(out) == {"a.mp4": reason}
    assert stems(update(videos, out).embedded) == ["a"] and failures(out) == {}


# --- encoders and settings --------------------------------------------------------------------------------------------


def test_several_encoders_share_the_decoding(videos, tmp_path):
    out, first, second, third = tmp_path / "index", Counting(), Counting("three"), Counting("four", num_frames=3)
    done = update(videos, out, [first, second, third])
    assert len(done.embedded) == 6  # the third takes other frames, in a pass of its own
    assert [encoder.num_windows for encoder in (first, second, third)] == [6, 6, 6]
    assert all(set(vectors) == {"two", "three", "four"} for _, vectors in content(out).values())
    update(videos, out, [first, second, third])
    assert [encoder.num_windows for encoder in (first, second, third)] == [6, 6, 6]


def test_a_further_encoder_fills_a_space_of_its_own(videos, clips, tmp_path):
    out, first, second = tmp_path / "index", Counting(), Counting("three")
    update(videos, out, first)
    put(clips[4], videos / "d.mp4")
    update(videos, out, [first, second])
    assert (first.num_windows, second.num_windows) == (8, 8)
    assert is_as_fresh(out, videos, tmp_path, [Counting(), Counting("three")])
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    (videos / "b.mp4").rename(videos / "moved.mp4")
    update(videos, out, [first, second])
    assert (first.num_windows, second.num_windows) == (8, 8)
    assert is_as_fresh(out, videos, tmp_path, [Counting(), Counting("three")])


def test_the_encoders_of_an_index_must_be_given_or_be_known_by_name(videos, clips, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    put(clips[4], videos / "d.mp4")
    said = refused(lambda: update_index(videos, out, None, SECONDS, decode=ONE_WORKER), IndexFileError)
    assert said.startswith(f"{out} needs the encoder two: ") and said.endswith(": name all encoders")
    assert len(content(out)) == 3


def test_the_encoder_of_an_index_is_used_without_being_named(videos, clips, tmp_path):
    out = tmp_path / "index"
    update(videos, out, "videomamba-nano-shapes")
    put(clips[4], videos / "d.mp4")
    done = update_index(videos, out, None, SECONDS, decode=ONE_WORKER)
    assert stems(done.embedded) == ["d"] and is_as_fresh(out, videos, tmp_path, "videomamba-nano-shapes")


def test_another_encoder_of_the_same_name_is_refused(videos, tmp_path):
    class Impostor(Counting):
        def __init__(self):
            super().__init__()
            self.fingerprint = "0" * 16

    update(videos, tmp_path / "index")
    said = refused(lambda: update(videos, tmp_path / "index", Impostor()), IndexFileError)
    assert "holds vectors of two (twofffffffffffff), not of this two (0000000000000000)" in said
    assert refused(lambda: update(videos, tmp_path / "x", [Counting(), Counting()])) == "the encoder two is given twice"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window_s": 2.0}, "was built with window_s 1, not 2: "),
        ({"window_s": None}, "was built with window_s 1, not null: "),
        ({"stride_s": 1.0}, "was built with stride_s 0.5, not 1: "),
        ({"vectors": VectorOptions("float32")}, "was built with dtype float16, not float32: "),
        ({"decode": vmr.DecodeOptions("decord", 1)}, "was built with reader pyav, not decord: "),
    ],
)
def test_an_index_is_updated_only_in_the_way_it_was_built(videos, tmp_path, options, said):
    out = tmp_path / "index"
    update(videos, out)
    before = content(out)
    message = refused(lambda: update(videos, out, **options), IndexFileError)
    assert message == f"{out} {said}give the same, name another folder, or start anew with --overwrite (overwrite=True)"
    assert content(out) == before


def test_single_precision(videos, tmp_path):
    update(videos, tmp_path / "index", vectors=VectorOptions("float32"))
    update(videos, tmp_path / "index")  # as the index does
    vectors = content(tmp_path / "index")[f"{videos}/b.mp4"][1]["two"]
    assert not np.array_equal(np.float16(vectors), vectors)
    assert refused(lambda: update(videos, tmp_path / "x", vectors=VectorOptions("int8"))) == (
        "dtype must be one of float16, float32, not 'int8'"
    )


# --- starting anew ----------------------------------------------------------------------------------------------------


def test_overwriting_starts_anew(videos, clips, tmp_path):
    out = tmp_path / "index"
    update([videos], out)
    (tmp_path / "more").mkdir()
    put(clips[4], tmp_path / "more" / "d.mp4")
    (tmp_path / "more" / "empty.mp4").write_bytes(b"")
    update(tmp_path / "more", out, Other(), window_s=None, vectors=VectorOptions("float32"), overwrite=True)
    assert is_as_fresh(out, tmp_path / "more", tmp_path, Other(), window_s=None, vectors=VectorOptions("float32"))
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert list(snapshot.roots().values()) == [str(tmp_path / "more")]


def test_an_index_stays_until_the_first_video_of_the_next_is_embedded(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    before = content(out)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").write_bytes(b"")
    said = refused(lambda: update(tmp_path / "bad", out, Other(), overwrite=True))
    assert said == f"none of 1 videos can be read, first: {tmp_path}/bad/a.mp4: is empty (0 bytes)"
    assert content(out) == before and failures(out) == {}
    with pytest.raises(ZeroDivisionError):
        update(videos, out, Interfering(lambda: 1 / 0), overwrite=True)
    assert content(out) == before


def test_a_damaged_index_is_refused_and_may_be_overwritten(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    (out / "index.db").write_bytes(b"\0" * 50_000)
    assert "damaged" in refused(lambda: update(videos, out), IndexFileError)
    update(videos, out, overwrite=True)
    assert is_as_fresh(out, videos, tmp_path)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_where_no_index_can_be(videos, tmp_path):
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    said = f"{tmp_path}/file is a file: name a folder for the index"
    assert refused(lambda: update(videos, tmp_path / "file"), IndexFileError) == said
    said = f"{tmp_path}/thesis holds other files: name a new folder for the index"
    for overwrite in (False, True):
        assert refused(lambda: update(videos, tmp_path / "thesis", overwrite=overwrite), IndexFileError) == said  # noqa: B023
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]
    with FileLock(tmp_path / "locked.lock"):
        (tmp_path / "locked").mkdir()
        with FileLock(tmp_path / "locked" / ".lock"):
            said = refused(lambda: update(videos, tmp_path / "locked"), IndexBusyError)
    assert said == f"{tmp_path}/locked is being written by another process: wait for it, or name another folder"


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("index.db", True), ("index.db-wal", True), ("index.db-shm", True), ("seal", True), (".lock", True),
        (f"gen-{'0a' * 16}.faiss", True), (f".gen-{'0a' * 16}.faiss.1f_x.tmp", True),
        (f"vectors-{'0a' * 16}.faiss", True), ("manifest.json", True), (".manifest.json.abc.tmp", True),
        ("index.db.bak", False), ("my-index.db", False), ("gen-0a.faiss", False), ("vectors.faiss", False),
    ],
)  # fmt: skip
def test_the_files_of_an_index(name, is_own):
    assert bool(OWN_FILES.fullmatch(name)) == is_own


def test_the_jobs_of_a_service_are_in_no_way(videos, tmp_path):
    update(videos, tmp_path / "index")
    (tmp_path / "index" / "jobs").mkdir()
    for name in ("jobs.db", "jobs.db-journal", ".lock"):
        (tmp_path / "index" / "jobs" / name).touch()
    for overwrite in (False, True):
        assert len(update(videos, tmp_path / "index", overwrite=overwrite).embedded) == (3 if overwrite else 0)
    assert len([*(tmp_path / "index" / "jobs").iterdir()]) == 3
    (tmp_path / "index" / "jobs" / "thesis.tex").write_text("years of work")
    said = f"{tmp_path}/index holds other files: name a new folder for the index"
    assert refused(lambda: update(videos, tmp_path / "index"), IndexFileError) == said


def test_a_program_is_told_of_each_file_as_it_comes(videos, clips, tmp_path):
    update(videos, tmp_path / "index")
    told, reached, more = [], [], tmp_path / "more"
    more.mkdir()
    put(clips[5], more / "good.mp4")
    for name in ("broken.mp4", "held.mp4"):
        (more / name).write_text("no video")
        os.utime(more / name, OLD)
    hooks = Hooks(
        hold=lambda file, state: file.endswith("held.mp4"),
        embed=lambda file: told.append(("embedded", Path(file).name)),
        fail=lambda failure: told.append(("failed", Path(failure.video).name)),
        follow=lambda progress: reached.append(progress.reached()),
    )
    for expected in ({("embedded", "good.mp4"), ("failed", "broken.mp4")}, {("failed", "broken.mp4")}):
        add_videos(tmp_path / "index", [more], Counting(), decode=ONE_WORKER, hooks=hooks)
        assert sorted(told) == sorted(expected)
        told.clear()
    assert (reached[0].num_done, reached[-1].num_done, reached[-1].num_videos) == (0, 2, 2)
    assert len(content(tmp_path / "index")) == 4


def test_a_build_that_comes_to_nothing_leaves_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    out = tmp_path / "new" / "index"
    with pytest.raises(VmrError, match="none of 1 videos"):
        update([tmp_path / "a.mp4"], out)
    assert not out.exists()
    out.mkdir(parents=True)
    with pytest.raises(VmrError, match="none of 1 videos"):
        update([tmp_path / "a.mp4"], out)
    assert out.is_dir()
    assert refused(lambda: update([], out)) == "no videos given: name a folder or a list of files"
    with pytest.raises(ModelError, match="is no encoder"):
        update([tmp_path / "a.mp4"], tmp_path / "x", 5)
    with pytest.raises(VmrError, match=r"^out is 3, but must be a path"):
        update_index([tmp_path / "a.mp4"], 3)
    assert not (tmp_path / "x").exists()


def test_an_index_of_schema_1_is_not_touched(videos, tmp_path):
    from tests.paths import REPOSITORY

    out = tmp_path / "index"
    shutil.copytree(REPOSITORY / "tests" / "written_before" / "index", out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    said = refused(lambda: update(videos, out), IndexFileError)
    assert f"vmr-index upgrade {out} converts it without embedding, --overwrite starts anew" in said
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    with pytest.raises(ZeroDivisionError):
        update(videos, out, Interfering(lambda: 1 / 0), overwrite=True)
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.name != ".lock"} == before
    update(videos, out, overwrite=True)
    assert is_as_fresh(out, videos, tmp_path) and not (out / "manifest.json").exists()
    assert not list(out.glob("vectors-*"))


def test_without_faiss_nothing_is_begun(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "needs faiss" in refused(lambda: update(videos, tmp_path / "index"))
    assert not (tmp_path / "index").exists()


# --- adding and removing ----------------------------------------------------------------------------------------------


def test_adding_takes_the_settings_of_the_index(videos, clips, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    update(videos, out, window_s=0.8, stride_s=0.6)
    added = put(clips[4], tmp_path / "d.mp4")
    done = add_videos(out, [added, videos / "a.mp4"], encoder, decode=ONE_WORKER)
    assert stems(done.embedded) == ["d"] and stems(done.unchanged) == ["a"] and verify(out) == []
    assert is_as_fresh(out, [videos, added], tmp_path, window_s=0.8, stride_s=0.6)
    with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
        assert sorted(snapshot.roots().values()) == [str(tmp_path), str(videos)]
    added.unlink()
    assert stems(add_videos(out, [added], encoder, decode=ONE_WORKER).removed) == ["d"] and len(content(out)) == 3
    said = refused(lambda: add_videos(tmp_path / "x", [videos]), IndexFileError)
    assert said == f"{tmp_path}/x: no such index: make one with vmr-index build DIR --out {tmp_path}/x"
    assert not (tmp_path / "x").exists()


def test_removing(videos, tmp_path, monkeypatch):
    out = tmp_path / "index"
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "cam[1]").mkdir()
    for name in ("cam[1]/x.mp4", "cam[1]/y.mkv"):
        shutil.copy(videos / "a.mp4", videos / name)

    def removed(*patterns) -> list[str]:
        update(videos, out)
        done = remove_videos(out, list(patterns))
        assert verify(out) == [] and len(content(out)) == 5 - len(done.removed)
        return stems(done.removed)

    monkeypatch.chdir(videos)
    assert removed("a.mp4") == removed(videos / "a.mp4") == removed(f"{videos}/a.*") == ["a"]
    assert removed("cam[1]") == removed(videos / "cam[1]") == removed("cam[1]/") == ["x", "y"]
    assert removed("cam[[]1]/*.mkv") == ["y"] and removed("*.mp4") == ["a", "b", "c", "x"]
    assert removed("sub", "b.mp4", "*.mp4", "?.mp4") == ["a", "b", "c", "x"]
    monkeypatch.chdir(videos / "sub")
    assert removed("c.mp4") == ["c"]
    update(videos, out)
    assert list(failures(out)) == ["empty.mp4"]
    assert removed("empty.mp4") == [] and failures(out) == {}
    update(videos, out)
    said = refused(lambda: remove_videos(out, ["a.mp4", "nothing*"]))
    assert said == f"nothing*: no video of {out} matches: vmr-index list {out} shows them" and len(content(out)) == 5
    assert "no such index" in refused(lambda: remove_videos(tmp_path / "x", ["a"]), IndexFileError)
    assert "no pattern given: name at least one video" in refused(lambda: remove_videos(out, []))


def test_an_emptied_index_is_filled_again(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out)
    remove_videos(out, [videos])
    assert content(out) == {}
    assert len(update(videos, out).embedded) == 3 and is_as_fresh(out, videos, tmp_path)


# --- kills, signals and full disks ------------------------------------------------------------------------------------

SLOW = """
import resource, sys, time
import vmr
from tests.indexes import TwoDimensional
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.updating.update import update_index

videos, out, wait_s, limit = sys.argv[1:]

class Slow(TwoDimensional):
    fingerprint = "twofffffffffffff"
    preprocess = vmr.Preprocess(1, 16, "stretch", *([0.5] * 3,) * 2)

    def encode_video(self, video):
        time.sleep(float(wait_s))
        return super().encode_video(video)

if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    update_index(videos, out, Slow(), SegmentOptions(window_s=1.0), decode=vmr.DecodeOptions(num_workers=2))
except vmr.VmrError as error:
    print(f"refused: {error}")
except KeyboardInterrupt as interrupt:
    print(f"interrupted: {interrupt}")
"""


def num_videos(out: Path) -> int:
    try:
        with closing(IndexReader(out)) as reader, reader.snapshot() as snapshot:
            return snapshot.num_videos()
    except IndexFileError:
        return 0


def wait_for(out: Path, number: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while num_videos(out) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def many(clips, tmp_path) -> Path:
    """Eight videos."""
    folder = tmp_path / "many"
    folder.mkdir()
    for clip in clips:
        put(clip, folder / clip.name)
    return folder


def test_after_a_kill_the_same_command_goes_on(many, tmp_path):
    out, encoder = tmp_path / "index", Counting()
    process = launch("-c", SLOW, many, out, 0.2, 0)
    wait_for(out, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = num_videos(out)
    assert 3 <= done < 8 and verify(out) == []
    assert len(update(many, out, encoder).embedded) == 8 - done  # what was committed is not embedded again
    assert encoder.num_windows == 2 * (8 - done) and is_as_fresh(out, many, tmp_path)


def test_ctrl_c_keeps_what_is_done_and_says_so(many, tmp_path):
    out = tmp_path / "index"
    process = launch("-c", SLOW, many, out, 0.2, 0)
    wait_for(out, 2)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE_S)
    done = num_videos(out)
    assert f"interrupted: {out}: stopped after {done} videos, which are in the index: the same command goes on" in said
    assert 2 <= done < 8 and verify(out) == []
    assert len(update(many, out).embedded) == 8 - done and is_as_fresh(out, many, tmp_path)


def test_the_command_that_is_interrupted_ends_with_status_130(clips, tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "index"
    videos.mkdir()
    for number in range(60):
        path = put(clips[number % 8], videos / f"{number}.mp4")
        path.write_bytes(path.read_bytes() + b"\0" * number)  # no copy of another
        os.utime(path, OLD)
    program = "from vmr.cli.index import main; main()"
    options = ("--out", out, "--encoder", "videomamba-nano-shapes", "--window", 1)
    process = launch("-c", program, "build", videos, *options)
    wait_for(out, 2)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE_S)
    done = num_videos(out)
    assert process.returncode == 130 and 2 <= done < 60 and verify(out) == []
    last = f"{out}: stopped after {done} videos, which are in the index: the same command goes on"
    assert said.splitlines()[-1] == last
    said = finish(launch("-c", program, "build", videos, *options)).splitlines()
    assert f"{60 - done} embedded, {done} unchanged" in said
    assert said[-1] == f"{out}: 120 rows of 60 videos, 0 left out"


def test_a_full_disk_costs_nothing_that_was_committed(many, clips, tmp_path):
    """As `ulimit -f` in a shell: no file may grow beyond this."""
    out = tmp_path / "index"
    said = finish(launch("-c", SLOW, many, out, 0, 100_000))
    assert said.startswith(f"refused: {out}/index.db: cannot be written: ") and len(said.splitlines()) == 1
    assert not out.exists()
    update([clips[0]], out)
    before, size = content(out), (out / "index.db").stat().st_size
    said = finish(launch("-c", SLOW, many, out, 0, size - 50_000))
    assert said.startswith(f"refused: {out}/index.db: cannot be written: ") and len(said.splitlines()) == 1
    assert before.items() <= content(out).items() and verify(out) == []
    update(many, out)
    assert before.items() <= content(out).items() and len(content(out)) == 9


INTERRUPT = """
import signal
from vmr.retrieval.storage.changes import Changes

put_video = Changes.put_video

def put_and_interrupt(changes, video):
    signal.raise_signal(signal.SIGINT)
    return put_video(changes, video)

Changes.put_video = put_and_interrupt
"""


def test_an_interrupt_during_a_commit_waits_for_its_end(many, tmp_path):
    """In a process of its own, as the signal would end this one if it came at another time."""
    out = tmp_path / "index"
    said = finish(launch("-c", INTERRUPT + SLOW, many, out, 0, 0))
    assert said.startswith(f"interrupted: {out}: stopped after 1 videos, which are in the index")
    assert num_videos(out) == 1 and verify(out) == []


def test_vectors_that_are_not_finite_end_the_update(many, tmp_path):
    class Broken(Counting):
        def encode_video(self, video):
            vectors = super().encode_video(video)
            return vectors if self.num_windows <= 4 else torch.full_like(vectors, float("nan"))

    with pytest.raises(ModelError, match="not finite"):
        update(many, tmp_path / "index", Broken())
    assert num_videos(tmp_path / "index") == 2 and verify(tmp_path / "index") == []


def test_a_kind_that_is_asked_for_is_made_at_once(videos, tmp_path):
    out = tmp_path / "index"
    update(videos, out, vectors=VectorOptions(kind="hnsw"))
    with IndexReader(out) as reader, reader.snapshot() as snapshot:
        (first,) = snapshot.generations()
        assert (first.kind, first.count, snapshot.spaces()[0].kind) == ("HNSW32,SQfp16", snapshot.num_windows(), "hnsw")
    assert update(videos, out).embedded == []  # the kind stays
    update(videos, out, vectors=VectorOptions(kind="flat"))
    with IndexReader(out) as reader, reader.snapshot() as snapshot:
        assert [each.kind for each in snapshot.generations()] == ["SQfp16"]
    assert "nonsense: FAISS makes no such index" in refused(
        lambda: update(videos, out, vectors=VectorOptions(kind="nonsense"))
    )
    update(videos, out, vectors=VectorOptions(kind="auto"))  # a small index needs no file
    with IndexReader(out) as reader, reader.snapshot() as snapshot:
        assert snapshot.generations() == [] and not list(out.glob("gen-*"))
