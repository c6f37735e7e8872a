"""What the address of the page says, and what its parts show, without a browser."""

import re
import time

import numpy as np
import pytest

from tests.indexes import SETTINGS, STATE, put_rows, space
from vmr.errors import VmrError
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.pages.facts import Facts, KnownFacts
from vmr.retrieval.service.pages.player import bars, span_within
from vmr.retrieval.service.pages.query import PageQuery
from vmr.retrieval.service.pages.rendering import clock, moment_in_words, render, size_in_words
from vmr.retrieval.service.pages.vectors import vector_of_text, vector_to_text
from vmr.retrieval.service.schemas import CurvePoint, VideoList, VideoSummary
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import NewVideo
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import IndexWriter


def test_filters_become_one_expression():
    ask = PageQuery(
        folder='a "b" \\ c', source="videos", longer="90", shorter="5 min", after="2026-11", before="2026-11-27",
        where="size > 1 MB or width = 3",
    )  # fmt: skip
    text = ask.condition()
    assert text == (
        r'(size > 1 MB or width = 3) and folder = "a \"b\" \\ c" and source = "videos" and duration >= 90 '
        r"and duration <= 5 min and date >= 2026-11 and date <= 2026-11-27"
    )
    assert Where.parse(text).text == text
    assert ask.is_filtered and not PageQuery(q="x", like="3").is_filtered
    assert PageQuery(q="x").condition() is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"longer": "soon"}, "longer: soon is none; write it like 90, 90 s or 5 min"),
        ({"shorter": "5) or (size > 1"}, "shorter: 5) or (size > 1 is none"),
        ({"after": "11/27/2026"}, "after: 11/27/2026 is none; write it like 2026-11-01"),
        ({"before": "2026-11-01 or 1"}, "before: "),
        ({"longer": "\u0665"}, "longer: "),
        ({"where": "size >", "longer": "3"}, "the expression is wrong at its end: a value"),
    ],
)
def test_a_filter_that_is_none_is_named(given, said):
    with pytest.raises(VmrError, match=f"^{re.escape(said)}"):
        PageQuery(**given).condition()


def test_numbers_and_moments_of_an_address():
    ask = PageQuery(like="12", watch=" 3 ", at="1.5-20")
    assert (ask.number("like"), ask.number("watch"), ask.number("moment"), ask.moment_s()) == (12, 3, None, (1.5, 20.0))
    for name, value in (("like", "x"), ("watch", "-1"), ("moment", "9" * 30), ("watch", "\u0663")):
        with pytest.raises(VmrError, match=f"^{name}: .* is no number of a "):
            PageQuery(**{name: value}).number(name)
    for value in ("5", "5-", "nan-3", "1e3-2", "5-6-7", "9" * 400 + "-1"):
        with pytest.raises(VmrError, match=r"^at: .* is no moment"):
            PageQuery(at=value).moment_s()
    assert PageQuery(found="text").sources() == ["text"] and PageQuery().sources() is None
    with pytest.raises(VmrError, match=r"^found: sound is neither"):
        PageQuery(found="sound").sources()


def test_a_moment_lies_in_its_video():
    assert span_within((2, 4), 8.0) == (2, 4) and span_within((6, 9), 8.0) == (6, 8)
    assert span_within((8.0005, 8.0005), 8.0) == (8, 8) and span_within((5, 3), 8.0) == (5, 5)
    with pytest.raises(NotFound, match=r"^at: the video is 8.0 s long, so there is no moment at 500.0 s$"):
        span_within((500, 600), 8.0)


def test_an_address_is_read_whatever_it_says():
    assert PageQuery.of({"q": " a ", "like": "3", "by": "x", "other": "y"}) == (PageQuery(q="a"), None)
    assert PageQuery.of({"q": " ", "like": "3", "file": "f"}) == (PageQuery(like="3", file="f"), None)
    ask, said = PageQuery.of({"q": "x" * 1001, "folder": "f", "source": "s" * 2000})
    assert ask == PageQuery(q="x" * 1000, folder="f")
    assert said == "q: 1001 characters, but at most 1000 are taken; source: 2000 characters, but at most 1000 are taken"


def test_filters_in_words():
    ask = PageQuery(folder="a/b", longer="30 s", before="2026-11", found="text", where="size > 1 MB")
    assert ask.filters_in_words() == "in a/b, at least 30 s, until 2026-11, by text, size > 1 MB"
    assert PageQuery(q="x").filters_in_words() == ""


def test_addresses_keep_what_is_searched_and_leave_out_what_is_open():
    ask = PageQuery(q="a & b", folder="x", watch="1", at="1-2", moment="3", part="results", cursor="c")
    assert ask.address() == "/?q=a+%26+b&folder=x"
    assert ask.address(watch=4, at="5-6") == "/?q=a+%26+b&folder=x&watch=4&at=5-6"
    assert ask.filters_only(like=7) == "/?like=7&folder=x"
    assert ask.without_filters() == "/?q=a+%26+b"
    assert PageQuery().address() == "/"


def test_a_vector_survives_an_address_and_no_other_text_does():
    vector = np.random.default_rng(0).normal(size=8).astype(np.float32)
    vector /= np.linalg.norm(vector)
    ours, others = space(dim=8), space(dim=8, fingerprint="0" * 16)
    text = vector_to_text(vector, ours)
    assert np.abs(vector_of_text(text, ours) - vector).max() < 1e-3
    for wrong in ("", "abc", text[:-4], f"{text}AAAA", "\u2603", "=" * 9):
        with pytest.raises(VmrError, match=r"^by: .* choose the file again"):
            vector_of_text(wrong, ours)
    with pytest.raises(VmrError, match="another model"):
        vector_of_text(text, others)
    for bad in (np.full(8, np.nan), np.zeros(8), np.full(8, np.inf)):
        with pytest.raises(VmrError, match="damaged"):
            vector_of_text(vector_to_text(bad.astype(np.float32), ours), ours)


