"""Annotation files of training sets."""

import json

import pytest

from tests.paths import CLIPS
from vmr.data.annotations import json_list
from vmr.data.annotations.formats import KINDS, read_annotations
from vmr.data.annotations.records import Record
from vmr.errors import AnnotationError


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(*args, **kwargs):
    return list(read_annotations(*args, **kwargs))


def video(path, *captions, id=None, **more):
    return Record(path, path.rpartition("/")[2] if id is None else id, captions, **more)


# Rows


def test_json_lists(tmp_path):
    rows = [
        {"video": "v/a.mp4", "caption": " A cat, runs! ", "other": 1},
        {"video": "./b", "caption": ["a dog", "", "猫"]},
        {"video": "v/a.mp4", "caption": "a tom", "start_s": 1, "end_s": 2.5},
    ]
    assert read(write(tmp_path / "t.json", rows)) == [
        video("v/a.mp4", " A cat, runs! ", id="a"),
        video("b", "a dog", "", "猫"),
        video("v/a.mp4", "a tom", id="a", start_s=1.0, end_s=2.5),
    ]
    file = write(tmp_path / "i.json", "\ufeff\n[\n" + json.dumps({"image": "x.jpg", "caption": "a cat"}) + "\n]\n")
    assert read(file) == [video("x.jpg", "a cat", id="x", media="image")]


def test_paragraphs_are_joined_where_the_kind_says_so(tmp_path):
    file = write(tmp_path / "t.json", [{"video": "a.mp4", "caption": ["A man runs. ", " He stops."]}])
    assert read(file)[0].captions == ("A man runs. ", " He stops.")
    assert read(file, "json_paragraphs")[0].captions == ("A man runs. He stops.",)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_json_lists_in_pieces(tmp_path, monkeypatch, size):
    """A piece of the file may end anywhere: within a character of a text, a number, a word, an escape."""
    monkeypatch.setattr(json_list, "_PIECE", size)
    rows = [
        {"video": f"{n}.mp4", "caption": 'say "é\\u00e9 \\n"', "x": [n, -1.5e3, True, None, {"y": {}}]}
        for n in range(9)
    ]
    file = write(tmp_path / "t.json", json.dumps(rows, indent=1))
    assert list(json_list.json_items(file)) == rows
    assert [record.path for record in read(file)] == [f"{n}.mp4" for n in range(9)]


def test_json_lists_hold_what_json_has(tmp_path):
    """Numbers of any size, NaN, and half a surrogate pair, which other parsers refuse or silently change."""
    text = '[{"x": [1e400, -Infinity, 123456789012345678901234567890, 1.0, 1, -0.0], "caption": "\\ud800 \\u732b"}]\n'
    (row,) = json_list.json_items(write(tmp_path / "t.json", text))
    assert row == json.loads(text)[0]
    assert [type(number) for number in row["x"]] == [float, float, int, float, int, float]
    assert row["caption"] == "\ud800 猫"
    (number,) = json_list.json_items(write(tmp_path / "n.json", "[NaN]"))
    assert number != number


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_row_that_is_not_json_is_named_with_its_line(tmp_path, monkeypatch, size):
    monkeypatch.setattr(json_list, "_PIECE", size)
    for text, message in {
        '[\n1,\n{"a": 1,\n "b" 2}\n]': "row 2 is not JSON: Expecting ':' delimiter (line 4)",
        "[\n1,\n2\n3]": "row 3 is not JSON: expected a comma before it, or ] (line 4)",
        "[1, 2]\n\n[3]": "row 3 is not JSON: the list has ended before it (line 3)",
        "[1,\n": "row 2 is not JSON: Expecting value (line 2)",
        '{"a": 1}': "holds an object: expected a list of rows",
        "": "holds no JSON: expected a list of rows",
        "[]": "an empty list: there are no rows in it",
    }.items():
        file = write(tmp_path / "t.json", text)
        with pytest.raises(AnnotationError) as caught:
            list(json_list.json_items(file))
        assert str(caught.value) == f"{file}: {message}"


def test_json_lines(tmp_path):
    lines = ['{"video": "a.mp4", "caption": "a cat"}', "", '{"video": "b.mp4", "caption": ["x", "y"]}']
    assert read(write(tmp_path / "t.jsonl", "\n".join(lines))) == [
        video("a.mp4", "a cat", id="a"),
        video("b.mp4", "x", "y", id="b"),
    ]


