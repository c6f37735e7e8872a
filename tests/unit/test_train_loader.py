"""The training loader: the same batches with any workers, captions that stay with their videos, and a clean end."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.patience import PATIENCE_S
from tests.video_matrix import Recipe, number_of, picture, write_hanging, write_unreadable, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.sources.source import Pair
from vmr.data.training.clips import ClipSpec
from vmr.data.training.loader import LoaderPosition, TrainLoader
from vmr.errors import VmrError

ONE_WORKER = DecodeOptions(num_workers=1)
TWO_WORKERS = DecodeOptions(num_workers=2)
READABLE = ClipSpec(2, 96, crop="stretch", flip=False)  # the number in the picture can be read
TINY = ClipSpec(1, 2, crop="stretch", flip=False)


@dataclass
class Files:
    """Files whose captions hold their numbers."""

    paths: list[Path]
    captions: list[str] = field(default_factory=list)
    name: str = "files"
    media: str = "video"
    group: int = 1

    @property
    def num_ids(self) -> int:
        return len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        caption = self.captions[index] if self.captions else f"{self.paths[index].stem}, telling {rng.integers(1000)}"
        return Pair(self.paths[index].name, index, caption, self.paths[index])


@dataclass
class Made:
    """Clips that are drawn: one colour, whose red is the number of the pair."""

    num_ids: int
    name: str = "made"
    media: str = "video"
    group: int = 1

    def __len__(self) -> int:
        return self.num_ids

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        return Pair(str(index), index, f"colour {index}", make=lambda t, s: np.full((t, 3, s, s), index, np.uint8))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    """Twelve videos, each showing its number in every frame."""
    folder = tmp_path_factory.mktemp("videos")
    options = {"preset": "ultrafast", "bf": "0"}
    return [
        write_video(
            folder / f"{number}.mp4", Recipe(num_frames=6, options=options, stored=lambda _, n=number: picture(n))
        )
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{100 + number}.{('jpg', 'png')[number % 2]}" for number in range(5)]
    for path in paths:
        Image.fromarray(picture(int(path.stem))).save(path)
    return paths


@pytest.fixture
def hanging(tmp_path) -> Path:
    """A file in which decoding hangs."""
    return write_hanging(tmp_path / "999.mp4")


def with_workers(num_workers: int) -> dict[str, object]:
    return {"decode": DecodeOptions(num_workers=num_workers)} if num_workers else {"in_process": True}


def loader(*sources, spec=READABLE, batch=3, **options) -> TrainLoader:
    weighted = [source if isinstance(source, tuple) else (source, 1.0) for source in sources]
    options = {"seed": 0, "in_process": "decode" not in options, **options}
    return TrainLoader(weighted, spec, batch_size={"video": batch, "image": batch + 1}, **options)


def take(train_loader: TrainLoader, count: int, position: LoaderPosition | None = None) -> list:
    with train_loader:
        return list(islice(train_loader.batches(position), count))


def facts(batches: list) -> list:
    """All parts of each batch except the waiting time."""
    return [
        (b.media, b.video.tobytes(), b.video.shape, b.captions, b.ids.tolist(), b.position, b.skipped) for b in batches
    ]


def numbers(batch) -> list[int]:
    return [number_of(video[0]) for video in batch.video]


_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _remember_other_processes() -> None:
    """Remember processes that other tests left running, such as multiprocessing's resource tracker."""
    _others.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process not in _others]


def test_the_same_batches_whoever_decodes(videos, pictures, tmp_path):
    bad = list(write_unreadable(tmp_path).values())[:2]
    sources = (Files([*videos, *bad]), (Files(pictures, media="image", name="pictures"), 0.5), (Made(9), 0.3))
    spec = ClipSpec(3, 24, flip=True)
    expected = take(loader(*sources, spec=spec), 12)
    assert {batch.media for batch in expected} == {"video", "image"}
    assert sum(len(batch.skipped) for batch in expected) == 2
    for num_workers in (1, 2):
        assert facts(take(loader(*sources, spec=spec, decode=DecodeOptions(num_workers=num_workers)), 12)) == facts(
            expected
        )
    assert facts(take(loader(*sources, spec=spec, seed=1), 12)) != facts(expected)


def test_a_batch_holds_one_media_type(videos, pictures):
    for batch in take(loader(Files(videos), Files(pictures, media="image", name="pictures")), 8):
        assert batch.video.shape == ((3, 2, 3, 96, 96) if batch.media == "video" else (4, 1, 3, 96, 96))
        assert batch.video.dtype == np.uint8
        assert numbers(batch) == [int(caption.split(",")[0]) for caption in batch.captions]
        assert all((number >= 100) == (batch.media == "image") for number in numbers(batch))


