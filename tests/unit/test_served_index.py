"""The index as all requests share it: the same answers as one search alone, never stale, and nobody holds up others."""

import asyncio
import shutil
import sqlite3
import threading
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException, Request
from starlette.types import Message

import vmr
from tests.handmade import Handmade
from tests.indexes import SETTINGS, STATE, space
from tests.patience import PATIENCE_S
from vmr.retrieval.calibration.kept import keep_calibrated
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex, open_index
from vmr.retrieval.legacy import open_reader
from vmr.retrieval.searching.search import Wanted
from vmr.retrieval.searching.searcher import Asked
from vmr.retrieval.service.lanes.lane import Lane
from vmr.retrieval.service.lanes.reopened import Reopened
from vmr.retrieval.service.processes import BusyError
from vmr.retrieval.service.routes.connected import while_connected
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.texts import embed_texts
from vmr.retrieval.vectors.generations import bring_up_to_date
from vmr.retrieval.vectors.held_rows import HeldRows
from vmr.retrieval.vectors.kinds import Thresholds

LISTS = Thresholds(file_rows=40, list_rows=40, delta=10_000, delta_share=0)
SENTENCES = [f"a {colour} {thing}" for colour in ("red", "green", "old") for thing in ("car", "dog", "boat", "tree")]
NUM_VIDEOS, WINDOWS = 260, 6


def new_video(path: str, vectors: np.ndarray, space_id: int = 1, content: bytes = b"") -> NewVideo:
    spans = tuple((4.0 * place, 4.0 * place + 8) for place in range(len(vectors)))
    return NewVideo("/videos", path, content, STATE, spans[-1][1], (), spans, {space_id: vectors.astype(np.float32)})


def units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def near(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of a video, whose neighbours are alike, near some of these vectors."""
    centres = np.repeat(vectors[rng.integers(len(vectors), size=WINDOWS // 2)], 2, axis=0)
    return units(centres + rng.normal(0, 0.03, (WINDOWS, vectors.shape[1])))


def space_of(encoder, **options) -> Space:
    frames = asdict(frame_spec(encoder)) | {"reader": "pyav"}
    return Space(0, encoder.name, encoder.name, encoder.fingerprint, encoder.embed_dim, "float16", frames, **options)


@pytest.fixture(scope="module")
def made(offline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a FAISS file that is approximate, newer rows, removed rows, copies, and a calibration."""
    folder, rng = tmp_path_factory.mktemp("served") / "index", np.random.default_rng(0)
    vectors = embed_texts(SENTENCES, offline)
    with IndexWriter(folder, SETTINGS) as writer:
        with writer.commit() as changes:
            changes.add_space(space_of(offline))
            for number in range(NUM_VIDEOS):
                rows = near(vectors, rng)
                changes.set_metadata(changes.put_video(new_video(f"{number}.mp4", rows)), {"number": number})
                if number % 10 == 0:
                    changes.put_video(new_video(f"copies/{number}.mp4", rows))
        assert bring_up_to_date(writer, 1, thresholds=LISTS)
        keep_calibrated(writer, {offline.name: offline})
        with writer.commit() as changes:
            for number in range(20):
                changes.put_video(new_video(f"newer/{number}.mp4", near(vectors, rng)))
            for number in range(3, 40, 4):
                changes.remove_video(number)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "index"))


@asynccontextmanager
async def served(folder: Path):
    index = ServedIndex(folder)
    try:
        await index.warm()
        yield index
    finally:
        index.close()


def questions(dim: int) -> list[tuple[object, int, dict[str, object]]]:
    rng = np.random.default_rng(1)
    queries = [*SENTENCES[:6], "nothing there", *rng.integers(300, 1200, 6).tolist(), *rng.normal(size=(2, dim))]
    options: list[dict[str, object]] = [
        {}, {"per_video": 1}, {"keep_duplicates": True}, {"before": 1000}, {"before": 10**6},
        {"where": "meta.number < 120"}, {"where": "meta.number < 0"},
    ]  # fmt: skip
    asked = [(query, k, some) for query in queries for k in (1, 20) for some in options]
    return [*asked, *((sentence, 10, {"min_match": 0.5}) for sentence in SENTENCES)]


