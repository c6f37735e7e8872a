"""Protocols: those that come with vmr, finding their files in any layout, reading them, and reporting differences."""

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from vmr.data.annotations.locator import media_id
from vmr.data.annotations.retrieval_set import Choice, VideoItem
from vmr.errors import AnnotationError, VmrError
from vmr.eval.protocols.catalogue import FILE, PROTOCOLS, load_protocol, read_protocol
from vmr.eval.protocols.check import check_data
from vmr.eval.protocols.load import load_dataset
from vmr.eval.protocols.protocol import Protocol, Source, pairs_hash

CSV = 'key,vid_key,video_id,sentence\nret0,msr0,video7,a cat\nret1,msr1,video8,"A dog, runs "\n'


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def make(*sources, **fields):
    return Protocol("tiny", "Tiny", 1, "a test", "made up", sources, where="ask for it", **fields)


@pytest.fixture
def use(monkeypatch):
    """Make a protocol known by its name, `tiny`."""

    def use(made):
        monkeypatch.setitem(PROTOCOLS, "tiny", made)
        return made

    return use


TWO_ROWS = Source("test.csv", "msrvtt", num_videos=2, num_texts=2)


# The shipped ones


@pytest.mark.parametrize(
    ("name", "num_videos", "num_texts", "tokens", "sampling", "captions", "media"),
    [
        ("msrvtt", 1000, 1000, 32, "middle", "all", "video"),
        ("msrvtt-full", 2990, 59800, 32, "middle", "all", "video"),  # 2990 x 20
        ("msrvtt-mc", 2990, 14950, 32, "middle", "all", "video"),  # 2990 x 5
        ("didemo", 1004, 1004, 64, "trimmed30", "all", "video"),
        ("activitynet", 4917, 4917, 150, "middle", "all", "video"),
        ("lsmdc", 1000, 1000, 96, "middle", "all", "video"),
        ("msvd", 670, 27763, 64, "middle", "all", "video"),
        ("msvd-one", 670, 670, 64, "middle", "first", "video"),
        ("vatex", 1500, 15000, 32, "middle", "all", "video"),  # 1500 x 10
        ("ssv2-label", 2088, None, 25, "middle", "shared", "video"),
        ("ssv2-template", 2088, 174, 25, "middle", "shared", "video"),  # 174 x 12
        ("flickr30k", 1000, 5000, 32, "middle", "all", "image"),
        ("coco", 5000, 25010, 32, "middle", "all", "image"),
    ],
)
def test_published_counts_and_rules(name, num_videos, num_texts, tokens, sampling, captions, media):
    known = load_protocol(name)
    assert (known.name, known.num_videos, known.num_texts) == (name, num_videos, num_texts)
    assert (known.max_text_tokens, known.sampling, known.captions) == (tokens, sampling, captions)
    assert (known.media, known.num_frames, known.rerank_depth) == (media, 1 if media == "image" else None, 128)
    assert known.needs_time == name.startswith("ssv2")


def test_no_protocol_is_left_untested_and_no_two_are_alike():
    marks = test_published_counts_and_rules.pytestmark
    assert {row[0] for mark in marks for row in mark.args[1]} == set(PROTOCOLS)
    assert len({known.hash for known in PROTOCOLS.values()}) == len(PROTOCOLS)
    assert [split.name for split in load_protocol("msrvtt").train_splits] == ["9k", "7k"]


