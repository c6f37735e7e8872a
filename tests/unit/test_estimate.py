"""What a build will cost: the arithmetic by hand, and a sample of real files beside an index of all of them."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import vmr
from tests.integration.commands import run_here
from tests.video_matrix import RECIPES, X264, Recipe, write_hanging, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating import estimate
from vmr.retrieval.updating.estimate import estimate_build

ONE_WORKER = DecodeOptions(num_workers=1)
SHORT = Recipe(options=X264, num_frames=25)
WINDOWS = SegmentOptions(window_s=0.5)


class Slow:
    """Takes a known time for each window."""

    name, about, embed_dim, fingerprint = "slow", "for tests", 2, "5" * 16
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)

    def __init__(self, seconds=0.0):
        self.seconds, self.num_windows, self.batches = seconds, 0, []

    def encode_video(self, video):
        self.num_windows += len(video)
        self.batches.append(len(video))
        time.sleep(self.seconds * len(video))
        return video.float().mean(dim=(1, 3, 4))[:, :2]

    def encode_text(self, texts):
        return torch.zeros(len(texts), 2)


def estimated(paths, encoder, segments=WINDOWS, decode=ONE_WORKER, **options):
    return estimate_build(paths, [encoder], segments, decode, **options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Of 1 to 3 s: of n s are 4 n - 1 windows."""
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{n}.mp4", replace(SHORT, num_frames=25 * (1 + n % 3))) for n in range(9)]


# By hand


def test_the_sample_is_even_over_the_sizes_however_much_of_it_is_taken(tmp_path):
    paths = []
    for number in range(100):
        path = tmp_path / f"{(number * 37) % 100:02}"  # names and sizes in different orders
        path.write_bytes(bytes(1 + number))
        paths.append(str(path))
    (tmp_path / "empty").touch()
    chosen = estimate._evenly_by_size([*paths, str(tmp_path / "empty"), str(tmp_path / "gone")])
    sizes = [(tmp_path / name).stat().st_size for name in chosen]
    assert sizes[:7] == [51, 26, 76, 13, 38, 63, 88]
    assert len(set(chosen)) == 64
    assert estimate._evenly_by_size([str(tmp_path / "empty")]) == [str(tmp_path / "empty")]
    assert sorted(estimate._evenly_by_size(paths[:5])) == sorted(paths[:5])


def test_time_for_a_unit_and_its_error_by_hand():
    # 2 s for a unit: residuals 1, -1 of 8 s in all: sqrt(2 / 1 * 2) / 8 = 0.25, twice
    assert estimate._ratio(np.array([[2.0, 5.0], [2.0, 3.0]])) == pytest.approx((2.0, 0.5))
    assert estimate._ratio(np.array([[2.0, 4.0], [3.0, 6.0]])) == pytest.approx((2.0, 0.1))
    assert estimate._ratio(np.array([[2.0, 4.0]])) == (2.0, 0.5)


def test_costs_by_hand():
    """The first videos run while everything starts: they count for the start, and for the CPU time of the workers."""
    sample = estimate._Sample([], 1.0, 0.3, workers_cpu_s=4.0)
    sample.batches = [
        estimate._Batch("a", 8.0, 5.0, 9.0, is_first=True),
        estimate._Batch("b", 4.0, 2.0, 0.5, is_first=False),
        estimate._Batch("c", 2.0, 0.5, 0.2, is_first=False),
        estimate._Batch("b", 2.0, 1.5, 0.1, is_first=False),
    ]
    costs = sample.costs(by_video=False)
    assert (costs.wall_s, costs.start_s) == (0.5, 1.0)  # 4 s for 8 s of video; 5 s for 8 s are 1 s more
    assert costs.cpu_s == pytest.approx(0.8 / 8 + 4.0 / 16)
    assert costs.spread == pytest.approx(2 * (2 * (0.5**2 + 0.5**2)) ** 0.5 / 4)
    costs = sample.costs(by_video=True)
    assert (costs.wall_s, costs.start_s) == (2.0, 3.0)
    assert costs.cpu_s == pytest.approx(0.8 / 2 + 4.0 / 3)
    sample.batches = sample.batches[:1]
    costs = sample.costs(by_video=False)
    assert (costs.wall_s, costs.start_s, costs.spread) == (5.0 / 8.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("num_videos", "windows", "dim"), [(2000, 1, 512), (500, 8, 512), (70, 64, 512), (300, 8, 1280), (20, 200, 384)]
)
def test_the_size_of_the_database_is_that_of_one_that_is_written(tmp_path, num_videos, windows, dim):
    vectors = np.random.default_rng(0).standard_normal((windows, dim)).astype(np.float32)
    spans = tuple((4.0 * number, 4.0 * number + 8) for number in range(windows))
    with IndexWriter(tmp_path / "index", IndexSettings(8.0, 4.0)) as writer, writer.commit() as changes:
        space = changes.add_space(Space(0, "a", "a", "f" * 16, dim, "float16", {}))
        changes.add_root("/data/videos")
        for number in range(num_videos):
            path, state = f"camera-{number % 7}/2026-11-{number:06}.mp4", FileState(10**6, 10**18, number, 10**18)
            changes.put_video(
                NewVideo("/data/videos", path, number.to_bytes(32, "big"), state, 8.0, (), spans, {space: vectors})
            )
    size = (tmp_path / "index/index.db").stat().st_size
    rows = [windows] * num_videos
    assert num_videos * windows < 5000  # from here on, there is a file of FAISS as well
    assert estimate._table_bytes(rows) + estimate._vector_bytes(rows, dim) == pytest.approx(size, rel=0.1)