@pytest.mark.parametrize(("num_workers", "stop"), [(0, 1), (0, 4), (0, 7), (2, 4)])
def test_going_on_from_a_position(videos, pictures, tmp_path, num_workers: int, stop: int):
    bad = list(write_unreadable(tmp_path).values())[:3]
    sources = (Files([*videos[:5], *bad]), (Files(pictures, media="image", name="pictures"), 0.5))
    options = {
        "spec": ClipSpec(3, 24, flip=True),
        "seed": 3,
        **with_workers(num_workers),
        "max_bad_share": 0.9,
    }
    straight = take(loader(*sources, **options), 9)
    assert [batch.media for batch in straight[:2]] == ["video", "image"]
    first = take(loader(*sources, **options), stop)
    saved = json.loads(json.dumps(asdict(first[-1].position)))
    rest = take(loader(*sources, **options), 9 - stop, LoaderPosition.of(saved))
    without_lists = [[replace(batch, skipped=()) for batch in batches] for batches in (first + rest, straight)]
    assert facts(without_lists[0]) == facts(without_lists[1])  # a new run names again what it finds broken


def test_a_position_of_another_run_is_refused(videos):
    (batch,) = take(loader(Files(videos)), 1)
    for other in (
        loader(Files(videos), seed=1),
        loader(Files(videos), world=2),
        loader(Files(videos[:5])),
        loader(Files(videos), Made(3)),
    ):
        with pytest.raises(VmrError, match="position of the data is that of another run"):
            other.batches(batch.position)


