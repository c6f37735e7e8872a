"""What a search takes and returns: queries of all kinds, conditions, moments, duplicates, limits."""

import os
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.indexes import SETTINGS, STATE, TwoDimensional, space, write_index
from vmr.retrieval.calibration.calibration import VERSION, Calibration
from vmr.retrieval.index import open_index
from vmr.retrieval.searching.moments import Windows, merged_moments, single_windows, whole_rows
from vmr.retrieval.storage.records import NewVideo
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds

SAME = b"1" * 32


def angle(degrees):
    """A unit vector."""
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


@pytest.fixture
def made(tmp_path):
    """Makes an index of videos: name -> (spans, angles of the vectors) or (spans, angles, content)."""

    def make(videos, **options):
        folder = tmp_path / "index"
        with IndexWriter(folder, SETTINGS) as writer, writer.commit() as changes:
            number = changes.add_space(space(**options))
            for name, (spans, angles, *content) in videos.items():
                vectors = np.array([angle(degrees) for degrees in angles], np.float32)
                video = NewVideo("/videos", name, *(content or [b""]), STATE, 99.0, (), tuple(spans), {number: vectors})
                changes.set_metadata(changes.put_video(video), {"name": name[0]})
        return open_index(folder, TwoDimensional())

    return make


def sliding(n, window=8.0, stride=4.0):
    return [(stride * place, stride * place + window) for place in range(n)]


def shown(result):
    return [(Path(hit.video).name, round(hit.start_s, 3), round(hit.end_s, 3)) for hit in result]


def refused(call):
    with pytest.raises(vmr.VmrError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# --- queries ----------------------------------------------------------------------------------------------------------


def test_a_vector_finds_what_its_text_finds(made):
    index = made({"a.mp4": (sliding(3), [0, 40, 90]), "b.mp4": (sliding(2), [20, 70])})
    by_text = index.search("0.6 0.8")
    for vector in (np.array([0.6, 0.8], np.float32), np.array([0.6, 0.8]), np.array([3, 4])):
        by_vector = index.search(vector)
        assert by_vector.query == "a vector" and by_vector.nothing_close is None
        assert [hit.moment_id for hit in by_vector] == [hit.moment_id for hit in by_text]
        assert [hit.score for hit in by_vector] == pytest.approx([hit.score for hit in by_text])


def test_more_like_a_moment(made):
    videos = {
        "a.mp4": (sliding(6), [0, 0, 60, 120, 15, 180]),
        "b.mp4": ([(0, 8)], [1]),
        "c.mp4": ([(0, 8)], [30]),
        "d.mp4": (sliding(6), [0, 0, 60, 120, 15, 180]),
    }
    index = made(videos)
    hit = index.search("1 0", where='path = "a.mp4"')[0]
    assert (hit.moment_id, hit.start_s) == (1, 0)
    like = index.search(hit)
    assert like.query == f"like a.mp4, 0.0 to {hit.end_s:.1f} s"
    # Not the moment itself, nor b.mp4 and the beginning of d.mp4, which show the same.
    assert tuple(Path(one.video).name for one in like[:2]) == ("a.mp4", "c.mp4")
    assert all(one.video_id != hit.video_id or one.start_s >= hit.end_s for one in like)
    assert "b.mp4" not in [name for name, *_ in shown(like)] and like[0].duplicates == ("/videos/d.mp4",)
    assert [one.moment_id for one in index.search(np.int64(1))] == [one.moment_id for one in like]
    every = index.search(hit, 99, keep_duplicates=True)
    assert [name for name, *_ in shown(every)][:2] == ["d.mp4", "b.mp4"]
    assert all(one.start_s >= 8 for one in index.search(1, 99, overlapping=True) if one.video_id == hit.video_id)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (np.zeros(3), "the query is a vector of shape (3,), but the space takes (2,)"),
        (np.ones((1, 2)), "the query is a vector of shape (1, 2), but the space takes (2,)"),
        (np.array([1, np.nan]), "the query is a vector with numbers that are not finite"),
        (np.array([np.inf, 0]), "the query is a vector with numbers that are not finite"),
        (np.zeros(2), "the query is a vector of length 0, which has no direction"),
        (np.array(["a", "b"]), "the query is no vector of numbers"),
        (99, "the index holds no moment 99: its video was removed or has changed; search again"),
        (-1, "the index holds no moment -1"),
        (2**70, "the index holds no moment 1180591620717411303424"),
        (True, "the query is True: describe what the video shows, or give a vector, a hit or the id of a moment"),
        (None, "the query is None: describe what the video shows"),
        (1.5, "the query is 1.5: describe what the video shows"),
        ([1, 0], "the query is [1, 0]: describe what the video shows"),
    ],
)
def test_what_is_no_query(made, query, said):
    index = made({"a.mp4": (sliding(2), [0, 40])})
    assert said in refused(lambda: index.search(query))
    assert said in refused(lambda: index.score_curve(1, query))


