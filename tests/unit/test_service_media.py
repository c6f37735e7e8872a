"""What the service makes of files: made once, kept within bounds, and never of another file than was indexed."""

import asyncio
import contextlib
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vmr
from tests.films import write_film
from tests.patience import PATIENCE_S
from tests.video_matrix import HEIGHT, PATCHES, RECIPES, WIDTH, X264, Recipe, number_of, write_video
from vmr.data.remark import Remark
from vmr.errors import VideoError
from vmr.retrieval.service.media import cache as cache_module
from vmr.retrieval.service.media import thumbnails
from vmr.retrieval.service.media.cache import Cache, StorageError
from vmr.retrieval.service.media.copying import copy_part
from vmr.retrieval.service.media.encoding import Effort, encode_part
from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.media.probing import opened
from vmr.retrieval.service.media.shared_work import SharedWork
from vmr.retrieval.service.media.sources import ChangedError, Source, named
from vmr.retrieval.service.options import Limits
from vmr.retrieval.service.processes import Answer, Processes, TimeLimitError
from vmr.retrieval.storage.records import FileState, Video


def video_of(file: Path, number: int = 1, remarks: tuple[Remark, ...] = (), duration_s: float | None = None) -> Video:
    """A file as an index would know it."""
    if duration_s is None:
        with vmr.VideoReader(file) as reader:
            duration_s = reader.duration_s
    state = FileState.of(file)
    assert state is not None
    return Video(
        root=str(file.parent),
        path=file.name,
        content_hash=b"",
        state=state,
        duration_s=duration_s,
        remarks=remarks,
        id=number,
        metadata={},
        first_window=0,
        num_windows=1,
    )


class CountedProcesses(Processes):
    """Real processes; it is noted what they were asked."""

    def __init__(self, timeout_s: float = PATIENCE_S) -> None:
        super().__init__(1, timeout_s)
        self.asked: list[tuple[str, Any]] = []

    async def run(self, function, request, name, max_bytes=64 * 2**20) -> Answer:
        self.asked.append((function.rpartition(":")[2], request))
        return await super().run(function, request, name, max_bytes)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "film.mp4", others=1)


@pytest.fixture(scope="module")
def processes():
    some = CountedProcesses()
    yield some
    some.close()


@contextlib.contextmanager
def media_in(folder: Path, processes: CountedProcesses):
    """A `Media` whose conversions are counted too."""
    processes.asked.clear()
    media = Media(folder, Limits(), processes)
    media._converting.close()
    media._converting = processes
    yield media


def test_a_crowd_gets_what_is_made_once(film, processes, tmp_path):
    async def crowd(media: Media) -> None:
        video = video_of(film)
        spans = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)] * 5
        jpegs = await asyncio.gather(*(media.thumbnail(video, *span) for span in spans))
        assert len(set(jpegs)) == 3 and jpegs[:3] == jpegs[3:6]
        playbacks = await asyncio.gather(*(media.playback(video, 1.0) for _ in range(5)))
        assert {playback.kind for playback in playbacks} == {"remuxed"} and len(set(playbacks)) == 1
        for file in await asyncio.gather(*(media.playable(video, 1.0) for _ in range(5))):
            file.close()

    with media_in(tmp_path, processes) as media:
        asyncio.run(crowd(media))
        assert [function for function, _ in processes.asked].count("serve_probe") == 1
        assert [function for function, _ in processes.asked].count("serve_part") == 1
        asked = [request for function, request in processes.asked if function == "serve_thumbnails"]
        made = [list(moment) for request in asked for moment in request["moments"]]
        assert sorted(made) == [[0.5, 320], [1.5, 320], [2.5, 320]]
        assert len(processes.asked) <= 4  # the second thumbnails come together
    with media_in(tmp_path, processes) as media:  # after a restart
        asyncio.run(crowd(media))
        assert processes.asked == []


def test_whoever_leaves_does_not_stop_the_others(film, processes, tmp_path):
    async def leave(media: Media) -> None:
        video = video_of(film)
        first = asyncio.create_task(media.playback(video, 0.0))
        second = asyncio.create_task(media.playback(video, 0.0))
        while not processes.asked:
            await asyncio.sleep(0.001)
        first.cancel()
        assert (await second).kind == "remuxed"
        with pytest.raises(asyncio.CancelledError):
            await first

    with media_in(tmp_path, processes) as media:
        asyncio.run(leave(media))


