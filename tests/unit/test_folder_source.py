"""Training clips from a folder without captions: which files, in which order, and who refuses them."""

from pathlib import Path

import numpy as np
import pytest

from vmr.data.sources.folder import FolderSource
from vmr.errors import VmrError
from vmr.train.tasks.retrieval import Retrieval


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Suffixes tell videos, so that they need no content."""
    for name in ("b.mp4", "a/2.mp4", "a/1.webm", "list.txt", ".hidden/3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_every_video_below_is_a_clip(folder: Path) -> None:
    source = FolderSource(folder, "mine")
    pairs = [source.pair(index, np.random.default_rng(0)) for index in range(len(source))]
    assert [pair.name for pair in pairs] == ["a/1.webm", "a/2.mp4", "b.mp4"]
    assert [pair.path for pair in pairs] == [folder / pair.name for pair in pairs]
    assert [pair.id for pair in pairs] == list(range(source.num_ids)) == [0, 1, 2]
    assert all(pair.caption == "" and pair.label is None for pair in pairs)


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VmrError, match=str(tmp_path)):
        FolderSource(tmp_path, "mine")


def test_retrieval_needs_captions(folder: Path) -> None:
    with pytest.raises(VmrError, match=r"data\.sources: mine has no captions, from which retrieval learns"):
        Retrieval.check_sources(Retrieval.__new__(Retrieval), [FolderSource(folder, "mine")])