def test_a_hit_of_a_video_that_is_gone_is_no_query(made):
    index = made({"a.mp4": (sliding(2), [0, 40]), "b.mp4": (sliding(2), [0, 40])})
    hit = index.search("1 0", where='path = "a.mp4"')[0]
    other = vmr.Hit(1.0, "/videos/x.mp4", 0.0, 8.0, hit.moment_id, 7, None, "two")
    assert "holds no moment 1" in refused(lambda: index.search(other))
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.remove_video(hit.video_id)
    assert "holds no moment 1" in refused(lambda: index.search(hit))


def test_a_moment_without_a_vector_in_the_space(made):
    index = made({"a.mp4": (sliding(2), [0, 40])})
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.add_space(space("other", fingerprint="0" * 16))
    other = open_index(index.folder, space="other")
    assert "moment 1 has no vector in the space other" in refused(lambda: other.search(1))
    assert "video 1 has no vectors in the space other" in refused(lambda: other.score_curve(1, np.ones(2)))
    assert not other.search(np.ones(2)).hits


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0, but must be a whole number of at least 1"),
        ({"per_video": 0}, "per_video is 0, but must be a whole number of at least 1"),
        ({"per_video": 1.5}, "per_video is 1.5"),
        ({"rerank": 0}, "rerank is 0"),
        ({"min_match": 1.5}, "min_match is 1.5, but must be between 0 and 1"),
        ({"min_match": "high"}, "min_match is 'high', but must be a number"),
        ({"min_match": 0.5}, "min_match needs a sentence, and an index that is calibrated"),
        ({"where": ""}, "the expression is empty"),
        ({"where": "folder is x"}, "the expression is wrong at 'is x' (character 8)"),
        ({"where": 5}, "where is 5, but must be str or None"),
        ({"keep_duplicates": "yes"}, "keep_duplicates is 'yes', but must be bool"),
        ({"overlapping": 1}, "overlapping is 1, but must be bool"),
        ({"rerank": 20}, "two cannot compare a sentence and a video token by token"),
    ],
)
def test_options_that_make_no_sense(made, options, said):
    index = made({"a.mp4": (sliding(2), [0, 40])})
    assert said in refused(lambda: index.search("1 0", **options))


