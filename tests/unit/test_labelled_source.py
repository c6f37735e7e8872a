"""Training on labels: each clip with its own label through the loader, from files, folders, shards and tables."""

import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shards import write_shard
from tests.unit.counted import SPEC, num_frames
from tests.video_matrix import Recipe, number_of, picture, write_video
from vmr.data.decoding.options import DecodeOptions
from vmr.data.labels.read import read_labels
from vmr.data.sources.hub_rows import HubData
from vmr.data.sources.labelled import LabelledHubSource, LabelledHubStream, LabelledSource, LabelledTarSource
from vmr.data.sources.source import LabelledData, TrainSource, TrainStream
from vmr.data.training.clips import ClipSpec
from vmr.data.training.loader import LoaderPosition, TrainBatch, TrainLoader
from vmr.errors import AnnotationError, VmrError
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.train.build import build_sources
from vmr.train.config_file import read_config

pytestmark = pytest.mark.usefixtures("temporary")

READABLE = ClipSpec(1, 96, crop="stretch", flip=False)  # the number in the picture can be read


def batches(source: TrainSource | TrainStream, count: int, spec: ClipSpec = READABLE, **options) -> list[TrainBatch]:
    size = {source.media: options.pop("batch_size", 4)}
    position = options.pop("position", None)
    with TrainLoader([(source, 1.0)], spec, batch_size=size, seed=3, in_process=True, **options) as loader:
        return list(islice(loader.batches(position), count))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Nine pictures of three classes, whose numbers are 10 * class + n; a tenth is broken."""
    for label in range(3):
        (tmp_path / "train" / f"class {label}").mkdir(parents=True)
        for n in range(3):
            Image.fromarray(picture(10 * label + n)).save(tmp_path / f"train/class {label}/{n}.png")
    (tmp_path / "train/class 1/broken.png").write_bytes(b"no picture")
    return tmp_path


def test_each_clip_keeps_its_label_and_a_broken_one_is_skipped_by_name(pictures):
    source = LabelledSource(read_labels(pictures))
    assert isinstance(source, LabelledData)
    assert (len(source), source.num_outputs, source.classes) == (10, 3, ("class 0", "class 1", "class 2"))
    taken = batches(source, 6)
    numbers = [number_of(frame) for batch in taken for frame in batch.video[:, 0]]
    labels = np.concatenate([batch.labels for batch in taken])
    assert labels.dtype == np.int64
    assert [number // 10 for number in numbers] == labels.tolist()
    assert sorted(numbers[:9]) == [10 * label + n for label in range(3) for n in range(3)], "an epoch has each once"
    assert [skipped.name for batch in taken for skipped in batch.skipped] == ["class 1/broken.png"]
    assert {batch.captions[0] for batch in taken} <= {"class 0", "class 1", "class 2"}


def test_two_augmentations_of_each_clip_share_label_and_frames_and_are_resumed(pictures):
    source = LabelledSource(read_labels(pictures))
    spec = replace(READABLE, crop="random", crop_scale=(0.08, 1.0), num_augmented=2, interpolation="bilinear")
    taken = batches(source, 5, spec)
    for batch in taken:
        assert batch.video.shape == (8, 1, 3, 96, 96)
        assert len(batch.captions) == len(batch.labels) == len(batch.ids) == 8
        assert np.array_equal(batch.ids[::2], batch.ids[1::2])
        assert np.array_equal(batch.labels[::2], batch.labels[1::2])
        assert not any(np.array_equal(*pair) for pair in zip(batch.video[::2], batch.video[1::2], strict=True))
    saved = LoaderPosition.of(json.loads(json.dumps(asdict(taken[1].position))))
    again = batches(source, 3, spec, position=saved)
    for batch, resumed in zip(taken[2:], again, strict=True):
        assert np.array_equal(batch.video, resumed.video)
        assert np.array_equal(batch.labels, resumed.labels)
    whole = batches(source, 1, replace(READABLE, num_augmented=2))[0]
    assert np.array_equal(whole.video[::2], whole.video[1::2]), "nothing is changed, so both are the decoded frame"


def test_repeats_come_one_after_the_other_and_each_process_gets_its_share(pictures):
    (pictures / "train/class 1/broken.png").unlink()
    source = LabelledSource(read_labels(pictures))
    (batch,) = batches(source, 1, replace(READABLE, repeats=3), batch_size=9)
    numbers = [number_of(frame) for frame in batch.video[:, 0]]
    assert len(set(numbers)) == 3
    assert numbers == [number for number in numbers[::3] for _ in range(3)]
    shares = [
        batches(source, 1, replace(READABLE, repeats=3), batch_size=3, rank=rank, world=3)[0].ids for rank in range(3)
    ]
    assert np.array_equal(shares[0], shares[1])
    assert np.array_equal(shares[1], shares[2])
    assert shares[0].tolist() == batch.ids[::3].tolist()


def test_folders_of_frames_and_parts_of_videos(tmp_path):
    """Frame n shows number n. The frames of a part are those that are shown then, at 25 frames a second."""
    (tmp_path / "frames").mkdir()
    for n in range(6):
        Image.fromarray(picture(n)).save(tmp_path / f"frames/img_{n + 1:05}.jpg", quality=95)
    (tmp_path / "train.txt").write_text("frames 6 1\n")
    spec = ClipSpec(3, 96, "middle", "stretch", flip=False)
    (batch,) = batches(LabelledSource(read_labels(tmp_path / "train.txt")), 1, spec, batch_size=1)
    assert ([number_of(frame) for frame in batch.video[0]], batch.labels.tolist()) == ([0, 2, 4], [1])

    write_video(tmp_path / "film.mp4", Recipe(num_frames=60, options={"preset": "ultrafast", "bf": "0"}))
    (tmp_path / "film.csv").write_text("film.mp4,2,2\n")
    labels = read_labels(tmp_path / "film.csv", format="trimmed")
    part = replace(labels, items=[replace(labels.items[0], start_s=0.5, end_s=1.0)])
    drawn = set()
    for sampling in ("segments", "sparse", "rand", "middle"):
        taken = batches(LabelledSource(part), 25, replace(spec, sampling=sampling), batch_size=1)
        numbers = [[number_of(frame) for frame in batch.video[0]] for batch in taken]
        assert all(numbers == sorted(numbers) for numbers in numbers)
        drawn |= {number for clip in numbers for number in clip}
    assert drawn == set(range(12, 26)), "from the frame that is shown at 0.5 s to that at 1 s"


def test_a_decoding_process_augments_as_this_process_does(tmp_path):
    write_video(tmp_path / "film.mp4", Recipe(num_frames=60, options={"preset": "ultrafast", "bf": "0"}))
    (tmp_path / "film.csv").write_text("film.mp4,1,2\n")
    labels = read_labels(tmp_path / "film.csv", format="trimmed")
    source = LabelledSource(replace(labels, items=[replace(labels.items[0], start_s=0.5, end_s=1.9)]))
    spec = ClipSpec(3, 40, "sparse", flip=True, crop_scale=(0.08, 1.0), interpolation="bilinear", num_augmented=2)
    spec = replace(spec, rand_augment="rand-m7-n4-mstd0.5-inc1")
    here = batches(source, 2, spec, batch_size=2)
    with TrainLoader(
        [(source, 1.0)], spec, batch_size={"video": 2}, seed=3, decode=DecodeOptions(num_workers=1)
    ) as loader:
        for batch, other in zip(here, loader.batches(), strict=False):
            assert batch.video.shape == (4, 3, 3, 40, 40)
            assert np.array_equal(batch.video, other.video)
            assert batch.labels.tolist() == other.labels.tolist() == [1] * 4


@pytest.mark.parametrize("named", [False, True])
def test_labels_in_shards(tmp_path, counted_videos, named: bool):
    names = ("one", "two", "three")
    said = names if named else "012"
    members = {}
    for n in range(3):
        about = {f"{n}.cls": said[n]} if n % 2 else {f"{n}.json": json.dumps({"label": said[n] if named else n})}
        members |= {f"{n}.mp4": counted_videos[n], f"{n}.txt": "a caption", **about}
    members |= {"4.mp4": counted_videos[3], "4.txt": "a caption, but no label"}
    shard = write_shard(tmp_path / "s-0.tar", members)
    source = LabelledTarSource([shard], "video", "web", classes=names if named else None)
    assert (len(source), source.num_outputs, source.classes) == (3, 3, names if named else None)
    assert "1 samples have no video or no label" in source.notes[0]
    (batch,) = batches(source, 1, SPEC, batch_size=3)
    assert [num_frames(clip) - 1 for clip in batch.video] == batch.labels.tolist()
    assert sorted(batch.labels) == [0, 1, 2]
    if named:
        assert LabelledTarSource([shard], "video", "web").classes == ("one", "three", "two")
        with pytest.raises(AnnotationError, match="label 'three' is none of the 2 classes"):
            LabelledTarSource([shard], "video", "web", classes=["one", "two"])


def rows_of(datasets, counted_videos, label, values):
    features = datasets.Features({"video": datasets.Video(decode=False), "caption": label})
    clips = [{"bytes": content, "path": "clip.mp4"} for content in counted_videos]
    rows = datasets.Dataset.from_dict({"video": clips, "caption": values}, features)
    return rows.cast_column("video", datasets.Video())


def test_labels_in_tables_of_the_hub(datasets, tmp_path, counted_videos):
    kinds = {
        "class": (datasets.ClassLabel(names=["a", "b", "c", "d", "e"]), [0, 1, 2, 3]),
        "number": (datasets.Value("int64"), [0, 1, 2, None]),
        "name": (datasets.Value("string"), ["a", "b", "c", "d"]),
    }
    found = {}
    for kind, (feature, values) in kinds.items():
        rows_of(datasets, counted_videos, feature, values).save_to_disk(tmp_path / kind)
        source = LabelledHubSource(HubData(str(tmp_path / kind), labels=True))
        (batch,) = batches(source, 1, SPEC, batch_size=3, max_bad_share=0.9)
        assert [num_frames(clip) - 1 for clip in batch.video] == batch.labels.tolist()
        found[kind] = (source.classes, source.num_outputs)
    assert found == {"class": (tuple("abcde"), 5), "number": (None, 3), "name": (tuple("abcd"), 4)}


def test_labels_in_a_stream_of_the_hub(datasets, tmp_path, counted_videos):
    names = datasets.ClassLabel(names=["a", "b", "c", "d"])
    (tmp_path / "data").mkdir()
    rows_of(datasets, counted_videos, names, [0, 1, 2, 3]).to_parquet(tmp_path / "data/train-0.parquet")
    stream = LabelledHubStream(HubData(str(tmp_path / "data"), labels=True), 4)
    assert isinstance(stream, TrainStream)
    taken = batches(stream, 2, SPEC)
    for batch in taken:
        assert [num_frames(clip) - 1 for clip in batch.video] == batch.labels.tolist()
        assert sorted(batch.labels) == [0, 1, 2, 3]
        assert batch.captions == tuple("abcd"[label] for label in batch.labels)
    (again,) = batches(stream, 1, SPEC, position=taken[0].position)
    assert np.array_equal(again.labels, taken[1].labels)
    assert np.array_equal(again.video, taken[1].video)
    (tmp_path / "plain").mkdir()
    plain = rows_of(datasets, counted_videos, datasets.Value("string"), list("abcd"))
    plain.to_parquet(tmp_path / "plain/train-0.parquet")
    with pytest.raises(VmrError, match="nothing names the classes of its column 'caption': give a file of classes"):
        LabelledHubStream(HubData(str(tmp_path / "plain"), labels=True), 4)
    named = LabelledHubStream(HubData(str(tmp_path / "plain"), labels=True), 4, classes=list("dcba"))
    assert named.num_outputs == 4
    with pytest.raises(VmrError, match="is read as a stream, which has no repeats"):
        batches(named, 1, replace(SPEC, repeats=3))


def test_a_config_names_the_sources_and_the_augmentation(datasets, pictures, counted_videos):
    shard = {"0.mp4": counted_videos[0], "0.cls": "b", "1.mp4": counted_videos[1], "1.cls": "a"}
    write_shard(pictures / "s-0.tar", shard)
    rows_of(datasets, counted_videos, datasets.Value("string"), list("abab")).save_to_disk(pictures / "rows")
    (pictures / "names.txt").write_text("b\na\n")
    config = pictures / "config.yaml"
    config.write_text(
        """