def test_many_rows_get_a_file_of_faiss():
    blocks = sum(estimate._stored_bytes(2 * 8 * 100) for _ in range(50))
    assert estimate._vector_bytes([100] * 50, 8) == round(blocks) + 5000 * (8 + 16)
    assert estimate._vector_bytes([100] * 1000, 8) == round(20 * blocks) + 100_000 * (8 + 8)  # a byte for a dimension


# Of real files


def test_an_estimate_of_real_videos(videos, tmp_path):
    encoder = Slow(0.02)
    before = {path: path.stat().st_mtime_ns for path in videos[0].parent.iterdir()}
    cost = estimated(videos, encoder)
    assert (cost.num_videos, cost.video_s, cost.num_unknown) == (9, pytest.approx(18), 0)
    assert (cost.sample_videos, cost.sample_s, cost.sample_failures) == (9, pytest.approx(18), ())
    assert encoder.num_windows == cost.num_rows == 3 * (3 + 7 + 11)
    assert max(encoder.batches) == 11  # as in a build, the windows of a video are embedded together
    index = vmr.build_index(videos, tmp_path / "index", Slow(), window_s=0.5, stride_s=0.25, decode=ONE_WORKER)
    assert cost.num_rows == len(index)
    assert cost.wall_s >= 0.02 * 63 * 0.9  # the encoder alone takes so long
    assert cost.cpu_s > 0.05  # a worker process imports NumPy and FFmpeg
    assert cost.spread >= 0.1
    assert cost.memory_bytes > 50 << 20
    assert {path: path.stat().st_mtime_ns for path in videos[0].parent.iterdir()} == before


def test_a_sample_ends_when_its_time_is_up_and_counts_as_a_part(videos):
    encoder = Slow(0.02)
    cost = estimated(
        [*videos, *(path.parent / ".." / path.parent.name / path.name for path in videos)], encoder, sample_s=0
    )
    assert encoder.num_windows < 63
    assert (cost.num_videos, cost.num_rows, cost.video_s) == (18, 126, pytest.approx(36))
    assert 0 < cost.sample_s < 18
    assert cost.wall_s >= 0.02 * 126 * 0.9


def test_encoders_that_take_other_frames_cost_their_own_time(videos):
    class Larger(Slow):
        preprocess = vmr.Preprocess(1, 24, "stretch", IMAGENET_MEAN, IMAGENET_STD)

    slow, same, larger = Slow(0.01), Slow(0.01), Larger(0.01)
    cost = estimate_build(videos, [slow, same, larger], WINDOWS, ONE_WORKER)
    assert (slow.num_windows, same.num_windows, larger.num_windows) == (63, 63, 63)
    assert cost.num_rows == 63
    assert cost.wall_s >= 3 * 0.01 * 63 * 0.9
    alone = estimate_build(videos, [Slow()], WINDOWS, ONE_WORKER)
    assert cost.index_bytes > alone.index_bytes