def test_only_videos_that_a_condition_selects(made):
    index = made({f"{name}.mp4": ([(0, 8)], [20 * place]) for place, name in enumerate("abcdef")})
    assert [name for name, *_ in shown(index.search("1 0", where='meta.name > "d"'))] == ["e.mp4", "f.mp4"]
    assert not index.search("1 0", where='meta.name = "z"').hits
    mask = index.searcher._filters.mask
    with index.searcher.searchable() as snapshot:
        where = Where.parse('meta.name in ("b", "e")')
        first = mask(where, None, snapshot)
        assert np.flatnonzero(first).tolist() == [2, 5] and not first.flags.writeable
        assert mask(where, None, snapshot) is first
        for name in "abcd":  # only the last few are kept
            mask(Where.parse(f'meta.name = "{name}"'), None, snapshot)
        assert mask(where, None, snapshot) is not first
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.set_metadata(1, {"name": "z"})
    assert [name for name, *_ in shown(index.search("1 0", where='meta.name = "z"'))] == ["a.mp4"]


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_condition_costs_no_recall(tmp_path, share):
    """An index with lists, whose videos are clusters: those that are selected may all lie far from the query."""
    rng = np.random.default_rng(0)
    folder, dim = tmp_path / "index", 16
    with IndexWriter(folder, SETTINGS) as writer:
        with writer.commit() as changes:
            number = changes.add_space(space(dim=dim, dtype="float16", kind="auto"))
            for name in range(150):
                rows = 2 * rng.normal(size=dim) + rng.normal(size=(40, dim))
                video = NewVideo(
                    "/videos",
                    f"{name}.mp4",
                    b"",
                    STATE,
                    99.0,
                    (),
                    tuple(sliding(40)),
                    {number: rows.astype(np.float32)},
                )
                changes.set_metadata(changes.put_video(video), {"place": int(rng.permutation(150)[0])})
        assert bring_up_to_date(writer, number, thresholds=Thresholds(file_rows=40, list_rows=40))
    index = open_index(folder)
    assert not index.is_exact
    windows, vectors = index.windows, index.vectors
    with index.searcher.searchable() as snapshot:
        places = {video.file: video.metadata["place"] for video in snapshot.videos()}
    is_selected = np.array([places[window.file] < 150 * share for window in windows])
    recall = []
    for query in rng.normal(size=(20, dim)):
        scores = np.where(is_selected, vectors @ query, -np.inf)
        best = {windows[row].id for row in np.argsort(-scores)[:10]}
        where = f"meta.place < {150 * share}"
        hits = index.search(query, 10, where=where, overlapping=True, keep_duplicates=True)
        assert all(places[hit.video] < 150 * share for hit in hits)
        recall.append(len(best & {hit.moment_id for hit in hits}) / 10)
    assert np.mean(recall) >= 0.98


def test_a_store_of_ones_own_is_told_which_windows_to_search(made):
    index = made({f"{name}.mp4": ([(0, 8)], [10 * place]) for place, name in enumerate("abcdef")})
    store = vmr.FaissStore(2)
    store.add(np.array([window.id for window in index.windows]), index.vectors)
    own = open_index(index.folder, TwoDimensional(), store=store)
    for where in (None, 'meta.name > "c"', 'meta.name = "z"'):
        assert own.search("1 0", where=where) == index.search("1 0", where=where)


def test_at_most_so_many_moments_of_a_video(made):
    videos = {"a.mp4": (sliding(9, stride=8), [0, 90, 1, 90, 2, 90, 3, 90, 4]), "b.mp4": ([(0, 8)], [30])}
    index = made(videos)
    assert [name for name, *_ in shown(index.search("1 0"))] == ["a.mp4"] * 5
    assert [name for name, *_ in shown(index.search("1 0", per_video=2))] == ["a.mp4", "a.mp4", "b.mp4"]
    assert shown(index.search("1 0", 1, per_video=1)) == [("a.mp4", 0, 8)]


def test_files_that_are_gone_are_marked(made, tmp_path):
    index = made({"a.mp4": ([(0, 8)], [0]), "b.mp4": ([(0, 8)], [40])})
    (tmp_path / "b.mp4").touch()
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.move_root("/videos", str(tmp_path))
    assert [(os.path.basename(hit.video), hit.missing) for hit in index.search("1 0")] == [  # noqa: PTH119
        ("a.mp4", True),
        ("b.mp4", False),
    ]


# --- moments ----------------------------------------------------------------------------------------------------------


