"""Finding videos: by suffix or by content, and every other file is counted; nothing is passed over without a word."""

import contextlib
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

import vmr
from tests.integration.commands import run_here
from tests.paths import REPOSITORY
from tests.video_matrix import CONTAINERS, RECIPES, number_of, write_hanging, write_unreadable, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.video import VideoReader
from vmr.data.discovery.contents import describe_others, kind_of_other, suffix_kind
from vmr.data.discovery.find import FoundVideos, find_videos
from vmr.data.discovery.probe import probe_durations
from vmr.data.media import VIDEO_SUFFIXES
from vmr.errors import VideoError, VmrError

ONE_WORKER = DecodeOptions(num_workers=1)


@pytest.fixture(scope="module")
def containers(tmp_path_factory) -> dict[str, Path]:
    """A video of each suffix that has no recipe in the matrix."""
    folder = tmp_path_factory.mktemp("containers")
    return {suffix: write_video(folder / f"a{suffix}", recipe) for suffix, recipe in CONTAINERS.items()}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    return write_video(tmp_path_factory.mktemp("one") / "a.mp4").read_bytes()


def names(found: FoundVideos) -> set[str]:
    return {path.name for path in found}


def test_every_suffix_has_been_tried():
    tried = {recipe.suffix for recipe in RECIPES.values()} | set(CONTAINERS)
    assert set(VIDEO_SUFFIXES) - tried == {".dv"}  # the pictures of the matrix are too small for it


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_kind_is_found_and_read_whatever_its_name(containers, tmp_path, suffix):
    """By its suffix in any case; and without a suffix or with a wrong one, by its content."""
    ways = [f"a{suffix}", f"b{suffix.upper()}", "c", "d.txt", "e.dat", "clip.2024-11-26 10.30"]
    # FFmpeg itself lets the name decide about kinds of files that it is not sure about.
    ways += (
        ["f.jpg"] if suffix in (".mts", ".3gp", ".mxf", ".asf", ".rm", ".ogv", ".y4m", ".nut", ".qt", ".ivf") else []
    )
    for name in ways:
        shutil.copy(containers[suffix], tmp_path / name)
    found = find_videos(tmp_path, ONE_WORKER)
    assert names(found) == set(ways)
    assert (found.other_files, found.failures) == ({}, ())
    for path in found:
        with VideoReader(path) as reader:
            assert [number_of(frame) for frame in reader.frames_at(range(reader.num_frames))] == list(range(12))


def test_the_documents_list_every_suffix():
    page = (REPOSITORY / "docs/search.md").read_text()
    (listed,) = re.findall(r"is a video: `([^`]+)`", page)
    assert tuple(listed.split()) == VIDEO_SUFFIXES


def test_a_video_named_as_a_picture_is_decoded_as_a_video(video, tmp_path):
    (tmp_path / "a.jpg").write_bytes(video)
    (tmp_path / "a.mp4").write_bytes(video)
    as_picture, as_video = (list(read_segments(tmp_path / name, FrameSpec(3, 64))) for name in ("a.jpg", "a.mp4"))
    assert [(segment.start_s, segment.end_s) for segment in as_picture] == [(0.0, 2.4)]
    assert np.array_equal(as_picture[0].video, as_video[0].video)
    Image.new("RGB", (64, 64)).save(tmp_path / "b.jpg")
    (still,) = read_segments(tmp_path / "b.jpg", FrameSpec(3, 32))
    assert (still.end_s, still.video.max()) == (0.0, 0)


