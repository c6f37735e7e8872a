"""Searches of random small indexes beside an oracle that compares everything.

`pytest -m slow tests/integration/test_search_oracle.py` tries thirty times as many; it takes minutes on two cores.
"""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import search_oracle
from tests.indexes import SETTINGS, STATE, TwoDimensional, space
from tests.search_oracle import Film, Found, Row
from vmr.retrieval.index import open_index
from vmr.retrieval.searching import search as search_module
from vmr.retrieval.storage.records import NewVideo
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds

DIM = 3
IN_FILE = Thresholds(file_rows=1, list_rows=10**9)
NUMBERS = st.integers(-1, 2)
VECTORS = st.tuples(*[NUMBERS] * DIM)


class ThreeDimensional(TwoDimensional):
    """Texts are three numbers."""

    embed_dim = DIM

    def encode_video(self, video):
        return torch.zeros(len(video), DIM)


@st.composite
def spans(draw):
    """Start and end of the windows of a video."""
    layout = draw(st.sampled_from(["sliding", "sliding", "dense", "shots", "gap", "any"]))
    n = draw(st.sampled_from([3, 1, 2, 4, 5, 7, 9]))
    if layout in ("sliding", "dense", "gap"):
        stride = 4.0 if layout == "sliding" else 2.0
        rows = [(stride * i, stride * i + 8) for i in range(n)]
        rows[-1] = (rows[-1][0], rows[-1][1] - draw(st.sampled_from([0.0, 1.0, 3.5])))
        if layout == "gap":
            away = draw(st.integers(0, n - 1))
            rows = [(start, end) if i < away else (start + 8, end + 8) for i, (start, end) in enumerate(rows)]
    elif layout == "shots":
        ends = np.cumsum(draw(st.lists(st.sampled_from([0.5, 2.0, 7.0]), min_size=n, max_size=n))).tolist()
        rows = list(zip([0.0, *ends], ends, strict=False))
    else:
        times = st.integers(0, 8).map(float)
        rows = sorted(
            (min(a, b), max(a, b) + 1) for a, b in draw(st.lists(st.tuples(times, times), min_size=n, max_size=n))
        )
    if draw(st.sampled_from([True, False])):
        rows = [(min(start for start, _ in rows), max(end for _, end in rows)), *rows]
    return rows


@st.composite
def worlds(draw):
    """Videos: path, content, number for the filter, spans, vectors."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=6, unique=True))
    videos = []
    for name in names:
        rows = draw(spans())
        pool = draw(st.lists(VECTORS, min_size=1, max_size=4))  # so that many windows are alike
        vectors = draw(st.lists(st.sampled_from(pool) | VECTORS, min_size=len(rows), max_size=len(rows)))
        if draw(st.sampled_from([True, False])):
            vectors[0] = tuple(2 * number for number in vectors[0])  # the best one, of the whole video if it has a row
        content = draw(st.sampled_from([b"", b"", b"1" * 32, b"2" * 32]))
        videos.append((f"{name}.mp4", content, draw(st.integers(0, 2)), rows, vectors))
    return videos


OPTIONS = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 3, 5, 50]),
        "per_video": st.sampled_from([None, None, 1, 2]),
        "keep_duplicates": st.booleans(),
        "overlapping": st.sampled_from([False, False, True]),
    }
)
WHERE = st.sampled_from([None, None, "meta.x = 1", "meta.x != 2", 'path in ("a.mp4", "c.mp4")', "meta.x > 5"])
QUESTIONS = st.lists(st.tuples(VECTORS | st.integers(0, 10**6), OPTIONS, WHERE), min_size=3, max_size=12)

_seen: Counter[str] = Counter()


def write(folder, videos, in_file):
    """Write an index; return its videos as the oracle takes them, by the number for the filter."""
    films = []
    with IndexWriter(folder, SETTINGS) as writer:
        with writer.commit() as changes:
            number = changes.add_space(space(dim=DIM))
            for path, content, x, rows, vectors in videos:
                matrix = np.array(vectors, np.float32)
                video_id = changes.put_video(
                    NewVideo("/videos", path, content, STATE, 100.0, (), tuple(rows), {number: matrix})
                )
                changes.set_metadata(video_id, {"x": x})
                first = changes.snapshot.video(video_id).first_window
                known = [
                    Row(first + place, *span, tuple(map(float, vector)))
                    for place, (span, vector) in enumerate(zip(rows, vectors, strict=True))
                ]
                films.append((x, Film(video_id, f"/videos/{path}", content, tuple(known))))
        if in_file:
            assert bring_up_to_date(writer, number, thresholds=IN_FILE)
    return films


def selected(films, where):
    tests = {
        None: lambda x, film: True,
        "meta.x = 1": lambda x, film: x == 1,
        "meta.x != 2": lambda x, film: x != 2,
        'path in ("a.mp4", "c.mp4")': lambda x, film: film.path in ("/videos/a.mp4", "/videos/c.mp4"),
        "meta.x > 5": lambda x, film: False,
    }
    return [film for x, film in films if tests[where](x, film)]


def check(index, films, question, options, where):
    seed = None
    if isinstance(question, int):  # more like this; only of vectors whose directions are exact numbers
        rows = [(film, row) for _, film in films for row in film.rows if np.count_nonzero(row.vector) == 1]
        if not rows:
            return
        film, row = rows[question % len(rows)]
        seed = Found(0.0, film, row, row.start, row.end)
        asked, query = row.id, tuple(np.sign(row.vector).tolist())
    else:
        asked, query = " ".join(map(str, question)), tuple(map(float, question))
    expected = search_oracle.search(selected(films, where), query, **options, seed=seed)
    hits = index.search(asked, where=where, **options)
    assert [hit.moment_id for hit in hits] == [one.row.id for one in expected]
    for hit, one in zip(hits, expected, strict=True):
        assert (hit.video, hit.video_id, hit.score) == (one.film.path, one.film.id, pytest.approx(one.score, abs=1e-6))
        assert (hit.start_s, hit.end_s) == pytest.approx((one.start, one.end), abs=1e-4)
        assert hit.duplicates == tuple(one.duplicates)
        assert hit.start_s < hit.end_s
    _seen.update(
        searches=1,
        hits=len(hits),
        merged=sum(
            hit.end_s - hit.start_s > one.row.end - one.row.start for hit, one in zip(hits, expected, strict=True)
        ),
        duplicates=sum(len(hit.duplicates) for hit in hits),
        whole=sum(one.is_whole for one in expected),
        likes=seed is not None,
    )


def try_worlds(examples):
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(videos=worlds(), questions=QUESTIONS, in_file=st.booleans())
    def run(videos, questions, in_file):
        with tempfile.TemporaryDirectory() as folder:
            films = write(Path(folder, "index"), videos, in_file)
            index = open_index(Path(folder, "index"), ThreeDimensional())
            for question, options, where in questions:
                check(index, films, question, options, where)
            index.close()

    _seen.clear()
    run()
    assert min(_seen.values()) > examples / 5 and len(_seen) == 6, _seen  # what is compared must have happened


@pytest.fixture
def few_at_once(monkeypatch):
    """Searches ask for few windows first, so that they have to ask for more."""
    monkeypatch.setattr(search_module, "_FIRST_WINDOWS", 1)
    monkeypatch.setattr(search_module, "_WINDOWS_PER_MOMENT", 1)


@pytest.mark.usefixtures("few_at_once")
def test_searches_find_what_comparing_everything_finds():
    try_worlds(30)


@pytest.mark.slow
@pytest.mark.usefixtures("few_at_once")
def test_many_searches_find_what_comparing_everything_finds():
    try_worlds(1000)