def test_hash_is_of_the_rules_and_not_of_the_wording():
    made = make(TWO_ROWS)
    assert len(made.hash) == 16
    assert replace(made, note="other words", title="T", where="elsewhere").hash == made.hash
    other = [
        {"sampling": "trimmed30"},
        {"max_text_tokens": 64},
        {"version": 2},
        {"rerank_depth": 64},
        {"num_frames": 8},
    ]
    assert len({made.hash, *(replace(made, **fields).hash for fields in other)}) == 6
    assert replace(made, sources=(replace(TWO_ROWS, texts_sha256="0" * 64),)).hash != made.hash


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling": "mid"}, "mid"),
        ({"captions": "some"}, "protocol tiny: captions must be one of all, first, shared"),
        ({"media": "image"}, "protocol tiny: a picture has one frame"),
        ({"max_text_tokens": 0}, "count from 1"),
        ({"rerank_depth": -1}, "rerank_depth cannot be negative"),
        ({"note": ""}, "needs a title, a note and a source"),
        ({"where": ""}, "does not say where to get them"),
    ],
)
def test_rules_that_make_no_sense(fields, message):
    with pytest.raises(VmrError, match=message):
        replace(make(TWO_ROWS), **fields)


def test_a_file_that_is_no_protocol_is_named(tmp_path):
    texts = {
        "unknown.yaml": "title: T\nversion: 1\nnote: n\nsource: s\nsources: []\ncolour: red\n",
        "kind.yaml": "title: T\nversion: 1\nnote: n\nsource: s\nwhere: w\nsources: [{file: a, kind: b}]\n",
        "hash.yaml": "title: T\nversion: 1\nnote: n\nsource: s\nwhere: w\n"
        "sources: [{file: a, kind: json, texts_sha256: abc}]\n",
        "empty.yaml": "",
    }
    for name, text in texts.items():
        with pytest.raises(VmrError, match=rf"{name}: not a protocol: "):
            read_protocol(write(tmp_path / name, text))


def test_a_protocol_file_of_ones_own(tmp_path):
    """The protocol is loaded by the path of its file, which also gives its name; the name must be new."""
    text = "title: Mine\nversion: 3\nnote: n\nsource: s\nwhere: w\ncaptions: first\n"
    text += "sources: [{file: t.json, kind: json}]\n"
    file = write(tmp_path / "rules/mine.yaml", text)
    rows = [{"video": "a.mp4", "caption": ["one", "two"]}, {"video": "b.mp4", "caption": "three"}]
    write(tmp_path / "data/t.json", rows)
    touch(tmp_path / "data/videos/b.mp4")
    expected = Protocol("mine", "Mine", 3, "n", "s", (Source("t.json", "json"),), where="w", captions="first")
    for name in (file, str(file)):
        assert load_protocol(name) == expected
        loaded = load_dataset(name, data_dir=tmp_path / "data")
        assert (loaded.protocol, loaded.data.name, loaded.data.texts) == (expected, "mine", ("one", "three"))
        assert loaded.data.videos == (VideoItem("a", None), VideoItem("b", tmp_path / "data/videos/b.mp4"))
    with pytest.raises(AnnotationError, match=r"mine\.yaml' needs data_dir alone"):
        load_dataset(file)
    with pytest.raises(VmrError, match=r"gone\.yaml: cannot read this protocol: No such file"):
        load_protocol(tmp_path / "gone.yaml")
    with pytest.raises(VmrError, match=r"msrvtt\.yaml: vmr has a protocol 'msrvtt' of its own: give the file another"):
        load_protocol(write(tmp_path / "msrvtt.yaml", text))


def test_the_example_in_the_documentation_is_a_protocol(tmp_path):
    import vmr.eval.protocols

    (example,) = re.findall(r"A whole example:\n\n(.*?)\n\n", vmr.eval.protocols.__doc__, re.DOTALL)
    read = load_protocol(write(tmp_path / "mine.yaml", dedent(example)))
    assert (read.title, read.num_videos, read.max_text_tokens) == ("My clips", 500, 32)


# Finding files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all/video9770.mp4", "video9770"),
        ("video9770", "video9770"),
        ("clip.12_30", "clip.12_30"),
        ("FILM_00.01.02.345-00.01.05.678.avi", "FILM_00.01.02.345-00.01.05.678"),
        ("a@N03_1_c.", "a@N03_1_c"),
        ("a.3gp", "a"),
        ("a.MOV.mp4", "a"),
        ("val2014/COCO_val2014_000000391895.jpg", "COCO_val2014_000000391895"),
    ],
)
def test_ids(name, expected):
    assert media_id(name) == expected