def test_the_strip_is_as_high_as_the_best_window_of_a_place():
    curve = [CurvePoint(0, 4, 0.1, 0.2), CurvePoint(2, 6, 0.3, 1.0), CurvePoint(6, 8, 0.2, 0.5)]
    assert [(bar.x, bar.width, bar.height) for bar in bars(curve, 10)] == [(0, 200, 8), (200, 400, 40), (600, 200, 20)]
    assert all(bar.y + bar.height == 40 and 0.3 <= bar.opacity <= 1 for bar in bars(curve, 10))
    scores = [CurvePoint(start, start + 5, score, None) for start, score in ((0, 0.2), (5, 0.6))]
    assert [(bar.x, bar.height) for bar in bars(scores, 10)] == [(0, 2.4), (500, 40)]
    assert [bar.height for bar in bars([CurvePoint(0, 10, 0.2, None)], 10)] == [20]
    assert bars([], 10) == [] == bars(curve, 0)
    many = [CurvePoint(n, n + 1, 0.0, n % 7 / 7) for n in range(5000)]
    assert len(bars(many, 5000)) <= 200
    point = bars([CurvePoint(9.99, 9.999, 0, 1.0)], 10)
    assert [(bar.x, bar.width) for bar in point] == [(995, 5)]


def test_times_and_sizes_in_words():
    times = [clock(seconds) for seconds in (0, 7.9, 61, 3600, 36_061.2)]
    assert times == ["0:00", "0:07", "1:01", "1:00:00", "10:01:01"]
    assert moment_in_words(4, 12.5) == "0:04 \N{EN DASH} 0:12"
    assert moment_in_words(4.28, 5.5) == "0:04.2 \N{EN DASH} 0:05.5"
    sizes = [size_in_words(size) for size in (0, 999, 1500, 2.5e6, 3e12)]
    assert sizes == ["0 B", "999 B", "1.5 kB", "2.5 MB", "3.0 TB"]


def test_folders_and_sources_are_offered(tmp_path):
    paths = [
        ("/a/films", "top.mp4"), ("/a/films", "2026/11/x.mp4"), ("/a/films", "2026/11/y.mp4"),
        ("/b/films", "caf\u00e9/z.mp4"), ("/c", "odd\udcff/w.mp4"), ("/c", "line\nbreak/v.mp4"),
    ]  # fmt: skip
    with IndexWriter(tmp_path / "index", SETTINGS) as writer, writer.commit() as changes:
        number = changes.add_space(space())
        for n, (root, path) in enumerate(paths):
            vectors = {number: np.array([[1, 0]], np.float32)}
            changes.put_video(NewVideo(root, path, bytes([n]) * 16, STATE, 1.0, (), ((0.0, 1.0),), vectors))
    known = KnownFacts()
    with IndexReader(tmp_path / "index") as reader:
        with reader.snapshot() as snapshot:
            facts = known.of(snapshot)
            assert facts == Facts.of(snapshot)
        assert facts.folders == ("2026", "2026/11", "caf\u00e9")
        assert facts.sources == ("/a/films", "/b/films", "c")
        assert (facts.num_videos, facts.num_moments, facts.num_texts, facts.num_failures) == (6, 6, 0, 0)
        with IndexWriter(tmp_path / "index") as writer, writer.commit() as changes:
            changes.remove_video(1)
        with reader.snapshot() as snapshot:
            assert known.of(snapshot) is facts  # not again so soon
            assert KnownFacts().of(snapshot).num_videos == 5


def test_facts_of_an_index_that_has_taken_the_place_of_another(tmp_path, monkeypatch):
    known, numbers = KnownFacts(), []
    for name, count in (("one", 1), ("two", 2)):
        with IndexWriter(tmp_path / name, SETTINGS) as writer, writer.commit() as changes:
            changes.set_about(f"2026-11-2{count}T00:00:00+00:00", "1")
            put_rows(changes, changes.add_space(space()), [(f"{n}.mp4", 0, 1) for n in range(count)], np.eye(2)[:count])
        with IndexReader(tmp_path / name) as reader, reader.snapshot() as snapshot:
            numbers.append((snapshot.meta("commit"), known.of(snapshot).num_videos))
        later = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda later=later: later)
    (commit, one), (same, two) = numbers
    assert commit == same and (one, two) == (1, 2)


def test_files_of_several_folders_are_told_apart():
    """Two videos may have one path, each in its folder."""
    values = dict.fromkeys(("size", "num_moments", "video_id", "duration_s"), 1) | dict.fromkeys(("width", "height"))
    texts = dict.fromkeys(("modified", "thumbnail_url", "media_url", "video_url"), "x")
    videos = [
        VideoSummary(**values, **texts, folder=folder, path="a/x.mp4", name="x.mp4", missing=False, metadata={})
        for folder in ("<one>", "two")
    ]
    listed = VideoList(videos=videos, total=2, next_cursor=None)

    def places(*sources: str) -> list[str]:
        given = {"ask": PageQuery(), "answer": None, "videos": listed, "status": "", "trouble": None}
        html = render("results.html.j2", **given, about=Facts(2, 2, 0, 0, sources, ()))
        return re.findall(r"in <bdi>(.*)</bdi>", html)

    assert places("<one>", "two") == ["&lt;one&gt;", "two"] and places("two") == []
