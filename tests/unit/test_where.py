"""Selecting videos by an expression: what is selected, and what is said about an expression that is wrong."""

import fnmatch
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmr.errors import VmrError
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import index_in_memory


def at(text: str) -> int:
    """A local time, in nanoseconds."""
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


# Path -> size in bytes, time of change, duration in seconds, metadata.
VIDEOS = {
    "/videos/cam07/a.mp4": (1000, at("2026-11-01T00:00:00"), 60.0, {"camera": "cam07", "take": 1}),
    "/videos/cam07/deep/b.mp4": (2_000_000, at("2026-11-01T23:59:59"), 299.5, {"camera": "cam07", "take": 2.5}),
    "/videos/cam07x/c.mp4": (2_097_152, at("2026-11-02T00:00:00"), 300.0, {"camera": "CAM07", "take": "1"}),
    "/videos/cam07\udcff/d.mp4": (5_000_000_000, at("2026-12-01T12:30:10"), 3600.0, {"ok": True, "é": "ü", "a b": 0}),
    "/videos/top [1].mp4": (0, at("2025-12-31T23:59:59"), 7200.0, {"ok": False, "take": None}),
    "/other/cam07/\udcfee.mp4": (7, at("2020-02-29T10:00:00"), 0.5, {}),
}


SIZES = [(1280, 720), (720, 1280), (640, 360), (3840, 2160), (0, 0), (320, 240)]
"""Width and height of these videos, in pixels; those of the fifth are not known."""


@pytest.fixture(scope="module")
def snapshot():
    def fill(changes):
        for (width, height), (path, (size, mtime_ns, duration_s, metadata)) in zip(SIZES, VIDEOS.items(), strict=True):
            root = "/videos" if path.startswith("/videos") else "/other"
            state = FileState(size, mtime_ns, 1, mtime_ns)
            place, spans, sides = path[len(root) + 1 :], ((0.0, duration_s),), {"width": width, "height": height}
            video = NewVideo(root, place, b"", state, duration_s, (), spans, {}, **sides)
            changes.set_metadata(changes.put_video(video), metadata)

    with index_in_memory(Path("index"), IndexSettings(None, None), fill) as reader, reader.snapshot() as snapshot:
        yield snapshot


def selected(snapshot: Snapshot, text: str) -> set[str]:
    where = Where.parse(text)
    videos = list(snapshot.videos(where))
    assert sorted(video.id for video in videos) == snapshot.video_ids(where)
    return {video.file for video in videos}