@pytest.mark.parametrize(
    ("csv", "videos"),
    [
        ("test.csv", "."),
        ("annotation/test.csv", "videos/all"),
        ("msrvtt_data/test.csv", "MSRVTT_Videos"),
        ("a/b/c/test.csv", "a/b/c"),
    ],
)
def test_layouts(tmp_path, use, csv, videos):
    made = use(make(TWO_ROWS))
    write(tmp_path / csv, CSV)
    touch(tmp_path / videos / "video7.AVI", tmp_path / videos / "video8.npy", tmp_path / videos / "video1.mp4")
    loaded = load_dataset("tiny", data_dir=tmp_path)
    assert loaded.protocol is made
    assert loaded.data.name == "tiny"
    assert loaded.data.texts == ("a cat", "A dog, runs ")  # letter by letter
    assert loaded.data.video_of_text == (0, 1)
    assert loaded.data.videos == (VideoItem("video7", tmp_path / videos / "video7.AVI"), VideoItem("video8", None))


def test_an_unlistable_folder_matters_only_if_something_is_missing(tmp_path, use, monkeypatch):
    made = use(make(TWO_ROWS))
    write(tmp_path / "test.csv", CSV)
    touch(tmp_path / "video7.M2TS", tmp_path / "lost+found/video8.mp4")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AnnotationError, match=r"lost\+found: cannot list this folder: Permission denied"):
        load_dataset("tiny", data_dir=tmp_path)
    checked = check_data(made, tmp_path)
    assert checked.missing == ("video8",) and "lost+found: cannot list" in checked.problems[-1]
    touch(tmp_path / "video8.ogv")
    videos = load_dataset("tiny", data_dir=tmp_path).data.videos
    assert [video.path.name for video in videos] == ["video7.M2TS", "video8.ogv"]
    assert check_data(made, tmp_path).complete


def test_copies_and_links(tmp_path, use):
    names = [f"video{n}" for n in range(5)]
    use(make(Source("test.json", "json", num_videos=5)))
    data = tmp_path / "compressed_disk/data"  # only folder names below the given folder mark copies
    write(data / "test.json", [{"video": f"{name}.mp4", "caption": name} for name in names])
    touch(data / "TrainValVideo/video0.mp4", data / "compress_videos/video0.mp4")
    touch(tmp_path / "disk/video1.mp4", data / "deep/er/video1.mp4")
    (data / "TestVideo").symlink_to(tmp_path / "disk")
    (data / "loop").symlink_to(data)
    touch(data / "compress_videos/video2.mp4", data / "a/b/c/too_deep/video3.mp4")
    touch(data / "compress_videos/video4.mp4", data / "videos/all/video4.webm")
    assert [video.path for video in load_dataset("tiny", data_dir=data).data.videos] == [
        data / "TrainValVideo/video0.mp4",
        data / "TestVideo/video1.mp4",
        data / "compress_videos/video2.mp4",
        None,
        data / "videos/all/video4.webm",
    ]


def test_a_file_of_the_very_name_is_preferred(tmp_path, use):
    use(make(Source("t.json", "json")))
    write(tmp_path / "t.json", [{"video": name, "caption": "c"} for name in ("a.mov", "b.3gp", "c.")])
    touch(tmp_path / "a.avi", tmp_path / "v/a.mov", tmp_path / "b.3gp.mp4", tmp_path / "c.mp4")
    assert [(video.id, video.path.name) for video in load_dataset("tiny", data_dir=tmp_path).data.videos] == [
        ("a", "a.mov"),
        ("b", "b.3gp.mp4"),
        ("c", "c.mp4"),
    ]


