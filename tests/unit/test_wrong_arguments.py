"""Wrong types and numbers at the entrances of the library: one line that names the argument, never a TypeError."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import vmr
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, fingerprint

NO_NUMBERS = (None, "3", "", 1.5, math.nan, math.inf, True, [3], 3j, ..., np.float64(2), np.array([1, 2]))
NO_PATHS = (None, 3, 1.5, True, ["a"], {}, b"a", ...)


class TinyEncoder:
    """An encoder of one's own: the mean of the pixels, and the length of a text."""

    name = about = "tiny"
    embed_dim = 2
    preprocess = vmr.Preprocess(1, 16, "crop", IMAGENET_MEAN, IMAGENET_STD)
    fingerprint = fingerprint({}, preprocess, {"kind": "tiny"})

    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        mean = video.float().mean(dim=(1, 2, 3, 4)) / 255
        return torch.stack([mean.cos(), mean.sin()], dim=1)

    def encode_text(self, texts) -> torch.Tensor:
        length = torch.tensor([float(len(text)) for text in texts])
        return torch.stack([length.cos(), length.sin()], dim=1)


@pytest.fixture(scope="module")
def video(footage) -> Path:
    return footage / "carphone_pristine.mp4"


@pytest.fixture(scope="module")
def index(video, tmp_path_factory) -> vmr.VideoIndex:
    return vmr.build_index([video], tmp_path_factory.mktemp("built") / "index", TinyEncoder())


def refused(call, said: str) -> None:
    with pytest.raises(vmr.VmrError) as caught:
        call()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def spec(**other) -> vmr.FrameSpec:
    return vmr.FrameSpec(**{"num_frames": 1, "size": 16, **other})


