"""Pages of a search while a writer commits: nothing is shown twice, nothing is skipped."""

import base64
from collections import Counter
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.handmade import Handmade
from tests.indexes import put_rows
from vmr.errors import VmrError
from vmr.retrieval.service.cursors import ListCursor, SearchCursor
from vmr.retrieval.service.options import Limits
from vmr.retrieval.service.schemas import LARGEST_ID, FailuresRequest, SearchRequest, VideosRequest
from vmr.retrieval.service.videos import list_failures, list_videos
from vmr.retrieval.storage.records import FailedFile

QUERY = "1 0.5 0.2"
NAMES = [f"{number}.mp4" for number in range(12)]


@pytest.fixture
def index(tmp_path):
    return Handmade(tmp_path / "index")


def ids(pages) -> list[int]:
    return [hit.moment_id for page in pages for hit in page.hits]


@pytest.mark.parametrize("options", [{}, {"keep_duplicates": True}, {"per_video": 1}, {"where": 'path ~ "[1-8].mp4"'}])
def test_pages_of_an_index_that_stays_are_one_long_list(index, options):
    for number, name in enumerate(NAMES):
        index.put_any(name, 1 + number % 5)
    with index.served():
        whole = index.page(QUERY, k=100, **options)
        assert whole.next_cursor is None and len(whole.hits) > 7
        pages = index.pages(QUERY, k=3, **options)
        assert [hit for page in pages for hit in page.hits] == whole.hits
        assert all(len(page.hits) == 3 for page in pages[:-1]) and 1 <= len(pages[-1].hits) <= 3


CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "copy", "remove"]), st.sampled_from(NAMES), st.integers(1, 4)), max_size=3
)


VIDEOS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 4)), min_size=4, max_size=10, unique_by=lambda video: video[0]
)
OPTIONS = [
    {},
    {"keep_duplicates": True},
    {"per_video": 1},
    {"per_video": 2, "keep_duplicates": True},
    {"where": "date > 1900-01"},
]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    videos=VIDEOS,
    rounds=st.lists(CHANGES, min_size=1, max_size=6),
    options=st.sampled_from(OPTIONS),
    k=st.integers(1, 4),
    text=st.booleans(),
)
def test_nothing_is_shown_twice_or_skipped_while_a_writer_commits(tmp_path_factory, videos, rounds, options, k, text):
    index = Handmade(tmp_path_factory.mktemp("paged") / "index")
    words = "1 5 2 0" if text else None  # the words of the query
    for name, windows in videos:
        index.put_any(name, windows, text=words)
    left, touched = iter(rounds), set()

    def change() -> None:
        for kind, name, windows in next(left, []):
            touched.add(name)
            if kind == "remove":
                index.remove(name)
            else:
                best = (1, 0.5, 0.2) if kind == "copy" else None
                index.put_any(name, windows, near=best, text=words)

    with index.served():
        whole = index.page(QUERY, k=100, **options)
        known = index.window_ids()
        pages = index.pages(QUERY, change, k=k, **options)
    shown = ids(pages)
    assert whole.next_cursor is None and ids(pages[:1]) == ids([whole])[:k]
    assert len(shown) == len(set(shown)), "shown twice"
    assert set(shown) <= known, "added later"
    paths = {path for page in pages for hit in page.hits for path in (hit.path, *hit.duplicates)}
    for hit in whole.hits:
        # Without the moment that it was like, one may become the duplicate of another.
        is_told = hit.moment_id in shown or (not options.get("keep_duplicates") and hit.path in paths)
        assert is_told or hit.path in touched, "skipped"
    if options.get("per_video"):
        assert max(Counter(hit.video_id for page in pages for hit in page.hits).values()) <= options["per_video"]


