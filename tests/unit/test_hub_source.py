"""Training pairs from data sets of the Hugging Face hub, without it."""

import io

import numpy as np
import pytest

from tests.unit.counted import num_frames_of
from vmr.data.sources.hub import HubSource
from vmr.data.sources.hub_rows import HubData
from vmr.data.sources.hub_stream import HubStream
from vmr.data.training.clips import ClipJob, ClipSpec, read_train_clip
from vmr.errors import VmrError

pytestmark = pytest.mark.usefixtures("temporary")


def test_rows_with_bytes(datasets, tmp_path, counted_videos):
    features = datasets.Features(
        {"clip": datasets.Video(decode=False), "text": datasets.Value("string"), "other": datasets.Value("int64")}
    )
    clips = [{"bytes": content, "path": f"{n}.mp4"} for n, content in enumerate(counted_videos)]
    rows = datasets.Dataset.from_dict(
        {"clip": clips, "text": ["one", "two", None, "four"], "other": [0, 1, 2, 3]}, features=features
    )
    rows.cast_column("clip", datasets.Video()).save_to_disk(tmp_path / "saved")
    source = HubSource(HubData(str(tmp_path / "saved"), "train", "clip", "text"))
    assert (source.media, len(source), source.num_ids) == ("video", 4, 4)
    rng = np.random.default_rng(0)
    pairs = [source.pair(index, rng) for index in (3, 0, 1)]
    assert [(pair.id, pair.caption, num_frames_of(pair)) for pair in pairs] == [
        (3, "four", 4),
        (0, "one", 1),
        (1, "two", 2),
    ]
    without = source.pair(2, rng)
    assert without.name.endswith("saved:train:2 (2.mp4) (no caption)")
    assert not without.path.exists()


def test_rows_with_paths_in_parquet_files(datasets, tmp_path, counted_videos):
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "a.MP4").write_bytes(counted_videos[1])
    (tmp_path / "parquet").mkdir()
    rows = datasets.Dataset.from_dict(
        {"video": ["a.mp4", "b", "a.mp4"], "caption": [["x", "y"], ["z", " "], ["of the same video"]]}
    )
    rows.to_parquet(tmp_path / "parquet/train-00000.parquet")
    source = HubSource(HubData(str(tmp_path / "parquet"), root=folder))
    rng = np.random.default_rng(0)
    pair = source.pair(0, rng)
    assert (pair.path, num_frames_of(pair)) == (folder / "a.MP4", 2)
    assert {source.pair(0, rng).caption for _ in range(50)} == {"x", "y"}
    assert {source.pair(1, rng).caption for _ in range(20)} == {"z"}
    assert source.pair(1, rng).path == folder / "b"
    assert (len(source), source.num_ids) == (3, 2)
    assert [source.pair(index, rng).id for index in range(3)] == [0, 1, 0]


def test_paths_are_numbered_whatever_wrote_them(datasets, tmp_path):
    """pandas writes long strings; a row without a path is no video, as are all of them."""
    import pyarrow
    from pyarrow import parquet

    for kind in (pyarrow.string(), pyarrow.large_string()):
        folder = tmp_path / str(kind)
        folder.mkdir()
        paths = pyarrow.array(["a.mp4", "b.mp4", None, "a.mp4", None], kind)
        parquet.write_table(pyarrow.table({"video": paths, "caption": ["c"] * 5}), folder / "train-0.parquet")
        source = HubSource(HubData(str(folder)))
        ids = [source.pair(index, np.random.default_rng(0)).id for index in range(5)]
        assert (ids, source.num_ids) == ([0, 1, 2, 0, 2], 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"video": ["a.mp4"], "caption": [7]}, "column 'caption' holds int, expected a text or a list of texts"),
        ({"video": [7], "caption": ["c"]}, "column 'video' holds int, expected a path, bytes or a dict of both"),
        ({"video": [[1, 2]], "caption": ["c"]}, "column 'video' holds list, expected a path, bytes or a dict of both"),
        ({"video": [{"bytes": b"", "path": 7}], "caption": ["c"]}, "column 'video' holds int, expected a path"),
    ],
)
def test_columns_of_other_types(datasets, tmp_path, rows, message):
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "data/train-0.parquet")
    with pytest.raises(VmrError, match=f"data:train: {message}"):
        HubSource(HubData(str(tmp_path / "data"))).pair(0, np.random.default_rng(0))
    with pytest.raises(VmrError, match=f"data:train: {message}"):
        HubStream(HubData(str(tmp_path / "data"))).reader((0,), 0, 1, None).read()


def test_a_plain_dict_is_a_clip(datasets, tmp_path, counted_videos):
    (tmp_path / "data").mkdir()
    rows = {"video": [{"bytes": counted_videos[2], "path": "c.mp4"}], "caption": ["c"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "data/train-0.parquet")
    source = HubSource(HubData(str(tmp_path / "data")))
    pair = source.pair(0, np.random.default_rng(0))
    assert num_frames_of(pair) == 3
    assert pair.name.endswith("data:train:0 (c.mp4)")


def test_pictures_in_rows(datasets, tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow to write a data set of pictures")
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (8, 6), (250, 0, 0)).save(picture, "PNG")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = [{"bytes": picture.getvalue(), "path": None}]
    datasets.Dataset.from_dict({"image": rows, "caption": ["red"]}, features=features).save_to_disk(tmp_path / "saved")
    source = HubSource(HubData(str(tmp_path / "saved"), "train", "image", "caption", "image"))
    pair = source.pair(0, np.random.default_rng(0))
    spec = ClipSpec(1, 4, sampling="middle", crop="stretch", flip=False)
    clip = read_train_clip(ClipJob(str(pair.path), spec, seed=(0,), still=True))
    assert clip.shape == (1, 3, 4, 4)
    assert np.abs(clip[0].mean(axis=(1, 2)) - [250, 0, 0]).max() < 3


def test_data_sets_that_are_not_there(datasets, tmp_path):
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"video": ["a.mp4"], "caption": ["x"]})}).save_to_disk(
        tmp_path / "saved"
    )
    with pytest.raises(VmrError, match=r"saved: no split 'test' \(it has train\)"):
        HubSource(HubData(str(tmp_path / "saved"), "test"))
    with pytest.raises(VmrError, match=r"saved: no column 'text' \(it has video, caption\)"):
        HubSource(HubData(str(tmp_path / "saved"), caption_column="text"))
    for name in (str(tmp_path / "nowhere"), "nobody/nothing"):
        with pytest.raises(VmrError, match=f"{name}: cannot load this data set") as caught:
            HubSource(HubData(name))
        assert "\n" not in str(caught.value)
    assert len(HubSource(HubData(str(tmp_path / "saved")))) == 1
