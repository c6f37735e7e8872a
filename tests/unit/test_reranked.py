"""Re-ranked searches: logits are those of matching each window by itself, wherever its tokens come from."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import vmr
from tests.indexes import TwoDimensional
from tests.models import Counting, make_encoder, tiny_model
from tests.video_matrix import Recipe, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.errors import VmrError
from vmr.files import sha256_of
from vmr.models.videomamba.repeats import SkipConfig
from vmr.retrieval.embedding.token_files import TOKENS, TokenFolder
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.updating.keeping import sizes_in_words
from vmr.retrieval.updating.spaces import VectorOptions
from vmr.retrieval.updating.update import remove_videos, update_index
from vmr.retrieval.upkeep.compacting import compact_index
from vmr.retrieval.upkeep.copying import copy_index

QUERY = "a man on a bicycle"
KEEP = VectorOptions(keep_tokens=True)
ONE_WORKER = DecodeOptions(num_workers=1)
SEGMENTS = SegmentOptions(window_s=2.0)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder(tiny_model())


@pytest.fixture(scope="module")
def built(footage: Path, tmp_path_factory, encoder) -> Path:
    """A folder with videos, an index of them, and another one that keeps tokens."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(footage, folder / "videos", ignore=shutil.ignore_patterns("*.json"))
    for name, vectors in (("plain", VectorOptions()), ("kept", KEEP)):
        update_index(folder / "videos", folder / name, encoder, SEGMENTS, vectors=vectors, decode=ONE_WORKER)
    return folder


@pytest.fixture
def videos(built: Path, tmp_path: Path) -> Iterator[Path]:
    """The videos, which a test may change."""
    shutil.copytree(built / "videos", tmp_path / "before")
    yield built / "videos"
    shutil.rmtree(built / "videos")
    shutil.copytree(tmp_path / "before", built / "videos")


@pytest.fixture
def kept(built: Path, tmp_path: Path) -> Path:
    """An index with tokens, which a test may change."""
    return Path(shutil.copytree(built / "kept", tmp_path / "kept"))


def search(folder: Path, encoder, **options):
    index = vmr.open_index(folder, encoder)
    return index.search(QUERY, keep_duplicates=True, overlapping=True, **{"k": 100, "rerank": 100, **options})


def update(videos: Path, index: Path, encoder, **options):
    return update_index(videos, index, encoder, SEGMENTS, decode=ONE_WORKER, **options)


def by_moment(found) -> dict:
    """Logits by video and time, without those of moments that were not matched."""
    return {(hit.video, hit.start_s): hit.rerank_score for hit in found if hit.rerank_score is not None}


def expected_logits(encoder, hits) -> list[float]:
    """Match each window by itself, read in this process with the windows of the index."""
    clips: dict[tuple[str, float], np.ndarray] = {}
    for file in {hit.video for hit in hits}:
        for segment in read_segments(file, FrameSpec(2, 32, "upstream"), SEGMENTS.segmenter()):
            clips[file, segment.start_s] = segment.video
    tokens = [encoder.video_tokens(torch.from_numpy(clips[hit.video, hit.start_s][None])) for hit in hits]
    return [encoder.match(each, [QUERY])[0, 0].item() for each in tokens]


@pytest.mark.parametrize("name", ["plain", "kept"])
def test_the_logits_are_those_of_the_windows(built, encoder, name):
    plain, found = search(built / name, encoder, rerank=None), search(built / name, encoder)
    assert len(found) > 10 and found.remarks == ()
    logits = [hit.rerank_score for hit in found]
    assert logits == sorted(logits, reverse=True) and len(set(logits)) > 5
    assert logits == expected_logits(encoder, found)
    assert {hit.moment_id for hit in found} == {hit.moment_id for hit in plain}
    assert all(hit.rerank_score is None for hit in plain)


def test_only_the_best_are_re_ranked_and_the_others_follow_by_score(built, encoder):
    everything = search(built / "kept", encoder, rerank=None)
    found = search(built / "kept", encoder, rerank=4)
    assert {hit.moment_id for hit in found[:4]} == {hit.moment_id for hit in everything[:4]}
    assert all(hit.rerank_score is not None for hit in found[:4])
    assert found[4:] == everything[4:]
    assert search(built / "kept", encoder, k=2, rerank=4).hits == found[:2]


def test_kept_tokens_need_no_video_and_no_vision(built, videos, encoder):
    expected = by_moment(search(built / "plain", encoder))
    counting = Counting(encoder)
    videos.rename(built / "gone")
    found = search(built / "kept", counting)
    (built / "gone").rename(videos)
    assert by_moment(found) == expected and found.remarks == () and counting.count == 0
    assert all(hit.missing for hit in found)


