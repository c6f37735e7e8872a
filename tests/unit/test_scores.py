"""The scores of every column of a report, from vectors and tokens that are there already."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tests.models import make_encoder, make_video, tiny_model
from vmr.data.annotations.retrieval_set import RetrievalSet, VideoItem
from vmr.errors import VmrError
from vmr.eval.metrics.normalisation import dual_softmax, qb_norm
from vmr.eval.protocols.catalogue import FILE
from vmr.eval.protocols.load import Loaded
from vmr.eval.scores import all_scores
from vmr.eval.task import EvalOptions, prepare
from vmr.eval.videos import EmbeddedSet
from vmr.processes import ALONE
from vmr.retrieval.feature_cache import FeatureCache, texts_key
from vmr.retrieval.gallery import Gallery
from vmr.retrieval.reranking.engine import rerank_videos
from vmr.retrieval.reranking.log import LOG_FILE
from vmr.retrieval.texts import embed_texts

TEXTS = ("a dog", "two dogs run", "a cat sleeps", "a bird")
DATA = RetrievalSet("pets", TEXTS, (0, 1, 2, 2), tuple(VideoItem(name, None) for name in ("a", "b", "c")))


@pytest.fixture(scope="module")
def encoder():
    return make_encoder(tiny_model())


@pytest.fixture(scope="module")
def embedded(encoder):
    videos = make_video(3)
    vectors, tokens = encoder.encode_video(videos).numpy(), encoder.video_tokens(videos)
    static = np.roll(vectors, 1, axis=0)
    return EmbeddedSet((0, 1, 2), Gallery(vectors), vectors, {"static": static}, lambda n: tokens[n : n + 1], (), ())


def scores_of(encoder, embedded, options, cache=None, protocol=FILE):
    task = prepare(Loaded(DATA, protocol), encoder, options)
    return all_scores(task, DATA, embedded, cache=cache, processes=ALONE, progress=False)


def assert_same(column, text_to_video, video_to_text=None):
    np.testing.assert_allclose(column.text_to_video, text_to_video, rtol=1e-5)
    assert (column.video_to_text is None) == (video_to_text is None)
    if video_to_text is not None:
        np.testing.assert_allclose(column.video_to_text, video_to_text, rtol=1e-5)


def test_embeddings_and_controls_are_the_columns_of_a_plain_evaluation(encoder, embedded):
    found = scores_of(encoder, embedded, EvalOptions())
    assert list(found) == ["embedding", "static"]
    texts = embed_texts(TEXTS, encoder)
    assert_same(found["embedding"], texts @ embedded.vectors.T)
    assert_same(found["static"], texts @ embedded.controls["static"].T)
    # the vectors of the embedding are searched for signs of collapse; a control may well have collapsed
    assert np.array_equal(found["embedding"].text_vectors, texts)
    assert found["embedding"].video_vectors is embedded.vectors
    assert found["static"].text_vectors is found["static"].video_vectors is None


def test_every_column_that_is_asked_for_comes_in_order(encoder, embedded):
    options = EvalOptions(rerank_depth=1, normalise=True, index_kinds=("sq8", "hnsw"))
    found = scores_of(encoder, embedded, options)
    columns = ["embedding", "vtm", "embedding+dsl", "embedding+qbnorm", "index:SQ8", "index:HNSW32,Flat", "static"]
    assert list(found) == columns
    by_embedding = found["embedding"].text_to_video
    assert_same(found["vtm"], *rerank_videos(encoder, embedded.tokens, TEXTS, by_embedding, 1))
    assert_same(found["embedding+dsl"], *dual_softmax(by_embedding))
    assert_same(found["embedding+qbnorm"], *qb_norm(by_embedding))
    assert_same(found["index:HNSW32,Flat"], by_embedding, by_embedding.T)  # of so few videos none is missed
    texts = found["embedding"].text_vectors
    of_videos, of_texts = Gallery(embedded.vectors, "sq8"), Gallery(texts, "sq8")  # each rounded in its own index
    assert_same(found["index:SQ8"], of_videos.search_all(texts), of_texts.search_all(embedded.vectors))
    assert not np.allclose(found["index:SQ8"].video_to_text, by_embedding.T, rtol=1e-5)
    assert [scores.not_found for scores in found.values()] == [False] * 4 + [True, True, False]


def test_without_tokens_nothing_is_reranked(encoder, embedded):
    assert "vtm" not in scores_of(encoder, replace(embedded, tokens=None), EvalOptions(rerank_depth=1))
    assert "vtm" not in scores_of(encoder, embedded, EvalOptions(rerank_depth=0))


def test_the_columns_of_an_index(encoder, embedded):
    of_index = replace(embedded, vectors=None)
    assert list(scores_of(encoder, of_index, EvalOptions())) == ["embedding", "static"]


def test_each_data_set_protocol_and_model_has_a_log_of_its_own(encoder, embedded, tmp_path):
    cache = FeatureCache(tmp_path)
    options = EvalOptions(rerank_depth=1)

    def logs():
        return {path.parent.name for path in (tmp_path / "rerank").glob(f"*/{LOG_FILE}")}

    scores_of(encoder, embedded, options, cache)
    (first,) = logs()
    # a log of an earlier version must be found again, so its name must stay as it is
    parts = f"pets\n3\n{FILE.hash}\n{encoder.fingerprint}"
    assert first == hashlib.sha256(parts.encode()).hexdigest()[:16]
    scores_of(encoder, embedded, options, cache)
    assert logs() == {first}
    scores_of(encoder, embedded, options, cache, replace(FILE, max_text_tokens=7))
    assert len(logs()) == 2
    limited = encoder.with_text_limit(7)
    assert np.array_equal(cache.texts(texts_key(TEXTS, 7, limited.fingerprint)), embed_texts(TEXTS, limited))
    scores_of(make_encoder(tiny_model(seed=1)), embedded, options, cache)
    assert len(logs()) == 3


def test_matching_keeps_to_the_memory_of_the_options(encoder, embedded):
    with pytest.raises(VmrError, match="does not fit into 1 MiB"):
        scores_of(encoder, embedded, EvalOptions(rerank_depth=1, memory_bytes=2**20))
