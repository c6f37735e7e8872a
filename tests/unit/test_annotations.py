"""Annotation files and the video files they name."""

import json
from pathlib import Path

import pytest

from vmr.data.annotations import VideoItem, load_annotations, load_msrvtt_1ka, load_retrieval_set
from vmr.data.files import find_videos
from vmr.errors import AnnotationError, VmrError

REAL_CSV = Path(__file__).parents[3] / "shared/clips/annotations/msrvtt/MSRVTT_JSFUSION_test.csv"


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_rows(file, rows):
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def write_msrvtt_csv(file, num_rows=1000):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"ret{n},msr{n},video{7000 + n},sentence number {n}" for n in range(num_rows)]
    file.write_text("\n".join(["key,vid_key,video_id,sentence", *lines]) + "\n", encoding="utf-8")
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
        ({"video": "a"}, "holds a dict: expected a list"),
        ([], "an empty list"),
        ([GOOD_ROW, "a.mp4"], "row 2 is 'a.mp4': expected an object"),
        ([GOOD_ROW, {"image": "a.png", "caption": "c"}], r'row 2 has no "video" \(its keys: image, caption\)'),
        ([{"video": "a.mp4"}], r'row 1 has no "caption" \(its keys: video\)'),
        ([{"video": 7, "caption": "c"}], 'row 1: "video" is 7: expected a path'),
        ([{"video": " ", "caption": "c"}], "row 1: \"video\" is ' ': expected a path"),
        ([{"video": "a.mp4", "caption": 7}], 'row 1: "caption" is 7: expected a string or a list'),
        ([{"video": "a.mp4", "caption": ["c", None]}], 'row 1: "caption" is .* expected a string or a list'),
        ([{"video": "a.mp4", "caption": []}], 'row 1: "caption" is an empty list'),
        ([{"video": "a.mp4", "caption": ["c", " \n"]}], 'row 1: "caption" is blank'),
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
    with pytest.raises(AnnotationError, match=r"bad\.json: line 3 is not JSON"):
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


# MSRVTT 1k-A


@pytest.mark.parametrize(
    ("csv", "videos"),
    [
        ("MSRVTT_JSFUSION_test.csv", "."),
        ("annotation/MSRVTT_JSFUSION_test.csv", "videos/all"),
        ("msrvtt_data/MSRVTT_JSFUSION_test.csv", "MSRVTT_Videos"),
        ("a/b/c/MSRVTT_JSFUSION_test.csv", "a/b/c"),
    ],
)
def test_msrvtt_layouts(tmp_path, csv, videos):
    write_msrvtt_csv(tmp_path / csv)
    first, last = tmp_path / videos / "video7000.mp4", tmp_path / videos / "video7999.AVI"
    touch(first, last, tmp_path / videos / "video7001.npy", tmp_path / videos / "video1.mp4")
    loaded = load_msrvtt_1ka(tmp_path)
    assert loaded.name == "msrvtt-1ka"
    assert loaded.video_of_text == tuple(range(1000))
    assert loaded.texts[999] == "sentence number 999"
    assert loaded.videos[0] == VideoItem("video7000", first)
    assert loaded.videos[999] == VideoItem("video7999", last)
    assert loaded.videos[1] == VideoItem("video7001", None)


def test_msrvtt_split_folders_and_copies(tmp_path):
    write_msrvtt_csv(tmp_path / "MSRVTT_JSFUSION_test.csv")
    touch(tmp_path / "TrainValVideo/video7000.mp4", tmp_path / "TestVideo/video7001.mp4")
    touch(tmp_path / "compress_videos/video7000.mp4", tmp_path / "compress_videos/video7002.mp4")
    touch(tmp_path / "deep/er/video7001.mp4", tmp_path / "videos/all/video7003.mp4")
    touch(tmp_path / "compress_videos/video7003.mp4", tmp_path / "a/b/c/too_deep/video7004.mp4")
    assert [item.path for item in load_msrvtt_1ka(tmp_path).videos[:5]] == [
        tmp_path / "TrainValVideo/video7000.mp4",
        tmp_path / "TestVideo/video7001.mp4",
        tmp_path / "compress_videos/video7002.mp4",
        tmp_path / "videos/all/video7003.mp4",
        None,
    ]


def test_msrvtt_json_form(tmp_path):
    (tmp_path / "anns").mkdir()
    rows = [{"video": f"video{7000 + n}.mp4", "caption": f"c{n}"} for n in range(1000)]
    write_rows(tmp_path / "anns/msrvtt_ret_test1k.json", rows)
    touch(tmp_path / "videos/video7003.webm")
    loaded = load_msrvtt_1ka(tmp_path)
    assert loaded.videos[3] == VideoItem("video7003", tmp_path / "videos/video7003.webm")
    assert loaded.texts[3] == "c3"