def test_searches_at_once_find_what_each_finds_alone(made: Path, offline):
    asked = questions(offline.embed_dim)
    alone = open_index(made, offline)
    assert not alone.is_exact
    expected = [alone.search(query, k, **options) for query, k, options in asked]
    assert any(hit.duplicates for result in expected for hit in result)
    assert len({len(result) for result in expected}) > 3

    async def search() -> list[vmr.SearchResult]:
        async with served(made) as index:
            found = []
            for start in range(0, len(asked), 60):
                some = [index.search(query, k, **options) for query, k, options in asked[start : start + 60]]
                found += await asyncio.gather(*some)
            return found

    for question, one, other in zip(asked, asyncio.run(search()), expected, strict=True):
        assert one == other, question
        assert one.seen == other.seen


def test_one_bad_search_spoils_no_other(made: Path, offline):
    async def search() -> list[object]:
        async with served(made) as index:
            asked = ["a red car", "  ", 10**9, np.zeros(offline.embed_dim, np.float32), "bad \udcff", "a green dog"]
            return await asyncio.gather(*map(index.search, asked), return_exceptions=True)

    first, *bad, last = asyncio.run(search())
    assert len(first) == len(last) == 5
    for error in bad:
        assert isinstance(error, vmr.VmrError) and len(str(error).splitlines()) == 1


def test_no_search_misses_what_was_committed_before_it(folder: Path, offline):
    """Also while others search all the time, and while the FAISS file is replaced."""
    rng, vectors = np.random.default_rng(2), embed_texts(SENTENCES, offline)
    far = units(rng.normal(size=(12, offline.embed_dim)))

    async def search() -> None:
        async with served(folder) as index:
            is_over = False

            async def others() -> int:
                count = 0
                while not is_over:
                    assert len(await index.search(SENTENCES[count % len(SENTENCES)], 10)) == 10
                    count += 1
                return count

            busy = [asyncio.create_task(others()) for _ in range(4)]
            with IndexWriter(folder) as writer:
                for turn, vector in enumerate(far):
                    rows = units(np.concatenate([vector[None], near(vectors, rng)]))
                    with writer.commit() as changes:
                        number = changes.put_video(new_video(f"far/{turn}.mp4", rows))
                    hit = (await index.search(vector, 1))[0]
                    assert (hit.video_id, hit.video) == (number, f"/videos/far/{turn}.mp4")
                    assert (await index.read(lambda snapshot, number=number: snapshot.video(number))) is not None
                    if turn % 4 == 1:
                        await asyncio.to_thread(bring_up_to_date, writer, 1, thresholds=LISTS, force=True)
                    with writer.commit() as changes:
                        changes.move_root("/videos", "/moved")
                    assert (await index.search(vector, 1))[0].video == f"/moved/far/{turn}.mp4"
                    with writer.commit() as changes:
                        changes.move_root("/moved", "/videos")
                        changes.remove_video(number)
                    found = await index.search(vector, 1)
                    assert found[0].video_id != number
                    with pytest.raises(vmr.VmrError, match="the index holds no moment"):
                        await index.search(hit.moment_id, 1)
            is_over = True
            assert min(await asyncio.gather(*busy)) > 3

    asyncio.run(search())