A, B, C, D, T, E = VIDEOS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('path = "cam07/a.mp4"', {A}),
        ("path='cam07/a.mp4'", {A}),
        ('path = "/videos/cam07/a.mp4"', {A}),
        ('path ~ "cam07/*"', {A, B, E}),
        ('path ~ "*/?.mp4"', {A, B, C, D}),
        ('path ~ "/other/*"', {E}),
        ('path ~ "top [[]1].mp4"', {T}),
        ('path = "top [1].mp4"', {T}),
        ('path ~ "CAM07/*"', set()),
        ('path in ("cam07/a.mp4", "/videos/top [1].mp4")', {A, T}),
        ('path not in ("cam07/a.mp4", "nothing")', {B, C, D, T, E}),
        ('folder = "cam07"', {A, B, E}),
        ('folder = "/videos/cam07/"', {A, B}),
        ('folder = "cam07\udcff"', {D}),
        ('folder = "cam07/deep"', {B}),
        ('folder ~ "cam07?"', {C}),
        ('folder ~ "cam07?*"', {B, C, D}),
        ('path ~ "*\udcfe*"', {E}),
        ('path ~ "/other/cam07/*"', {E}),
        ('folder = "/"', set(VIDEOS)),
        ('folder != "/videos"', {E}),
        ('source = "videos"', {A, B, C, D, T}),
        ('source = "/videos/"', {A, B, C, D, T}),
        ('source = "cam07"', set()),
        ('source ~ "oth*"', {E}),
        ('source ~ "/v*"', {A, B, C, D, T}),
        ('source in ("other", "videos")', set(VIDEOS)),
        ("width >= 1280", {A, D}),
        ("height = 1280", {B}),
        ("resolution >= 720p", {A, B, D}),  # the short side
        ("resolution < 720", {C, E}),
        ("not resolution < 720", {A, B, D, T}),  # of T it is not known
        ("width != 640", {A, B, D, T, E}),
        ("duration < 5min", {A, B, E}),
        ("duration <= 5 min", {A, B, C, E}),
        ("duration = 1h", {D}),
        ("duration >= 1.0e0 h and duration < 7200", {D}),
        ("duration = 500ms", {E}),
        ("size >= 2 MB", {B, C, D}),
        ("size >= 2 MiB", {C, D}),
        ("size = 1kB or size=0", {A, T}),
        ("size in (7, 5GB)", {D, E}),
        ("date = 2026-11-01", {A, B}),
        ("date != 2026-11-01", {C, D, T, E}),
        ("date > 2026-11-01", {C, D}),
        ("date >= 2026-11-01", {A, B, C, D}),
        ("date < 2026-11", {T, E}),
        ("date <= 2026-11", {A, B, C, T, E}),
        ("date = 2025-12", {T}),
        ("date = 2026-12-01T12:30", {D}),
        ("date = 2026-12-01T12:30:10", {D}),
        ("date > 2026-12-01T12:30:10", set()),
        ('date = "2020-02-29"', {E}),
        ("date < 9999-11", set(VIDEOS)),
        ('meta.camera = "cam07"', {A, B}),
        ('meta.camera ~ "[cC]*07"', {A, B, C}),
        ('meta.camera != "cam07"', {C, D, T, E}),
        ("meta.take = 1", {A}),
        ('meta.take = "1"', {C}),
        ("meta.take > 1", {B}),
        ("meta.take in (1, 2.5)", {A, B}),
        ("meta.take = null", {D, T, E}),
        ("meta.take != NULL", {A, B, C}),
        ("meta.ok = true", {D}),
        ("meta.ok = false", {T}),
        ("meta.ok != true", {A, B, C, T, E}),
        ('meta.é = "ü"', {D}),
        ('meta."a b" = 0', {D}),
        ("meta.'a b' >= -1", {D}),
        ('meta.camera >= "a"', {A, B}),
        ("not size > 7", {T, E}),
        ("size > 7 and not (size > 1kB or duration > 1h)", {A}),
        ("size = 0 or size = 7 and duration > 1", {T}),
        ("(size = 0 or size = 7) AND duration > 1", {T}),
        ("NOT not size = 0", {T}),
    ],
)
def test_what_is_selected(snapshot, text, expected):
    assert selected(snapshot, text) == expected


@pytest.mark.parametrize("text", ["' OR 1=1 --", 'x"; DROP TABLE videos; --', "%", "\\", "$.camera", 'é"', "*"])
def test_values_are_only_values(snapshot, text):
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert selected(snapshot, f"path = {quoted}") == set()
    assert selected(snapshot, f"folder = {quoted}") == set()
    assert selected(snapshot, f"meta.camera = {quoted}") == set()
    if '"' not in text:
        assert selected(snapshot, f'meta."{text}" != null') == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the expression is empty"),
        ("path", r"at its end: = != < <= > >= ~ or in is expected here"),
        ("path = cam07", r"at 'cam07' \(character 8\): a value is expected here; a text stands in quotes"),
        (
            "name = 'x'",
            r"at \"name = 'x'\" \(character 1\): path, folder, .*source or meta.KEY is expected",
        ),
        ("meta = 1", "meta.KEY is expected here"),
        ("size.x = 1", "meta.KEY is expected here"),
        ('path = "cam07', r"character 8\): this text has no end"),
        ("size > 5 parsecs", r"at 'parsecs' \(character 10\): and, or, or the end is expected here"),
        ("size > 5 min", r"at '5 min' \(character 8\): a number is needed, with or without one of B, kB"),
        ("duration > 5 MB", "a number is needed, with or without one of ms, s, min, h"),
        ("duration ~ 5", r"at '~ 5' \(character 10\): numbers have no pattern"),
        ('path < "a"', "paths are compared by =, !=, ~ and in"),
        ("path = 5", "a text in quotes is needed"),
        ("date = 2026-13-01", r"at '2026-13-01' \(character 8\): a date is needed"),
        ("date = 5", "a date is needed"),
        ("date ~ 2026-11", "dates have no pattern"),
        ("meta.x = 5 s", "metadata have no units"),
        ("meta.x < true", "true, false and null are compared by"),
        ("meta.x ~ 5", "numbers have no pattern"),
        ("size > 5 and", "at its end"),
        ("size > 5 size < 7", r"at 'size < 7' \(character 10\): and, or, or the end is expected here"),
        ("(size > 5", r"at its end: \) is expected here"),
        ("size in 5", r"at '5' \(character 9\): \( is expected here"),
        ("size in ()", "a value is expected here"),
        ("size not = 5", "in is expected here"),
        ("size == 5", r"at '= 5' \(character 7\): a value is expected here"),
        ("size > 5 ; x", r"at '; x' \(character 10\): this is not understood"),
        ("(" * 60 + "size = 1" + ")" * 60, "nested more than 12 deep"),
        ("not " * 2000 + "size = 1", "nested more than 12 deep"),
        (" or ".join(["size = 1"] * 501), "more than 500 comparisons"),
        ("size = 1" + " " * 10_000, "has 10008 characters, more than 10000"),
        ('meta.x = "\udcff"', "no valid text"),
    ],
)
def test_a_wrong_expression_is_pointed_at(text, message):
    with pytest.raises(VmrError, match=message) as caught:
        Where.parse(text)
    assert "\n" not in str(caught.value)