def test_every_pair_once_before_any_twice():
    batches = take(loader(Made(7), spec=TINY), 14)  # 14 batches of 3 are 6 epochs of 7
    seen = [int(i) for batch in batches for i in batch.ids]
    epochs = [seen[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    assert all(batch.video[:, 0, 0, 0, 0].tolist() == batch.ids.tolist() for batch in batches)


@pytest.mark.parametrize("num_pairs, world", [(7, 2), (8, 2), (2, 3)])
def test_ranks_share_an_epoch(num_pairs: int, world: int):
    num_batches = num_pairs  # of one row each: as many epochs as there are ranks
    ranks = [
        [int(b.ids[0]) for b in take(loader(Made(num_pairs), spec=TINY, batch=1, rank=rank, world=world), num_batches)]
        for rank in range(world)
    ]
    in_order = [ranks[place % world][place // world] for place in range(num_pairs * world)]
    for start in range(0, len(in_order), num_pairs):
        assert sorted(in_order[start : start + num_pairs]) == list(range(num_pairs))


def test_broken_files_are_named_once_and_captions_stay_with_their_videos(videos, tmp_path):
    broken = list(write_unreadable(tmp_path).values())
    files = [*videos * 9, *broken]  # 108 good, 11 broken: 9 %
    batches = take(loader(Files(files), decode=TWO_WORKERS, batch=6), 45)  # 270 rows: more than two epochs
    skipped = [skip for batch in batches for skip in batch.skipped]
    assert Counter(skip.name for skip in skipped) == Counter(path.name for path in broken)
    reasons = {skip.name: skip.reason for skip in skipped}
    assert reasons["zero.mp4"] == "is empty (0 bytes)"
    assert reasons["absent.mp4"] == "no such file"
    assert reasons["still.png"].startswith("is not a video file")
    for batch in batches:
        assert numbers(batch) == [int(caption.split(",")[0]) for caption in batch.captions]
        assert [int(files[i].stem) for i in batch.ids] == numbers(batch)


def test_a_decoder_that_hangs_is_stopped_and_its_file_named(videos, hanging):
    batches = take(loader(Files([*videos[:4], hanging]), decode=DecodeOptions(num_workers=1, timeout_s=1.0)), 3)
    (skip,) = (skip for batch in batches for skip in batch.skipped)
    assert (skip.name, skip.reason) == ("999.mp4", "no answer for 1 s, decoder stopped")
    assert children() == []


def test_too_many_broken_files_end_the_run(videos, tmp_path):
    broken = list(write_unreadable(tmp_path).values())
    # 9 of 20 are broken, and the first 50 clips are looked at together
    with pytest.raises(VmrError) as caught:
        take(loader(Files([*videos[:11], *broken[:9]]), max_bad_share=0.3), 100)
    message = str(caught.value)
    assert "of the last 5" in message
    assert "more than max_bad_share 0.3 allows: " in message
    assert any(f"{path.name} (" in message for path in broken)
    assert "\n" not in message


def test_nothing_but_broken_files_ends_too(tmp_path):
    broken = list(write_unreadable(tmp_path).values())[:2]
    with pytest.raises(VmrError, match=r"^50 of the last 50 clips cannot be decoded"):
        take(loader(Files(broken), max_bad_share=0.9), 1)


def test_media_and_sources_follow_the_weights():
    sources = ((Made(5), 2.0), (Made(5, "more"), 1.0), (Made(5, "stills", media="image"), 1.0))
    batches = take(loader(*sources, spec=TINY, batch=2), 1000)
    shares = Counter(batch.media for batch in batches)
    # 750 and 250 expected, standard deviation sqrt(1000 * 3/4 * 1/4) = 13.7
    assert abs(shares["video"] - 750) < 4 * 13.7
    of_first = sum(int(i) < 5 for batch in batches if batch.media == "video" for i in batch.ids)
    rows = 2 * shares["video"]
    # two rows in three expected, standard deviation sqrt(rows * 2/3 * 1/3)
    assert abs(of_first - rows * 2 / 3) < 4 * (rows * 2 / 9) ** 0.5


def test_ids_of_two_sources_never_collide():
    batches = take(loader(Made(5), Made(4, "more"), Made(3, "stills", media="image"), spec=TINY), 60)
    ids = {media: {int(i) for b in batches if b.media == media for i in b.ids} for media in ("video", "image")}
    assert ids == {"video": set(range(9)), "image": {9, 10, 11}}  # 0-4, 5-8 and 9-11
    for batch in batches:
        offsets = {"video": [0] * 5 + [5] * 4, "image": [0] * 9 + [9] * 3}[batch.media]
        assert [int(i) - offsets[i] for i in batch.ids] == batch.video[:, 0, 0, 0, 0].tolist()


def test_an_id_outside_its_source_is_refused():
    class Wrong(Made):
        def pair(self, index: int, rng: np.random.Generator) -> Pair:
            return replace(super().pair(index, rng), id=index + 1)

    with pytest.raises(VmrError, match=r"made: \d has id 5, expected 0 to 4"):
        take(loader(Wrong(5), spec=TINY), 5)


def test_groups_come_together_and_in_order():
    ids = [pair for batch in take(loader(Made(12, group=3), spec=TINY), 12) for pair in batch.ids.tolist()]
    groups = [ids[start : start + 3] for start in range(0, len(ids), 3)]
    assert all(group == [group[0], group[0] + 1, group[0] + 2] and group[0] % 3 == 0 for group in groups)
    assert sorted(ids[:12]) == list(range(12))  # an epoch
    assert [group[0] for group in groups[:4]] != [0, 3, 6, 9]  # and shuffled


def test_processes_share_out_whole_groups():
    def groups(rank: int, world: int, count: int) -> list[int]:
        batches = take(loader(Made(12, group=3), spec=TINY, batch=3, rank=rank, world=world), count)
        assert all(batch.ids.tolist() == [batch.ids[0] + within for within in range(3)] for batch in batches)
        return [int(batch.ids[0]) for batch in batches]

    alone = groups(0, 1, 8)
    assert [groups(0, 2, 4), groups(1, 2, 4)] == [alone[::2], alone[1::2]]


def test_flips_keep_off_sided_captions(videos):
    captions = [f"{path.stem} to the {'left' if int(path.stem) % 2 else 'top'}" for path in videos]
    batches = take(loader(Files(videos, captions), spec=replace(READABLE, flip="unless_sided")), 30)
    readable = Counter(
        (caption.split()[-1], number_of(video[0]) == int(caption.split()[0]))
        for batch in batches
        for caption, video in zip(batch.captions, batch.video, strict=True)
    )
    assert readable["left", False] == 0
    assert readable["left", True] > 0
    assert readable["top", False] > 0  # the mirrored number cannot be read
    assert readable["top", True] > 0


def test_decoded_frames_are_kept(videos, tmp_path):
    path = tmp_path / "7.mp4"
    path.write_bytes(videos[7].read_bytes())
    spec = replace(READABLE, cache_dir=str(tmp_path / "cache"))
    expected = take(loader(Files([path]), spec=spec), 4)
    assert [numbers(batch) for batch in expected] == [[7] * 3] * 4
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    assert np.load(kept).shape == (6, 3, 110, 188)  # all of its frames: 112 x 192 with a short side of 96 * 8 / 7
    about = path.stat()
    path.write_bytes(bytes(about.st_size))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert facts(take(loader(Files([path]), spec=spec, decode=ONE_WORKER), 4)) == facts(expected)
    path.write_bytes(videos[7].read_bytes())
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    kept.write_bytes(kept.read_bytes()[:1000])  # an incomplete file is not used
    assert facts(take(loader(Files([path]), spec=spec), 4)) == facts(expected)
    path.write_bytes(bytes(about.st_size))  # a newer file of the same name and size
    with pytest.raises(VmrError, match="cannot be decoded"):
        take(loader(Files([path]), spec=spec), 1)


def test_kept_frames_that_are_scaled_up_are_not_stored_so(videos, tmp_path):
    spec = replace(READABLE, size=192, cache_dir=str(tmp_path / "cache"))
    take(loader(Files(videos[:1]), spec=spec), 1)
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    assert np.load(kept).shape == (6, 3, 112, 192)


def test_an_error_of_a_source_reaches_the_loop():
    class Failing(Made):
        def pair(self, index: int, rng: np.random.Generator) -> Pair:
            raise VmrError("made: the annotation file has gone")

    before = threading.active_count()
    with pytest.raises(VmrError, match="the annotation file has gone"):
        next(loader(Failing(5), spec=TINY).batches())
    assert threading.active_count() == before


def test_a_clip_made_in_another_shape_is_refused():
    class Wrong(Made):
        def pair(self, index: int, rng: np.random.Generator) -> Pair:
            return Pair("odd", 0, "odd", make=lambda t, s: np.zeros((t, s, s, 3), np.uint8))

    with pytest.raises(
        VmrError, match=r"odd: its clip was made as uint8 \(1, 2, 2, 3\), expected uint8 \(1, 3, 2, 2\)"
    ):
        take(loader(Wrong(1), spec=TINY), 1)


def test_waiting_is_measured():
    class Slow(Made):
        def pair(self, index: int, rng: np.random.Generator) -> Pair:
            time.sleep(0.1)
            return super().pair(index, rng)

    first, *_ = take(loader(Slow(5), spec=TINY, prefetch=1), 2)
    assert first.waited_s > 0.5  # 3 rows each of this batch and the next are asked for: 0.6 s


@pytest.mark.parametrize("num_workers", [0, 2])
def test_leaving_the_loop_leaves_no_process_and_no_thread(videos, num_workers: int):
    before = threading.active_count()
    train_loader = loader(Files(videos), **with_workers(num_workers))
    for _ in train_loader.batches():
        break
    assert (threading.active_count(), children()) == (before, [])
    with train_loader:
        batches = train_loader.batches()
        next(batches)  # never closed: leaving the loader ends it all the same
        assert threading.active_count() > before
    assert (threading.active_count(), children()) == (before, [])
    with pytest.raises(VmrError, match="was closed"):
        next(batches)


def test_closing_ends_a_loop_that_waits_in_another_thread(hanging):
    caught = []

    def consume(train_loader: TrainLoader) -> None:
        try:
            next(train_loader.batches())
        except VmrError as error:
            caught.append(str(error))

    with loader(Files([hanging]), decode=ONE_WORKER) as train_loader:
        consumer = threading.Thread(target=consume, args=(train_loader,), daemon=True)
        consumer.start()
        end = time.monotonic() + 20
        while not children():
            assert time.monotonic() < end, "no worker was started"
            time.sleep(0.02)
    consumer.join(timeout=PATIENCE_S)
    assert caught == ["the loader was closed while its batches were read"]
    assert children() == []


SCRIPT = """
import sys
from pathlib import Path
from vmr.data.decoding.options import DecodeOptions
from vmr.data.training.clips import ClipSpec
from vmr.data.training.loader import TrainLoader
from vmr.data.sources.source import Pair

class Source:
    name, media, num_ids, group = "files", "video", len(sys.argv) - 1, 1
    def __len__(self):
        return self.num_ids
    def pair(self, index, rng):
        return Pair(str(index), index, "a caption", Path(sys.argv[index + 1]))

decode = DecodeOptions(num_workers=2)
loader = TrainLoader([(Source(), 1.0)], ClipSpec(2, 24), batch_size={"video": 2}, seed=0, decode=decode)
batches = loader.batches()
print(next(batches).video.shape)
"""


def test_a_script_may_end_without_closing_anything(videos, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", *map(str, videos)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 2, 3, 24, 24)\n", "")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": -1}, "seed"),
        ({"rank": 2, "world": 2}, "rank is 2, but must be from 0 to 1"),
        ({"max_bad_share": 1.0}, "max_bad_share"),
        ({"prefetch": 0}, "prefetch"),
        ({"batch": 0}, r"made: batch_size\['video'\] must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str):
    with pytest.raises(VmrError, match=message):
        loader(Made(3), spec=TINY, **options)


def test_sources_that_give_nothing_are_refused():
    with pytest.raises(VmrError, match="at least one source"):
        loader()
    with pytest.raises(VmrError, match="made: has no pairs"):
        loader(Made(0))
    with pytest.raises(VmrError, match="weight"):
        loader((Made(3), 0.0))