def test_msrvtt_is_found_through_a_link(tmp_path):
    write_msrvtt_csv(tmp_path / "data/MSRVTT_JSFUSION_test.csv")
    touch(tmp_path / "disk/video7000.mp4")
    (tmp_path / "data/videos").symlink_to(tmp_path / "disk")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data")
    assert load_msrvtt_1ka(tmp_path / "data").videos[0].path == tmp_path / "data/videos/video7000.mp4"


@pytest.mark.parametrize("num_rows", [0, 999, 1001])
def test_msrvtt_count_is_checked(tmp_path, num_rows):
    write_msrvtt_csv(tmp_path / "MSRVTT_JSFUSION_test.csv", num_rows)
    with pytest.raises(AnnotationError, match=f"{num_rows} captions of {num_rows} videos, but MSRVTT 1k-A has 1000"):
        load_msrvtt_1ka(tmp_path)


def test_msrvtt_repeated_video_is_counted_once(tmp_path):
    file = write_msrvtt_csv(tmp_path / "MSRVTT_JSFUSION_test.csv")
    file.write_text(file.read_text().replace("video7001,", "video7000,"))
    with pytest.raises(AnnotationError, match="1000 captions of 999 videos"):
        load_msrvtt_1ka(tmp_path)


def test_msrvtt_what_is_missing_is_named(tmp_path):
    with pytest.raises(AnnotationError, match="nowhere: no such folder"):
        load_msrvtt_1ka(tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match=r"none of MSRVTT_JSFUSION_test\.csv, .* within 3 folder levels"):
        load_msrvtt_1ka(tmp_path)
    write_msrvtt_csv(tmp_path / "MSRVTT_JSFUSION_test.csv")
    with pytest.raises(AnnotationError, match=r"no MSRVTT test video \(video7000.mp4, \.\.\.\)"):
        load_msrvtt_1ka(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,video\nret0,video1\n", "no column 'video_id'"),
        ("", "no column 'video_id'"),
        ("key,vid_key,video_id,sentence\nret0,msr1,video1\n", "line 2 does not hold one value per column"),
        ("key,vid_key,video_id,sentence\nret0,msr1,video1,a cat, a dog\n", "line 2 does not hold one value"),
    ],
)
def test_msrvtt_bad_csv(tmp_path, text, message):
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        load_msrvtt_1ka(tmp_path)


@pytest.mark.skipif(not REAL_CSV.exists(), reason="the real MSRVTT_JSFUSION_test.csv is not here")
def test_the_real_msrvtt_file(tmp_path):
    (tmp_path / REAL_CSV.name).write_bytes(REAL_CSV.read_bytes())
    touch(tmp_path / "all/video9770.mp4")
    loaded = load_msrvtt_1ka(tmp_path)
    assert len(loaded.texts) == len({item.id for item in loaded.videos}) == 1000
    assert loaded.texts[0] == "a person is connecting something to system"
    assert loaded.videos[0] == VideoItem("video9770", tmp_path / "all/video9770.mp4")


# By name


def test_data_set_by_name_or_file(tmp_path):
    write_msrvtt_csv(tmp_path / "MSRVTT_JSFUSION_test.csv")
    touch(tmp_path / "video7000.mp4", tmp_path / "v/a.mp4")
    assert load_retrieval_set("msrvtt", data_dir=tmp_path).name == "msrvtt-1ka"
    file = write_rows(tmp_path / "mine.json", [{"video": "v/a.mp4", "caption": "c"}])
    beside = load_retrieval_set(str(file))
    assert beside == load_retrieval_set(file, video_dir=tmp_path)
    assert beside.videos == (VideoItem("v/a.mp4", tmp_path / "v/a.mp4"),)


def test_unknown_data_set_and_missing_folder(tmp_path):
    known = "known: msrvtt, shapes, shapes:order, shapes:passage, shapes:collision, shapes:twins"
    expected = f"unknown data set 'msrvt': did you mean 'msrvtt'? {known}, or a .json annotation file"
    with pytest.raises(AnnotationError) as caught:
        load_retrieval_set("msrvt", data_dir=tmp_path)
    assert str(caught.value) == expected
    with pytest.raises(AnnotationError, match="unknown data set 'zzz': known: msrvtt"):
        load_retrieval_set("zzz")
    with pytest.raises(AnnotationError, match="data set 'msrvtt' needs data_dir"):
        load_retrieval_set("msrvtt")


# Finding videos


def test_find_videos(tmp_path):
    touch(tmp_path / "b.mp4", tmp_path / "a/c.MKV", tmp_path / "a/notes.txt")
    touch(tmp_path / "._b.mp4", tmp_path / ".cache/d.mp4")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_videos(str(tmp_path)) == [tmp_path / "a/c.MKV", tmp_path / "b.mp4"]


def test_find_videos_says_what_is_wrong(tmp_path):
    with pytest.raises(VmrError, match="nowhere: no such folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(VmrError, match="no video files in this folder"):
        find_videos(tmp_path)
    touch(tmp_path / "a.mp4")
    with pytest.raises(VmrError, match=r"a\.mp4: not a folder"):
        find_videos(tmp_path / "a.mp4")
