"""Texts of videos beside their pictures: which answer, where they are, and how both become one list."""

import numpy as np
import pytest

from tests.handmade import Handmade
from tests.indexes import TwoDimensional, put_rows, space
from vmr.errors import VmrError
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.schemas import VideosRequest
from vmr.retrieval.service.text_hits import CANDIDATES, words_of
from vmr.retrieval.service.videos import list_videos, video_details
from vmr.retrieval.storage.records import Text

QUERY = "1 0 0"  # a vector; the texts below hold its words
NEAR, FAR = (1, 0.1, 0), (0, 1, 0)


def subtitle(start_s, end_s, text="1 and 0"):
    return Text(start_s, end_s, "subtitle", text)


@pytest.fixture
def index(tmp_path):
    return Handmade(tmp_path / "index")


def told(page):
    return [(hit.path, hit.source, hit.start_s, hit.end_s, hit.text) for hit in page.hits]


def test_a_text_belongs_to_the_moment_of_its_video_that_it_lies_in(index):
    index.put("a.mp4", [FAR, NEAR, FAR], [subtitle(7, 9), subtitle(0.5, 1, "none of it")])
    with index.served():
        page = index.page(QUERY, per_video=1)
        (hit,) = page.hits
        assert (hit.source, hit.text) == ("picture", "1 and 0") and hit.start_s < 8 < hit.end_s
        assert hit.score == pytest.approx(0.995, abs=0.001)


def test_a_text_of_another_place_is_a_hit_by_itself(index):
    """Its picture is that of the window whose middle is nearest."""
    index.put("a.mp4", [NEAR])
    index.put("b.mp4", [FAR, FAR, FAR, FAR, FAR], [subtitle(13, 15)])
    with index.served():
        pictures, texts = (index.page(QUERY, sources=[source]) for source in ("picture", "text"))
        assert [hit.text for hit in pictures.hits] == [None] * len(pictures.hits)
        (hit,) = texts.hits
        assert (hit.path, hit.source, hit.start_s, hit.end_s) == ("b.mp4", "text", 13, 15)
        assert hit.moment_id == 4 and "/moments/4/" in hit.thumbnail_url  # from 8 to 16 s
        assert (hit.score, hit.match, hit.strength, hit.rerank_score) == (None, None, None, None)
        assert hit.media_url.endswith("/media#t=13,15") and hit.missing


def test_both_lists_become_one_by_their_places(index):
    """A picture with a text comes before either; texts that no found moment holds stand between the pictures."""
    index.put("both.mp4", [(1, 0.0015, 0.2)], [subtitle(1, 2, "0 1 and much more to say than others do")])
    for number in range(2):
        index.put(f"text{number}.mp4", [FAR], [subtitle(0, 1, "1 0" + " word" * number)])
    rows = [(f"picture{number:03}.mp4", 0.0, 8.0) for number in range(CANDIDATES)]
    vectors = np.array([(1, 0.001 * number, 0.2) for number in range(CANDIDATES)])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index.write(lambda changes: put_rows(changes, 1, rows, units))
    with index.served():
        page = index.page(QUERY, k=6, keep_duplicates=True)
        assert told(page)[:2] == [
            ("both.mp4", "picture", 0, 8, "0 1 and much more to say than others do"),
            ("picture000.mp4", "picture", 0, 8, None),
        ]
        assert [hit.path for hit in page.hits][2:] == [
            "text0.mp4",
            "picture001.mp4",
            "text1.mp4",
            "picture002.mp4",
        ]  # no. 4
        assert [hit.source for hit in page.hits][2:] == ["text", "picture", "text", "picture"]
        hits = [hit for page in index.pages(QUERY, k=30, keep_duplicates=True) for hit in page.hits]
        assert len({hit.moment_id for hit in hits}) == len(hits) == CANDIDATES + 3


