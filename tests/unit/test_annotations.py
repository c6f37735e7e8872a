"""Annotation files and the video files they name."""

import json

import pytest

from vmr.data.annotations.retrieval_set import Choice, RetrievalSet, VideoItem, load_annotations, load_retrieval_set
from vmr.data.discovery.find import find_videos
from vmr.errors import AnnotationError, VmrError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_rows(file, rows):
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


# The JSON format


def test_rows_of_one_video_are_merged(tmp_path):
    touch(tmp_path / "v/a.mp4", tmp_path / "v/b.avi")
    rows = [
        {"video": "a.mp4", "caption": " A cat, runs! "},
        {"video": "b", "caption": ["a dog", "a hound"]},
        {"video": "./a.mp4", "caption": "a tom"},
        {"video": "a", "caption": "a feline"},
    ]
    loaded = load_annotations(write_rows(tmp_path / "pets.json", rows), tmp_path / "v")
    assert loaded.name == "pets"
    assert loaded.texts == (" A cat, runs! ", "a dog", "a hound", "a tom", "a feline")
    assert loaded.video_of_text == (0, 1, 1, 0, 0)
    assert loaded.videos == (VideoItem("a.mp4", tmp_path / "v/a.mp4"), VideoItem("b", tmp_path / "v/b.avi"))


def test_missing_videos_have_no_path(tmp_path):
    touch(tmp_path / "here.mp4")
    rows = [{"video": name, "caption": name} for name in ("here.mp4", "gone.mp4", "lost")]
    loaded = load_annotations(write_rows(tmp_path / "t.json", rows), tmp_path)
    assert [item.path for item in loaded.videos] == [tmp_path / "here.mp4", None, None]


def test_ids_find_files_whatever_the_case_of_their_suffix(tmp_path):
    touch(tmp_path / "v/a.MP4", tmp_path / "b.Mts", tmp_path / "c.mp4")
    rows = [{"video": name, "caption": name} for name in ("v/a", "b.mts", "c.MP4", "v/a.mp4", "A")]
    loaded = load_annotations(write_rows(tmp_path / "t.json", rows), tmp_path)
    found = [tmp_path / "v/a.MP4", tmp_path / "b.Mts", tmp_path / "c.mp4", None]
    assert [item.path for item in loaded.videos] == found  # "v/a" and "v/a.mp4" are one video
    assert loaded.video_of_text == (0, 1, 2, 0, 3)


def test_other_keys_of_a_row_are_ignored(tmp_path):
    """Also those that mean something in training: an evaluation is over whole videos."""
    touch(tmp_path / "a.mp4")
    row = {"video": "a.mp4", "caption": "c", "image": "a.png", "start_s": "soon", "end_s": -1}
    loaded = load_annotations(write_rows(tmp_path / "t.json", [row]), tmp_path)
    assert (loaded.texts, loaded.videos) == (("c",), (VideoItem("a.mp4", tmp_path / "a.mp4"),))


def test_a_name_that_lost_its_suffix_but_not_the_dot(tmp_path):
    touch(tmp_path / "a.mov", tmp_path / "b..mov")
    rows = [{"video": name, "caption": "c"} for name in ("a.", "b.", "c.")]
    loaded = load_annotations(write_rows(tmp_path / "t.json", rows), tmp_path)
    assert [item.path for item in loaded.videos] == [tmp_path / "a.mov", tmp_path / "b..mov", None]


def test_absolute_paths_and_ids_with_dots(tmp_path):
    touch(tmp_path / "far/x.webm", tmp_path / "near/clip.12_30.mkv", tmp_path / "near/sub/y.mp4")
    rows = [{"video": name, "caption": "c"} for name in (str(tmp_path / "far/x.webm"), "clip.12_30", "sub/y.mp4")]
    loaded = load_annotations(write_rows(tmp_path / "t.json", rows), tmp_path / "near")
    assert [item.path for item in loaded.videos] == [
        tmp_path / "far/x.webm",
        tmp_path / "near/clip.12_30.mkv",
        tmp_path / "near/sub/y.mp4",
    ]


GOOD_ROW = {"video": "a.mp4", "caption": "a cat"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"video": "a"}, "holds an object: expected a list of rows"),
        ([], "an empty list"),
        ([GOOD_ROW, "a.mp4"], "row 2 is 'a.mp4': expected an object"),
        ([GOOD_ROW, {"image": "a.png", "caption": "c"}], r'row 2 has no "video" \(its keys: image, caption\)'),
        ([{"video": "a.mp4"}], r'row 1 has no "caption" \(its keys: video\)'),
        ([{"video": 7, "caption": "c"}], 'row 1: "video" is 7: expected a path'),
        ([{"video": " ", "caption": "c"}], "row 1: \"video\" is ' ': expected a path"),
        ([{"video": "a.mp4", "caption": 7}], 'row 1: "caption" is 7: expected a text or a list of texts'),
        ([{"video": "a.mp4", "caption": ["c", None]}], 'row 1: "caption" is .* expected a text or a list of texts'),
        ([{"video": "a.mp4", "caption": []}], 'row 1: "caption" is \\[\\]: expected a text or a list of texts'),
        ([{"video": "a.mp4", "caption": ["c", " \n"]}], "row 1: a blank caption: write one"),
        ([{"video": "a.mp4", "caption": "\ud800"}], "row 1: .* holds half a surrogate pair"),
        ([{"video": "b.mp4", "caption": "c"}], "none of its 1 videos is in .*, first: b.mp4"),
    ],
)
def test_bad_rows_are_named_in_one_line(tmp_path, rows, message):
    touch(tmp_path / "a.mp4")
    file = write_rows(tmp_path / "bad.json", rows)
    with pytest.raises(AnnotationError, match=message) as caught:
        load_annotations(file, tmp_path)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_broken_json_names_the_line(tmp_path):
    file = tmp_path / "bad.json"
    file.write_text('[\n{"video": "a.mp4"\n"caption": "c"}]')
    with pytest.raises(AnnotationError, match=r"bad\.json: row 1 is not JSON: Expecting ',' delimiter \(line 3\)"):
        load_annotations(file, tmp_path)