def test_a_scene_of_several_windows_is_one_moment(made):
    """Windows 3 to 6 of 12 show the scene, 2 and 7 half of it."""
    angles = [90, 85, 45, 2, 0, 1, 3, 45, 88, 90, 92, 91]
    index = made({"a.mp4": (sliding(12), angles)})
    hit = index.search("1 0")[0]
    # In a quarter of the windows, both scores and similarities are below -0.0087 and 0.0262 or so.
    assert hit.moment_id == 5 and 10 < hit.start_s < 12 and 32 < hit.end_s < 34
    assert shown(index.search("1 0", 9, overlapping=True))[0] == ("a.mp4", 16, 24)


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_a_video_that_is_all_alike_is_one_moment(spread):
    rng = np.random.default_rng(0)
    vectors = (np.array([0.6, 0.8]) + spread * rng.normal(size=(20, 2))).astype(np.float32)
    spans = np.array(sliding(20))
    (moment,) = merged_moments(Windows(spans, vectors), vectors @ np.array([0.5, 0.5], np.float32), vectors)
    assert (moment.start_s, moment.end_s) == (0, 84)


def test_shots_are_merged_as_a_whole():
    spans = np.array([(0, 3), (3, 10), (10, 12), (12, 20), (21.5, 30)], float)
    vectors = np.array([angle(degrees) for degrees in (90, 20, 0, 10, 0)], np.float32)
    first, *rest = merged_moments(Windows(spans, vectors), vectors[:, 0], vectors)
    assert (first.best, first.start_s, first.end_s) == (2, 3, 20)  # more than 1 s follows, which is no window
    assert [(one.start_s, one.end_s) for one in rest] == [(21.5, 30), (0, 3)]


def test_moments_do_not_overlap_and_leave_out_no_better_window():
    rng = np.random.default_rng(1)
    for seed in range(30):
        n = int(rng.integers(1, 40))
        spans = np.array(sliding(n, 8, float(rng.choice([1, 2, 4, 8]))))
        vectors = rng.normal(size=(n, 4)).astype(np.float32)
        scores = vectors[:, 0]
        found = list(merged_moments(Windows(spans, vectors), scores, vectors))
        assert [scores[one.best] for one in found] == sorted((scores[one.best] for one in found), reverse=True), seed
        for place, one in enumerate(found):
            assert 0 <= one.start_s < one.end_s <= spans[-1, 1]
            assert spans[one.best, 0] < one.end_s and one.start_s < spans[one.best, 1]
            assert all(one.end_s <= other.start_s or other.end_s <= one.start_s for other in found[:place])
        best = [one.best for one in found]
        for row in range(n):  # a window that is in no moment overlaps a better one, or was merged into it
            assert any(scores[row] <= scores[other] for other in best)


def test_the_row_of_a_whole_video():
    rows = [((0, 8), (0, 20), (4, 12)), ((0, 8),), ((0, 8), (0, 8)), ((0, 8), (4, 12)), ((0, 9), (0, 9), (0, 4))]
    expected = [[False, True, False], [False], [False, False], [False, False], [True, True, False]]
    assert [whole_rows(np.array(spans, float)).tolist() for spans in rows] == expected


def test_a_whole_video_stands_alone_if_none_of_its_windows_is_found(made):
    spans = [(0, 16), *sliding(3)]
    index = made({"a.mp4": (spans, [0, 60, 120, 60]), "b.mp4": ([(0, 8)], [30])})
    assert shown(index.search("1 0", 1)) == [("a.mp4", 0, 16)]
    assert shown(index.search("1 0", 2)) == [("a.mp4", 0, 16), ("b.mp4", 0, 8)]
    # The third best is a window of a.mp4, and takes the place of the whole video.
    assert shown(index.search("1 0", 3)) == [("b.mp4", 0, 8), ("a.mp4", 0, 6), ("a.mp4", 8, 16)]


def test_single_windows_come_best_first():
    scores, vectors = np.array([1, 3, 3, 2], np.float32), np.empty((4, 2), np.float32)
    found = [one.best for one in single_windows(Windows(np.array(sliding(4)), vectors), scores, vectors)]
    assert found == [1, 2, 3, 0]