def test_texts_in_one_window_are_one_hit_and_do_not_hide_others(index):
    index.put("talk.mp4", [FAR], [subtitle(0.01 * n, 0.01 * n + 1) for n in range(500)])
    index.put("other.mp4", [FAR], [subtitle(1, 2, "1 0 but a longer text, which is less about it than the others")])
    with index.served():
        assert [hit.path for hit in index.page(QUERY, sources=["text"], k=2).hits] == ["talk.mp4", "other.mp4"]
        first = index.page(QUERY, sources=["text"], k=1)
        assert [page.hits[0].path for page in index.pages(QUERY, sources=["text"], k=1)] == ["talk.mp4", "other.mp4"]
        assert first.next_cursor is not None


@pytest.mark.parametrize(
    ("start_s", "end_s", "shown"),
    [
        (None, None, (0, 16)),  # of the whole video
        (-5, 3, (0, 3)),
        (14, 1e9, (14, 16)),
        (float("inf"), float("inf"), (16, 16)),
        (9, 2, (9, 9)),
        (None, 4, (0, 16)),
    ],
)
def test_times_of_texts_are_taken_from_files_that_may_say_anything(index, start_s, end_s, shown):
    index.put("a.mp4", [FAR, FAR, FAR], [subtitle(start_s, end_s)])
    with index.served():
        (hit,) = index.page(QUERY, sources=["text"]).hits
        assert (hit.start_s, hit.end_s) == shown and hit.moment_id in (1, 2, 3)
        index.page(QUERY).model_dump_json()


def test_conditions_hold_for_texts(index):
    for name in ("a.mp4", "b.mp4"):
        index.put(name, [FAR, NEAR, FAR, FAR], [subtitle(1, 2), subtitle(13, 15)])
    with index.served():
        assert {hit.path for hit in index.page(QUERY, where='path = "b.mp4"').hits} == {"b.mp4"}
        counts = [hit.path for hit in index.page(QUERY, per_video=1, keep_duplicates=True).hits]
        assert sorted(counts) == ["a.mp4", "b.mp4"]
        texts = [page.hits for page in index.pages(QUERY, sources=["text"], per_video=1, k=1)]
        assert [hit.path for hits in texts for hit in hits] == ["a.mp4", "b.mp4"]


def test_texts_are_searched_by_words_only(index):
    index.put("a.mp4", [NEAR], [subtitle(1, 2)])
    with index.served():
        with pytest.raises(VmrError, match=r"^sources: texts are searched by a query in words"):
            index.page(None, like=1, sources=["text"])
        assert index.page(None, like=1, sources=["text", "picture"]).hits == []


ODD = [
    '"', "'", "a AND", "NEAR(1 0)", "text:1", "1*", "^1", "-0", "(", "1 OR", "\0", "__", "👍", "ñ\u0301",
    "a" * 1000, "1 " * 500,
]  # fmt: skip


def test_a_query_is_no_language(index):
    index.put("a.mp4", [NEAR], [subtitle(1, 2)])
    with index.served():
        found = [query for query in ODD if index.page(query, sources=["text"]).hits]
    assert found == ["1*", "^1", "-0", "1 OR", "1 " * 500]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("A dog, on the   Street!", ["dog", "street"]),
        ("to be or not to be", ["not"]),
        ("the the", ["the"]),
        ("it's 5 o'clock", ["s", "5", "o", "clock"]),
        ("läuft snake_case", ["läuft", "snake", "case"]),
        ("...", []),
    ],
)
def test_the_words_that_a_text_must_hold(query, words):
    assert words_of(query) == words


# --- several spaces, details ------------------------------------------------------------------------------------------


class Plain(TwoDimensional):
    """Knows nothing but pairs of numbers, so that its scores cannot be calibrated."""


@pytest.fixture
def two_spaces(tmp_path):
    """An index of two encoders, of which the second has embedded a.mp4 only."""
    index = Handmade(tmp_path / "index")
    index.put("a.mp4", [NEAR, FAR], [subtitle(1, 2), Text(None, None, "title", "A\nB")])
    index.put("b.mp4", [NEAR])

    def change(changes) -> None:
        number = changes.add_space(space(name="pairs"))
        changes.add_vectors(1, number, np.array([[1, 0], [0, 1]], np.float32))
        changes.set_metadata(1, {"broken": "\ud800", "number": 10**40, "deep": [[[[]]] * 2, {"\udfff": None}]})

    index.write(change)
    return index