def test_csv(tmp_path):
    text = 'id,caption,video\n1,"a cat, a dog",a.mp4\n\n2,"two\nlines",b\n3,,c\n'
    expected = [video("a.mp4", "a cat, a dog", id="a"), video("b", "two\nlines"), video("c", "")]
    assert read(write(tmp_path / "t.csv", text)) == expected
    assert read(write(tmp_path / "t.tsv", "image\tcaption\nx.png\ta cat, black\n")) == [
        video("x.png", "a cat, black", id="x", media="image")
    ]


def test_webvid(tmp_path):
    text = "videoid,contentUrl,duration,page_dir,name\n21179416,https://x/y.mp4,PT00H00M11S,006001_006050,Aerial shot\n"
    assert read(write(tmp_path / "w.csv", text)) == [video("006001_006050/21179416.mp4", "Aerial shot", id="21179416")]


def test_lsmdc(tmp_path):
    clips = ["3009_BATTLE_LOS_ANGELES_00.03.07.170-00.03.09.675", "1004_Juno_00.00.32.167-00.00.34.085"]
    lines = [f'{clip}\t0.1\t0.2\t0.3\t0.4\tSOMEONE says "hi, there.' for clip in (clips[0], clips[1], clips[0])]
    for name in ("LSMDC16_annos_training.csv", "lsmdc.txt"):
        records = read(write(tmp_path / name, "\n".join(lines) + "\n"))
        assert [record.path for record in records] == [
            f"3009_BATTLE_LOS_ANGELES/{clips[0]}",
            f"1004_Juno/{clips[1]}",
            f"3009_BATTLE_LOS_ANGELES/{clips[0]}",
        ]
        assert records[1] == video(f"1004_Juno/{clips[1]}", 'SOMEONE says "hi, there.', id=clips[1])


# Data sets


def test_msrvtt(tmp_path):
    content = {
        "info": {},
        "videos": [{"video_id": "video1", "split": "train"}, {"video_id": "video0", "split": "test"}],
        "sentences": [
            {"caption": "a cat", "video_id": "video1", "sen_id": 0},
            {"caption": "a dog", "video_id": "video0", "sen_id": 1},
            {"caption": "a tom", "video_id": "video1", "sen_id": 2},
        ],
    }
    file = write(tmp_path / "MSRVTT_data.json", content)
    assert read(file) == [video("video1", "a cat", "a tom"), video("video0", "a dog")]
    only = write(tmp_path / "MSRVTT_train.9k.csv", "video_id\nvideo1\n")
    assert read(file, only=only) == [video("video1", "a cat", "a tom")]
    test = write(tmp_path / "test.csv", "key,vid_key,video_id,sentence\nret0,msr1,video1,a cat\n")
    assert read(test) == [video("video1", "a cat")]
    assert read(file, only=test) == [video("video1", "a cat", "a tom")]


def test_msvd_and_vatex(tmp_path):
    assert read(write(tmp_path / "m.json", {"-4w_5_15": ["a cat", "a tom"], "x_1_2": ["a dog"]})) == [
        video("-4w_5_15", "a cat", "a tom"),
        video("x_1_2", "a dog"),
    ]
    rows = [{"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": ["a", "b"], "chCap": ["一"]}]
    assert read(write(tmp_path / "v.json", rows)) == [video("Ptf_2VRj-V0_000122_000132", "a", "b")]


def test_activitynet(tmp_path):
    row = {"duration": 9.0, "timestamps": [[0.5, 4], [7, 6.5]], "sentences": ["A man runs.", " He stops."]}
    file = write(tmp_path / "a.json", {"v_x": row})
    assert read(file) == [video("v_x", "A man runs. He stops.")]
    assert read(file, "activitynet_sentences") == [
        video("v_x", "A man runs.", start_s=0.5, end_s=4),
        video("v_x", "He stops.", start_s=6.5, end_s=7),  # the file has them the wrong way round
    ]


def test_didemo(tmp_path):
    rows = [
        {"video": "b.mov", "description": "the man sits", "times": [[0, 0], [1, 2], [1, 2], [0, 0]]},
        {"video": "a.avi", "description": "a dog", "times": [[5, 5]]},
        {"video": "b.mov", "description": "he stands", "times": [[3, 3], [0, 1], [3, 3]]},
    ]
    file = write(tmp_path / "d.json", rows)
    assert read(file) == [video("b.mov", "the man sits he stands", id="b"), video("a.avi", "a dog", id="a")]
    assert read(file, "didemo_sentences") == [
        video("b.mov", "the man sits", id="b", start_s=0.0, end_s=5.0),  # two for each: the first named
        video("a.avi", "a dog", id="a", start_s=25.0, end_s=30.0),
        video("b.mov", "he stands", id="b", start_s=15.0, end_s=20.0),
    ]


