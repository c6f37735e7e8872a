"""Lists of labels of every format, written by hand: the right values, and one line for each mistake."""

import json
import re
from pathlib import Path

import pytest

from vmr.data.labels.label_set import LabelSet
from vmr.data.labels.read import read_labels
from vmr.errors import AnnotationError


def put(folder: Path, *clips: str, **lists: str) -> Path:
    """Make empty files for clips, and lists: `train_csv` becomes train.csv."""
    for clip in clips:
        file = folder / clip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name, text in lists.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return folder


def labels(found: LabelSet) -> dict[str, object]:
    return {item.id: item.label for item in found.items}


def one_line(error: pytest.ExceptionInfo[AnnotationError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_kinetics_list_with_everything_a_path_may_hold(tmp_path):
    put(tmp_path, "a.mp4", "b, c and d.MP4", 'e "f".mkv', "sub/g.webm", "h.mp4")
    text = '\ufeffa.mp4,0\r\nb, c and d.mp4,2\r\n"e ""f"".mkv",1\r\n\r\nsub/g.webm , 1\r\n'
    text += f"{tmp_path}/h.mp4,0\r\n./a.mp4,0\r\n"
    found = read_labels(put(tmp_path, train_csv=text) / "train.csv")
    assert labels(found) == {
        "a.mp4": 0,
        "b, c and d.mp4": 2,
        'e "f".mkv': 1,
        "sub/g.webm": 1,
        f"{tmp_path}/h.mp4": 0,
    }
    assert [Path(item.path) for item in found.items] == [
        tmp_path / "a.mp4",
        tmp_path / "b, c and d.MP4",
        tmp_path / 'e "f".mkv',
        tmp_path / "sub/g.webm",
        tmp_path / "h.mp4",
    ]
    assert (found.classes, found.num_outputs, found.target, found.media) == (None, 3, "single", "video")
    assert any("1 lines repeat" in note for note in found.notes)
    assert labels(read_labels(tmp_path)) == labels(found), "a folder with one list"


def test_breakfast_keeps_the_cameras_apart(tmp_path):
    put(tmp_path, "P03/cam01/P03_cereals.avi", "P03/cam02/P03_cereals.avi")
    put(tmp_path, test_csv="P03/cam01/P03_cereals.avi,2\nP03/cam02/P03_cereals.avi,2\n")
    found = read_labels(tmp_path, split="test")
    assert labels(found) == {"P03/cam01/P03_cereals.avi": 2, "P03/cam02/P03_cereals.avi": 2}


def test_official_kinetics_table(tmp_path):
    put(
        tmp_path,
        "train/riding a bike/-a_b_000010_000020.mp4",
        "train/abseiling/xyz.mp4",
        "train/zumba/q_000000_000010.mkv",
    )
    table = (
        "label,youtube_id,time_start,time_end,split\nriding a bike,-a_b,10,20,train\nzumba,q,0,10,train\n"
        "abseiling,xyz,3,13,train\nzumba,gone,5,15,train\n"
    )
    put(tmp_path, k400_train_csv=table, k400_val_csv="label,youtube_id,time_start,time_end,split\n")
    found = read_labels(tmp_path, split="train")
    assert found.classes == ("abseiling", "riding a bike", "zumba")
    assert [(Path(item.path).name, item.label) for item in found.items] == [
        ("-a_b_000010_000020.mp4", 1),
        ("q_000000_000010.mkv", 2),
        ("xyz.mp4", 0),
    ]
    assert [file.id for file in found.missing] == ["zumba/gone_000005_000015.mp4"]
    assert any("1 of 4 files are missing" in note and "gone" in note for note in found.notes)
    assert any(str(tmp_path / "train") in note for note in found.notes), "where the files were found"
    both = table + "zumba,q,20,30,validate\n"
    put(tmp_path, k600_csv=both)
    assert len(read_labels(tmp_path / "k600.csv", split="train").items) == 3


def test_something_lists(tmp_path):
    put(tmp_path, "20bn/74225.webm", "20bn/116154.webm")
    rows = [
        {"id": "74225", "label": "spinning cube", "template": "Spinning [something] that stops"},
        {"id": "116154", "label": "left", "template": "Pushing [something] left"},
    ]
    names = {"Pushing something left": "0", "Spinning something that stops": "1"}
    put(tmp_path, something_train_json=json.dumps(rows), labels_json=json.dumps(names))
    found = read_labels(tmp_path)
    assert labels(found) == {"74225.webm": 1, "116154.webm": 0}
    assert found.classes == tuple(names)
    put(tmp_path, something_test_json=json.dumps([{"id": "1"}]))
    with pytest.raises(AnnotationError, match="is there a label") as error:
        read_labels(tmp_path, split="test")
    one_line(error)
    put(tmp_path, space_txt="20bn/74225.webm 1\n20bn/116154.webm 0\n", short_txt="74225 1\n116154 0\n")
    assert labels(read_labels(tmp_path / "space.txt")) == {"20bn/74225.webm": 1, "20bn/116154.webm": 0}
    short = read_labels(tmp_path / "short.txt")
    assert [Path(item.path) for item in short.items] == [tmp_path / "20bn/74225.webm", tmp_path / "20bn/116154.webm"]


def test_folders_of_frames(tmp_path):
    put(tmp_path, "one/img_00001.jpg", "two of us/img_00001.jpg", train_txt="one 48 3\ntwo of us 61 0\n")
    found = read_labels(tmp_path)
    assert labels(found) == {"one": 3, "two of us": 0}
    assert Path(found.items[1].path) == tmp_path / "two of us"
    assert (found.media, found.num_outputs) == ("video", 4)
    with pytest.raises(AnnotationError, match=r"train.txt: line 2: .* is no number of frames: .* use|format space"):
        read_labels(put(tmp_path, bad_txt="one 48 3\ntwo 2\n") / "bad.txt", format="frames")


def test_lvu(tmp_path):
    put(tmp_path / "lvu/relation", "a.mp4", "b.mp4", test_csv="a.mp4,3,100\nb.mp4,0,30.5\n", whole_csv="a.mp4,3\n")
    trimmed = read_labels(tmp_path / "lvu/relation", split="test")
    assert [(item.id, item.label, item.start_s, item.end_s) for item in trimmed.items] == [
        ("a.mp4", 3, 0, 60),
        ("a.mp4", 3, 16, 76),
        ("a.mp4", 3, 32, 92),
        ("a.mp4", 3, 48, 100),
        ("a.mp4", 3, 64, 100),
        ("b.mp4", 0, 0, 30.5),
    ]
    assert trimmed.num_outputs == 4
    whole = read_labels(tmp_path / "lvu/relation/whole.csv")
    assert [(item.start_s, item.label) for item in whole.items] == [(None, 3)]
    assert whole.num_outputs == 4
    put(tmp_path / "lvu/relation", wrong_csv="a.mp4,4\n")
    with pytest.raises(AnnotationError, match="line 1: label 4 is above 3: there are 4 classes"):
        read_labels(tmp_path / "lvu/relation/wrong.csv")
    put(tmp_path / "view_count", "a.mp4", test_csv="a.mp4,-1.25,59\n")
    views = read_labels(tmp_path / "view_count")
    assert (views.target, views.num_outputs, views.classes) == ("regression", 1, None)
    assert views.items[0].label == (-1.25,)
    put(tmp_path / "like", "a.mp4", test_csv="a.mp4,7\n", named_csv="a.mp4,dog\n")
    likes = read_labels(tmp_path / "like/test.csv", assumed="single")
    assert (likes.target, likes.items[0].label) == ("regression", (7.0,)), "also whole numbers"
    assert read_labels(tmp_path / "like/named.csv").classes == ("dog",)
    assert read_labels(tmp_path / "like/test.csv", classes=list("abcdefgh")).items[0].label == 7
    for folder, classes in {"speak": 5, "scene": 6, "director": 10, "genre": 4, "writer": 10, "year": 9}.items():
        put(tmp_path / folder, "a.mp4", val_csv="a.mp4,0\n")
        assert read_labels(tmp_path / folder).num_outputs == classes


def test_ucf101(tmp_path):
    put(tmp_path / "UCF-101", "Archery/v_Archery_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi")
    lists = put(tmp_path / "lists", "x.txt", classInd_txt="1 Archery\n2 BandMarching\n3 YoYo\n")
    put(lists, trainlist01_txt="Archery/v_Archery_g01_c01.avi 1\n", testlist01_txt="YoYo/v_YoYo_g01_c01.avi\r\n")
    put(lists, testlist02_txt="Archery/v_Archery_g01_c01.avi\n")
    train, test = read_labels(lists, split="train"), read_labels(lists, split="test1")
    assert labels(train) == {"Archery/v_Archery_g01_c01.avi": 0}
    assert labels(test) == {"YoYo/v_YoYo_g01_c01.avi": 2}
    assert train.classes == test.classes == ("Archery", "BandMarching", "YoYo")
    with pytest.raises(AnnotationError, match=r"holds testlist01\.txt, testlist02\.txt"):
        read_labels(lists, split="test")


def test_hmdb51(tmp_path):
    put(tmp_path / "hmdb", "wave/a b.avi", "wave/c.avi", "wave/d.avi", "kick/e#1.avi", "kick/f.avi")
    lists = put(
        tmp_path / "splits",
        "x.rar",
        wave_test_split1_txt="a b.avi 1 \nc.avi 2 \nd.avi 0 \n",
        kick_test_split1_txt="e#1.avi 1 \nf.avi 2 \n",
        kick_test_split2_txt="e#1.avi 2 \n",
        wave_test_split2_txt="c.avi 1 \n",
    )
    assert labels(read_labels(lists, split="train1")) == {"kick/e#1.avi": 0, "wave/a b.avi": 1}
    test = read_labels(lists, split="test1")
    assert labels(test) == {"kick/f.avi": 0, "wave/c.avi": 1}
    assert test.classes == ("kick", "wave")
    assert labels(read_labels(lists, split="test2")) == {"kick/e#1.avi": 0}
    for split in (None, "train", "train3"):
        with pytest.raises(AnnotationError, match="HMDB51") as error:
            read_labels(lists, split=split)
        one_line(error)


def test_diving48(tmp_path):
    put(tmp_path / "rgb", "p0.mp4", "p1.mp4")
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Forward", "25som", "NoTwis", "PIKE"]]
    rows = [{"vid_name": "p0", "label": 1, "start_frame": 0, "end_frame": 9}, {"vid_name": "p1", "label": 0}]
    put(tmp_path, Diving48_train_json=json.dumps(rows), Diving48_vocab_json=json.dumps(vocabulary))
    found = read_labels(tmp_path, split="train")
    assert labels(found) == {"p0.mp4": 1, "p1.mp4": 0}
    assert found.classes == ("Back/15som/05Twis/FREE", "Forward/25som/NoTwis/PIKE")


def test_imagenet(tmp_path):
    put(
        tmp_path,
        "train/n02/x.JPEG",
        "train/n01/y.JPEG",
        "train/n01/deep/z.png",
        "val/n02/w.JPEG",
        "train/.hidden/h.png",
    )
    put(tmp_path, "train/n01/notes.md")
    found = read_labels(tmp_path, split="train")
    assert labels(found) == {"n01/deep/z.png": 0, "n01/y.JPEG": 0, "n02/x.JPEG": 1}
    assert (found.classes, found.media) == (("n01", "n02"), "image")
    validation = read_labels(tmp_path, split="val")
    assert labels(validation) == {"n02/w.JPEG": 1}, "classes are those of all splits together"
    assert validation.num_outputs == 2
    listed = read_labels(put(tmp_path / "train", meta_txt="n02/x.JPEG 1\nn01/y.JPEG 0\n") / "meta.txt")
    assert (labels(listed), listed.media) == ({"n02/x.JPEG": 1, "n01/y.JPEG": 0}, "image")
    for split, says in ((None, "has train, val: say which by split"), ("test", "no folder of the split test")):
        with pytest.raises(AnnotationError, match=says):
            read_labels(tmp_path, split=split)


def test_any_tree(tmp_path):
    put(tmp_path, "10/a.mp4", "9/b.MOV", "9/c/d.webm")
    found = read_labels(tmp_path)
    assert found.classes == ("9", "10"), "folders that are numbers are in the order of numbers"
    assert labels(found) == {"10/a.mp4": 1, "9/b.MOV": 0, "9/c/d.webm": 0}
    assert read_labels(tmp_path, classes=["8", "9", "10"]).items[0].label in (1, 2)
    with pytest.raises(AnnotationError, match=r"label '10' is none of the 2 classes; did you mean '100'\?"):
        read_labels(tmp_path, classes=["9", "100"])
    frames = put(tmp_path / "frames", "run/v1/img_00001.jpg", "run/v1/img_00002.jpg", "jump/v2/img_00001.jpg")
    found = read_labels(frames)
    assert labels(found) == {"jump/v2": 0, "run/v1": 1}
    assert found.media == "video"


def test_several_labels_numbers_and_tables(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    several = read_labels(put(tmp_path, several_csv="a.mp4,dog;cat\nb.mp4,eel\n") / "several.csv")
    assert (several.target, several.classes) == ("multi", ("cat", "dog", "eel"))
    assert labels(several) == {"a.mp4": (1.0, 1.0, 0.0), "b.mp4": (0.0, 0.0, 1.0)}
    one = read_labels(put(tmp_path, one_csv="a.mp4,1\nb.mp4,2\n") / "one.csv", target="multi")
    assert labels(one) == {"a.mp4": (0.0, 1.0, 0.0), "b.mp4": (0.0, 0.0, 1.0)}
    with pytest.raises(AnnotationError, match="line 1: has 2 labels, but target is single"):
        read_labels(tmp_path / "several.csv", target="single")
    measured = read_labels(put(tmp_path, rate_csv="a.mp4,1.5\nb.mp4,-2e-1\n") / "rate.csv", target="regression")
    assert labels(measured) == {"a.mp4": (1.5,), "b.mp4": (-0.2,)}
    table = put(tmp_path, table_csv='video;label\na.mp4;"riding, a bike"\nb.mp4;swimming\n') / "table.csv"
    assert read_labels(table).classes == ("riding, a bike", "swimming")
    rows = [{"video": "a.mp4", "label": "x", "more": 1}, {"path": "b.mp4", "label": ["x", "y"]}]
    assert labels(read_labels(put(tmp_path, rows_json=json.dumps(rows)) / "rows.json")) == {
        "a.mp4": (1.0, 0.0),
        "b.mp4": (1.0, 1.0),
    }


def test_clips_of_no_class(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")

    def of_labels(*said: object, **options: object) -> LabelSet:
        rows = [{"video": f"{name}.mp4", "label": label} for name, label in zip("abc", said, strict=False)]
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        return read_labels(tmp_path / "rows.json", **options)

    named = of_labels([], ["dog"], [])
    assert (named.target, named.classes) == ("multi", ("dog",))
    assert labels(named) == {"a.mp4": (0.0,), "b.mp4": (1.0,), "c.mp4": (0.0,)}
    assert labels(of_labels([], [1], 0)) == {"a.mp4": (0.0, 0.0), "b.mp4": (0.0, 1.0), "c.mp4": (1.0, 0.0)}
    assert labels(of_labels([], ["cat"], classes=["dog", "cat"])) == {"a.mp4": (0.0, 0.0), "b.mp4": (0.0, 1.0)}
    assert labels(of_labels([], [], classes=["dog", "cat"])) == {"a.mp4": (0.0, 0.0), "b.mp4": (0.0, 0.0)}
    for said, options, why in (
        (([], []), {}, "rows.json: no row has a label: say which classes there are by classes"),
        (([],), {"target": "single"}, "row 1: has 0 labels, but target is single; use multi"),
        (([],), {"target": "regression"}, "row 1: label '' is no number to predict"),
        (([], [0.5]), {}, "row 2: label '0.5' is no class"),
    ):
        with pytest.raises(AnnotationError, match=why) as error:
            of_labels(*said, **options)
        one_line(error)
    rows = [{"video": "a.mp4", "label": []}, {"video": "a.mp4", "label": "dog"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(AnnotationError, match=r"a\.mp4 has the label dog, but \[\], for no class in line 1: keep one"):
        read_labels(tmp_path / "rows.json")


@pytest.mark.parametrize(
    ("text", "assumed", "target"),
    [
        ("a.mp4,3\nb.mp4,1.5\n", "regression", "regression"),
        ("a.mp4,dog\nb.mp4,cat\n", "regression", "single"),
        ("a.mp4,1\nb.mp4,0\n", "multi", "multi"),
        ("a.mp4,dog\nb.mp4,cat\n", "multi", "multi"),
        ("a.mp4,dog;cat\nb.mp4,cat\n", "single", "multi"),
        ("a.mp4,1.5\nb.mp4,2\n", "single", "regression"),
        ("a.mp4,1\nb.mp4,0\n", "single", "single"),
    ],
)
def test_what_a_list_leaves_open_is_as_assumed(tmp_path, text: str, assumed: str, target: str):
    put(tmp_path, "a.mp4", "b.mp4", list_csv=text)
    assert read_labels(tmp_path / "list.csv", assumed=assumed).target == target


def test_a_class_that_is_called_train(tmp_path):
    """Beside other classes it is one of them; with folders of its own it may be a split, which one line asks for."""
    put(tmp_path / "vehicles", "bus/a.mp4", "train/b.mp4", "car/deep/c.mp4")
    found = read_labels(tmp_path / "vehicles")
    assert (found.classes, labels(found)) == (
        ("bus", "car", "train"),
        {"bus/a.mp4": 0, "car/deep/c.mp4": 1, "train/b.mp4": 2},
    )
    put(tmp_path / "mixed", "train/run/a.mp4", "train/jump/b.mp4", "samples/c.mp4", "notes/readme.md")
    with pytest.raises(
        AnnotationError, match="train is a split or a class, since samples beside it holds clips"
    ) as error:
        read_labels(tmp_path / "mixed")
    one_line(error)
    assert labels(read_labels(tmp_path / "mixed", split="train")) == {"jump/b.mp4": 0, "run/a.mp4": 1}
    put(tmp_path / "apart", "val/run/a.mp4", "notes/readme.md", "valid.txt/x")
    assert labels(read_labels(tmp_path / "apart")) == {"run/a.mp4": 0}
    put(tmp_path / "apart", "valid/run/a.mp4")
    with pytest.raises(AnnotationError, match="val and valid are both of the split val: name one of the folders"):
        read_labels(tmp_path / "apart", split="val")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.txt", "dog\ncat\n"),
        ("n.txt", "0 dog\n1 cat\n"),
        ("n.txt", "2 cat\r\n1 dog\r\n"),
        ("n.csv", "id,name\n0,dog\n1,cat\n"),
        ("n.csv", "cat,1\ndog,0\n"),
        ("n.json", '["dog", "cat"]'),
        ("n.json", '{"dog": "0", "cat": "1"}'),
        ("n.json", '{"1": "cat", "0": "dog"}'),
    ],
)
def test_names_of_classes(tmp_path, name: str, text: str):
    put(tmp_path, "a.mp4", train_csv="a.mp4,cat\n", numbers_csv="a.mp4,1\n")
    (tmp_path / name).write_text(text)
    found = read_labels(tmp_path / "train.csv", classes=tmp_path / name)
    assert (found.classes, found.items[0].label) == (("dog", "cat"), 1)
    numbered = read_labels(tmp_path / "numbers.csv", classes=tmp_path / name)
    assert (numbered.classes, numbered.items[0].label, numbered.num_outputs) == (("dog", "cat"), 1, 2)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("a.mp4 1\nb.mp4 0\n", {"format": "comma"}, "line 1: a space parts path and label .* use format space"),
        ("my a.mp4 1\n", {"format": "comma"}, "line 1: a space parts .* use format space"),
        ("one 1\n", {"format": "comma"}, "line 1: no comma parts .* use format space"),
        ("a.mp4,1\n", {"format": "space"}, "line 1: a comma parts path and label .* use format comma"),
        ("my a.mp4,1\n", {"format": "space"}, "line 1: a comma parts .* use format comma"),
        ("one,1\n", {"format": "space"}, "line 1: no space parts .* use format comma"),
        ("a.mp4,1\nb.mp4 0\n", {}, "line 2 is parted by a space, but line 1 by a comma"),
        ("a.mp4,1\nb.mp4,two\n", {}, "line 2: label 'two' is no number of a class"),
        ("a.mp4,1\nb.mp4,0.5\n", {}, "line 2: label '0.5' is no number of a class.*target=regression"),
        ("a.mp4,two\nb.mp4,1\n", {}, "line 1: label 'two' is no number of a class, which other lines have"),
        ("a.mp4,1.5\nb.mp4,.5\n", {}, "line 1: label '1.5' is no class: for numbers to predict use target=regression"),
        ("a.mp4,1\nb.mp4,-1\n", {}, "line 2: label -1 is negative"),
        ("a.mp4,1\nb.mp4,1000000\n", {}, "line 2: label 1000000 is no number of a class, which are below 1,000,000"),
        (f"a.mp4,{'9' * 5000}\n", {}, "line 1: label 9999999999999999999999999999999999999999 is no number of a class"),
        ("a.mp4,0\nb.mp4,2\n", {"classes": ["x", "y"]}, "line 2: label 2 is above 1: there are 2 classes"),
        ("a.mp4,dog\nb.mp4,cot\n", {"classes": ["dog", "cat"]}, "line 2: label 'cot' is none of .* did you mean 'cat'"),
        ("a.mp4,0\nb.mp4,1\na.mp4,2\n", {}, r"line 3: a.mp4 has the label 2, but 0 in line 1: keep one"),
        ("", {}, "an empty list"),
        ("\ufeff\r\n", {}, "an empty list"),
        ("a.mp4\n", {}, "line 1: 'a.mp4' is no path and label"),
        ("a.mp4,\n", {}, "line 1: 'a.mp4,' has no label"),
        (",3\n", {}, "line 1: has no path"),
        ("x.mp4,0\ny.mp4,1\n", {}, "none of its 2 files is in .*, first: x.mp4; say where they are by video_dir"),
        ("s3://bucket/a.mp4,0\n", {}, "line 1: 's3://bucket/a.mp4' is an address: copy the files"),
        ("a.mp4,0\np.jpg,1\n", {}, "line 1: 'a.mp4' is no picture, but 'p.jpg' is one"),
        ("a.mp4,0,-3\n", {"format": "trimmed"}, "line 1: the length '-3' is no number of seconds above 0"),
        ("a.mp4,0\n", {"format": "trimmed"}, "line 1 has no third value"),
        ("a.mp4,x\n", {"target": "regression"}, "line 1: label 'x' is no number to predict"),
        ("a.mp4,nan\n", {"target": "regression"}, "line 1: label 'nan' is no number to predict"),
        ('"a.mp4,0\n', {}, "line 1 is no row of a table"),
        ("label,youtube_id\nx,y\n", {}, "no column 'time_start'"),
        ("youtube_id,time_start\ny,1\n", {}, "has no column 'label'"),
        ("a.mp4,0\n", {"format": "no"}, "no format of labels 'no': choose auto, comma"),
        ("a.mp4,0\n", {"format": "folders"}, "is a file, but format folders is a folder"),
        ("a.mp4,0\n", {"target": "both"}, "target is 'both'"),
        ("a.mp4,0\n", {"split": "third"}, "split is 'third'"),
        ("a.mp4,0\n", {"video_dir": "/no/such"}, "/no/such: no such folder"),
        ("a.mp4,0\n", {"classes": ["x", "x"]}, "classes 0 and 1 are both 'x'"),
        ("a.mp4,0\n", {"classes": []}, "classes: names no classes"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, text: str, options: dict[str, object], says: str):
    put(tmp_path, "a.mp4", "b.mp4", "my a.mp4", "p.jpg", list_csv=text)
    with pytest.raises(AnnotationError, match=says) as error:
        read_labels(tmp_path / "list.csv", **options)
    message = one_line(error)
    if "line" in says:
        assert message.startswith(f"{tmp_path}/list.csv: line")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 dog\n2 cat\n", "numbers from 0 on, or from 1"),
        ("0 dog\n0 cat\n", "numbers from 0 on, or from 1"),
        ("dog\ndog\n", "classes 0 and 1 are both 'dog'"),
        ("", "names no classes"),
    ],
)
def test_mistakes_in_names_of_classes(tmp_path, text: str, says: str):
    put(tmp_path, "a.mp4", train_csv="a.mp4,dog\n", n_txt=text)
    with pytest.raises(AnnotationError, match=f"^{re.escape(str(tmp_path))}/n.txt: .*{says}"):
        read_labels(tmp_path / "train.csv", classes=tmp_path / "n.txt")


def test_places_that_hold_nothing(tmp_path):
    for place, says in ((tmp_path / "none", "no such file or folder"), (tmp_path, "no list of labels, and no folder")):
        with pytest.raises(AnnotationError, match=says) as error:
            read_labels(place)
        one_line(error)
    (tmp_path / "empty class").mkdir()
    with pytest.raises(AnnotationError, match="empty list"):
        read_labels(tmp_path)
    put(tmp_path, "one/a.mp4", "two/a.mp4", train_csv="a.mp4,0\n")
    with pytest.raises(AnnotationError, match=r"its clips are in .*one and in .*two: say which by video_dir"):
        read_labels(tmp_path)
    assert len(read_labels(tmp_path, video_dir=tmp_path / "two").items) == 1