def test_a_search_ends_at_a_depth(tmp_path):
    index = Handmade(tmp_path / "index", depth=7)
    for name in NAMES:
        index.put_any(name, 1)
    with index.served():
        pages = index.pages(QUERY, k=3, keep_duplicates=True)
        assert [len(page.hits) for page in pages] == [3, 3, 1]
        assert [page.remarks for page in pages] == [[], [], ["a search shows at most 7 hits; there are more"]]
        deeper = SearchCursor(1, 10, frozenset(range(7)))
        request = SearchRequest(query=QUERY)
        text = deeper.text(request.model_dump(exclude={"k", "cursor"}))
        with pytest.raises(VmrError, match=r"^cursor lies behind the last page: a search shows at most 7 hits$"):
            index.page(QUERY, cursor=text)


def test_a_cursor_belongs_to_its_index(index, tmp_path):
    """The ids of another one that takes its place are those of other moments."""
    for number in range(3):
        index.put_any(f"{number}.mp4", 1)
    with index.served():
        cursor = index.page(QUERY, k=1).next_cursor
        later = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat(timespec="seconds")
        index.write(lambda changes: changes.set_about(later, "0"))
        with pytest.raises(VmrError, match=r"^cursor is of an index that another has taken the place of: search again"):
            index.page(QUERY, k=1, cursor=cursor)


# --- cursors ----------------------------------------------------------------------------------------------------------

FIELDS = {"query": "a dog", "like": None}
IDS = st.integers(0, LARGEST_ID)


@given(IDS, st.frozensets(IDS, max_size=20), st.one_of(st.none(), st.lists(st.floats(-4, 4, width=16), min_size=1)))
def test_cursors_return_what_they_were_given(before, shown, vector):
    numbers = None if vector is None else np.array(vector, np.float32)
    read = SearchCursor.read(SearchCursor(7, before, shown, numbers).text(FIELDS), FIELDS)
    assert (read.index, read.before, read.shown) == (7, before, shown)
    assert (read.vector is None) == (vector is None) and (vector is None or read.vector.tolist() == vector)


def test_ids_take_few_characters():
    shown = frozenset(np.random.default_rng(0).choice(1_000_000, 1000, replace=False).tolist())
    assert len(SearchCursor(2**32 - 1, 10**6, shown, np.ones(512, np.float32)).text(FIELDS)) < Limits().cursor_chars / 2


@given(st.text(max_size=60))
@example("=")
@example("AA")
@example("\ud800")
@example("é")
def test_garbage_is_no_cursor(text):
    for read in (SearchCursor.read, lambda text, fields: ListCursor.read(text, fields, str, int)):
        with pytest.raises(VmrError, match=r"^cursor is none of this request"):
            read(text, FIELDS)


@given(st.binary(max_size=40))
def test_a_cursor_with_the_right_beginning_and_garbage_is_read_or_refused(garbage):
    """Whoever makes one up may not get more out of it than from a request."""
    start = base64.urlsafe_b64decode(SearchCursor(0, 0, frozenset()).text(FIELDS) + "==")[:8]
    text = base64.urlsafe_b64encode(start + garbage).decode().rstrip("=")
    for read in (SearchCursor.read, lambda text, fields: ListCursor.read(text, fields, str, int)):
        try:
            cursor = read(text, FIELDS)
        except VmrError as error:
            assert str(error).startswith("cursor is none of this request")
        else:
            numbers = [cursor.before, *cursor.shown] if isinstance(cursor, SearchCursor) else cursor.key[1:]
            assert all(abs(number) <= LARGEST_ID for number in numbers)


@pytest.mark.parametrize(
    ("key", "kinds"),
    [(["\ud800", 1], (str, int)), ([float("nan"), 1], (float, int)), ([float("inf"), 1], (float, int))],
)
def test_what_no_database_puts_in_an_order_is_no_cursor(key, kinds):
    with pytest.raises(VmrError, match=r"^cursor is none of this request"):
        ListCursor.read(ListCursor(tuple(key)).text(FIELDS), FIELDS, *kinds)