def test_another_index_takes_its_place(folder: Path, made: Path, offline, tmp_path: Path):
    other, rng = tmp_path / "other", np.random.default_rng(3)
    with IndexWriter(other, SETTINGS) as writer, writer.commit() as changes:
        space_id = changes.add_space(space_of(offline))
        changes.put_video(new_video("only.mp4", near(embed_texts(SENTENCES, offline), rng), space_id))

    async def search() -> None:
        async with served(folder) as index:
            assert len(await index.search("a red car", 20)) == 20
            shutil.rmtree(folder)
            for call in (index.search("a red car"), index.read(lambda snapshot: snapshot.num_videos())):
                with pytest.raises(vmr.IndexFileError, match="no such index"):
                    await call
            other.rename(folder)
            assert {hit.video for hit in await index.search("a red car", 20)} == {"/videos/only.mp4"}
            assert await index.read(lambda snapshot: snapshot.num_videos()) == 1
            with IndexWriter(folder) as writer, writer.commit() as changes:  # as `vmr-index build --overwrite` does
                changes.clear(SETTINGS)
                space_id = changes.add_space(space_of(offline))
                changes.put_video(new_video("again.mp4", near(embed_texts(SENTENCES, offline), rng), space_id))
            assert {hit.video for hit in await index.search("a red car", 20)} == {"/videos/again.mp4"}
            with IndexWriter(folder) as writer:
                writer.compact()
            assert {hit.video for hit in await index.search("a red car", 20)} == {"/videos/again.mp4"}

    asyncio.run(search())


@pytest.mark.parametrize("is_in_place", [False, True])
def test_an_index_of_another_model_takes_its_place(folder: Path, offline, tmp_path: Path, is_in_place: bool):
    """All that is said about the model is about the new one, before anything is searched as well."""
    other = vmr.load_model("videomamba-nano-shapes")

    def build(changes: Changes) -> None:
        space_id = changes.add_space(space_of(other))
        changes.put_video(new_video("only.mp4", units(np.ones((2, other.embed_dim))), space_id))

    async def ask() -> None:
        async with served(folder) as index:
            assert (await index.space()).name == (await index.info()).encoder == offline.name
            assert (await index.embed_texts(["a man"])).shape == (1, offline.embed_dim)
            if is_in_place:
                with IndexWriter(folder) as writer, writer.commit() as changes:
                    changes.clear(SETTINGS)
                    build(changes)
            else:
                with IndexWriter(tmp_path / "other", SETTINGS) as writer, writer.commit() as changes:
                    build(changes)
                shutil.rmtree(folder)
                (tmp_path / "other").rename(folder)
            info = await index.info()
            assert (info.encoder, info.embed_dim, info.spaces) == (other.name, other.embed_dim, (other.name,))
            assert (await index.space()).fingerprint == other.fingerprint
            assert (await index.frames()).num_frames == other.preprocess.num_frames
            assert (await index.embed_texts(["a man"])).shape == (1, other.embed_dim)
            assert [hit.video for hit in await index.search("a man")] == ["/videos/only.mp4"]

    asyncio.run(ask())


def test_vectors_of_another_model_are_not_searched_because_they_are_as_long(tmp_path: Path):
    index = Handmade(tmp_path / "index")
    index.put("a.mp4", [[1, 0, 0]])
    with index.served():
        assert len(index.page("1 0 0").hits) == 1

        def build_again(changes: Changes) -> None:
            changes.clear(SETTINGS)
            changes.add_space(space(dim=3, encoder="other", fingerprint="0" * 16))

        index.write(build_again)
        with pytest.raises(vmr.IndexFileError, match="was made by other"):
            index.page("1 0 0")


def test_what_is_read_is_counted_as_one(made: Path):
    async def load() -> dict[str, tuple[int, int]]:
        async with served(made) as index:
            for _ in range(3):
                await index.read(lambda snapshot: snapshot.num_videos())
            return index.load

    assert asyncio.run(load())["read"] == (3, 3)


def test_a_reader_that_takes_long_holds_up_no_search(made: Path):
    async def search() -> None:
        async with served(made) as index:
            may_end = threading.Event()
            reading = asyncio.create_task(index.read(lambda snapshot: may_end.wait(PATIENCE_S)))
            await asyncio.sleep(0)
            assert len(await index.search("a red car", 3)) == 3
            assert len(await index.search("a red car", 3, where="meta.number < 120")) == 3
            assert await index.read(lambda snapshot: snapshot.num_videos()) > NUM_VIDEOS
            assert not reading.done()
            may_end.set()
            assert await reading

    asyncio.run(search())