def test_a_video_that_is_gone_or_has_changed_costs_its_own_moments(built, videos, encoder):
    everything, by_score = search(built / "plain", encoder), search(built / "plain", encoder, rerank=None)
    (videos / "bikes.mp4").unlink()
    with (videos / "carphone_pristine.mp4").open("ab") as file:
        file.write(b"more")
    found = search(built / "plain", encoder)
    lost = [hit for hit in by_score if not hit.video.endswith("bunny.mp4")]
    assert [hit.moment_id for hit in found[-len(lost) :]] == [hit.moment_id for hit in lost]
    assert all(hit.rerank_score is None for hit in found[-len(lost) :])
    assert [hit for hit in found if hit.rerank_score is not None] == [
        hit for hit in everything if hit.video.endswith("bunny.mp4")
    ]
    (line,) = found.remarks
    assert line.startswith(f"not re-ranked: {len(lost)} of {len(found)} moments, which come after the others; first: ")
    assert "no such file" in line or "has changed since it was embedded" in line


def test_a_file_with_another_time_and_the_same_content_has_not_changed(built, videos, encoder):
    expected = search(built / "plain", encoder)
    for path in videos.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert search(built / "plain", encoder) == expected
    same_size = videos / "bikes.mp4"
    same_size.write_bytes(same_size.read_bytes()[:-4] + b"edit")
    assert "has changed since it was embedded" in search(built / "plain", encoder).remarks[0]


def test_a_decoder_that_hangs_costs_moments_and_not_the_search(built, encoder, monkeypatch):
    monkeypatch.setattr("vmr.retrieval.searching.reranked.DecodeOptions", lambda reader: DecodeOptions(reader, 1, 1e-3))
    found = search(built / "plain", encoder)
    assert [hit.rerank_score for hit in found] == [None] * len(found)
    assert "no answer for 0.001 s, decoder stopped" in found.remarks[0]


def test_what_cannot_be_re_ranked_is_refused(built, encoder, tmp_path):
    index = vmr.open_index(built / "plain", encoder)
    hit = index.search(QUERY, 1)[0]
    for query in (hit, hit.moment_id, np.ones(index.space.dim, np.float32)):
        with pytest.raises(VmrError, match=r"^only what a sentence finds can be re-ranked: leave --rerank "):
            index.search(query, rerank=20)
    for wrong in (0, -1, 1.5, "20", True):
        with pytest.raises(VmrError, match="rerank is"):
            index.search(QUERY, rerank=wrong)
    other = vmr.build_index(built / "videos", tmp_path / "other", TwoDimensional(), window_s=None, decode=ONE_WORKER)
    with pytest.raises(VmrError, match=r"^two cannot compare a sentence and a video token by token: leave --rerank "):
        other.search("1 0", rerank=20)
    with pytest.raises(VmrError, match=r"^keep_tokens is for models that .*, not for two: leave it out"):
        vmr.build_index(built / "videos", tmp_path / "new", TwoDimensional(), vectors=KEEP)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options", [{"segments": "whole"}, {"segments": "shots"}, {"whole_video": True, "frames": "keyframes"}]
)
def test_kept_and_made_tokens_are_equal_however_videos_are_cut(built, tmp_path, encoder, options):
    if options.get("segments") == "shots":
        pytest.importorskip("scenedetect", reason="needs PySceneDetect, of the extra shots")
    segments = SegmentOptions(**{"window_s": 2.0, **options})
    index = tmp_path / "cut"
    update_index(built / "videos", index, encoder, segments, vectors=KEEP, decode=ONE_WORKER)
    kept = search(index, encoder)
    shutil.rmtree(index / TOKENS)
    made = search(index, encoder)
    assert kept == made and None not in [hit.rerank_score for hit in made] and made.remarks == ()


# What becomes of kept tokens


def test_deleted_and_damaged_tokens_are_made_when_needed_and_kept_again_on_request(kept, videos, encoder, capsys):
    from vmr.cli.index import main

    expected, files = search(kept, encoder), sorted((kept / TOKENS).iterdir())
    digests = [sha256_of(file) for file in files]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"\0")
    files[2].write_bytes(files[2].read_bytes()[:-100])
    assert search(kept, encoder) == expected  # nothing is written by a search
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(kept)])
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [f"{TOKENS}/{file.name}" for file in files[1:]]
    compact_index(kept)
    assert list((kept / TOKENS).iterdir()) == []
    assert update(videos, kept, encoder).embedded == [] == list((kept / TOKENS).iterdir())
    done = update(videos, kept, encoder, vectors=KEEP)
    assert len(done.embedded) == 3 and [sha256_of(file) for file in files] == digests
    counting = Counting(encoder)
    assert update(videos, kept, counting, vectors=KEEP).embedded == [] and counting.count == 0
    shutil.rmtree(kept / TOKENS)
    assert search(kept, encoder) == expected
    main(["verify", str(kept)])