def test_another_thumbnail_is_made_when_who_asked_first_has_left(film, processes, tmp_path):
    async def leave(media: Media) -> None:
        first, second = (asyncio.create_task(media.thumbnail(video_of(film), 0, 1)) for _ in range(2))
        while not processes.asked:
            await asyncio.sleep(0.001)
        first.cancel()
        assert (await second).startswith(b"\xff\xd8")
        assert not media._wanted

    with media_in(tmp_path, processes) as media:
        asyncio.run(leave(media))


@pytest.mark.parametrize(
    "harm", [lambda content: b"", lambda content: content[:-20], lambda content: b"[" * len(content)]
)
def test_what_is_damaged_in_the_cache_is_made_again(film, processes, tmp_path, harm):
    async def use(media: Media) -> list[object]:
        made = [await media.thumbnail(video_of(film), 0, 1), await media.playback(video_of(film))]
        with contextlib.closing(await media.playable(video_of(film), 0.0)) as file:
            return [*made, file.size]

    with media_in(tmp_path, processes) as media:
        wanted = asyncio.run(use(media))
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) == 4  # a thumbnail, a probe, a part and what is known about it
    for file in files:
        sound = file.read_bytes()
        file.write_bytes(harm(sound))
        with media_in(tmp_path, processes) as media:
            assert asyncio.run(use(media)) == wanted
            same_size = harm(sound) != sound and len(harm(sound)) == len(sound) > 10_000 and sound[4:8] == b"ftyp"
            assert len(processes.asked) == (0 if same_size else 1)