# Splits


def test_a_split_by_names_with_and_without_suffixes(tmp_path):
    rows = [{"video": name, "caption": "c"} for name in ("v/a.mp4", "a.avi", "b", "c.mov", "d.mp4")]
    file = write(tmp_path / "t.json", rows)
    names = {"a.mp4\nb.mp4\n": ["v/a.mp4", "b"], "a\n\nd\n": ["v/a.mp4", "a.avi", "d.mp4"], "video\nc.mov": ["c.mov"]}
    for text, expected in names.items():
        assert [record.path for record in read(file, only=write(tmp_path / "l.txt", text))] == expected


def test_a_split_that_does_not_fit(tmp_path):
    file = write(tmp_path / "t.json", [{"video": "a.mp4", "caption": "c"}])
    with pytest.raises(AnnotationError, match=r"t\.json: lacks 2 of the 3 videos in .*l\.txt, first: b"):
        read(file, only=write(tmp_path / "l.txt", "a\nb\nc\n"))
    with pytest.raises(AnnotationError, match=r"l\.txt: not a list of videos"):
        read(file, only=write(tmp_path / "l.txt", '[{"video": "a"}]'))
    with pytest.raises(AnnotationError, match=r"l\.csv: no column 'video_id'"):
        read(file, only=write(tmp_path / "l.csv", "a,b\n1,2\n"))


# What is wrong


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "[]", "an empty list"),
        ("t.json", "[", "row 1 is not JSON"),
        ("t.json", '[{"video": "a", "caption": "c"}', "row 2 is not JSON: expected a comma"),
        ("t.json", '[{"video": "a", "caption": "c"} {"video": "b"}]', "row 2 is not JSON: expected a comma"),
        ("t.json", '[{"video": "a", "caption": "c"}, {"video": ]', "row 2 is not JSON: Expecting value"),
        ("t.json", '["a.mp4"]', "row 1 is 'a.mp4': expected an object"),
        ("t.json", [{"video": "a", "caption": "c"}, {"caption": "c"}], 'row 2 has no "video" or "image"'),
        ("t.json", [{"video": "a", "caption": "c"}, {"video": "b"}], r'row 2 has no "caption" \(its keys: video\)'),
        ("t.json", [{"video": "a", "image": "b", "caption": "c"}], 'row 1 has both "video" and "image"'),
        ("t.json", [{"video": 7, "caption": "c"}], 'row 1: "video" is 7: expected a path'),
        ("t.json", [{"video": "a", "caption": []}], r'row 1: "caption" is \[\]: expected a text'),
        ("t.json", [{"video": "a", "caption": ["c", 1]}], r"row 1: .* expected a text or a list of texts"),
        ("t.json", [{"video": "a", "caption": "c", "start_s": 2, "end_s": 1}], "row 1: a: no moment lasts from 2"),
        ("t.json", [{"video": "a", "caption": "c", "start_s": "x", "end_s": 1}], "row 1: \"start_s\" is 'x'"),
        ("t.json", {"train": [{"video": "a"}]}, r"by its keys \(train\)"),
        ("t.json", '{"video": "a", "caption": "c"}\n{"video": "b", "caption": "c"}', r"line 2 .*kind jsonl"),
        ("t.json", {"sentences": [{"caption": "c"}]}, '"sentences" 1 has no "video_id"'),
        ("t.json", {"sentences": []}, '"sentences" is .*: expected a list that is not empty'),
        ("t.json", {"v_x": {"sentences": "text"}}, 'v_x: "sentences" is .*: expected a list'),
        ("t.json", {"a": ["c"], "b": "c", "c": [1]}, r't\.json: "c" is \[1\]: expected a text'),
        ("t.json", [{"videoID": "x"}], r'row 1 has no "enCap" \(its keys: videoID\)'),
        ("t.json", [{"video": "x", "description": "y", "times": [], "caption": "z"}], "could be json or didemo"),
        ("t.jsonl", '{"video": "a", "caption": "c"}\n{', "line 2 is not JSON"),
        ("t.csv", "a,b,c\n1,2,3\n", "cannot tell its format by its first line"),
        ("t.csv", "video,caption\n", "there are no captions in it"),
        ("t.json", {}, "by its keys .none."),
        ("t.csv", "", "cannot tell its format by its first line"),
        ("t.csv", "video_id\nvideo1\n", "names videos but holds no captions"),
        ("t.txt", "video1\nvideo2\n", "names videos but holds no captions"),
        ("t.csv", "video,caption\na.mp4,a cat, a dog\n", "line 2 has 3 values for 2 columns; quote"),
        ("t.csv", "video,caption\na.mp4\n", "line 2 has 1 values for 2 columns"),
        ("t.csv", "video,caption\n,c\n", 'line 2 has no "video" or "image"'),
        ("t.csv", f'video,caption\na.mp4,"{"x" * 200_000}"\n', "is no row of a table: field larger"),
        ("t.csv", "videoid,page_dir,name,video,caption\n1,2,3,4,5\n", "could be csv or webvid .*: give its kind"),
        ("t.csv", "a\t1\t2\t3\t4\tc\n", "line 1 is not LSMDC's"),
        ("t.csv", "F_0.1\t1\t2\t3\t4\tc\nF_0.2\tc\n", "line 2 is not LSMDC's"),
        ("t.bin", "x", "cannot tell its format: give its kind"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, name, content, message):
    file = write(tmp_path / name, content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_than_said(tmp_path):
    file = write(tmp_path / "t.json", [{"video": "a.mp4", "caption": "c"}])
    for kind in sorted(set(KINDS) - {"json", "json_paragraphs", "jsonl"}):
        with pytest.raises(AnnotationError, match=r"t\.json"):
            read(file, kind)
    with pytest.raises(AnnotationError, match="no annotation format 'jsn': choose auto, json, "):
        read(file, "jsn")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"video,caption\na.mp4,caf\xe9\n")
    with pytest.raises(AnnotationError, match=r"t\.csv: not UTF-8 text"):
        read(tmp_path / "t.csv")
    with pytest.raises(AnnotationError, match=r"none\.json: cannot read this annotation file: No such file"):
        read(tmp_path / "none.json")