data:
  sources:
  - {kind: labelled, path: train, weight: 2}
  - {kind: tar, path: s-0.tar, labels: true, classes: names.txt}
  - {kind: hub, path: rows, caption_column: text, label_column: caption, classes: names.txt}
  sampling: sparse
  crop_scale: [0.08, 1]
  interpolation: bilinear
  rand_augment: rand-m7-n4-mstd0.5-inc1
  num_augmented: 2
  repeats: 3
"""
    )
    read = read_config(config, [f"--data.root={pictures}", f"--run.out={pictures / 'run'}"])
    files, tar, hub = build_sources(read)
    assert [type(source) for source, _ in (files, tar, hub)] == [LabelledSource, LabelledTarSource, LabelledHubSource]
    assert files[1] == 2
    assert (tar[0].classes, tar[0].num_outputs) == (hub[0].classes, hub[0].num_outputs) == (("b", "a"), 2)
    rng = np.random.default_rng(0)
    assert [tar[0].pair(n, rng).label for n in range(2)] == [0, 1]
    assert [hub[0].pair(n, rng).label for n in range(4)] == [1, 0, 1, 0]
    assert read.data.clip_spec(VideoMambaConfig()) == ClipSpec(
        8, 224, "sparse", crop_scale=(0.08, 1.0), interpolation="bilinear", rand_augment="rand-m7-n4-mstd0.5-inc1",
        num_augmented=2, repeats=3,
    )  # fmt: skip
    for wrong in ("rand_augment=rand-q3", "crop_scale=[0.5,0.1]", "num_augmented=0", "interpolation=cubic"):
        with pytest.raises(VmrError) as error:
            read_config(config, [f"--data.{wrong}"]).data.clip_spec(VideoMambaConfig())
        assert "\n" not in str(error.value)
