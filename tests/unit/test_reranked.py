"""Re-ranked searches: logits are those of matching each window by itself, wherever its tokens come from."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vmr
from tests.indexes import TwoDimensional
from tests.models import make_encoder, tiny_model
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.errors import VmrError
from vmr.retrieval.segments import FixedWindows
from vmr.retrieval.storage.records import FileState

QUERY = "a man on a bicycle"


@pytest.fixture(scope="module")
def encoder():
    return make_encoder(tiny_model())


@pytest.fixture
def videos(footage: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(footage, tmp_path / "videos", ignore=shutil.ignore_patterns("*.json")))


@pytest.fixture
def index(videos: Path, tmp_path: Path, encoder):
    return vmr.build_index(videos, tmp_path / "index", encoder, window_s=2.0)


def search(index, **options):
    return index.search(QUERY, keep_duplicates=True, overlapping=True, **{"k": 100, "rerank": 100, **options})


def expected_logits(encoder, hits) -> list[float]:
    """Match each window by itself, read in this process with the windows of the index."""
    clips: dict[tuple[str, float], np.ndarray] = {}
    for file in {hit.video for hit in hits}:
        for segment in read_segments(file, FrameSpec(2, 32, "upstream"), FixedWindows(2.0, 1.0)):
            clips[file, segment.start_s] = segment.video
    tokens = [encoder.video_tokens(torch.from_numpy(clips[hit.video, hit.start_s][None])) for hit in hits]
    return [encoder.match(each, [QUERY])[0, 0].item() for each in tokens]


def test_the_logits_are_those_of_the_windows(index, encoder):
    plain, found = search(index, rerank=None), search(index)
    assert len(found) == len(index) > 10 and found.remarks == ()
    logits = [hit.rerank_score for hit in found]
    assert logits == sorted(logits, reverse=True) and len(set(logits)) > 5
    assert logits == expected_logits(encoder, found)
    assert {hit.moment_id for hit in found} == {hit.moment_id for hit in plain}
    assert all(hit.rerank_score is None for hit in plain)


def test_only_the_best_are_re_ranked_and_the_others_follow_by_score(index):
    everything = search(index, rerank=None)
    found = search(index, rerank=4)
    assert {hit.moment_id for hit in found[:4]} == {hit.moment_id for hit in everything[:4]}
    assert all(hit.rerank_score is not None for hit in found[:4])
    assert found[4:] == everything[4:]
    assert search(index, k=2, rerank=4).hits == found[:2]


def test_a_video_that_is_gone_or_has_changed_costs_its_own_moments(index, videos):
    everything, by_score = search(index), search(index, rerank=None)
    (videos / "bikes.mp4").unlink()
    with (videos / "carphone_pristine.mp4").open("ab") as file:
        file.write(b"more")
    found = search(index)
    lost = [hit for hit in by_score if not hit.video.endswith("bunny.mp4")]
    assert [hit.moment_id for hit in found[-len(lost) :]] == [hit.moment_id for hit in lost]
    assert all(hit.rerank_score is None for hit in found[-len(lost) :])
    assert [hit for hit in found if hit.rerank_score is not None] == [
        hit for hit in everything if hit.video.endswith("bunny.mp4")
    ]
    (line,) = found.remarks
    assert line.startswith(f"not re-ranked: {len(lost)} of {len(found)} moments, which come after the others; first: ")
    assert "no such file" in line or "has changed since it was embedded" in line


def test_a_file_with_another_time_and_the_same_content_has_not_changed(index, videos):
    expected = search(index)
    for path in videos.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
        state = FileState.of(path)
        assert state is not None and state.is_settled
    assert search(index) == expected
    same_size = videos / "bikes.mp4"
    same_size.write_bytes(same_size.read_bytes()[:-4] + b"edit")
    assert "has changed since it was embedded" in search(index).remarks[0]


def test_a_video_that_cannot_be_decoded_any_more_is_named(index, videos, monkeypatch):
    """The file is as it was when it was embedded, but the decoder gives up."""
    monkeypatch.setattr("vmr.data.decoding.options.DecodeOptions.timeout_s", 1e-3)
    from vmr.data.decoding.options import DecodeOptions

    monkeypatch.setattr("vmr.retrieval.searching.reranked.DecodeOptions", lambda reader: DecodeOptions(reader, 1, 1e-3))
    found = search(index)
    assert [hit.rerank_score for hit in found] == [None] * len(found)
    assert "no answer for 0.001 s, decoder stopped" in found.remarks[0]


def test_what_cannot_be_re_ranked_is_refused(index, tmp_path, videos):
    hit = index.search(QUERY, 1)[0]
    for query in (hit, hit.moment_id, np.ones(index.space.dim, np.float32)):
        with pytest.raises(VmrError, match=r"^only what a sentence finds can be re-ranked: leave rerank out$"):
            index.search(query, rerank=20)
    for wrong in (0, -1, 1.5, "20", True):
        with pytest.raises(VmrError, match="rerank is"):
            index.search(QUERY, rerank=wrong)
    other = vmr.build_index(videos, tmp_path / "other", TwoDimensional(), window_s=None)
    with pytest.raises(VmrError, match=r"^two cannot compare a sentence and a video token by token: leave rerank out"):
        other.search("1 0", rerank=20)


@pytest.mark.parametrize("options", [{"window_s": None}, {"whole_video": True}, {"frames": "keyframes"}])
def test_every_way_to_cut_a_video_can_be_re_ranked(videos, tmp_path, encoder, options):
    """Each window again gives the vector that it has in the index, so it was made from the same frames."""
    index = vmr.build_index(videos, tmp_path / "cut", encoder, **{"window_s": 2.0, **options})
    found = search(index)
    assert found.remarks == () and all(math.isfinite(hit.rerank_score) for hit in found) and len(found) == len(index)
