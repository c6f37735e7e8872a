"""Files of earlier versions of vmr still open: versions of 26 and 27 November 2026 wrote tests/written_before."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import vmr
from vmr.hashes import FileContent
from vmr.retrieval.feature_cache import texts_key, video_key
from vmr.train.checkpoint import first_difference
from vmr.train.config import with_defaults
from vmr.train.config_file import read_config

WRITTEN = Path(__file__).parent.parent / "written_before"
CONFIGS = Path(__file__).parent.parent.parent / "configs" / "train"


def test_an_index(tmp_path):
    folder = shutil.copytree(WRITTEN / "index", tmp_path / "index")
    index = vmr.open_index(folder)
    assert (len(index), index.vectors.shape) == (8, (8, 384))
    hits = index.search("a red circle moves up", k=3, keep_duplicates=True)
    # what that version found
    assert [(Path(hit.video).name, round(hit.score, 5)) for hit in hits] == [
        ("pairs-0001.mp4", 0.13836),
        ("pairs-0000.mp4", 0.13247),
        ("pairs-0002.mp4", 0.11835),
    ]


def test_the_keys_of_a_feature_cache():
    content = FileContent("ab" * 32, "1 2 3")
    spec = vmr.FrameSpec(4, 32)
    assert video_key(content, spec, None, "pyav", "model") == (
        "8f0e407ca1f0feda6c6dd481a32462b5e0f542da6f1dbe25c4ff533368b47be8"
    )
    assert video_key(content, spec, vmr.FixedWindows(8.0, 4.0), "decord", "model") == (
        "1b07208630dec2c5dc9fb2fd1ca6fe1c3aaf1464dbec66932aaf79a86f94d50a"
    )
    assert texts_key(["a", "b"], 32, "model") == "9f9e6c91a613052910c3c8adc5763d2298e26548e5bc6618b9874d24c4deaedb"


@pytest.mark.parametrize("name", json.loads((WRITTEN / "essentials.json").read_text()))
def test_a_checkpoint_knows_its_config(name):
    """A run resumes only if the config in its checkpoint equals the given config."""
    saved = json.loads((WRITTEN / "essentials.json").read_text())[name]
    config = WRITTEN / name if (WRITTEN / name).exists() else CONFIGS / name  # some recipes are others today
    assert first_difference(read_config(config, []).essentials(), with_defaults(saved)) is None


def test_a_classifier(tmp_path):
    """Saved before networks had the key `init`."""
    classifier = vmr.load_model(shutil.copytree(WRITTEN / "classifier", tmp_path / "classifier"), "cpu")
    video = torch.arange(2 * 3 * 8 * 8).reshape(1, 2, 3, 8, 8).remainder(256).to(torch.uint8)
    # as printed when it was saved: results that are kept by the fingerprint stay in use
    assert classifier.fingerprint == "952226a5f5671515"
    assert classifier.logits(video).flatten().tolist() == pytest.approx([1.3333, 2.1511, -3.1253], abs=1e-3)
    assert classifier.labels == ("walk", "run", "fall")