def test_the_space_of_the_encoder_is_searched(two_spaces):
    with two_spaces.served(Plain()):
        page = two_spaces.page("1 0", sources=["picture"])
        assert [(hit.path, hit.match, hit.strength) for hit in page.hits] == [("a.mp4", None, None)]
        assert page.nothing_close is None
        with pytest.raises(VmrError, match=r"^min_match needs a sentence, and an index that is calibrated"):
            two_spaces.page("1 0", min_match=0.5)
        details = two_spaces.call(video_details, 1, "1 0")
        assert details.curve == [(0, 8, 1, None), (4, 12, 0, None)]
        assert two_spaces.call(video_details, 2, "1 0").curve is None


def test_what_is_known_of_a_video(two_spaces):
    with two_spaces.served():
        details = two_spaces.call(video_details, 1, "1 0.1 0")
        assert [point.start_s for point in details.curve] == [0, 4] and details.curve[0].score > details.curve[1].score
        assert [(text.start_s, text.kind, text.text) for text in details.texts][1] == (None, "title", "A\nB")
        assert details.missing and details.failure.startswith("a.mp4: the file of this video is gone")
        assert details.metadata == {"broken": r"\ud800", "number": 10**40, "deep": [[[[]], [[]]], {r"\udfff": None}]}
        assert '"number":1000000000' in details.model_dump_json()
        for number in (0, -1, 3, 2**63, 10**400):
            with pytest.raises(NotFound, match=r"^the index holds no video -?\d{1,60}: it was removed"):
                two_spaces.call(video_details, number)


def test_metadata_may_be_deep(two_spaces):
    deep = {}
    for _ in range(300):
        deep = {"in": [deep]}
    two_spaces.write(lambda changes: changes.set_metadata(1, deep))
    with two_spaces.served():
        assert two_spaces.call(list_videos, VideosRequest()).model_dump_json().count('"in"') == 10


def test_an_index_without_videos(tmp_path):
    index = Handmade(tmp_path / "index")
    with index.served():
        page = index.page(QUERY)
        assert (page.hits, page.next_cursor, page.nothing_close, page.remarks) == ([], None, None, [])
        listed = index.call(list_videos, VideosRequest())
        assert (listed.videos, listed.total, listed.next_cursor) == ([], 0, None)


def test_names_of_any_bytes(tmp_path):
    """They can be shown and sent, here and as duplicates, and are relative to their root."""
    index = Handmade(tmp_path / "index")
    names = ["<img src=x onerror=alert(1)>.mp4", "bad\udcff/line\nbreak.mp4", "\u202eevil.mp4"]
    for name in names:
        index.put(name, [NEAR])
    shown = ["<img src=x onerror=alert(1)>.mp4", r"bad\udcff/line\nbreak.mp4", r"\u202eevil.mp4"]
    with index.served():
        (hit,) = index.page(QUERY).hits
        assert {hit.path, *hit.duplicates} == set(shown) and hit.duplicates
        hits = index.page(QUERY, keep_duplicates=True).hits
        assert {hit.path for hit in hits} == set(shown) and {hit.name for hit in hits} > {r"line\nbreak.mp4"}
        listed = index.call(list_videos, VideosRequest(k=1))
        listed.model_dump_json()
        rest = index.call(list_videos, VideosRequest(k=2, cursor=listed.next_cursor))
        assert [video.path for video in [*listed.videos, *rest.videos]] == shown


def test_a_search_by_an_upload_goes_on_without_it(tmp_path):
    index = Handmade(tmp_path / "index")
    for number in range(5):
        index.put(f"{number}.mp4", [(1, number, number * number)])
    vector = np.array([0.6, 0.8, 0], np.float32)
    with index.served():
        whole = index.page(None, vector)
        first = index.page(None, vector, k=2)
        second = index.page(None, cursor=first.next_cursor, k=10)
        assert (whole.query, second.query, second.nothing_close) == ("an upload", "an upload", None)
        assert [hit.moment_id for hit in [*first.hits, *second.hits]] == [hit.moment_id for hit in whole.hits]
        for request in ({}, {"like": 1, "vector": vector}):
            with pytest.raises(VmrError, match=r"^a search needs one of these: query, like, or an upload"):
                index.page(None, **request)