WHOLE_NUMBERS = {
    "k of VideoIndex.search": lambda value, index: index.search("a", value),
    "k of FaissStore.search": lambda value, index: vmr.FaissStore(2).search(np.zeros((1, 2), np.float32), value),
    "dim": lambda value, index: vmr.FaissStore(value),
    "num_frames of load_model": lambda value, index: vmr.load_model("videomamba-nano-shapes", num_frames=value),
    "image_size": lambda value, index: vmr.load_model("videomamba-nano-shapes", image_size=value),
    "num_heads": lambda value, index: vmr.load_model("gone.pth", num_heads=value),
    "num_workers": lambda value, index: vmr.DecodeOptions(num_workers=value),
    "num_frames of FrameSpec": lambda value, index: spec(num_frames=value),
    "size": lambda value, index: spec(size=value),
    "num_frames of frame_spec": lambda value, index: vmr.frame_spec(TinyEncoder(), num_frames=value),
    "num_frames of Preprocess": lambda value, index: vmr.Preprocess(value, 16, "crop", (0, 0, 0), (1, 1, 1)),
    "size of Preprocess": lambda value, index: vmr.Preprocess(1, value, "crop", (0, 0, 0), (1, 1, 1)),
    "rerank_depth": lambda value, index: vmr.EvalOptions(rerank_depth=value),
    "limit": lambda value, index: vmr.EvalOptions(limit=value),
    "memory_bytes": lambda value, index: vmr.EvalOptions(memory_bytes=value),
}
MAY_BE_NONE = {
    "num_frames of load_model", "image_size", "num_heads", "num_workers", "num_frames of frame_spec", "rerank_depth",
    "limit", "memory_bytes",
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_whole_numbers(index, name):
    too_small = (-1, np.int64(-3), *(() if name == "rerank_depth" else (0, np.int32(0))))
    for value in (*NO_NUMBERS, *too_small):
        if not (value is None and name in MAY_BE_NONE):
            refused(lambda value=value: WHOLE_NUMBERS[name](value, index), f"{name.split()[0]} is ")


def test_numbers_of_numpy_are_numbers(index, video):
    for kind in (np.int64, np.int32, np.uint8):
        assert len(index.search("a man", kind(1))) == 1
        assert vmr.DecodeOptions(num_workers=kind(2)).num_workers == 2
        assert spec(num_frames=kind(3)).num_frames == 3
        assert vmr.EvalOptions(limit=kind(4), rerank_depth=kind(0)).limit == 4
        with vmr.VideoReader(video) as reader:
            assert np.array_equal(reader.frames_at([kind(2)]), reader.frames_at(np.array([2], kind)))
    assert vmr.FixedWindows(np.float32(4), np.int64(2)).settings == {"window_s": 4, "stride_s": 2}
    assert vmr.DecodeOptions(timeout_s=np.float32(4)).timeout_s == 4


@pytest.mark.parametrize("value", ["8", True, math.nan, [8], 8j, ..., -1, 0, math.inf, np.float64(-2)])
def test_seconds(value, video, tmp_path):
    for call in (
        lambda: vmr.FixedWindows(value),
        lambda: vmr.build_index([video], tmp_path / "x", TinyEncoder(), window_s=value),
    ):
        refused(call, "window_s")
    for call in (
        lambda: vmr.FixedWindows(8, value),
        lambda: vmr.build_index([video], tmp_path / "x", TinyEncoder(), stride_s=value),
    ):
        refused(call, "stride_s")
    refused(lambda: vmr.DecodeOptions(timeout_s=value), "timeout_s")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("value", NO_PATHS, ids=repr)
def test_paths(value, video, tmp_path):
    tiny = TinyEncoder()
    calls = [
        (lambda: vmr.open_index(value), "folder is"),
        (lambda: vmr.VideoIndex.open(value), "folder is"),
        (lambda: vmr.load_model(value), "name is"),
        (lambda: vmr.build_index([video], value, tiny), "out is"),
        (lambda: vmr.build_index([value], tmp_path / "x", tiny), "path"),
        (lambda: vmr.embed_videos([value], tiny), "path"),
        (lambda: vmr.find_videos([value]), "folder is"),
        (lambda: vmr.load_dataset(value), "dataset is"),
        (lambda: vmr.evaluate(value, tiny), "dataset is"),
        (lambda: vmr.read_video(value, tiny), "path is"),
        (lambda: vmr.VideoReader(value), "path is"),
        (lambda: vmr.Report.load(value), "path is"),
    ]
    if value is not None:
        calls += [
            (lambda: vmr.FeatureCache(value), "folder is"),
            (lambda: vmr.FaissStore(2, path=value), "path is"),
            (lambda: vmr.load_dataset("a.json", video_dir=value), "video_dir is"),
            (lambda: vmr.evaluate("msrvtt", tiny, data_dir=value), "data_dir is"),
        ]
    for call, said in calls:
        refused(call, said)


@pytest.mark.parametrize("value", [None, 3, True, "a.mp4", Path("a.mp4"), b"a.mp4"], ids=repr)
def test_lists_of_paths(value, tmp_path):
    refused(lambda: vmr.embed_videos(value, TinyEncoder()), "expected a list of paths")
    if not isinstance(value, str | Path):  # which is a folder there
        refused(lambda: vmr.build_index(value, tmp_path / "x", TinyEncoder()), "expected a list of paths")


@pytest.mark.parametrize("value", [None, 3, 1.5, {"a"}, [3], ["a", None], [b"a"], "a"], ids=repr)
def test_texts(value):
    refused(lambda: vmr.embed_texts(value, TinyEncoder()), "expected a list of texts")


@pytest.mark.parametrize("value", [None, True, 3.0, b"a", ["a"], " ", "\ud800"], ids=repr)
def test_queries(value, index):
    refused(lambda: index.search(value), "describe what the video shows")


@dataclass
class Half:
    """An object that has only a part of what an encoder has."""

    name: str = "half"
    embed_dim: int = 2

    def encode_text(self, texts) -> torch.Tensor:
        return torch.zeros(len(texts), 2)


@pytest.mark.parametrize("value", [3, True, ["offline"], ..., Half(), torch.nn.Linear(2, 2), TinyEncoder])
def test_encoders(value, video, index, tmp_path):
    for call in (
        lambda: vmr.open_index(index.folder, value),
        lambda: vmr.build_index([video], tmp_path / "x", [3] if isinstance(value, list) else value),  # takes several
        lambda: vmr.embed_videos([video], value),
        lambda: vmr.embed_texts(["a"], value),
        lambda: vmr.frame_spec(value),
        lambda: vmr.read_video(video, value),
        lambda: vmr.evaluate(vmr.RetrievalSet("x", ("a",), (0,), (vmr.VideoItem("v", video),)), value),
    ):
        refused(call, "encoder")
    if isinstance(value, Half):
        refused(lambda: vmr.frame_spec(value), "it lacks about, preprocess, fingerprint, encode_video; vmr.load_model")


def test_an_index_takes_its_own_encoder_alone(index):
    other, wider = TinyEncoder(), TinyEncoder()
    other.fingerprint, wider.embed_dim = "0123456789abcdef", 3
    for encoder in (other, wider, "videomamba-nano-shapes"):
        refused(lambda encoder=encoder: vmr.open_index(index.folder, encoder), "was made by tiny")
    refused(lambda: vmr.open_index(index.folder, "ofline"), "did you mean 'offline'")
    assert len(vmr.open_index(index.folder, TinyEncoder()).search("a man", 1)) == 1


@pytest.mark.parametrize("value", [None, "3", 1.5, True, math.nan, [[0, 0.5]]], ids=repr)
def test_numbers_of_frames(value, video):
    with vmr.VideoReader(video) as reader:
        refused(lambda: reader.frames_at(value if isinstance(value, list) else [value]), "an index is")
        refused(lambda: reader.frames_at(value), "an index is")


@pytest.mark.parametrize("value", [3, "pyav", ...], ids=repr)
def test_options(value, video):
    data = vmr.RetrievalSet("x", ("a",), (0,), (vmr.VideoItem("v", video),))
    refused(lambda: vmr.evaluate(data, TinyEncoder(), options=value), "options is")
    refused(lambda: vmr.evaluate(data, TinyEncoder(), cache=value), "cache is")
    refused(lambda: vmr.embed_videos([video], TinyEncoder(), decode=value), "decode is")
    refused(lambda: vmr.EvalOptions(decode=value), "decode is")
    refused(lambda: vmr.EvalOptions(index_kinds="hnsw"), "index_kinds is")


@pytest.mark.parametrize("value", [None, 3, "vlc", True], ids=repr)
def test_names(value, video):
    refused(lambda: vmr.DecodeOptions(reader=value), "reader must be one of")
    refused(lambda: vmr.VideoReader(video, reader=value), "no video reader")
    refused(lambda: spec(resize=value), "resize must be one of")
    refused(lambda: spec(sampling=value), "no sampling rule")
    refused(lambda: vmr.Preprocess(1, 16, value, (0, 0, 0), (1, 1, 1)), "resize must be one of")
    refused(lambda: vmr.load_model("offline", value), "device")
    if value != "vlc":
        refused(lambda: vmr.FaissStore(2, value), "factory is")