def test_pictures_are_not_looked_for_among_videos(tmp_path, use):
    use(make(Source("t.json", "json", num_videos=2, num_texts=3), media="image", num_frames=1))
    rows = [{"image": "val/a.jpg", "caption": ["x", "y"]}, {"image": "val/b.jpg", "caption": "z"}]
    write(tmp_path / "t.json", rows)
    touch(tmp_path / "images/a.jpg", tmp_path / "b.mp4")
    data = load_dataset("tiny", data_dir=tmp_path).data
    assert data.videos == (VideoItem("a", tmp_path / "images/a.jpg"), VideoItem("b", None))
    assert data.video_of_text == (0, 0, 1)


def test_the_preferred_file_and_the_list_beside_it(tmp_path, use):
    use(make(Source("all.json", "msvd", only=("test_list.txt",)), replace(TWO_ROWS, file="other.csv")))
    touch(tmp_path / "a.mp4", tmp_path / "video7.mp4")
    write(tmp_path / "sub/all.json", {"a": ["one", "two"], "b": ["three"]})
    with pytest.raises(AnnotationError, match=r"sub/all\.json is there, but no list of the split .*\(test_list\.txt\)"):
        load_dataset("tiny", data_dir=tmp_path)
    write(tmp_path / "other.csv", CSV)
    assert load_dataset("tiny", data_dir=tmp_path).data.texts == ("a cat", "A dog, runs ")
    write(tmp_path / "test_list.txt", "b\n")  # nearer, but maybe of another data set
    write(tmp_path / "sub/test_list.txt", "a\n")
    assert load_dataset("tiny", data_dir=tmp_path).data.texts == ("one", "two")


def test_what_is_missing_is_named(tmp_path, use):
    use(make(TWO_ROWS, Source("test.json", "json")))
    with pytest.raises(AnnotationError, match="nowhere: no such folder"):
        load_dataset("tiny", data_dir=tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match=r"none of test\.csv, test\.json within 3 folder levels; ask for it"):
        load_dataset("tiny", data_dir=tmp_path)
    write(tmp_path / "test.csv", CSV)
    with pytest.raises(AnnotationError, match="none of the 2 videos of Tiny within 3 folder levels, first: video7"):
        load_dataset("tiny", data_dir=tmp_path)


# What differs from the published


def test_counts_and_hashes_are_checked(tmp_path, use):
    file = write(tmp_path / "test.csv", CSV)
    touch(tmp_path / "video7.mp4")
    for fields, counts in (({"num_texts": 3}, "3 captions of 2 videos"), ({"num_videos": 1}, "2 captions of 1 videos")):
        use(make(replace(TWO_ROWS, **fields)))
        with pytest.raises(AnnotationError, match=rf"test\.csv: 2 captions of 2 videos, but Tiny has {counts}; write"):
            load_dataset("tiny", data_dir=tmp_path)
    published = pairs_hash([("video8", "A dog, runs "), ("video7", "a cat")])
    use(make(replace(TWO_ROWS, texts_sha256=published)))
    assert load_dataset("tiny", data_dir=tmp_path).data.texts[0] == "a cat"
    file.write_text(CSV.replace("a cat", "a Cat"))
    with pytest.raises(AnnotationError, match=rf"test\.csv: as many captions as Tiny has, .*expected {published[:16]}"):
        load_dataset("tiny", data_dir=tmp_path)


def test_a_repeated_video_is_counted_once(tmp_path, use):
    use(make(TWO_ROWS))
    write(tmp_path / "test.csv", CSV.replace("video8", "video7"))
    with pytest.raises(AnnotationError, match="2 captions of 1 videos, but Tiny has 2 captions of 2 videos"):
        load_dataset("tiny", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,video\nret0,video1\n", "no column 'video_id'"),
        ("key,vid_key,video_id,sentence\nret0,msr1,video1,a cat, a dog\n", "line 2 has 5 values for 4 columns"),
        ("key,vid_key,video_id,sentence\nret0,msr1,video1, \n", "video1: a blank caption"),
    ],
)
def test_bad_files_are_named(tmp_path, use, text, message):
    use(make(TWO_ROWS))
    write(tmp_path / "test.csv", text)
    with pytest.raises(AnnotationError, match=rf"test\.csv: .*{message}|test\.csv: {message}"):
        load_dataset("tiny", data_dir=tmp_path)