def test_whole_videos_cost_the_same_however_long_they_are(videos):
    encoder = Slow(0.05)
    cost = estimated(videos, encoder, SegmentOptions("whole"))
    assert (cost.num_rows, encoder.num_windows) == (9, 9)
    assert cost.wall_s >= 0.05 * 9 * 0.9


def test_unknown_lengths_are_those_of_the_others(videos, tmp_path):
    raw = write_video(tmp_path / "a.h264", replace(SHORT, suffix=".h264", num_frames=50))
    cost = estimated([videos[0], videos[2], raw], Slow())  # 1 s, 3 s and what states no length
    assert (cost.num_unknown, cost.video_s, cost.num_rows) == (1, pytest.approx(6), 3 + 11 + 7)
    cost = estimated([raw], Slow())  # measured
    assert (cost.num_unknown, cost.video_s, cost.num_rows) == (1, pytest.approx(2), 7)


def test_stills_last_no_time_and_cost_some(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for path in paths:
        Image.new("RGB", (32, 32)).save(path)
    cost = estimated(paths, Slow(0.05))
    assert (cost.num_videos, cost.num_rows, cost.sample_s) == (4, 4, 0)
    assert cost.wall_s >= 0.05 * 4 * 0.9


def test_videos_that_cannot_be_read_are_named_and_all_of_them_are_an_error(videos, tmp_path):
    (tmp_path / "text.mp4").write_text("text")
    hanging = write_hanging(tmp_path / "hanging.mkv")
    decode = DecodeOptions(num_workers=1, timeout_s=2)
    cost = estimated([*videos[:2], tmp_path / "text.mp4", hanging], Slow(), decode=decode)
    assert {failure.path.rpartition("/")[2]: failure.reason for failure in cost.sample_failures} == {
        "text.mp4": "not a video that FFmpeg can read",
        "hanging.mkv": "no answer for 2 s, decoder stopped",
    }
    assert (cost.num_videos, cost.sample_videos) == (4, 2)
    with pytest.raises(VmrError, match=r"none of a sample of 1 videos can be read, first: .*text\.mp4: not a video"):
        estimated([tmp_path / "text.mp4"], Slow())
    for paths, options, said in (([], {}, "no videos given"), (videos, {"sample_s": -1}, "sample_s is -1")):
        with pytest.raises(VmrError, match=said):
            estimated(paths, Slow(), **options)


def test_the_command_says_it_and_writes_nothing(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/a.mp4", RECIPES["h264_gop12"])
    (tmp_path / "videos/cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    options = (
        "--out",
        tmp_path / "index",
        "--encoder",
        "videomamba-nano-shapes",
        "--window",
        "1",
        "--num-workers",
        "1",
    )
    done = run_here("vmr-index", "build", tmp_path / "videos", *options, "--estimate")
    assert done.returncode == 0, done.stderr
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in done.stdout.splitlines() if "│" in line}
    assert rows["to embed"] == "2 of 2 videos, 5 s of video, 1 of unknown length"
    assert rows["measured"] == "1 videos, 2 s of video, 1 cannot be read"
    assert rows["index"] == "8 rows, 1 MiB"
    assert re.fullmatch(r"\d+ s to \d+ s on this machine, [\d.]+ x real time", rows["time"])
    assert re.fullmatch(r"[\d.]+ [GM]iB of all processes", rows["memory"])
    assert f"left out: {tmp_path}/videos/cut.mp4: " in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.mp4", "cut.mp4", "videos"]


def test_what_the_index_holds_already_is_no_cost(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/a.mp4", SHORT)
    build = ("vmr-index", "build", tmp_path / "videos", "--out", tmp_path / "index", "--num-workers", "1")
    assert run_here(*build, "--encoder", "videomamba-nano-shapes").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    done = run_here(*build, "--estimate")
    assert done.stdout == f"{tmp_path}/index: nothing to embed, 1 videos are as the index has them\n"
    write_video(tmp_path / "videos/b.mp4", replace(SHORT, num_frames=50))
    assert "│ 1 of 2 videos, 2 s of video" in run_here(*build, "--estimate").stdout  # by the encoder of the index
    anew = run_here(*build, "--estimate", "--overwrite", "--encoder", "videomamba-nano-shapes")
    assert "│ 2 of 2 videos, 3 s of video" in anew.stdout
    assert {path: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before