def test_file_that_is_not_text(tmp_path):
    file = tmp_path / "bad.json"
    file.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(AnnotationError, match=r"bad\.json: not UTF-8 text"):
        load_annotations(file, tmp_path)


def test_absent_file_and_absent_folder(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.json: cannot read this annotation file: No such file"):
        load_annotations(tmp_path / "none.json", tmp_path)
    file = write_rows(tmp_path / "t.json", [GOOD_ROW])
    with pytest.raises(AnnotationError, match="nowhere: no such folder"):
        load_annotations(file, tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match=r"t\.json: not a folder"):
        load_annotations(file, file)


# Several right videos, and questions

THREE = tuple(VideoItem(name, None) for name in "abc")


def test_a_text_may_be_about_several_videos_or_none():
    data = RetrievalSet("d", ("x", "y", "z"), (2, (0, 1), ()), THREE, choices=(Choice(2, (0, 2), 0),))
    assert [data.videos_of(text) for text in range(3)] == [(2,), (0, 1), ()]


@pytest.mark.parametrize(
    ("video_of_text", "choices", "message"),
    [
        ((0,), (), "d: 2 texts, but the videos of 1"),
        ((0, 3), (), "d: a text or question is about none of its 3 videos"),
        ((0, (1, -1)), (), "d: a text or question is about none of its 3 videos"),
        ((0, 1), (Choice(3, (0, 1), 0),), "d: a text or question is about none of its 3 videos"),
        ((0, 1), (Choice(0, (0, 2), 0),), "has choices or an answer that are not there"),
        ((0, 1), (Choice(0, (0, 1), 2),), "has choices or an answer that are not there"),
    ],
)
def test_numbers_that_name_nothing_are_refused(video_of_text, choices, message):
    with pytest.raises(AnnotationError, match=message):
        RetrievalSet("d", ("x", "y"), video_of_text, THREE, choices=choices)


# By name


def test_a_file_by_name(tmp_path):
    touch(tmp_path / "v/a.mp4")
    file = write_rows(tmp_path / "mine.json", [{"video": "v/a.mp4", "caption": "c"}])
    beside = load_retrieval_set(str(file))
    assert beside == load_retrieval_set(file, video_dir=tmp_path)
    assert beside.videos == (VideoItem("v/a.mp4", tmp_path / "v/a.mp4"),)
    with pytest.raises(AnnotationError, match="is an annotation file: say where its videos are by video_dir"):
        load_retrieval_set(file, data_dir=tmp_path)


def test_unknown_data_set():
    known = "known: shapes, shapes:order, shapes:passage, shapes:collision, shapes:twins"
    with pytest.raises(AnnotationError) as caught:
        load_retrieval_set("Shape")
    assert str(caught.value) == (
        f"unknown data set 'Shape': did you mean 'shapes'? {known}, or a .json annotation file"
    )
    with pytest.raises(AnnotationError, match="unknown data set 'zzz': known: shapes"):
        load_retrieval_set("zzz")


# Finding videos


def test_find_videos(tmp_path):
    touch(tmp_path / "b.mp4", tmp_path / "a/c.MKV", tmp_path / "a/notes.txt")
    touch(tmp_path / "._b.mp4", tmp_path / ".cache/d.mp4")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_videos(str(tmp_path)) == [tmp_path / "a/c.MKV", tmp_path / "b.mp4"]


def test_find_videos_says_what_is_wrong(tmp_path):
    with pytest.raises(VmrError, match="nowhere: no such folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(VmrError, match=r"no video in this folder or below it$"):
        find_videos(tmp_path)
    touch(tmp_path / "a.mp4")
    with pytest.raises(VmrError, match=r"a\.mp4: not a folder"):
        find_videos(tmp_path / "a.mp4")


def test_a_question_keeps_the_choices_that_are_about_videos_left_out():
    videos = tuple(VideoItem(name, None) for name in "ab")
    data = RetrievalSet("mc", ("x", "y"), (0, 1), videos, choices=(Choice(0, (0, 1), 0), Choice(1, (0, 1), 1)))
    left = data.restricted_to([0])
    assert (left.texts, left.video_of_text, left.choices) == (("x", "y"), (0, ()), (Choice(0, (0, 1), 0),))