def others_of_many_kinds(folder: Path) -> list[str]:
    """Files that are no videos: their names."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff", ".ico"):
        picture.save(folder / f"picture{suffix}")
    if features.check("avif"):  # FFmpeg takes it for a video of one frame
        picture.save(folder / "picture.avif")
    picture.save(folder / "picture", "JPEG")
    picture.save(folder / "thumbnail.thm", "JPEG")
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(5000)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("a.mp4", b"a video in an archive is not searched")
    np.save(folder / "features.npy", np.arange(1000))
    contents = {
        "phone.HEIC": heic,
        "captions.srt": "1\n00:00:00,000 --> 00:00:04,000\nein Kätzchen, 猫\n".encode(),
        "umlauts.txt": ("ä" * 4095).encode(),  # the first 4096 bytes end within a character
        "latin.txt": "caf\xe9".encode("latin-1") * 400,
        "wide.txt": "a man is cooking".encode("utf-16"),
        "empty": b"",
        "empty.json": b"",
        "document.pdf": b"%PDF-1.7\n\xe2\xe3\xcf\xd3\n",
        "program": b"\x7fELF" + bytes(200),
        "script.sh": b"#!/bin/sh\necho YUV4MPEG2 \n",
        "noise.bin": np.random.default_rng(0).bytes(100_000),
        "zeros.bin": bytes(10_000),
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.mp4\n#EXT-X-ENDLIST\n",
        "half.mp4.part": b"\0\0\0\x18ftypmp42",
        "half.webm.crdownload": b"\x1a\x45\xdf\xa3",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [path.name for path in folder.iterdir()]


def test_files_that_are_no_videos_are_counted_by_kind(tmp_path, video):
    others = others_of_many_kinds(tmp_path)
    (tmp_path / "sound").write_bytes(
        write_unreadable(Path(tempfile.mkdtemp(dir=tmp_path.parent)))["sound.mp4"].read_bytes()
    )
    (tmp_path / "a.mp4").write_bytes(video)
    (tmp_path / "finished.tmp").write_bytes(video)  # who knows whether more will follow
    found = find_videos(tmp_path, ONE_WORKER)
    expected = Counter(suffix_kind(Path(name)) for name in [*others, "sound", "finished.tmp"])
    assert (names(found), found.failures) == ({"a.mp4"}, ())
    assert found.other_files == dict(expected)
    assert list(found.other_files.items())[:2] == [("no suffix", 4), (".txt", 3)]


@given(head=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_the_first_bytes_never_fail(head):
    path = Path(tempfile.gettempdir(), f"vmr-head-{os.getpid()}")
    try:
        path.write_bytes(head)
        assert kind_of_other(path) in (None, "no suffix")
    finally:
        path.unlink()


def test_kinds_are_suffixes():
    kinds = {"a.JPG": ".jpg", "a.tar.gz": ".gz", "Makefile": "no suffix", "1. Our holidays in spring": "no suffix"}
    kinds |= {"a.": "no suffix", "a.caf\xe9": "no suffix", "a.b\nc": "no suffix", "x.mp4~": ".mp4~", "b.!qB": ".!qb"}
    assert {name: suffix_kind(Path(name)) for name in kinds} == kinds


def test_counts_in_words():
    assert describe_others({}) == ""
    assert describe_others({".txt": 1}) == "1 other file skipped: .txt 1"
    assert describe_others({".txt": 5, ".jpg": 2}) == "7 other files skipped: .txt 5, .jpg 2"
    many = {f".{n}": 20 - n for n in range(10)}
    assert describe_others(many).endswith(
        "skipped: .0 20, .1 19, .2 18, .3 17, .4 16, .5 15, .6 14, .7 13, of other kinds 23"
    )


# Files and folders that are none


def make_socket(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    here = os.open(".", os.O_RDONLY)
    try:  # the path of a socket may have 107 bytes only
        os.chdir(path.parent)
        made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)
    return made


def test_fifos_sockets_and_devices_are_named_at_once(tmp_path, video):
    os.mkfifo(tmp_path / "live.mp4")
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(make_socket(tmp_path / "s.mkv")), contextlib.closing(make_socket(tmp_path / "socket")):
        (tmp_path / "zero").symlink_to("/dev/zero")
        (tmp_path / "null.mp4").symlink_to("/dev/null")
        (tmp_path / "a.mp4").write_bytes(video)
        start = time.monotonic()
        found = find_videos(tmp_path)
        assert found.other_files == {"device": 1, "fifo": 1, "socket": 1}
        assert names(found) == {"a.mp4", "live.mp4", "null.mp4", "s.mkv"}
        for name, kind in {"live.mp4": "fifo", "null.mp4": "device", "s.mkv": "socket"}.items():
            with pytest.raises(VideoError, match=f"{name}: is a {kind}, not a video file"):
                VideoReader(tmp_path / name)
            with pytest.raises(VideoError, match=f"{name}.jpg: is a {kind}, not a picture"):
                (tmp_path / f"{name}.jpg").symlink_to(name)
                list(read_segments(tmp_path / f"{name}.jpg", FrameSpec(1, 32)))
        assert time.monotonic() - start < 20


def test_links(tmp_path, video):
    (tmp_path / "a.mp4").write_bytes(video)
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    (tmp_path / "soft").symlink_to("a.mp4")
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "folder").symlink_to(".")
    found = find_videos(tmp_path, ONE_WORKER)
    assert names(found) == {"a.mp4", "hard.mp4", "soft", "dangling.mp4", "round.mp4"}  # each name is a video of its own
    reasons = {Path(failure.path).name: failure.reason for failure in found.failures}
    assert set(reasons) == {"dangling", "round"}
    assert reasons["dangling"] == "cannot be read: No such file or directory"
    assert "symbolic links" in reasons["round"]
    for name, reason in {"dangling.mp4": "no such file", "round.mp4": "symbolic links"}.items():
        with pytest.raises(VideoError, match=reason):
            VideoReader(tmp_path / name)


@contextlib.contextmanager
def without_privileges(folder: Path):
    """Root may list every folder and read every file, so another user is needed."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_folder_that_cannot_be_listed_does_not_end_the_search(public_folder, video):
    (public_folder / "locked").mkdir()
    (public_folder / "locked/b.mp4").write_bytes(video)
    (public_folder / "a.mp4").write_bytes(video)
    (public_folder / "secret.dat").write_bytes(video)
    (public_folder / "secret.dat").chmod(0)
    (public_folder / "locked").chmod(0)
    try:
        with without_privileges(public_folder):
            found = find_videos(public_folder)
            with pytest.raises(VmrError, match="locked: cannot list this folder: Permission denied"):
                find_videos(public_folder / "locked")
    finally:
        (public_folder / "locked").chmod(0o700)
    assert names(found) == {"a.mp4"}
    assert found.unlisted == (public_folder / "locked",)  # the file that cannot be read is none of them
    assert [(Path(failure.path).name, failure.reason) for failure in found.failures] == [
        ("locked", "cannot list this folder: Permission denied"),
        ("secret.dat", "cannot be read: Permission denied"),
    ]