# The published files


REAL = CLIPS / "annotations"
COUNTS = [  # file, kind, list of the split: rows, captions, different videos
    ("msrvtt/MSRVTT_JSFUSION_test.csv", "auto", None, (1000, 1000, 1000)),
    ("msrvtt/train9k_one_caption_fold1.csv", "auto", None, (2250, 2250, 2250)),
    ("msvd/captions_msvd.json", "auto", None, (1970, 80_827, 1970)),
    ("msvd/captions_msvd.json", "auto", "msvd/train_list.txt", (1200, 48_774, 1200)),
    ("msvd/captions_msvd.json", "auto", "msvd/val_list.txt", (100, 4290, 100)),
    ("msvd/captions_msvd.json", "auto", "msvd/test_list.txt", (670, 27_763, 670)),
    ("activitynet/2dtan_train.json", "auto", "activitynet/collaborative-experts_train_list.txt", (10_009,) * 3),
    ("activitynet/2dtan_train.json", "activitynet_sentences", None, (37_421, 37_421, 10_009)),
    ("activitynet/2dtan_val.json", "auto", "activitynet/collaborative-experts_val_1_list.txt", (4917,) * 3),
    ("activitynet/2dtan_test.json", "auto", "activitynet/collaborative-experts_val_2_list.txt", (4885,) * 3),
    ("didemo/val_data.json", "didemo_sentences", None, (4180, 4180, 1094)),
    ("didemo/val_data.json", "auto", "didemo/collaborative-experts_val_list.txt", (1065,) * 3),
    ("didemo/test_data.json", "didemo_sentences", None, (4021, 4021, 1037)),
    ("didemo/test_data.json", "auto", "didemo/collaborative-experts_test_list.txt", (1004,) * 3),
]


@pytest.mark.parametrize(("file", "kind", "only", "counts"), COUNTS, ids=lambda value: str(value).rpartition("/")[2])
def test_the_published_files(clips, file, kind, only, counts):
    records = read(REAL / file, kind, None if only is None else REAL / only)
    found = len(records), sum(len(record.captions) for record in records), len({record.path for record in records})
    assert found == counts


def test_the_published_files_read_right(clips):
    squirrel = read(REAL / "msvd/captions_msvd.json")[0]
    assert (squirrel.path, squirrel.captions[1]) == ("-4wsuPCjDBc_5_15", "a chipmunk is eating")
    dancer = read(REAL / "activitynet/2dtan_train.json")[0]
    assert dancer.captions[0].startswith(
        "A young woman is seen standing in a room and leads into her dancing. The girl"
    )
    machine = read(REAL / "didemo/val_data.json", "didemo_sentences")[0]
    # [[1, 1], [1, 1], [1, 1], [0, 0]]: the second piece of five seconds
    assert (machine.id, machine.start_s, machine.end_s) == ("35034348999@N01_6060447507_dc1a90b8ef", 5.0, 10.0)
    assert len(read(CLIPS / "test.json")) == 109