# --- the rows in memory -----------------------------------------------------------------------------------------------


def test_too_many_rows_are_read_from_the_database(folder: Path, offline):
    with IndexReader(folder) as reader, reader.snapshot() as snapshot:
        space = snapshot.spaces()[0]
        assert not HeldRows(space, max_bytes=10_000).refresh(snapshot)
        held = HeldRows(space)
        assert held.refresh(snapshot)
        ids = np.array([10**7, 700, 30, -1, 0, 31])
        for ours, theirs in zip(held.vectors(ids), snapshot.vectors(space.id, ids), strict=True):
            np.testing.assert_array_equal(ours[[1, 2, 5]], theirs[[1, 2, 5]])
        assert held.vectors(ids)[1].tolist() == [False, True, True, False, False, True]
        for number in (1, 30, 31, 700, 10**7):
            assert held.video_of(number) == snapshot.video_of_window(number)


def test_rows_that_are_replaced_do_not_fill_the_memory(folder: Path, offline):
    rng, vectors = np.random.default_rng(4), embed_texts(SENTENCES, offline)
    with IndexReader(folder) as reader, IndexWriter(folder) as writer:
        with reader.snapshot() as snapshot:
            held = HeldRows(snapshot.spaces()[0])
        rows = []
        for _ in range(6):
            with writer.commit() as changes:
                for number in range(NUM_VIDEOS):
                    changes.put_video(new_video(f"{number}.mp4", near(vectors, rng)))
            with reader.snapshot() as snapshot:
                assert held.refresh(snapshot)
                rows.append(held.num_rows)
                total = snapshot.num_windows(1)
        assert max(rows) < 3.5 * total


def test_damage_is_told_as_without_rows_in_memory(folder: Path, offline):
    with closing(sqlite3.connect(folder / "index.db")) as database, database:
        database.execute("DELETE FROM windows WHERE id = 100")
    wanted = Wanted.checked(
        20,
        where=None,
        per_video=None,
        rerank=None,
        min_match=None,
        keep_duplicates=False,
        overlapping=False,
        before=None,
    )
    said = []
    for holds_rows in (False, True):
        index = VideoIndex(folder, open_reader(folder), offline, holds_rows=holds_rows)
        said.append([str(answer) for _, answer in index.searcher.answers([Asked(101, wanted)])])
        index.close()
    assert said[0] == said[1] and "window 100 has a vector and no row" in said[0][0]


# --- the queue --------------------------------------------------------------------------------------------------------


class Slow:
    """Answers questions with themselves when it may."""

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self.may_go, self.has_begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []
        self.lane: Lane[int, int] = Lane("slow", self.answer, at_once=at_once, most_waiting=most_waiting)

    def answer(self, questions, hand):
        self.batches.append(list(questions))
        self.has_begun.set()
        assert self.may_go.wait(PATIENCE_S)
        for place, question in enumerate(questions):
            if question < 0:
                raise ValueError("negative")
            hand(place, question)


def run_lane(work, at_once=3, most_waiting=4) -> Slow:
    async def run() -> Slow:
        slow = Slow(at_once, most_waiting)
        try:
            first = asyncio.create_task(slow.lane.ask(0))
            await asyncio.to_thread(slow.has_begun.wait, PATIENCE_S)
            await work(slow, first)
        finally:
            slow.may_go.set()
            slow.lane.close()
        return slow

    return asyncio.run(run())