def test_the_largest_expressions_work(snapshot):
    assert selected(snapshot, " or ".join(["size = 0"] * 500)) == {T}
    assert selected(snapshot, f"size in ({', '.join(map(str, range(500)))})") == {T, E}
    assert selected(snapshot, "(" * 11 + "size = 0" + ")" * 11) == {T}
    deep = "size > 7 and (size = 0 or " * 10 + "meta.ok in (true, false)" + ")" * 10
    assert selected(snapshot, deep) == {D}
    assert selected(snapshot, "not " * 11 + "meta.ok = true") == set(VIDEOS) - {D}
    deep = "not (size = 0 or size = 0 and " * 5 + "meta.ok in (true, false)" + ")" * 5
    assert selected(snapshot, deep) == set(VIDEOS) - {T}
    assert selected(snapshot, 'folder ~ "' + "[" * 9900 + '"') == set()


def test_times_with_a_zone():
    where = Where.parse("date = 2026-11-01T12:00:00Z")
    start = int(datetime(2026, 11, 1, 12, tzinfo=timezone.utc).timestamp()) * 10**9
    assert where.parameters == (start, start + 10**9)
    hours = Where.parse("date = 2026-11-01T13:00+01:00").parameters
    assert hours == (start, start + 60 * 10**9)


NUMBERS = st.sampled_from(["size > 7", "duration <= 300", 'folder = "cam07"', "meta.take = 1", "meta.ok != true"])
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        inner.map(lambda one: ("not", one)), st.tuples(st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)


def written(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    if tree[0] == "not":
        return f"not ({written(tree[1])})"
    return f"({written(tree[1])}) {tree[0]} ({written(tree[2])})"


def expected_of(tree: object, snapshot: Snapshot) -> set[str]:
    if isinstance(tree, str):
        return selected(snapshot, tree)
    if tree[0] == "not":
        return set(VIDEOS) - expected_of(tree[1], snapshot)
    left, right = (expected_of(part, snapshot) for part in tree[1:])
    return left & right if tree[0] == "and" else left | right


@given(EXPRESSIONS)
def test_logic_is_that_of_sets(snapshot, tree):
    assert selected(snapshot, written(tree)) == expected_of(tree, snapshot)


@settings(max_examples=300)
@given(st.text(alphabet="pathsizemeta.x =<>~!()\"'0123456789-andornoti,\\ ", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        Where.parse(text)
    except VmrError as error:
        assert str(error).isprintable()


@given(st.text(alphabet="ab*?", max_size=6))
def test_patterns_are_those_of_the_shell(snapshot, pattern):
    expected = {path for path in VIDEOS if fnmatch.fnmatchcase(path, f"/*{pattern}.mp4")}
    assert selected(snapshot, f'path ~ "/*{pattern}.mp4"') == expected