def test_work_that_nobody_waits_for_is_stopped():
    async def all_leave() -> None:
        work, stopped = SharedWork(), asyncio.Event()

        async def last_long() -> None:
            try:
                await asyncio.sleep(PATIENCE_S)
            finally:
                stopped.set()

        tasks = [asyncio.create_task(work.once("key", last_long)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(stopped.wait(), PATIENCE_S)
        with pytest.raises(ZeroDivisionError):
            await work.once("key", fail)
        assert await work.once("key", succeed) == 1

    async def fail() -> float:
        return 1 / 0

    async def succeed() -> int:
        return 1

    asyncio.run(all_leave())


@pytest.mark.parametrize("remark", [Remark("times", "times mended"), Remark("damage", "read with damage")])
def test_a_file_with_a_wrong_clock_is_encoded_again(film, processes, tmp_path, remark):
    plain = write_film(tmp_path / "plain.mp4")
    with media_in(tmp_path / "cache", processes) as media:
        assert asyncio.run(media.playback(video_of(plain))).kind == "file"
        playback = asyncio.run(media.playback(video_of(plain, remarks=(remark,))))
    assert playback.kind == "transcoded" and playback.offset_s == 0 and playback.until_s is None
    assert playback.note == "Converted for the browser (h264)."  # in its own size


def test_parts_of_a_long_film_follow_each_other(processes, tmp_path):
    film = write_film(tmp_path / "long.mkv", num_frames=200, fps=Fraction(1, 5), codec="mpeg4", options={})
    video = video_of(film)
    with media_in(tmp_path / "cache", processes) as media:
        at_s, parts = 0.0, []
        while at_s is not None:
            playback = asyncio.run(media.playback(video, at_s))
            start_s = -playback.offset_s
            assert start_s <= at_s < (playback.until_s or video.duration_s) and start_s % 2 == 0
            parts.append(playback)
            at_s = playback.until_s
        assert len({part.url for part in parts}) == len(parts)
        assert asyncio.run(media.playback(video, 971.0)).offset_s == -970


def test_offsets_are_told_without_reading_files_again(film, processes, tmp_path):
    late = write_film(tmp_path / "late.mp4", sound="aac", delay_s=1.5)
    (tmp_path / "linked.mp4").symlink_to(late)
    gone = video_of(shutil.copy2(film, tmp_path / "gone.mp4"))
    Path(gone.file).unlink()
    videos = [video_of(film), video_of(late), gone, video_of(tmp_path / "linked.mp4")]
    wanted = [0.0, pytest.approx(1.5), 0.0, pytest.approx(1.5)]

    async def look(media: Media) -> None:
        """The first search may not wait for it; others find what it looked at."""
        until = time.monotonic() + PATIENCE_S
        while await media.timeline_offset_s(videos) != wanted:
            assert time.monotonic() < until
        began = time.monotonic()
        assert await media.timeline_offset_s(videos) == wanted
        assert time.monotonic() - began < PATIENCE_S / 10

    with media_in(tmp_path / "cache", processes) as media:
        asyncio.run(look(media))
        assert len(processes.asked) == 2


def test_a_file_that_is_no_video(processes, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("a man is cooking\n" * 500)
    video = video_of(text, duration_s=10)
    with media_in(tmp_path / "cache", processes) as media:
        for _ in range(2):
            with pytest.raises(VideoError, match=r"^text\.mp4: not a video that FFmpeg can read"):
                asyncio.run(media.thumbnail(video, 0, 1))
        with pytest.raises(VideoError, match="not a video"):
            asyncio.run(media.playback(video))
        assert len(processes.asked) == 1  # what has failed is not tried again at once
        depths = [depth_of(media, video) for _ in range(3)]
        assert len(set(depths)) == 1, "an error that is remembered grows"


def depth_of(media: Media, video: Video) -> int:
    """How many places the error of a video names."""
    with pytest.raises(VideoError) as caught:
        asyncio.run(media.thumbnail(video, 0, 1))
    return len(caught.traceback)


def bomb(path: Path, side: int) -> Path:
    """A small AVI whose pictures are said to have `side` x `side` pixels."""
    import av

    with av.open(str(path), "w") as target:
        stream = target.add_stream("png", rate=25)
        stream.height = stream.width = 16
        stream.pix_fmt = "rgb24"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 80 * number, np.uint8), format="rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    data, small, large = path.read_bytes(), (16).to_bytes(4, "big"), side.to_bytes(4, "big")
    assert data.count(b"IHDR" + small + small) == 3
    path.write_bytes(data.replace(b"IHDR" + small + small, b"IHDR" + large + large))
    return path


def test_a_file_that_is_replaced_while_it_is_read(film, processes, tmp_path, monkeypatch):
    """It is told as changed, not as damaged; and when the old file is back, nothing of that is remembered."""
    copy = tmp_path / "copy.mp4"
    shutil.copy2(film, copy)
    video, run = video_of(copy), processes.run

    async def replace_first(*args):
        copy.rename(tmp_path / "kept.mp4")
        copy.write_bytes(b"another one")
        return await run(*args)

    with media_in(tmp_path / "cache", processes) as media:
        monkeypatch.setattr(processes, "run", replace_first)
        with pytest.raises(ChangedError, match=r"^copy\.mp4: the file has changed since it was indexed"):
            asyncio.run(media.thumbnail(video, 0.0, 1.0))
        monkeypatch.setattr(processes, "run", run)
        (tmp_path / "kept.mp4").replace(copy)
        assert asyncio.run(media.thumbnail(video, 0.0, 1.0)).startswith(b"\xff\xd8")


@pytest.mark.parametrize("side", [12_000, 30_000, 60_000])
def test_a_bomb_ends_no_request_but_its_own(processes, film, tmp_path, side):
    video = video_of(bomb(tmp_path / "bomb.avi", side), duration_s=0.1)
    began = time.monotonic()
    with media_in(tmp_path / "cache", processes) as media:
        with pytest.raises((VideoError, TimeLimitError), match=r"^bomb\.avi: "):
            asyncio.run(media.thumbnail(video, 0, 0.1))
        assert time.monotonic() - began < PATIENCE_S
        assert asyncio.run(media.thumbnail(video_of(film), 0, 1)).startswith(b"\xff\xd8")


def test_a_named_file_stays_the_one_that_was_opened(film, tmp_path):
    mine, other = shutil.copy2(film, tmp_path / "mine.mp4"), tmp_path / "other.mp4"
    other.write_bytes(b"another file")
    with named(Source.of(video_of(mine))) as path:
        mine.unlink()
        mine.symlink_to(other)
        assert path.endswith(".mp4") and Path(path).read_bytes() == film.read_bytes()
        with vmr.VideoReader(path) as reader:
            assert reader.num_frames == 100
    assert not Path(path).parent.exists()


def test_a_source_survives_json(tmp_path):
    source = Source(str(tmp_path), os.fsdecode(b"a\xff\n.mp4"), 1, 2, 3)
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source
    assert source.name == "a\\udcff\\n.mp4"
    assert len({source.stamp, Source(source.root, source.path, 1, 2, 4).stamp}) == 2


def sizes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_the_cache_keeps_what_was_used_last(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_RECENT_S", -1.0)  # each use counts
    cache = Cache(tmp_path, 10_000)
    for number in range(100):
        cache.put(f"{number}", bytes([number]) * 500)
        assert sizes_of(tmp_path) == cache.num_bytes() <= 10_000
        assert cache.get("0") == bytes(500), "it is used all the time"
        for later in range(number + 1):  # as if they had been put in there a second apart
            if cache.size(f"{later}"):
                os.utime(cache._path(f"{later}"), (1000 + later, 1000 + later))
        os.utime(cache._path("0"), (2000, 2000))
    kept = [number for number in range(100) if cache.get(f"{number}") is not None]
    assert kept[0] == 0 and kept[1:] == list(range(100 - len(kept) + 1, 100)) and len(kept) > 15
    again = Cache(tmp_path, 5_000)  # another program, with less room
    assert again.num_bytes() == sizes_of(tmp_path) > 5_000
    again.put("new", b"x" * 500)
    assert sizes_of(tmp_path) == again.num_bytes() <= 5_000 and again.get("new") == b"x" * 500


def test_the_size_of_the_cache_is_known_without_looking(tmp_path, monkeypatch):
    cache = Cache(tmp_path, 10**6)
    cache.put("a", b"a" * 900)
    monkeypatch.setattr(cache, "_files", None)
    cache.put("b", b"b" * 50)
    assert cache.num_bytes() == sizes_of(tmp_path) == 950


def test_a_file_that_is_open_outlives_its_removal(tmp_path):
    cache = Cache(tmp_path, 1000)
    cache.put("a", b"a" * 900)
    descriptor = cache.open("a")
    os.utime(cache._path("a"), (1, 1))
    cache.put("b", b"b" * 900)
    assert cache.get("a") is None and cache.size("a") == 0 and cache.size("b") == 900
    with os.fdopen(descriptor, "rb") as file:
        assert file.read() == b"a" * 900


def test_two_programs_share_a_cache(tmp_path):
    """Each reads whole files, whatever the other removes meanwhile."""

    def work(cache: Cache, seed: int) -> int:
        random, num_found = np.random.default_rng(seed), 0
        for _ in range(100):
            number = int(random.integers(20))
            content = cache.get(f"{number}")
            assert content is None or content == bytes([number]) * (100 * number + 1)
            num_found += content is not None
            if content is None:
                cache.put(f"{number}", bytes([number]) * (100 * number + 1))
        return num_found

    caches = [Cache(tmp_path, 10_000) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, caches * 2, range(4)))
    assert sum(found) > 20 and sizes_of(tmp_path) <= 11_000  # each adds a little before it looks again


def test_what_a_killed_program_left_is_removed(tmp_path):
    cache = Cache(tmp_path, 1000)
    cache.put("a", b"a")
    folder = cache._path("a").parent
    for name, age_s in ((".old.0.tmp", 7200), (".new.0.tmp", 10)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s, time.time() - age_s))
    Cache(tmp_path, 1000).put("b", b"b")
    assert not (folder / ".old.0.tmp").exists() and (folder / ".new.0.tmp").exists()


def test_a_cache_that_cannot_be_written_is_an_error(film, processes, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    with media_in(tmp_path / "cache", processes) as media:
        with pytest.raises(StorageError, match="cannot be written"):
            asyncio.run(media.playback(video_of(film)))
        with pytest.raises(StorageError, match="cannot be written"):
            asyncio.run(media.thumbnail(video_of(film), 0, 1))


def test_a_thumbnail_of_a_wide_video_is_small(processes, tmp_path, film):
    with media_in(tmp_path, processes) as media:
        jpeg = asyncio.run(media.thumbnail(video_of(film), 0, 1, 96))
    (tmp_path / "a.jpg").write_bytes(jpeg)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.size == (96, 56)


CLOSED = Recipe(options={"preset": "fast", "x264-params": "bframes=4:open-gop=0"}, num_frames=100, gop=24)


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("odd")
    files = {
        "reordered": write_video(folder / "reordered.mp4", CLOSED),
        "open GOPs": write_video(folder / "open.mp4", RECIPES["h264_open_gop"]),
        "no key frames": write_video(folder / "refresh.mkv", RECIPES["h264_intra_refresh"]),
        "uneven": write_video(folder / "uneven.mp4", RECIPES["h264_vfr"]),
        "broadcast": write_video(folder / "broadcast.ts", RECIPES["h264_ts"]),
        "late": write_film(folder / "late.mkv", sound="aac", delay_s=1.5),
        "streams": write_film(folder / "streams.mp4", others=2),
    }
    turned = write_video(folder / "turned.mp4", Recipe(options=X264, stored=np.rot90))
    _, turn = PATCHES["rotated_90"]
    _, hide = PATCHES["edit_list"]
    files["turned"] = turn(turned, folder / "upright.mp4")
    files["hidden"] = hide(files["reordered"], folder / "hidden.mp4")
    return files


SOUGHT = {"reordered", "uneven", "late", "streams", "turned"}


def test_large_files_give_the_same_pictures(odd_files):
    """The packets of a large file are not listed; where its pictures may then be others, they are."""
    sought = set()
    for name, path in odd_files.items():
        with vmr.VideoReader(path) as video:
            times_s = [*np.linspace(0, video.duration_s + 0.2, 23).tolist(), *video.timestamps_s[::7].tolist()]
            moments = [(time_s, WIDTH) for time_s in times_s]
            wanted = [jpeg.tobytes() for jpeg in thumbnails._read(video, moments)]
        with opened(str(path)) as file, contextlib.suppress(thumbnails._NotReachedError):
            assert [jpeg.tobytes() for jpeg in thumbnails._sought(file, moments)] == wanted, name
            sought.add(name)
    assert sought == SOUGHT


def test_a_turned_video_stays_turned(odd_files):
    """Also where its pictures are copied, as they are stored."""
    with opened(str(odd_files["turned"])) as file:
        part = copy_part(file, 0.0, (0.0, 10.0), 10**8)
    copy = odd_files["turned"].with_name("copy.mp4")
    copy.write_bytes(part.mp4)
    with vmr.VideoReader(copy) as copied, vmr.VideoReader(odd_files["turned"]) as original:
        assert (copied.height, copied.width) == (original.height, original.width) == (HEIGHT, WIDTH)
        assert np.array_equal(copied.frames_at([5]), original.frames_at([5]))


def test_a_part_has_square_pixels_and_few_pictures(tmp_path):
    wide = write_video(tmp_path / "wide.mpg", Recipe("mpeg2video", ".mpg", num_frames=50))
    effort = Effort("ultrafast", 20, max_height=2 * HEIGHT, max_width=2 * WIDTH, max_pictures=10)
    with vmr.VideoReader(wide) as video:
        part = encode_part(video, None, (0.5, 9.0), 1.5, effort, 10**7)
        true_s = video.timestamps_s[12:50:4] - 0.5
    path = tmp_path / "part.mp4"
    path.write_bytes(part.mp4)
    assert part.until_s is None and part.start_s == 0.5 and not part.is_smaller
    with vmr.VideoReader(path) as made:
        assert (made.height, made.width) == (HEIGHT, WIDTH * 3 / 2)
        numbers = [number_of(frame) for frame in made.frames_at(range(made.num_frames), (HEIGHT, WIDTH))]
        assert numbers == list(range(12, 50, 4))
        assert np.allclose(made.timestamps_s, np.maximum(true_s, 0), atol=0.001)
        assert made.duration_s == pytest.approx(1.5, abs=0.001)
    with vmr.VideoReader(wide) as video:
        assert encode_part(video, None, (0.5, 9.0), 1.5, replace(effort, max_width=WIDTH), 10**7).is_smaller
    with vmr.VideoReader(wide) as video, pytest.raises(VideoError, match="ask for less of it"):
        encode_part(video, None, (0.5, 9.0), 1.5, effort, 1000)
