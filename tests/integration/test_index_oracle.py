"""Random histories of an index beside a model in memory, which holds the same and searches by comparing everything.

`pytest -m slow tests/integration/test_index_oracle.py` tries twenty times as many; it takes some minutes on two cores.
"""

import itertools
import logging
import math
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from vmr.retrieval.storage.paths import path_to_text
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space, Text
from vmr.retrieval.storage.verify import verify
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.kinds import Thresholds
from vmr.retrieval.vectors.space_store import SpaceStore

DIM = 8
SETTINGS = IndexSettings(2.0, 2.0)
THRESHOLDS = Thresholds(
    file_rows=30, list_rows=150, flat_delta=20, delta=20, delta_share=0.1, removed_share=0.2, growth=2.0
)
STATE = FileState(1, 1, 1, 10**10)
ROOTS = ("/videos/a", "/videos/b")
PLACES = st.tuples(st.sampled_from(ROOTS), st.sampled_from([f"{number}.mp4" for number in range(9)] + ["\udcff.mp4"]))
WORDS = ("dog", "door", "Person", "läuft", "the", "42")
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
TEXTS = st.lists(st.tuples(st.sampled_from(["title", "subtitle"]), SENTENCES), max_size=3)
METADATA = st.dictionaries(st.sampled_from("xyz"), st.integers() | st.text(max_size=3) | st.none(), max_size=2)


def made_vectors(seed: int, n: int, is_coarse: bool) -> np.ndarray:
    """n vectors; of coarse ones many are equal, and even more have equal scores."""
    chance = np.random.default_rng(seed)
    rows = chance.integers(-1, 2, (n, DIM)) if is_coarse else chance.normal(size=(n, DIM))
    return rows.astype(np.float32)


VECTORS = st.builds(made_vectors, st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
SELDOM = st.sampled_from([False, False, False, False, True])
QUERIES = st.builds(made_vectors, st.integers(0, 2**32 - 1), st.integers(1, 8), st.booleans())


@dataclass
class Known:
    """A video of the model."""

    id: int
    first_window: int
    vectors: np.ndarray
    content: bytes
    metadata: dict[str, Any] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)


_told: list[str] = []
"""What the store of vectors has said."""


class Undone(Exception):
    """Ends a commit that is not to be."""


