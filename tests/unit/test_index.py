"""The index: written files, refused folders, and readers that never see an incomplete index."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import vmr
from tests.integration.processes import finish, launch
from tests.models import make_encoder, tiny_model
from vmr.errors import IndexFileError, VmrError
from vmr.models.families.video_text import VideoTextEncoder
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.storage.verify import verify


@pytest.fixture(scope="module")
def index(footage: Path, offline, tmp_path_factory: pytest.TempPathFactory) -> VideoIndex:
    folder = tmp_path_factory.mktemp("index")
    videos = folder / "videos"
    shutil.copytree(footage, videos, ignore=shutil.ignore_patterns("*.json"))
    (videos / "notes.txt").write_text("a man in a car")
    (videos / "broken.mp4").write_bytes(b"not a video at all")
    return vmr.build_index(videos, folder / "index", offline, window_s=4, stride_s=2)


@pytest.fixture
def copy(index: VideoIndex, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index.folder, tmp_path / "copy"))


def test_every_input_is_a_row_or_a_named_failure(index):
    assert [Path(video).name for video in index.videos] == ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"]
    (failure,) = index.failures
    assert Path(failure.video).name == "broken.mp4" and failure.reason
    bikes = [(row.start_s, row.end_s) for row in index.windows if Path(row.file).name == "bikes.mp4"]
    assert bikes == [(0, 4), (2, 6), (4, 8), (6, 10)]  # 10 s of video


def test_search_finds_the_right_moment(index):
    for query, video in (("a cyclist with a helmet", "bikes.mp4"), ("a cartoon rabbit", "bigbuckbunny.mp4")):
        hits = index.search(query, k=3)
        assert Path(hits[0].video).name == video
        assert Path(hits[0].video).is_file()
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(abs(hit.score) <= 1 for hit in hits)


def test_scores_are_the_dot_products(index, offline):
    query = offline.encode_text(["a man in a car"]).numpy()
    vectors = index.vectors
    expected = np.sort(vectors @ query[0])[::-1]
    found = [hit.score for hit in index.search("a man in a car", k=len(index), overlapping=True, keep_duplicates=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_overlapping_windows_are_one_moment(index):
    every = index.search("a cyclist", k=100, overlapping=True, keep_duplicates=True)
    moments = index.search("a cyclist", k=100)
    assert len(every) == len(index) > len(moments)
    for i, hit in enumerate(moments):
        for other in moments[:i]:
            assert hit.video != other.video or hit.start_s >= other.end_s or other.start_s >= hit.end_s
    assert index.search("a cyclist", k=2).hits == moments[:2]


def test_a_reopened_index_answers_the_same(index, offline):
    again = vmr.open_index(index.folder, offline)
    assert again.search("a man with a bow tie", k=4) == index.search("a man with a bow tie", k=4)


def test_an_index_moves_with_its_folder(copy, offline, index):
    assert vmr.open_index(copy, offline).search("a rabbit").hits == index.search("a rabbit").hits


def test_two_builds_give_the_same_bits(index, offline, tmp_path):
    again = vmr.build_index(
        index.info.roots[0],
        tmp_path / "again",
        offline,
        window_s=4,
        stride_s=2,
        decode=vmr.DecodeOptions(num_workers=1),
    )
    rows = [[(row.file, row.start_s, row.end_s) for row in each.windows] for each in (index, again)]
    assert rows[0] == rows[1] and again.vectors.tobytes() == index.vectors.tobytes()


def test_a_list_of_files_and_whole_videos(footage, offline, tmp_path):
    files = [footage / "bikes.mp4", footage / "carphone_pristine.mp4", footage / "bikes.mp4"]
    index = vmr.build_index(files, tmp_path / "index", offline, window_s=None)
    assert [Path(row.file).name for row in index.windows] == ["bikes.mp4", "carphone_pristine.mp4"]
    assert index.windows[0].end_s == pytest.approx(10.0)


@pytest.mark.parametrize(("query", "k"), [("  ", 3), ("a dog", 0), ("\udcff", 3)])
def test_senseless_questions_are_refused(index, query, k):
    with pytest.raises(VmrError):
        index.search(query, k)


def test_another_encoder_is_refused(copy, offline):
    class Other:
        name, about, embed_dim, preprocess = "other", "", offline.embed_dim, offline.preprocess
        fingerprint = "0" * 16
        encode_video, encode_text = offline.encode_video, offline.encode_text

    with pytest.raises(IndexFileError, match=r"made by offline .* not by other"):
        vmr.open_index(copy, Other())


def test_no_such_index(tmp_path):
    with pytest.raises(IndexFileError, match="no such index"):
        vmr.open_index(tmp_path / "nowhere")


def test_half_an_index_is_refused_and_can_be_built_again(copy, index, offline):
    for path in copy.glob("index.db*"):
        path.write_bytes(b"")
    with pytest.raises(IndexFileError, match="not a finished index"):
        vmr.open_index(copy)
    vmr.build_index(index.info.roots[0], copy, offline)
    assert vmr.open_index(copy, offline).search("a rabbit")


def test_one_builder_at_a_time(copy, footage, offline):
    before = listing(copy)
    with FileLock(copy / ".lock"), pytest.raises(IndexFileError, match="being written by another process"):
        vmr.build_index(footage, copy, offline, overwrite=True)
    assert listing(copy) == before


def test_ties_come_in_the_order_of_the_index(footage, offline, tmp_path):
    for name in "cadb":
        shutil.copy(footage / "carphone_pristine.mp4", tmp_path / f"{name}.mp4")
    index = vmr.build_index(tmp_path, tmp_path / "index", offline, window_s=None)
    for k in (1, 2, 4):
        assert [Path(hit.video).stem for hit in index.search("a man", k, keep_duplicates=True)] == list("abcd")[:k]
        (hit,) = index.search("a man", k)
        assert [Path(path).stem for path in (hit.video, *hit.duplicates)] == list("abcd")


def test_strange_file_names(footage, offline, tmp_path):
    names = [b"bad\xff.mp4", b"two\nlines.mp4", b":dog: [red].mp4", b"-dash.mp4"]
    for name in names:
        shutil.copy(footage / "carphone_pristine.mp4", os.fsencode(tmp_path) + b"/" + name)
    vmr.build_index(tmp_path, tmp_path / "index", offline, window_s=None)
    (hit,) = vmr.open_index(tmp_path / "index", offline).search("a man", 9)
    assert {os.fsencode(Path(path).name) for path in (hit.video, *hit.duplicates)} == set(names)


def test_an_index_is_replaced_only_when_asked(copy, footage, offline):
    with pytest.raises(IndexFileError, match="--overwrite"):
        vmr.build_index(footage, copy, offline, window_s=None)
    assert len(vmr.open_index(copy)) > 3
    vmr.build_index(footage, copy, offline, window_s=None, overwrite=True)
    assert len(vmr.open_index(copy)) == 3


def test_a_killed_rebuild_leaves_the_old_index(copy, footage):
    """The process is killed as soon as it has begun to embed, long before it could commit."""
    script = f"import vmr; print('go', flush=True); vmr.build_index({str(footage)!r}, {str(copy)!r}, overwrite=True)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(vmr.open_index(copy)) > 3


# Builders beside each other, foreign files, and a disk that is full


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Interfering(VideoTextEncoder):
    """A tiny encoder; before it embeds for the first time, it does something else."""

    def __init__(self, action) -> None:
        self.__dict__.update(make_encoder(tiny_model()).__dict__)
        self.action = action

    def encode_video(self, video):
        action, self.action = self.action, lambda: None
        action()
        return super().encode_video(video)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_build_that_fails_leaves_what_others_put_there(tmp_path, footage, is_new):
    def put_and_fail():
        (tmp_path / "index" / "notes").mkdir()
        (tmp_path / "index" / "notes" / "thesis.tex").write_text("years of work")
        raise KeyboardInterrupt

    if not is_new:
        (tmp_path / "index").mkdir()
    with pytest.raises(KeyboardInterrupt):
        vmr.build_index(footage, tmp_path / "index", Interfering(put_and_fail))
    assert (tmp_path / "index" / "notes" / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in (tmp_path / "index").iterdir()} == {".lock", "notes"}


RACER = """
import sys, time
from pathlib import Path
import vmr
from tests.models import make_encoder, tiny_model
from vmr.retrieval.updating import folder

