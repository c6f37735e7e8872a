"""The gallery: exact scores are the dot products, ties stay ties, approximate kinds say what they did not find."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vmr
from tests.indexes import TwoDimensional, write_index
from vmr.errors import IndexFileError, ModelError, VmrError
from vmr.retrieval import gallery as gallery_module
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import FACTORIES, Thresholds, factory_string, num_lists, num_probes


def unit_vectors(count: int, width: int = 32, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_by_hand():
    gallery = Gallery(np.array([[1, 0], [0, 0.5]], np.float32))
    assert gallery.is_exact and gallery.num_items == 2
    # (3, 4) . (1, 0) = 3, (3, 4) . (0, 0.5) = 2; (0, -1) . (0, 0.5) = -0.5
    assert gallery.search_all(np.array([[3, 4], [0, -1]], np.float32)).tolist() == [[3.0, 2.0], [0.0, -0.5]]
    assert gallery.search_all(np.empty((0, 2), np.float32)).shape == (0, 2)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_an_exact_gallery_gives_every_score(count, monkeypatch):
    vectors, queries = 0.9 * unit_vectors(count), unit_vectors(57, seed=1)
    expected = queries @ vectors.T
    for at_once in (1, 1000, 1 << 22):  # blocks of one query, of a few, of all
        monkeypatch.setattr(gallery_module, "SCORES_AT_ONCE", at_once)
        scores = Gallery(vectors).search_all(queries, k=1)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, atol=1e-6, rtol=0)


def test_equal_vectors_have_equal_scores_to_the_last_bit():
    vectors, queries = unit_vectors(1500, 500), unit_vectors(100, 500, seed=1)
    vectors[[3, 1499, 700]] = vectors[0]
    queries[[41, 99]] = queries[5]
    scores = Gallery(vectors).search_all(queries)
    for column in (3, 1499, 700):
        assert np.array_equal(scores[:, column], scores[:, 0])
    assert np.array_equal(scores[41], scores[5]) and np.array_equal(scores[99], scores[5])
    np.testing.assert_allclose(scores, queries @ vectors.T, atol=1e-6, rtol=0)


def test_an_item_scores_as_its_best_row():
    rows = np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32)
    gallery = Gallery(rows, item_of_row=np.array([0, 0, 1]))
    # item 0: max(3, 4) = 4 and max(-2, 1) = 1; item 1: 3.5 and -0.5
    scores = gallery.search_all(np.array([[3, 4], [-2, 1]], np.float32))
    assert scores.tolist() == [[4.0, 3.5], [1.0, -0.5]]


@pytest.mark.parametrize("kind", [*FACTORIES, "IVF5,Flat", "PCA16,SQ8", "HNSW8"])
def test_what_a_kind_finds_has_about_its_score(kind):
    vectors, queries = unit_vectors(400), unit_vectors(30, seed=1)
    gallery = Gallery(vectors, kind)
    assert gallery.is_exact == (kind == "flat")
    scores = gallery.search_all(queries)
    found = np.isfinite(scores)
    assert np.all(scores[~found] == -np.inf)
    assert found.any(axis=1).all()
    assert found.all() == (kind in ("flat", "sq8", "PCA16,SQ8"))
    if not kind.startswith(("PCA", "ivf_rabitq")):  # a byte a dimension costs little; fewer cost much
        np.testing.assert_allclose(scores[found], (queries @ vectors.T)[found], atol=0.02)
    assert np.array_equal(scores, Gallery(vectors, kind).search_all(queries))  # the same again, graph or not


def test_what_is_not_found_is_minus_infinity():
    vectors = unit_vectors(400)
    gallery = Gallery(vectors, "ivf_flat")
    assert gallery.factory == "IVF10,Flat"  # min(4 * sqrt(400) = 80, 400 // 39 = 10)
    few = gallery.search_all(vectors, k=3)
    assert np.all(np.isfinite(few).sum(axis=1) == 3)
    assert np.array_equal(few.argmax(axis=1), np.arange(400))  # each vector finds itself, in the list nearest to it
    every = gallery.search_all(vectors)
    assert 3 < np.isfinite(every).sum(axis=1).mean() < 400  # 3 of 10 lists
    assert np.all(every[np.isfinite(few)] == few[np.isfinite(few)])


def test_all_lists_read_are_the_exact_scores():
    vectors, queries = unit_vectors(400), unit_vectors(30, seed=1)
    gallery = Gallery(vectors, "IVF1,Flat")
    np.testing.assert_allclose(gallery.search_all(queries), queries @ vectors.T, atol=1e-6, rtol=0)


def test_short_names():
    assert [num_lists(n) for n in (1, 38, 100, 1000, 100_000)] == [1, 1, 2, 25, 1265]  # 4 sqrt(100,000) = 1264.9
    assert [num_probes(n) for n in (1, 25, 1265)] == [1, 5, 36]
    assert factory_string("IVF_SQ8", 1000) == "IVF25,SQ8"
    assert factory_string("OPQ16,IVF8,PQ16{n", 1000) == "OPQ16,IVF8,PQ16{n"


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("IVF500,Flat", "IVF500,Flat: 500 lists need as many vectors, but there are 400"),
        ("PQ4", r"PQ4: FAISS cannot .* of 100 vectors of 32 .*training points \(100\)"),
        ("PQ5", "multiple of the number of subquantizers"),
        ("nonsense", "could not parse index string nonsense.*; short names are flat, sq8, hnsw, ivf_flat, ivf_sq8"),
        ("LSH", "LSH: FAISS cannot"),
    ],
)
def test_what_faiss_cannot_build_is_one_line(factory, words):
    with pytest.raises(VmrError, match=words) as caught:
        Gallery(unit_vectors(100 if factory == "PQ4" else 400), factory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value):
    vectors = unit_vectors(5)
    vectors[[2, 4], 1] = value
    with pytest.raises(ModelError, match="2 of 5 gallery vectors are not finite, first: number 2"):
        Gallery(vectors)
    with pytest.raises(ModelError, match="2 of 5 query vectors are not finite"):
        Gallery(unit_vectors(3)).search_all(vectors)


def test_senseless_requests_are_refused():
    with pytest.raises(VmrError, match="the gallery is empty"):
        Gallery(np.empty((0, 4), np.float32))
    with pytest.raises(ModelError, match="queries of 4 dimensions, but the gallery has 32"):
        Gallery(unit_vectors(3)).search_all(unit_vectors(2, 4))
    with pytest.raises(VmrError, match="k is 0"):
        Gallery(unit_vectors(3)).search_all(unit_vectors(2), k=0)


@pytest.fixture(scope="module")
def videos(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(footage, tmp_path_factory.mktemp("gallery") / "videos"))


@pytest.fixture(scope="module")
def windowed(videos, offline):
    return vmr.build_index(videos, videos.parent / "index", offline, window_s=3, stride_s=1.5)


def test_the_gallery_of_an_index(windowed, videos, offline):
    """Asked for in another order, by a link, twice, and one that is not there; one of the index's is not asked for."""
    link = videos.parent / "link"
    link.symlink_to(videos)
    paths = [videos / "carphone_pristine.mp4", link / "bikes.mp4", videos / "gone.mp4", videos / "bikes.mp4"]
    gallery = Gallery.of_index(windowed, paths, offline)
    assert gallery.kept.tolist() == [0, 1, 3]
    assert gallery.paths_missing == (str(videos / "gone.mp4"),)
    queries = offline.encode_text(["a man in a car", "a cyclist"]).numpy()
    rows = windowed.vectors
    best = {}
    for name in ("carphone_pristine.mp4", "bikes.mp4"):
        ids = [number for number, row in enumerate(windowed.windows) if row.file == str(videos / name)]
        assert len(ids) > 1
        best[name] = (queries @ rows[ids].T).max(axis=1)
    expected = np.stack([best["carphone_pristine.mp4"], best["bikes.mp4"], best["bikes.mp4"]], axis=1)
    scores = gallery.search_all(queries)
    np.testing.assert_allclose(scores, expected, atol=1e-6, rtol=0)
    assert np.array_equal(scores[:, 1], scores[:, 2])  # two names of one file tie