def test_a_cursor_belongs_to_its_request():
    text = ListCursor(("a", 1)).text(FIELDS)
    assert ListCursor.read(text, FIELDS, str, int).key == ("a", 1)
    for fields, kinds in (({**FIELDS, "query": "a cat"}, (str, int)), (FIELDS, (int, int)), (FIELDS, (str,))):
        with pytest.raises(VmrError, match="take next_cursor of the page before, and change nothing else but k"):
            ListCursor.read(text, fields, *kinds)


# --- lists of videos --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", ["path", "duration", "date", "added"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_lists_of_videos_while_a_writer_commits(index, sort, order):
    for number, name in enumerate(NAMES[:8]):
        index.put_any(name, 1 + number % 3)
    with index.served():

        def listed(k: int, cursor: str | None = None):
            return index.call(list_videos, VideosRequest(sort=sort, order=order, k=k, cursor=cursor))

        whole = listed(100)
        assert whole.next_cursor is None and whole.total == 8
        keys = {"path": "path", "duration": "duration_s", "date": "modified", "added": "video_id"}
        values = [(getattr(video, keys[sort]), video.video_id) for video in whole.videos]
        assert values == sorted(values, reverse=order == "descending")
        first = listed(3)
        index.remove(first.videos[2].path)  # the last one that was shown
        index.remove(whole.videos[4].path)
        index.put_any("new.mp4", 2)
        second = listed(3, first.next_cursor)
        third = listed(3, second.next_cursor)
    pages = [first, second, third]
    paths = [video.path for page in pages for video in page.videos]
    assert third.next_cursor is None and third.total == 7
    assert [path for path in paths if path != "new.mp4"] == [
        video.path for video in whole.videos if video.path != whole.videos[4].path
    ]
    assert paths.count("new.mp4") <= 1


def test_equal_paths_of_two_folders_are_told_apart_and_the_server_keeps_to_itself_where_they_are(index):
    roots = {f"/archive/{year}/films": f"/archive/{year}/films" for year in (2025, 2026)} | {"/home/me/clips": "clips"}
    for number, root in enumerate(roots):

        def add(changes, number=number, root=root):
            put_rows(changes, 1, [("000.mp4", 0.0, 4.0)], np.eye(3)[[number]], root=root)
            changes.put_failure(FailedFile(root, "bad.mp4", None, "no video"))

        index.write(add)
    with index.served():
        found = index.page(QUERY, keep_duplicates=True)
        assert sorted((hit.folder, hit.path) for hit in found.hits) == [
            (folder, "000.mp4") for folder in sorted(roots.values())
        ]
        for hit in found.hits:
            (same,) = index.page(QUERY, where=f'source = "{hit.folder}"').hits
            assert same.moment_id == hit.moment_id
        listed, failed, cursors = [], [], []
        for _ in roots:
            videos = index.call(list_videos, VideosRequest(k=1, cursor=cursors[-2] if cursors else None))
            failures = index.call(list_failures, FailuresRequest(k=1, cursor=cursors[-1] if cursors else None))
            listed += [video.folder for video in videos.videos]
            failed += [(each.folder, each.path) for each in failures.failures]
            cursors += [videos.next_cursor, failures.next_cursor]
    assert listed == list(roots.values()) and failed == [(folder, "bad.mp4") for folder in roots.values()]
    assert cursors[-2:] == [None, None]
    assert not any(b"films" in base64.urlsafe_b64decode(each + "==") for each in cursors[:-2])


def test_a_cursor_of_a_folder_that_is_gone(index):
    index.put("a.mp4", [[1, 0, 0]])
    cursor = ListCursor((7, "a.mp4", 1)).text(VideosRequest().model_dump(exclude={"k", "cursor"}))
    with index.served(), pytest.raises(VmrError, match="a folder that the index no longer holds: list again"):
        index.call(list_videos, VideosRequest(cursor=cursor))