def test_a_folder_that_vanishes_does_not_end_the_search(tmp_path, video, monkeypatch):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.mp4").write_bytes(video)
    scandir = os.scandir

    def vanish(path):
        if Path(path) == tmp_path / "b":
            Path(path).rmdir()  # between the list of the folder above and this one
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanish)
    found = find_videos(tmp_path)
    assert names(found) == {"a.mp4"}
    assert [failure.reason for failure in found.failures] == ["cannot list this folder: No such file or directory"]
    assert found.unlisted == (tmp_path / "b",)


def test_hostile_files_without_a_suffix_are_failures(tmp_path, video):
    """FFmpeg runs in a worker process, which is ended when it hangs."""
    write_hanging(tmp_path / "hanging")
    (tmp_path / "unfinished").write_bytes(video[: len(video) // 2])  # without the index, which is at the end
    (tmp_path / "a").write_bytes(video)
    found = find_videos(tmp_path, DecodeOptions(num_workers=1, timeout_s=2))
    assert (names(found), found.other_files) == ({"a"}, {})
    assert {Path(failure.path).name: failure.reason for failure in found.failures} == {
        "hanging": "no answer for 2 s, decoder stopped",
        "unfinished": "mp4 without its index (moov): the recording or download did not finish",
    }
    assert threading.active_count() < 50


def test_nothing_to_find_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(
        VmrError, match=r"no video in this folder or below it; 2 other files skipped: \.txt 1, hidden 1$"
    ):
        find_videos(tmp_path)
    (tmp_path / "x").symlink_to("nowhere")
    with pytest.raises(VmrError, match=r"below it; 1 cannot be examined, first: .*/x: cannot be read: No such file"):
        find_videos(tmp_path)


# Several folders


def test_several_folders_are_searched_and_a_file_below_two_of_them_is_found_once(tmp_path, video, monkeypatch):
    for name in ("a/1.mp4", "a/in/2.mp4", "b/3.mp4", "c/4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(video)
    (tmp_path / "a/in/no").write_bytes(b"text")
    (tmp_path / "a/in/.hidden").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_videos([tmp_path / "b", tmp_path / "a", "a/in"])
    assert found == [tmp_path / name for name in ("a/1.mp4", "a/in/2.mp4", "b/3.mp4")]
    assert found.other_files == {"hidden": 1, "no suffix": 1}
    assert find_videos(("c", "b")) == [Path("b/3.mp4"), Path("c/4.mp4")]


def test_several_folders_are_an_error_where_all_are_empty_or_one_is_missing(tmp_path, video):
    for name in ("full", "empty", "void"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/a.mp4").write_bytes(video)
    assert names(find_videos([tmp_path / "empty", tmp_path / "full"])) == {"a.mp4"}
    with pytest.raises(VmrError, match=r"/empty, .*/void: no video in this folder or below it$"):
        find_videos([tmp_path / "empty", tmp_path / "void"])
    assert find_videos([tmp_path / "empty", tmp_path / "void"], may_be_empty=True) == []
    for folders, said in (([tmp_path / "full", tmp_path / "gone"], "gone: no such folder"), ([], "no folder given")):
        with pytest.raises(VmrError, match=said):
            find_videos(folders, may_be_empty=True)


# Lengths


def test_lengths_are_told_without_decoding(tmp_path):
    """Of every kind of file that states a length, or whose times can be read at both ends; equal to the decoded one."""
    lengths = {}
    for name, recipe in {**RECIPES, **CONTAINERS}.items():
        path = write_video(tmp_path / f"{name.strip('.')}{recipe.suffix}", recipe)
        with VideoReader(path) as reader:
            lengths[path] = reader.duration_s
    told = dict(zip(lengths, probe_durations(list(lengths), ONE_WORKER), strict=True))
    unknown = {path.suffix for path, length_s in told.items() if length_s is None}
    assert unknown == {".mkv", ".mjpeg", ".mjpg", ".h264", ".h265", ".hevc", ".m1v", ".m2v"}
    assert [path.stem for path, length_s in told.items() if path.suffix == ".mkv" and length_s is None] == [
        "h264_mkv_no_index"
    ]
    for path, length_s in told.items():
        assert length_s is None or length_s == pytest.approx(lengths[path], abs=0.041), path  # a picture lasts 0.04 s


def test_a_length_that_cannot_be_told_is_none_and_a_hanging_file_costs_its_timeout(tmp_path, video):
    (tmp_path / "a.mp4").write_bytes(video)
    (tmp_path / "cut.mp4").write_bytes(video[: len(video) // 2])
    (tmp_path / "text.mp4").write_text("text")
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "fifo.mp4")
    write_hanging(tmp_path / "hanging.mkv")
    paths = ["hanging.mkv", "a.mp4", "cut.mp4", "text.mp4", "empty.mp4", "fifo.mp4", "gone.mp4", "a.mp4"]
    start = time.monotonic()
    told = list(probe_durations([tmp_path / name for name in paths], DecodeOptions(num_workers=1, timeout_s=1)))
    assert told == [None, 2.4, None, None, None, None, None, 2.4]
    assert 1 <= time.monotonic() - start < 60
    assert list(probe_durations([])) == []


def test_a_clock_that_jumps_tells_no_length(tmp_path):
    """Two recordings in one file: by their times, the second began 26 hours after the first."""
    first = write_video(tmp_path / "1.ts", RECIPES["h264_ts"]).read_bytes()
    later = replace(RECIPES["h264_ts"], first_pts=25 * 95_000)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first + write_video(tmp_path / "2.ts", later).read_bytes())
    with VideoReader(joined) as reader:
        assert reader.duration_s == pytest.approx(4.8)
    assert list(probe_durations([joined, tmp_path / "1.ts", tmp_path / "2.ts"], ONE_WORKER)) == [
        None,
        pytest.approx(2.4),
        pytest.approx(2.4),
    ]


def test_lengths_come_while_others_are_asked_for_and_leaving_early_ends_the_workers(tmp_path, video):
    (tmp_path / "a.mp4").write_bytes(video)
    write_hanging(tmp_path / "hanging.mkv")
    before = threading.active_count()
    told = probe_durations([tmp_path / "a.mp4", *[tmp_path / "hanging.mkv"] * 5], ONE_WORKER)
    assert next(told) == 2.4
    start = time.monotonic()
    told.close()
    assert time.monotonic() - start < 8
    assert threading.active_count() == before


# The whole


def test_everything_in_a_folder_is_read_failed_or_skipped(tmp_path, video):
    """in = read + failed + skipped, by a count of the folder that knows nothing of videos."""
    folder = tmp_path / "messy"
    for place in ("", "a", "a/b", "deep/er"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    others_of_many_kinds(folder)
    write_unreadable(folder / "a")
    os.mkfifo(folder / "a/fifo.avi")
    os.mkfifo(folder / "a/b/fifo")
    (folder / "a/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "a/._good.mp4").write_bytes(b"\0\x05\x16\x07")
    (folder / "a/b/dangling.mov").symlink_to("nowhere")
    (folder / "deep/er/dangling").symlink_to("nowhere")
    good = [
        "a/whole.mp4",
        "good.mp4",
        "a/GOOD.MP4",
        "a/b/no_suffix",
        "deep/er/two\nlines.mkv",
        "deep/er/a.srt",
        "deep/er/double.mp4",
    ]
    for name in good:
        (folder / name).write_bytes(video)
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    strange.write_bytes(video)
    entries = [Path(at, name) for at, _, files in os.walk(folder) for name in files]

    index = vmr.build_index(
        folder,
        tmp_path / "index",
        "videomamba-nano-shapes",
        window_s=None,
        decode=DecodeOptions(num_workers=1, timeout_s=60),
    )
    assert set(index.videos) == {str(folder / name) for name in (*good, strange.name)}
    assert len(index.videos) + len(index.failures) + sum(index.other_files.values()) == len(entries)
    accounted = [*index.videos, *(failure.video for failure in index.failures)]
    assert len(set(accounted)) == len(accounted)
    assert {Path(video).name for video in accounted} - {Path(name).name for name in (*good, strange.name)} == {
        "zero.mp4", "random.mp4", "text.mp4", "no_moov.mp4", "sound.mp4", "fifo.avi", "dangling.mov", "dangling"
    }  # fmt: skip
    assert index.other_files["hidden"] == 2 and index.other_files["fifo"] == 1


def test_the_command_counts_and_tells_by_its_status(tmp_path, video):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.MTS").write_bytes(video)
    for name in ("1.txt", "2.TXT", "b.json"):
        (tmp_path / "videos" / name).write_text("text")
    build = ("vmr-index", "build", tmp_path / "videos", "--encoder", "videomamba-nano-shapes", "--fail-on-skip")
    whole = run_here(*build, "--out", tmp_path / "whole")
    assert whole.returncode == 0  # other files are no reason
    last = f"{tmp_path}/whole: 1 rows of 1 videos, 0 left out, 3 other files skipped: .txt 2, .json 1"
    assert whole.stdout.splitlines()[-1] == last

    (tmp_path / "videos/broken\n.mp4").write_bytes(b"text")
    lacking = run_here(*build, "--out", tmp_path / "lacking")
    assert lacking.returncode == 3
    last = f"{tmp_path}/lacking: 1 rows of 1 videos, 1 left out, 3 other files skipped: .txt 2, .json 1"
    assert lacking.stdout.splitlines()[-1] == last
    assert f"left out: {tmp_path}/videos/broken\\n.mp4: not a video that FFmpeg can read" in lacking.stderr.splitlines()
    assert len(vmr.open_index(tmp_path / "lacking")) == 1  # it is written all the same
    assert run_here(*build[:-1], "--out", tmp_path / "again").returncode == 0
    info = run_here("vmr-index", "info", tmp_path / "lacking").stdout
    assert ".txt 2, .json 1" in info