def test_the_gallery_is_what_a_search_is_served(windowed, videos, offline):
    paths = [Path(video) for video in windowed.videos]
    gallery = Gallery.of_index(windowed, paths, offline)
    query = "a cyclist in city traffic"
    (scores,) = gallery.search_all(offline.encode_text([query]).numpy())
    served: dict[str, float] = {}
    for hit in windowed.search(query, k=len(windowed), overlapping=True, keep_duplicates=True):
        served[hit.video] = max(hit.score, served.get(hit.video, -1))
    assert {str(path): score for path, score in zip(paths, scores, strict=True)} == pytest.approx(served, abs=1e-6)


def test_whole_videos_score_as_they_are_embedded(videos, offline, tmp_path):
    paths = sorted(videos.glob("*.mp4"))
    vectors = np.concatenate([video.vectors for video in embed_videos(paths, offline).videos])
    queries = offline.encode_text(["a rabbit", "a man"]).numpy()
    expected = Gallery(vectors).search_all(queries)
    for dtype, tolerance in (("float32", 0), ("float16", 2e-4)):
        index = vmr.build_index(videos, tmp_path / dtype, offline, window_s=None, vectors=vmr.VectorOptions(dtype))
        scores = Gallery.of_index(index, paths, offline).search_all(queries)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)


