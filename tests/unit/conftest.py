"""Fixtures that the tests of training sources share."""

from pathlib import Path

import pytest

from tests.video_matrix import Recipe, write_video


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch) -> Path:
    """The folder of a test's temporary files and cached tables."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("VMR_CACHE", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def counted_videos(tmp_path_factory) -> list[bytes]:
    """Videos of 1, 2, 3 and 4 frames; `tests.unit.counted` finds out from which of them a clip comes."""
    folder = tmp_path_factory.mktemp("videos")
    recipes = [Recipe(num_frames=n, options={"preset": "ultrafast", "bf": "0"}) for n in (1, 2, 3, 4)]
    return [write_video(folder / f"{n}.mp4", recipe).read_bytes() for n, recipe in enumerate(recipes)]


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """The package `datasets`, without a hub and with a new cache."""
    package = pytest.importorskip("datasets", reason="needs datasets, of the extra train")
    package.disable_progress_bars()
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    # The environment variable is read at import, which another test may have done.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", True)
    return package