def test_those_who_wait_are_answered_together_in_their_order():
    async def work(slow: Slow, first: "asyncio.Task[int]") -> None:
        others = [asyncio.create_task(slow.lane.ask(number)) for number in (1, 2, 3, 4)]
        await asyncio.sleep(0)
        slow.may_go.set()
        assert await asyncio.gather(first, *others) == [0, 1, 2, 3, 4]

    assert run_lane(work).batches == [[0], [1, 2, 3], [4]]


def test_who_went_away_is_not_answered():
    async def work(slow: Slow, first: "asyncio.Task[int]") -> None:
        others = [asyncio.create_task(slow.lane.ask(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        others[0].cancel()
        first.cancel()
        await asyncio.sleep(0)
        slow.may_go.set()
        assert await asyncio.gather(*others[1:]) == [2, 3]

    assert run_lane(work).batches == [[0], [2, 3]]


@pytest.mark.parametrize("goes_away", [True, False])
def test_a_search_is_given_up_when_the_client_goes_away(goes_away: bool):
    async def receive() -> Message:
        if not goes_away:
            await asyncio.sleep(PATIENCE_S)
        return {"type": "http.disconnect"}

    async def work(slow: Slow, first: "asyncio.Task[int]") -> None:
        answer = while_connected(Request({"type": "http", "headers": []}, receive), slow.lane.ask(1))
        task = asyncio.create_task(answer)
        await asyncio.wait({task}, timeout=3 if goes_away else 0.6)
        assert task.done() == goes_away
        slow.may_go.set()
        if goes_away:
            with pytest.raises(HTTPException, match="gone away"):
                await task
        else:
            assert await task == 1
        assert await first == 0

    assert run_lane(work).batches == ([[0]] if goes_away else [[0], [1]])


def test_too_many_are_refused_at_once():
    async def work(slow: Slow, first: "asyncio.Task[int]") -> None:
        others = [asyncio.create_task(slow.lane.ask(number)) for number in (1, 2, 3, 4)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="too many"):
            await slow.lane.ask(5)
        others[2].cancel()  # makes room
        await asyncio.sleep(0)
        others.append(asyncio.create_task(slow.lane.ask(6)))
        await asyncio.sleep(0)
        slow.may_go.set()
        assert await asyncio.gather(first, *(one for one in others if not one.cancelled())) == [0, 1, 2, 4, 6]

    assert [number for batch in run_lane(work).batches for number in batch] == [0, 1, 2, 4, 6]


def test_an_error_is_told_to_all_that_it_left_without_an_answer():
    async def work(slow: Slow, first: "asyncio.Task[int]") -> None:
        others = [asyncio.create_task(slow.lane.ask(number)) for number in (1, -2, 3)]
        await asyncio.sleep(0)
        slow.may_go.set()
        found = await asyncio.gather(*others, return_exceptions=True)
        assert found[0] == 1 and [type(one) for one in found[1:]] == [ValueError, ValueError]

    run_lane(work)


def test_the_end_refuses_those_who_wait():
    async def end() -> list[object]:
        slow = Slow(1, 9)
        asked = [asyncio.create_task(slow.lane.ask(number)) for number in range(3)]
        await asyncio.to_thread(slow.has_begun.wait, PATIENCE_S)
        closing = asyncio.create_task(asyncio.to_thread(slow.lane.close))
        slow.may_go.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        await closing
        with pytest.raises(BusyError):
            await slow.lane.ask(9)
        return found

    first, *others = asyncio.run(end())
    assert first == 0 and all(one in (1, 2) or isinstance(one, BusyError) for one in others)


def test_what_cannot_be_opened_is_tried_again(tmp_path: Path):
    class Door:
        def close(self) -> None:
            pass

    tries: list[int] = []

    def open_it() -> Door:
        tries.append(1)
        if len(tries) < 3:
            raise vmr.IndexFileError("closed")
        return Door()

    opened = Reopened(tmp_path, open_it)
    for _ in range(2):
        with pytest.raises(vmr.IndexFileError):
            opened.use(lambda door: door)
    assert isinstance(opened.use(lambda door: door), Door) and len(tries) == 3