def test_tokens_go_where_their_videos_go(kept, videos, encoder, tmp_path):
    expected = by_moment(search(kept, encoder))
    (videos / "bikes.mp4").rename(videos / "cycles.mp4")
    shutil.copy(videos / "cycles.mp4", videos / "again.mp4")
    counting = Counting(encoder)
    done = update(videos, kept, counting)
    assert len(done.renamed) == len(done.copied) == 1 and counting.count == 0
    assert len(TokenFolder(kept).names()) == 3
    copied = copy_index(kept, tmp_path / "copy")
    sizes = [path.stat().st_size for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert copied.num_bytes == sum(sizes) and len(TokenFolder(tmp_path / "copy").names()) == 3
    for path in videos.iterdir():
        path.unlink()
    logits = by_moment(search(tmp_path / "copy", encoder))
    named = {(file.replace("cycles", "bikes"), start): logit for (file, start), logit in logits.items()}
    assert {key: logit for key, logit in named.items() if "again" not in key[0]} == expected
    assert len(logits) > len(expected)


def test_tokens_go_with_their_video(kept, videos, encoder):
    names = TokenFolder(kept).names()
    remove_videos(kept, ["bikes.mp4"])
    assert len(TokenFolder(kept).names()) == 2
    with (videos / "carphone_pristine.mp4").open("ab") as file:
        file.write(b"more")
    done = update(videos, kept, encoder)  # tokens are kept as long as the folder is there
    assert len(done.embedded) == 2
    assert len(TokenFolder(kept).names()) == 3 and len(TokenFolder(kept).names() & names) == 2
    assert vmr.open_index(kept, encoder).info.num_tokens == 3
    assert vmr.open_index(kept, encoder).info.tokens_bytes == TokenFolder(kept).num_bytes() > 3000


def test_what_a_kill_leaves_is_removed_by_the_next_update(kept, videos, encoder):
    before = TokenFolder(kept).names()
    for name in ("0" * 32 + ".tokens", f".{min(before)}.12345678.tmp"):
        (kept / TOKENS / name).write_bytes(b"left")
    update(videos, kept, encoder)
    assert {path.name for path in (kept / TOKENS).iterdir()} == before


def test_an_index_with_another_encoder_gets_tokens_of_both(kept, videos, encoder):
    second = make_encoder(tiny_model(1))
    second.name = "second"
    update(videos, kept, [encoder, second])
    assert len(TokenFolder(kept).names()) == 6
    counting = Counting(second)
    assert None not in [hit.rerank_score for hit in search(kept, counting)] and counting.count == 0


def test_a_folder_of_tokens_that_holds_something_else_is_left_alone(tmp_path, videos, encoder):
    (tmp_path / "new" / TOKENS).mkdir(parents=True)
    (tmp_path / "new" / TOKENS / "mine.txt").write_text("mine")
    with pytest.raises(VmrError, match="holds other files"):
        update(videos, tmp_path / "new", encoder, vectors=KEEP)
    assert (tmp_path / "new" / TOKENS / "mine.txt").read_text() == "mine"


def test_tokens_that_repeat_are_kept_once(tmp_path):
    """A still of two windows, by a model of 2 steps of 4 places and 32 numbers a token."""
    picture = np.random.default_rng(0).integers(60, 180, (64, 64, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "still.mp4", Recipe(num_frames=100, stored=lambda _: picture))
    encoder = make_encoder(tiny_model(), skip=SkipConfig(0.05))
    for name, vectors in (("plain", VectorOptions()), ("kept", KEEP)):
        update(tmp_path / "videos", tmp_path / name, encoder, vectors=vectors)
    (file,) = (tmp_path / "kept" / TOKENS).iterdir()
    num_windows = len(vmr.open_index(tmp_path / "kept", encoder).windows)
    # numbers of 8 tokens and 4 tokens, in place of 8 tokens
    assert file.stat().st_size == 36 + num_windows * (4 + 32 + 4 * (8 + 4 * 32))
    found = by_moment(search(tmp_path / "kept", encoder))
    assert found == by_moment(search(tmp_path / "plain", encoder)) and len(found) == num_windows > 1


def test_sizes_are_upper_bounds_where_tokens_may_repeat(encoder):
    # 8 tokens of 32 float32, 32 bytes for times and digest, 4 for the length: 1060 bytes; 100 a second make 382 MB
    segments = SegmentOptions(window_s=0.02, stride_s=0.01)
    assert sizes_in_words([encoder], segments) == "tokens take 1 kB a window, 382 MB an hour of video"
    assert sizes_in_words([encoder.with_skip(0.1)], SegmentOptions()).startswith("tokens take at most 1 kB a window")
    assert sizes_in_words([encoder, encoder.with_skip(0.1)], segments).startswith("tokens take at most 2 kB a window")
