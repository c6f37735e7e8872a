"""Evaluation end to end on real files: what is scored, what is left out, what the report says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models import make_encoder, make_video, tiny_model
from vmr.data.annotations.retrieval_set import Choice, RetrievalSet, VideoItem, load_annotations
from vmr.data.decoding.segments import read_segments
from vmr.errors import ModelError, VmrError
from vmr.eval.controls import CONTROLS, WithoutMotion
from vmr.eval.metrics.ranks import bidirectional_metrics
from vmr.eval.protocols.catalogue import FILE
from vmr.eval.protocols.load import Loaded
from vmr.eval.runner import EvalOptions, evaluate
from vmr.retrieval.build import build_index
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.feature_cache import FeatureCache
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.texts import embed_texts


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


def test_names_and_files_lead_to_the_same_report(data, annotations, footage, offline, tmp_path):
    cache = FeatureCache(tmp_path / "cache")  # so that the videos are embedded once
    loaded = evaluate(data, offline, cache=cache)
    index = build_index(footage, tmp_path / "index", offline, window_s=None)
    assert evaluate(annotations, cache=cache).scores == loaded.scores  # the videos lie beside the file
    assert evaluate(str(annotations), offline, video_dir=footage, cache=cache).scores == loaded.scores
    assert evaluate(Loaded(data, FILE), offline, index=index.folder).scores == loaded.scores
    with pytest.raises(VmrError, match="loaded already"):
        evaluate(data, offline, video_dir=footage)
    with pytest.raises(VmrError, match="did you mean 'shapes'"):
        evaluate("shape")


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
    with pytest.raises(VmrError, match=r"nothing: none of 1 videos can be scored, first: gone\.mp4: no such file"):
        evaluate(nothing, offline)


def test_vectors_that_are_not_finite_are_an_error(data, offline, monkeypatch):
    broken = offline.class_vectors.copy()
    broken[7] = float("nan")
    monkeypatch.setattr(offline, "class_vectors", broken)
    with pytest.raises(ModelError, match=r"\.mp4: offline makes vectors that are not finite"):
        evaluate(data, offline)


def test_report_file(data, offline, tmp_path):
    report = evaluate(data, offline)
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["schema"] == "vmr-report/2"
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
    report = evaluate(data, matcher, options=EvalOptions(rerank_depth=100))
    assert list(report.scores) == ["embedding", "vtm"]
    assert report.rerank_depth == 100
    tokens = [matcher.video_tokens(torch.from_numpy(read_segment(path, matcher)[None])) for path in paths_of(data)]
    logits = torch.cat([matcher.match(one, data.texts) for one in tokens]).numpy()  # (num_videos, num_texts)
    assert report.scores["vtm"] == bidirectional_metrics(logits.T, data.video_of_text)


def test_only_a_matcher_re_ranks(data, offline):
    with pytest.raises(VmrError, match="re-ranking was asked for, but offline cannot match"):
        evaluate(data, offline, options=EvalOptions(rerank_depth=10))


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


def test_limit_scores_the_first_videos_and_says_so(data, offline):
    report = evaluate(data, offline, options=EvalOptions(limit=2))
    assert report.partial and report.limit == 2
    assert report.coverage == "2 of 3 videos, 3 of 4 texts"
    assert report.video_ids == ("bigbuckbunny.mp4", "bikes.mp4")
    with pytest.raises(VmrError, match="limit is 0"):
        EvalOptions(limit=0)


def test_ranks_intervals_and_examples_are_those_of_the_scores(data, offline):
    report = evaluate(data, offline)
    assert report.text_ids == data.texts
    assert report.ranks["embedding"] == {"text_to_video": (1, 1, 1, 1), "video_to_text": (1, 1, 1)}
    assert report.intervals["embedding"]["text_to_video/R@1"] == (100.0, 100.0)
    assert {example.rank for example in report.examples["embedding"]} == {1}
    assert report.protocol is not None and report.protocol.name == "file"


def test_normalised_scores_are_columns_of_their_own(data, offline):
    report = evaluate(data, offline, options=EvalOptions(normalise=True))
    assert list(report.scores) == ["embedding", "embedding+dsl", "embedding+qbnorm"]
    assert [info.uses_other_queries for info in report.columns.values()] == [False, True, True]
    assert report.scores["embedding"] == evaluate(data, offline).scores["embedding"]


def test_an_approximate_index_is_a_column_of_its_own(data, offline):
    report = evaluate(data, offline, options=EvalOptions(index_kinds=("sq8",)))
    assert list(report.scores) == ["embedding", "index:SQ8"]
    assert report.columns["index:SQ8"].approximate
    assert report.scores["index:SQ8"]["text_to_video/R@10"] == 100.0  # of 3


def test_an_index_built_earlier_scores_as_its_videos_do(data, offline, footage, tmp_path):
    index = build_index(footage, tmp_path / "index", offline, window_s=None)
    report = evaluate(data, offline, index=index)
    assert report.scores == evaluate(data, offline).scores
    with pytest.raises(VmrError, match="another kind of index"):
        evaluate(data, offline, options=EvalOptions(index_kinds=("sq8",)), index=index)
    with pytest.raises(VmrError, match="by rule middle, read by pyav, but file is evaluated with 8 by rule trimmed30"):
        evaluate(Loaded(data, replace(FILE, sampling="trimmed30")), offline, index=index)
    paths = [data.videos[0].path, data.videos[2].path]
    smaller = build_index(paths, tmp_path / "smaller", offline, window_s=None)
    partly = evaluate(data, offline, index=smaller)
    assert [failure.video for failure in partly.failures] == ["bikes.mp4"]
    assert partly.failures[0].reason == f"not in the index {tmp_path / 'smaller'}"
    assert partly.coverage == "2 of 3 videos (1 missing or unreadable), 2 of 4 texts"


def test_a_second_evaluation_opens_no_video(data, matcher, tmp_path, monkeypatch):
    cache, options = FeatureCache(tmp_path / "cache"), EvalOptions(rerank_depth=2)
    moving = replace(data, needs_time=True)
    first = evaluate(moving, matcher, options=options, cache=cache)
    monkeypatch.setattr("vmr.retrieval.embed.DecodePool", NoPool)
    second = evaluate(moving, matcher, options=options, cache=cache)
    assert second.scores == first.scores and second.ranks == first.ranks


class NoPool:
    """Replaces the decoding pool: opening a video fails the test."""

    def __init__(self, *arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        pass

    def decode(self, paths):
        assert not paths, f"opened {paths}"
        return iter(())


def test_pictures_are_videos_of_one_frame(matcher, tmp_path):
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    for number, colour in enumerate(colours):
        Image.new("RGB", (60, 40), colour).save(tmp_path / f"{number}.jpg", quality=95)
    videos = tuple(VideoItem(str(number), tmp_path / f"{number}.jpg") for number in range(3))
    data = RetrievalSet("pictures", ("red", "green", "blue"), (0, 1, 2), videos)
    report = evaluate(Loaded(data, replace(FILE, media="image", num_frames=1)), matcher)
    assert (report.num_frames, report.num_videos) == (1, 3)
    pixels = torch.tensor(colours, dtype=torch.uint8)[:, None, :, None, None].expand(3, 1, 3, 32, 32)
    expected = (matcher.encode_text(data.texts) @ matcher.encode_video(pixels).T).numpy()
    retrieved = {example.text: dict(example.retrieved) for example in report.examples["embedding"]}
    for text, row in zip(data.texts, expected, strict=True):
        assert [retrieved[text][video.id] for video in videos] == pytest.approx(row.tolist(), abs=0.02)  # JPEG


def test_the_protocol_says_how_many_tokens_count(data, matcher):
    long = replace(data, texts=tuple(f"a video of {text}" for text in data.texts))  # the same but for later words
    report = evaluate(Loaded(long, replace(FILE, max_text_tokens=4)), matcher)  # [CLS] a video [SEP]
    cut = evaluate(replace(data, texts=("a video",) * 4), matcher)
    assert report.ranks == cut.ranks


def test_multiple_choice(data, offline):
    questions = (Choice(0, (0, 1), 0), Choice(1, (1, 3), 0), Choice(2, (0, 3), 0))
    report = evaluate(replace(data, choices=questions), offline)
    # the last asks for the rabbit's caption about the man in the car
    assert report.scores == {"embedding": {"accuracy": pytest.approx(200 / 3)}}
    assert report.ranks == {} and report.text_ids == ()


def test_a_text_of_several_videos(data, offline):
    cyclist = data.texts[1]
    report = evaluate(replace(data, texts=(cyclist, *data.texts[1:]), video_of_text=((0, 1), 1, 1, 2)), offline)
    assert report.ranks["embedding"]["text_to_video"][0] == 1  # the bikes, though not the rabbit
    alone = evaluate(replace(data, texts=(cyclist, *data.texts[1:]), video_of_text=(0, 1, 1, 2)), offline)
    assert alone.ranks["embedding"]["text_to_video"][0] > 1


def paths_of(data):
    return [item.path for item in data.videos]


def read_segment(path, encoder):
    (segment,) = read_segments(path, frame_spec(encoder))
    return segment.video