videos, out, name, overwrite = sys.argv[1:]
real = folder.locked_folder

def late(place, busy):
    '''Both have looked at the folder; the second waits until the first has finished.'''
    Path(out).with_name(f"{name} looked").touch()
    while not Path(out).with_name("go " + name).exists():
        time.sleep(0.01)
    return real(place, busy)

folder.locked_folder = late
try:
    encoder, window_s = make_encoder(tiny_model()), {"a": 4.0, "b": 5.0, "c": 5.0}[name]
    print(len(vmr.build_index(videos, out, encoder, window_s=window_s, overwrite=overwrite == "yes")))
except vmr.VmrError as error:
    print(f"refused: {error}")
"""


def test_of_several_builders_the_later_replace_nothing_unless_asked(tmp_path, footage):
    """All find no index; the others get the lock only after the first has committed its index."""
    out = tmp_path / "index"
    options = {"a": "no", "b": "no", "c": "yes"}
    racers = {name: launch("-c", RACER, footage, out, name, option) for name, option in options.items()}
    while not all((tmp_path / f"{name} looked").exists() for name in racers):
        time.sleep(0.01)
    said, window_s = {}, {}
    for name, racer in racers.items():
        (tmp_path / f"go {name}").touch()
        said[name] = finish(racer)
        window_s[name] = vmr.open_index(out).info.window_s
        assert verify(out) == []
    assert int(said["a"]) > 3
    assert said["b"] == (
        f"refused: {out} was built with window_s 4, not 5: give the same, name another folder, or start anew with "
        "--overwrite (overwrite=True)\n"
    )
    assert int(said["c"]) > 3
    assert window_s == {"a": 4.0, "b": 4.0, "c": 5.0}


def test_a_full_disk_leaves_the_old_index(copy, footage):
    """As `ulimit -f 8` in a shell: no file may be larger than 8 KiB."""
    before = {name: content for name, content in listing(copy).items() if name == "index.db"}
    command = [Path(sys.executable).parent / "vmr-index", "build", footage, "--out", copy, "--overwrite"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: {copy}(/index\.db)?: cannot be (written|read): ", line)
    assert listing(copy).items() >= before.items()
    assert len(vmr.open_index(copy)) > 3