class Histories(RuleBasedStateMachine):
    """An index, two readers and a model. The subclasses say how vectors are kept and which kind is searched."""

    dtype: ClassVar[Any] = "float16"
    kind: ClassVar[str] = "auto"
    counts: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.videos: dict[tuple[str, str], Known] = {}
        self.gone: set[int] = set()  # windows that were removed
        self.number = self.steps = 0
        self.writer = IndexWriter(self.folder, SETTINGS, self._prepare)
        self.writer.__enter__()
        self._open_reader()

    def _prepare(self, changes: Any) -> None:
        self.space_id = changes.add_space(
            Space(0, "space", "tiny", "f00d", DIM, self.dtype, {"num_frames": 4}, self.kind)
        )

    def _open_reader(self) -> None:
        _told.clear()
        self.reader = IndexReader(self.folder)
        with self.reader.snapshot() as snapshot:
            (space,) = snapshot.spaces()
            self.store = SpaceStore(self.folder, space, exact_rows=10)

    def _close_reader(self) -> None:
        self.store.close()
        self.reader.close()

    def teardown(self) -> None:
        if hasattr(self, "reader"):
            self._close_reader()
            self.writer.__exit__(None, None, None)
            assert not [fault for fault in verify(self.folder) if not fault.is_derived]
            shutil.rmtree(self.folder)

    # Changes

    def _put(self, changes: Any, place: tuple[str, str], vectors: np.ndarray) -> None:
        self.number += 1
        content = self.number.to_bytes(32, "big")
        spans = tuple((2.0 * window, 2.0 * window + 2.0) for window in range(len(vectors)))
        video = changes.put_video(NewVideo(*place, content, STATE, spans[-1][1], (), spans, {self.space_id: vectors}))
        old = self.videos.pop(place, None)
        if old is not None:
            self._forget(old)
        first = changes.snapshot.video(video).first_window
        stored = vectors.astype(self.dtype).astype(np.float32)
        self.videos[place] = Known(video, first, stored, content, {} if old is None else old.metadata)

    def _forget(self, known: Known) -> None:
        self.gone |= {*range(known.first_window, known.first_window + len(known.vectors))}

    @rule(place=PLACES, vectors=VECTORS)
    def put(self, place: tuple[str, str], vectors: np.ndarray) -> None:
        with self.writer.commit() as changes:
            self._put(changes, place, vectors)

    @rule(seed=st.integers(0, 2**32 - 1), count=st.integers(5, 30), is_coarse=st.booleans(), written=st.booleans())
    def put_many(self, seed: int, count: int, is_coarse: bool, written: bool) -> None:
        with self.writer.commit() as changes:
            for number in range(count):
                vectors = made_vectors(seed + number, 1 + (seed + number) % 8, is_coarse)
                self._put(changes, ("/videos/many", f"{seed % 3}-{number}.mp4"), vectors)
        if written:
            self.bring_up_to_date(force=False)

    @rule(choice=st.randoms(use_true_random=False), share=st.sampled_from([0.0, 0.3, 1.0]))
    def remove(self, choice: Any, share: float) -> None:
        """One video, or many at once."""
        places = sorted(self.videos)
        places = choice.sample(places, min(len(places), max(1, round(share * len(places)))))
        with self.writer.commit() as changes:
            for place in places:
                known = self.videos.pop(place)
                changes.remove_video(known.id)
                self._forget(known)

    @rule(choice=st.randoms(use_true_random=False), new=PLACES)
    def rename(self, choice: Any, new: tuple[str, str]) -> None:
        if not self.videos or new in self.videos:
            return
        old = choice.choice(sorted(self.videos))
        with self.writer.commit() as changes:
            changes.move_video(self.videos[old].id, *new, STATE)
        self.videos[new] = self.videos.pop(old)

    @rule(choice=st.randoms(use_true_random=False), metadata=METADATA, texts=TEXTS)
    def describe(self, choice: Any, metadata: dict[str, Any], texts: list[tuple[str, str]]) -> None:
        if not self.videos:
            return
        known = self.videos[choice.choice(sorted(self.videos))]
        known.metadata, known.texts = metadata, [Text(None, None, *text) for text in texts]
        with self.writer.commit() as changes:
            changes.set_metadata(known.id, metadata)
            changes.set_texts(known.id, known.texts)

    @rule(vectors=VECTORS)
    def undo(self, vectors: np.ndarray) -> None:
        """A commit that ends with an error."""
        before, gone = dict(self.videos), set(self.gone)
        with pytest.raises(Undone), self.writer.commit() as changes:
            for known in before.values():
                changes.remove_video(known.id)
            self._put(changes, ("/videos/undone", "a.mp4"), vectors)
            raise Undone
        self.videos, self.gone = before, gone

    @rule(really=SELDOM)
    def clear(self, really: bool) -> None:
        if not really:
            return
        with self.writer.commit() as changes:
            changes.clear(SETTINGS)
            self._prepare(changes)
        for known in self.videos.values():
            self._forget(known)
        self.videos = {}
        self._close_reader()  # the spaces are others
        self._open_reader()

    # Files of FAISS, closing and opening

    @rule(force=st.booleans())
    def bring_up_to_date(self, force: bool) -> None:
        self.counts["files"] += bring_up_to_date(self.writer, self.space_id, thresholds=THRESHOLDS, force=force)

    @rule(really=SELDOM)
    def lose_the_file(self, really: bool) -> None:
        for file in self.folder.glob("gen-*") if really else ():
            file.unlink()

    @rule()
    def open_a_reader(self) -> None:
        self._close_reader()
        self._open_reader()

    @rule()
    def open_a_writer(self) -> None:
        self.writer.__exit__(None, None, None)
        self.writer = IndexWriter(self.folder)
        self.writer.__enter__()

    # Questions

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and vectors of all windows, by id."""
        known = sorted(self.videos.values(), key=lambda video: video.first_window)
        ids = [np.arange(video.first_window, video.first_window + len(video.vectors)) for video in known]
        rows = [np.empty((0, DIM), np.float32), *(video.vectors for video in known)]
        return np.concatenate([np.empty(0, np.int64), *ids]), np.concatenate(rows)

    @rule(
        queries=QUERIES,
        k=st.sampled_from([1, 3, 10, 10_000]),
        allowed=st.sampled_from([None, "ids", "mask"]),
        share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        seed=st.integers(0, 99),
    )
    def search(self, queries: np.ndarray, k: int, allowed: str | None, share: float, seed: int) -> None:
        ids, rows = self._all()
        selected = None
        if allowed is not None:
            candidates = np.concatenate([ids, np.array(sorted(self.gone), np.int64)])
            selected = candidates[np.random.default_rng(seed).random(len(candidates)) < share]
            is_allowed = np.isin(ids, selected)
            ids, rows = ids[is_allowed], rows[is_allowed]
        if allowed == "mask":
            mask = np.zeros(10_000, bool)
            mask[selected] = True
            selected = mask
        with self.reader.snapshot() as snapshot:
            self.store.refresh(snapshot)
            found_scores, found_ids = self.store.search(queries, k, selected)
            assert len(self.store) == sum(len(known.vectors) for known in self.videos.values())
            is_exact = self.store.is_exact
        self.counts["searches"] += len(queries)
        self.counts["searches of a file"] += len(queries) * (self.store.generation is not None)
        assert not any("damaged" in line for line in _told), _told
        n = min(k, len(ids))
        assert found_scores.shape == found_ids.shape == (len(queries), k)
        assert (found_ids[:, n:] == -1).all()
        assert (found_scores[:, n:] == -np.inf).all()
        for query, some_scores, some_ids in zip(queries, found_scores[:, :n], found_ids[:, :n], strict=True):
            scores = np.array([np.multiply(row, query).sum() for row in rows], np.float32)
            if is_exact:
                order = np.lexsort((ids, -scores))[:k]
                assert some_ids.tolist() == ids[order].tolist()
                assert some_scores.tobytes() == scores[order].tobytes()
            else:
                self._check_approximate(some_scores, some_ids, scores, ids)

    @invariant()
    def answers(self) -> None:
        """A few searches after every step."""
        if hasattr(self, "reader"):
            self.steps += 1
            chance = np.random.default_rng(self.steps)
            queries = made_vectors(self.steps, 3, bool(chance.integers(2)))
            k, share = int(chance.choice([1, 3, 10, 10_000])), float(chance.choice([0.05, 0.5, 1.0]))
            self.search(queries, k, chance.choice([None, "ids", "mask"]), share, self.steps)

    def _check_approximate(
        self, found_scores: np.ndarray, found_ids: np.ndarray, scores: np.ndarray, ids: np.ndarray
    ) -> None:
        """As many as there are, each once, with their true scores, the best first; which of them may be others."""
        known = dict(zip(ids.tolist(), scores, strict=True))
        assert len({*found_ids.tolist()}) == len(found_ids)
        assert found_scores.tobytes() == np.array([known[i] for i in found_ids.tolist()], np.float32).tobytes()
        assert np.lexsort((found_ids, -found_scores)).tolist() == list(range(len(found_ids)))
        if len(found_ids) < len(ids):
            self.counts["searches that pass over rows"] += 1
            worst = np.sort(scores)[len(scores) - len(found_ids)]
            self.counts.update(found=int(np.count_nonzero(found_scores >= worst)), wanted=len(found_ids))

    @rule(words=st.lists(st.sampled_from([*WORDS, "absent"]), min_size=1, max_size=3, unique=True))
    def find_texts(self, words: list[str]) -> None:
        texts = [(known.id, text) for known in self.videos.values() for text in known.texts]
        with self.reader.snapshot() as snapshot:
            found = [(each.video_id, each.text, each.score) for each in snapshot.find_texts(words, 1000)]
        scores = bm25(words, [text.text for _, text in texts])
        expected = Counter((*text, round(score, 9)) for text, score in zip(texts, scores, strict=True) if score)
        assert Counter((video, text, round(score, 9)) for video, text, score in found) == expected
        assert all(a[2] >= b[2] for a, b in itertools.pairwise(found))

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "reader"):
            return
        with self.reader.snapshot() as snapshot:
            videos = {(video.root, video.path): video for video in snapshot.videos()}
            assert videos.keys() == self.videos.keys()
            assert list(videos) == sorted(videos, key=lambda place: (place[0], path_to_text(place[1])))
            for place, known in self.videos.items():
                video = videos[place]
                assert (video.id, video.content_hash) == (known.id, known.content)
                assert (video.first_window, video.num_windows) == (known.first_window, len(known.vectors))
                assert video.metadata == known.metadata
                assert snapshot.texts(video.id) == known.texts


def bm25(words: list[str], texts: list[str]) -> list[float]:
    """The scores of FTS5 as its documentation gives them; 0 for a text that lacks one of the words."""
    documents = [text.lower().split() for text in texts]
    mean = sum(map(len, documents)) / max(1, len(documents))
    scores = [0.0] * len(documents)
    for word in words:
        holding = sum(word.lower() in document for document in documents)
        weight = max(1e-6, math.log((len(documents) - holding + 0.5) / (holding + 0.5)))
        for number, document in enumerate(documents):
            count = document.count(word.lower())
            scores[number] += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / mean))
    wanted = {word.lower() for word in words}
    return [score if wanted <= set(words) else 0.0 for score, words in zip(scores, documents, strict=True)]


MACHINES = {
    "float16": type("Halves", (Histories,), {"counts": Counter()}),
    "float32": type("Wholes", (Histories,), {"dtype": "float32", "kind": "flat", "counts": Counter()}),
    "ivf_sq8": type("Lists", (Histories,), {"kind": "ivf_sq8", "counts": Counter()}),
    "hnsw": type("Graphs", (Histories,), {"kind": "hnsw", "counts": Counter()}),
    "ivf_rabitq": type("Bits", (Histories,), {"kind": "ivf_rabitq", "counts": Counter()}),
}
RECALL = {"float16": 0.98, "ivf_sq8": 0.98, "hnsw": 0.98, "ivf_rabitq": 0.95}
"""What the approximate kinds must find of the best, over all searches of a test."""


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("many", [pytest.param(False, id="few"), pytest.param(True, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MACHINES)
def test_an_index_answers_as_a_model_does(name: str, many: bool):
    machine = MACHINES[name]
    machine.counts.clear()
    handler = logging.Handler()
    handler.emit = lambda record: _told.append(record.getMessage())
    logging.getLogger("vmr.retrieval.vectors").addHandler(handler)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=400 if many else 15,
            stateful_step_count=40,
            deadline=None,
            derandomize=not many,
            suppress_health_check=list(HealthCheck),
        ),
    )
    counts = machine.counts
    print(name, dict(counts))
    assert counts["searches of a file"] > 50
    assert counts["files"] > 5
    if name in RECALL:
        assert counts["found"] >= RECALL[name] * counts["wanted"] > 0
