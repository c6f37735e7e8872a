"""Tables as spreadsheets of many countries write them, and characters that end a line for Python but not in a file."""

import json

import pytest

from vmr.data.annotations.formats import read_annotations
from vmr.data.annotations.records import Record
from vmr.data.annotations.rows import read_ids
from vmr.data.annotations.tables import Table
from vmr.errors import AnnotationError

EXPECTED = [
    Record("a.mp4", "a", ("a man, a dog",)),
    Record("b.mp4", "b", ('she says "hi"; he | nods\tonce',)),
    Record("c.mp4", "c", ("two\r\nlines",)),
]


def table(delimiter: str, end: str = "\n", quote: bool = True) -> str:
    rows = [("id", "video", "caption")]
    rows += [(str(n), record.path, *record.captions) for n, record in enumerate(EXPECTED)]
    quoted = [
        ['"' + value.replace('"', '""') + '"' if quote or n else value for value in row] for n, row in enumerate(rows)
    ]
    return "".join(delimiter.join(row) + end for row in quoted)


def read(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return list(read_annotations(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter(tmp_path, delimiter, end, encoding):
    """Quoted or not, with any end of lines, with a byte order mark or without."""
    for quote in (True, False):
        assert read(tmp_path / "t.csv", table(delimiter, end, quote), encoding) == EXPECTED
    assert Table(tmp_path / "t.csv").delimiter == delimiter


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("line", ["sep={}\r\n", '"sep={}"\n', "SEP={}\n"])
def test_the_line_that_excel_puts_first(tmp_path, delimiter, line):
    text = line.format(delimiter) + table(delimiter)
    assert read(tmp_path / "t.csv", text) == EXPECTED
    with pytest.raises(AnnotationError, match=r"t\.csv: line 3 has 2 values for 3 columns"):
        read(tmp_path / "t.csv", text.replace('"0"' + delimiter, ""))


def test_the_columns_decide_between_delimiters(tmp_path):
    assert read(tmp_path / "t.csv", "caption;video;note, if any\na;b.mp4;c, d\n") == [Record("b.mp4", "b", ("a",))]
    assert read(tmp_path / "t.csv", "video,caption,a;b;c\nb.mp4,a,x;y\n") == [Record("b.mp4", "b", ("a",))]
    assert read(tmp_path / "t.tsv", "video\tcaption\tx,y,z,w\nb.mp4\ta\tq\n") == [Record("b.mp4", "b", ("a",))]
    webvid = "videoid;contentUrl;duration;page_dir;name\n7;https://x/y,z.mp4;PT11S;01_02;Aerial, shot\n"
    assert read(tmp_path / "w.csv", webvid) == [Record("01_02/7.mp4", "7", ("Aerial, shot",))]
    assert read(tmp_path / "m.csv", "key;video_id;sentence\nret0;video7;a man\n") == [
        Record("video7", "video7", ("a man",))
    ]


@pytest.mark.parametrize(("delimiter", "name"), [(",", "a comma"), (";", "a semicolon"), ("|", "a vertical bar")])
def test_a_value_that_must_be_quoted_is_named_with_the_delimiter(tmp_path, delimiter, name):
    text = delimiter.join(["video", "caption"]) + "\n" + delimiter.join(["a.mp4", "a", "b"]) + "\n"
    with pytest.raises(AnnotationError, match=f"line 2 has 3 values for 2 columns; quote a value that holds {name}"):
        read(tmp_path / "t.csv", text)


def test_other_columns_are_not_taken_for_a_list_of_videos(tmp_path):
    with pytest.raises(AnnotationError, match="cannot tell its format by its first line: expected the columns video"):
        read(tmp_path / "t.csv", "clip;text\na.mp4;a man\n")


def test_lists_of_videos(tmp_path):
    lists = {
        "a.mp4\nb;c.mp4\n": ["a.mp4", "b;c.mp4"],
        "b|c.mp4\r\na.mp4": ["b|c.mp4", "a.mp4"],
        "video_id\na\n": ["a"],
        "key;video_id\n1;a\n2;b\n": ["a", "b"],
        "sep=;\nkey;video_id\n1;a\n": ["a"],
        "video_id\tx\na\t1\n": ["a"],
    }
    for text, expected in lists.items():
        (tmp_path / "l.txt").write_text(text)
        assert read_ids(tmp_path / "l.txt") == expected


ENDS_FOR_PYTHON = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("character", [*ENDS_FOR_PYTHON, "\r"])
def test_characters_that_end_no_line_stay_in_their_value(tmp_path, character):
    caption = f"a man{character}runs"
    expected = [Record("a.mp4", "a", (caption,)), Record("b.mp4", "b", ("a dog",))]
    files = {
        "t.csv": f'video,caption\na.mp4,"{caption}"\nb.mp4,a dog\n',
        "t.tsv": f'video\tcaption\na.mp4\t"{caption}"\nb.mp4\ta dog\n',
    }
    if ord(character) >= 0x20:  # JSON escapes the others
        lines = [json.dumps({"video": one.path, "caption": one.captions[0]}, ensure_ascii=False) for one in expected]
        files |= {"t.jsonl": "\n".join(lines), "t.json": f"[{','.join(lines)}]"}
    for name, text in files.items():
        assert read(tmp_path / name, text) == expected, name
    lsmdc = "".join(f"F_{n}\t1\t2\t3\t4\t{text}\n" for n, text in enumerate([caption, "a dog"]))
    assert [record.captions[0] for record in read(tmp_path / "l.txt", lsmdc)] == [caption, "a dog"]
    (tmp_path / "ids.txt").write_bytes(f"a{character}b.mp4\nc.mp4\n".encode())
    assert read_ids(tmp_path / "ids.txt") == [f"a{character}b.mp4", "c.mp4"]