def test_scores_over_time(made):
    index = made({"a.mp4": ([(0, 16), *sliding(3)], [0, 0, 60, 90]), "b.mp4": ([(0, 8)], [30])})
    curve = index.score_curve(1, "1 0")
    np.testing.assert_allclose(curve, [(0, 8, 1), (4, 12, 0.5), (8, 16, 0)], atol=1e-6)
    assert index.score_curve(2, np.array([2.0, 0])).shape == (1, 3)
    assert refused(lambda: index.score_curve(3, "1 0")).startswith("the index holds no video 3")
    assert refused(lambda: index.score_curve(0, "1 0")).startswith("video_id is 0")


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_what_shows_the_same_is_listed_once(made):
    index = made(
        {"a.mp4": ([(0, 8)], [10]), "b.mp4": ([(0, 8)], [0]), "c.mp4": ([(0, 8)], [25]), "d.mp4": ([(0, 8)], [50])}
    )
    first, second, third = index.search("1 0")
    # The cosine of 10 degrees is 0.985, that of 15 degrees 0.966.
    assert (Path(first.video).name, first.duplicates) == ("b.mp4", ("/videos/a.mp4",))
    assert second.duplicates == third.duplicates == ()
    assert [name for name, *_ in shown(index.search("1 0", keep_duplicates=True))] == [f"{x}.mp4" for x in "bacd"]
    assert index.search("1 0", 1)[0].duplicates == ("/videos/a.mp4",)  # it is better than what comes next


def test_copies_of_a_file_collapse_where_they_show_the_same_time(made):
    index = made(
        {
            "a.mp4": (sliding(2, stride=8), [0, 90], SAME),
            "b.mp4": (sliding(2, stride=8), [40, 130], SAME),  # embedded in another way
            "c.mp4": (sliding(2, stride=8), [41, 131]),
        }
    )
    result = index.search("1 0")
    assert [(Path(hit.video).name, hit.duplicates) for hit in result] == [
        ("a.mp4", ("/videos/b.mp4",)), ("c.mp4", ()), ("a.mp4", ("/videos/b.mp4",)), ("c.mp4", ()),
    ]  # fmt: skip


def test_moments_of_one_video_are_never_duplicates(made):
    index = made({"a.mp4": (sliding(3, stride=8), [0, 90, 0])})
    assert shown(index.search("1 0"))[:2] == [("a.mp4", 0, 8), ("a.mp4", 16, 24)]


# --- what scores mean -------------------------------------------------------------------------------------------------


def test_a_calibrated_index_says_how_well_hits_match(made):
    index = made({"a.mp4": ([(0, 8)], [0]), "b.mp4": ([(0, 8)], [40]), "c.mp4": ([(0, 8)], [90])})
    assert [hit.match for hit in index.search("1 0")] == [None] * 3
    calibration = Calibration(VERSION, 3, "domain", 0.9, 0.5, 0.9, 0.0, 0.5, 0.5, (0.5, 0.6, 0.7), 0.05, "", 0.0)
    with IndexWriter(index.folder) as writer, writer.commit() as changes:
        changes.set_space(1, calibration=calibration.to_json())
    result = index.search("1 0")
    expected = calibration.match([hit.score for hit in result], np.array([1.0, 0]))
    assert [hit.match for hit in result] == pytest.approx(expected.tolist()) and result.nothing_close is False
    assert result[0].match > 0.9 > 0.1 > result[2].match >= 0
    assert len(index.search("1 0", min_match=0.5)) == 2 and len(index.search("1 0", min_match=0)) == 3
    assert index.search("-1 -1").nothing_close is True
    assert index.search("1 0", where='path = "x"').nothing_close is None
    # Only a sentence has a match.
    assert index.search(np.array([1.0, 0])).nothing_close is None and index.search(1)[0].match is None
    assert "min_match needs a sentence" in refused(lambda: index.search(np.array([1.0, 0]), min_match=0.5))


def test_a_search_by_vector_needs_no_encoder(tmp_path):
    write_index(tmp_path / "index", [("a.mp4", 0.0, 8.0)], np.array([[1.0, 0]]), encoder="nowhere")
    assert len(open_index(tmp_path / "index").search(np.array([1.0, 0]))) == 1