# Captions


def test_first_caption_of_each_video(tmp_path, use):
    use(make(Source("t.json", "json"), captions="first"))
    rows = [("a.mp4", ["one", "two"]), ("b.mp4", ["three"]), ("a.mp4", ["four"])]
    write(tmp_path / "t.json", [{"video": video, "caption": captions} for video, captions in rows])
    touch(tmp_path / "a.mp4")
    data = load_dataset("tiny", data_dir=tmp_path).data
    assert (data.texts, data.video_of_text) == (("one", "three"), (0, 1))


def test_shared_labels_have_several_right_videos(tmp_path, use):
    use(make(Source("t.json", "labels", num_videos=4, num_texts=2), captions="shared", needs_time=True))
    rows = [("1.webm", "falling"), ("2.webm", "rising"), ("3.webm", "falling"), (["2.webm", "4.webm"], "rising")]
    write(tmp_path / "t.json", [{"video": video, "caption": label} for video, label in rows])
    touch(tmp_path / "1.webm")
    data = load_dataset("tiny", data_dir=tmp_path).data
    assert data.texts == ("falling", "rising")
    assert data.video_of_text == ((0, 2), (1, 3))
    assert [video.id for video in data.videos] == ["1", "2", "3", "4"]
    assert data.needs_time


def test_multiple_choice(tmp_path, use):
    use(make(Source("t.json", "choices", num_videos=2, num_texts=5)))
    rows = [
        {"video": "a.mp4", "caption": ["x", "y", "z"], "answer": 1},
        {"video": "b.mp4", "caption": ["y", "w"], "answer": 1},
    ]
    write(tmp_path / "t.json", rows)
    touch(tmp_path / "a.mp4")
    data = load_dataset("tiny", data_dir=tmp_path).data
    assert data.texts == ("x", "y", "z", "y", "w")
    assert data.video_of_text == ((), 0, (), (), 1)  # the wrong choices are no queries
    assert data.choices == (Choice(0, (0, 1, 2), 1), Choice(1, (3, 4), 1))


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("choices", {"video": "a", "caption": ["x"]}, r'row 2 has no "answer" \(its keys: video, caption\)'),
        ("choices", {"video": "a", "caption": ["x", "y"], "answer": 2}, '"answer" is 2: expected a place from 0 to 1'),
        ("choices", {"video": "a", "caption": ["x", "y"], "answer": True}, '"answer" is True: expected a place'),
        ("choices", {"video": "a", "caption": "x", "answer": 0}, "\"caption\" is 'x': expected a list of texts"),
        ("choices", {"video": "", "caption": ["x"], "answer": 0}, "\"video\" is '': expected a path"),
        ("choices", {"video": "a", "caption": [" "], "answer": 0}, "row 2: a blank caption"),
        ("choices", "a.mp4", "row 2 is 'a.mp4': expected an object"),
        ("labels", {"video": [], "caption": "x"}, r'"video" is \[\]: expected a path or a list of paths'),
        ("labels", {"video": "a", "caption": ["x"]}, r"\"caption\" is \['x'\]: expected a text"),
        ("labels", {"video": "a", "caption": "\ud800"}, "holds half a surrogate pair"),
    ],
)
def test_bad_rows_of_tests(tmp_path, use, kind, row, message):
    use(make(Source("t.json", kind)))
    good = {"video": "g", "caption": ["x"] if kind == "choices" else "x", "answer": 0}
    write(tmp_path / "t.json", [good, row])
    with pytest.raises(AnnotationError, match=message) as caught:
        load_dataset("tiny", data_dir=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 't.json'}: ")


