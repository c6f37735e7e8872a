"""Evaluation end to end on real files: what is scored, what is left out, what the report says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.test_video_text_encoder import make_encoder, make_video, tiny_model
from vmr.data.annotations import RetrievalSet, VideoItem, load_annotations
from vmr.data.clips import read_clip
from vmr.errors import ModelError, VmrError
from vmr.eval.controls import CONTROLS, WithoutMotion
from vmr.eval.metrics import bidirectional_metrics
from vmr.eval.runner import evaluate
from vmr.retrieval.embed import embed_texts, embed_videos, frame_spec


@pytest.fixture(scope="module")
def data(annotations, footage) -> RetrievalSet:
    return load_annotations(annotations, footage)


def test_scores_are_the_metrics_of_the_embeddings(data, offline):
    report = evaluate(data, offline)
    videos = np.concatenate(
        [video.vectors for video in embed_videos([item.path for item in data.videos], offline).videos]
    )
    texts = embed_texts(data.texts, offline)
    assert report.scores == {"embedding": bidirectional_metrics(texts @ videos.T, data.video_of_text)}
    assert (report.num_videos, report.num_texts, report.complete) == (3, 4, True)
    assert report.scores["embedding"]["text_to_video/R@1"] == 100.0  # three very different videos


def test_missing_and_broken_videos_are_named_and_counted(data, offline, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 1000)
    more = RetrievalSet(
        "more",
        ("first", *data.texts, "last"),
        (0, *(video + 1 for video in data.video_of_text), 4),
        (VideoItem("broken.mp4", broken), *data.videos, VideoItem("gone.mp4", None)),
    )
    report = evaluate(more, offline)
    assert [failure.video for failure in report.failures] == ["broken.mp4", "gone.mp4"]
    assert report.failures[1].reason == "no such file"
    assert report.coverage == "3 of 5 videos (2 missing or unreadable), 4 of 6 texts"
    assert not report.complete
    assert report.scores == evaluate(data, offline).scores


def test_two_names_of_one_file_are_two_videos(data, offline):
    path = data.videos[0].path
    twice = RetrievalSet("twice", ("a", "b"), (0, 1), (VideoItem("x", path), VideoItem("y", path)))
    report = evaluate(twice, offline)
    assert report.num_videos == 2
    assert report.scores["embedding"]["text_to_video/R@1"] == 0.0  # an exact tie counts against us, both ways


def test_nothing_readable_is_an_error(offline):
    nothing = RetrievalSet("nothing", ("a",), (0,), (VideoItem("gone.mp4", None),))
    with pytest.raises(VmrError, match=r"nothing: none of 1 videos can be read, first: gone\.mp4: no such file"):
        evaluate(nothing, offline)


def test_vectors_that_are_not_finite_are_an_error(data, offline, monkeypatch):
    broken = offline.class_vectors.clone()
    broken[7] = float("nan")
    monkeypatch.setitem(offline.__dict__, "class_vectors", broken)
    with pytest.raises(ModelError, match=r"\.mp4: offline makes vectors that are not finite"):
        evaluate(data, offline)


def test_report_file(data, offline, tmp_path):
    report = evaluate(data, offline)
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["schema"] == "vmr-report/1"
    assert content["dataset"] == "test" and content["failures"] == []
    assert content["num_videos"] == 3 and content["num_texts"] == 4
    assert content["scores"]["embedding"]["text_to_video/R@1"] == 100.0
    assert content["fingerprint"] == offline.fingerprint and content["versions"]["torch"]


@pytest.fixture(scope="module")
def matcher():
    return make_encoder(tiny_model())


def test_columns_of_data_that_needs_time(data, matcher):
    report = evaluate(replace(data, needs_time=True), matcher)
    assert list(report.scores) == ["embedding", "vtm", "static", "shuffled"]
    assert report.scores["embedding"] == evaluate(data, matcher).scores["embedding"]
    frozen = {path: np.stack([read_segment(path, matcher)[1]] * 2) for path in paths_of(data)}
    with torch.no_grad():
        videos = torch.cat([matcher.encode_video(torch.from_numpy(frames[None])) for frames in frozen.values()])
        expected = (matcher.encode_text(data.texts) @ videos.T).numpy()
    assert report.scores["static"] == bidirectional_metrics(expected, data.video_of_text)


def test_matching_scores_all_pairs_when_asked_for_all(data, matcher):
    report = evaluate(data, matcher, rerank_depth=100)
    assert list(report.scores) == ["embedding", "vtm"]
    assert report.rerank_depth == 100
    tokens = [matcher.video_tokens(torch.from_numpy(read_segment(path, matcher)[None])) for path in paths_of(data)]
    logits = torch.cat([matcher.match(one, data.texts) for one in tokens]).numpy()  # (num_videos, num_texts)
    assert report.scores["vtm"] == bidirectional_metrics(logits.T, data.video_of_text)


def test_only_a_matcher_re_ranks(data, offline):
    with pytest.raises(VmrError, match="offline cannot match"):
        evaluate(data, offline, rerank_depth=10)


def test_a_still_video_is_its_own_control(matcher):
    still = make_video(2)[:, :1].expand(-1, 2, -1, -1, -1)
    expected = matcher.encode_video(still)
    for control in CONTROLS:
        assert torch.equal(WithoutMotion(matcher, control).encode_video(still), expected)
    moving = make_video(2)
    assert not torch.equal(WithoutMotion(matcher, "static").encode_video(moving), matcher.encode_video(moving))


def test_orders_of_the_controls():
    assert CONTROLS["static"](8) == [4] * 8
    assert CONTROLS["shuffled"](8) == [2, 4, 3, 6, 5, 0, 1, 7]


def paths_of(data):
    return [item.path for item in data.videos]


def read_segment(path, encoder):
    (segment,) = read_clip(path, frame_spec(encoder))
    return segment.video