def test_an_approximate_index_is_scored_as_it_is_served(tmp_path):
    """Lists are passed over: what a search does not find has no score."""
    rng = np.random.default_rng(0)
    names = [f"{number:04d}.mp4" for number in range(2000)]
    vectors = rng.normal(size=(4000, 16)).astype(np.float32)
    rows = [(name, start, start + 8.0) for name in names for start in (0.0, 4.0)]
    folder = write_index(tmp_path / "index", rows, vectors, kind="ivf_sq8")
    with IndexWriter(folder) as writer:
        assert bring_up_to_date(writer, 1, thresholds=Thresholds(file_rows=1))
        with writer.commit() as changes:
            changes.set_space(1, search={"factory": "IVF{n},SQ8", "effort": 1, "rescore": 2})
    index = vmr.open_index(folder)
    assert not index.is_exact
    encoder = TwoDimensional()  # of which only the fingerprint counts
    gallery = Gallery.of_index(index, [Path("/videos", name) for name in names[::-1]], encoder)
    assert (gallery.is_exact, gallery.factory, gallery.num_items) == (False, index.info.kind, 2000)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    scores = gallery.search_all(queries)
    served, ids = index.search_vectors(queries, 128)
    files = {window.id: window.file for window in index.windows}
    for query in range(5):
        best: dict[str, float] = {}
        for score, number in zip(served[query].tolist(), ids[query].tolist(), strict=True):
            if number >= 0:
                best[files[number]] = max(score, best.get(files[number], -np.inf))
        assert 10 < len(best) <= 128
        found = {
            f"/videos/{name}": score for name, score in zip(names[::-1], scores[query], strict=True) if score > -np.inf
        }
        assert found == best


def test_an_index_of_others_is_refused(windowed, videos, offline, tmp_path):
    with pytest.raises(IndexFileError, match="holds none of the 1 videos"):
        Gallery.of_index(windowed, [tmp_path / "a.mp4"], offline)
    other = vmr.open_index(windowed.folder)
    other.space = replace(other.space, fingerprint="0" * 16)
    with pytest.raises(IndexFileError, match=r"was made by offline \(0000000000000000\), not by offline"):
        Gallery.of_index(other, [videos / "bikes.mp4"], offline)