# By name


def test_everything_that_can_be_scored_has_a_protocol(tmp_path, monkeypatch):
    touch(tmp_path / "a.mp4")
    file = write(tmp_path / "mine.json", [{"video": "a.mp4", "caption": "c"}])
    loaded = load_dataset(str(file))
    assert (loaded.protocol, loaded.data.name) == (FILE, "mine")
    assert loaded == load_dataset(file, video_dir=tmp_path)
    monkeypatch.setenv("VMR_CACHE", str(tmp_path / "cache"))
    shapes = load_dataset("shapes:order")
    assert (shapes.protocol.name, shapes.protocol.version) == ("shapes:order", 2)
    assert shapes.protocol.num_videos == len(shapes.data.videos) == 300
    assert shapes.protocol.num_texts == len(shapes.data.texts) == 300


def test_unknown_names_and_missing_folders(tmp_path):
    with pytest.raises(
        AnnotationError, match=r"unknown data set 'MSRVT': did you mean 'msrvtt'\? known: activitynet, "
    ):
        load_dataset("MSRVT", data_dir=tmp_path)
    for options in ({}, {"video_dir": tmp_path}, {"video_dir": tmp_path, "data_dir": tmp_path}):
        with pytest.raises(AnnotationError, match="data set 'msrvtt' needs data_dir alone"):
            load_dataset("msrvtt", **options)


# The real annotation files

REAL = [("msrvtt", 1000, 1000), ("msvd", 670, 27763), ("activitynet", 4917, 4917), ("didemo", 1004, 1004)]


@pytest.mark.parametrize(("name", "num_videos", "num_texts"), [*REAL, ("msvd-one", 670, 670)])
def test_the_real_files_are_the_published_ones(clips, name, num_videos, num_texts):
    found = check_data(load_protocol(name), clips / "annotations" / name.removesuffix("-one"))
    assert (found.num_videos, found.num_texts, found.problems) == (num_videos, num_texts, ())
    assert found.texts_sha256 == found.expected_texts_sha256 is not None
    assert len(set(found.missing)) == num_videos  # not one of the videos is there
    assert not found.present
    assert not found.complete


@pytest.mark.parametrize(("name", "num_videos", "num_texts"), REAL)
def test_an_evaluation_of_the_real_files(clips, tmp_path, name, num_videos, num_texts):
    (tmp_path / "annotations").symlink_to(clips / "annotations" / name)
    videos = {
        "msrvtt": ["video9770.mp4"],
        "msvd": ["eyhzdC936uk_15_27.avi"],
        "activitynet": ["v_uqiMw7tQ1Cc.mkv"],
        "didemo": ["26292851@N04_4253489686_265c3c8051.m4v"],
    }
    touch(*(tmp_path / "videos" / video for video in videos[name]))
    data = load_dataset(name, data_dir=tmp_path).data
    assert (len(data.videos), len(data.texts)) == (num_videos, num_texts)
    assert [video.path.name for video in data.videos if video.path] == videos[name]
    first_texts = {
        "msrvtt": "a person is connecting something to system",
        "msvd": "a boy playing with dog",
        "activitynet": "A weight lifting tutorial is given. The coach helps the guy in red with the proper body "
        "placement and lifting technique.",
    }
    assert data.texts[0] == first_texts.get(name, data.texts[0])


def test_training_lists_are_told(clips):
    assert dict(check_data(load_protocol("msrvtt"), clips / "annotations/msrvtt").train_splits) == {
        "9k": f"{clips}/annotations/msrvtt/MSRVTT_train.9k.csv: 9000 videos",
        "7k": f"{clips}/annotations/msrvtt/MSRVTT_train.7k.csv: 7010 videos",
    }
