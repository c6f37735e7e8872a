"""The real commands with VideoMamba models, saved by vmr and in upstream's format; tiny ones of random weights.

Those that build an index and search it, and those that may read other places, run in a process of their own.
"""

import json
from pathlib import Path

import pytest

import vmr
from tests.integration.commands import refused, run, run_here
from tests.models import PREPROCESS, make_encoder, tiny_model
from tests.upstream_checkpoints import put_into_cache, save_as_upstream
from vmr.models.saved_model import save_model
from vmr.models.text.tokenizer import CaptionTokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """The same weights in both formats."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "saved", tiny_model(), PREPROCESS, CaptionTokenizer())
    save_as_upstream(tiny_model(), folder / "upstream.pth")
    return {"saved": folder / "saved", "upstream": folder / "upstream.pth"}


@pytest.fixture(scope="module")
def fingerprint() -> str:
    return make_encoder(tiny_model()).fingerprint


@pytest.mark.parametrize("kind", ["saved", "upstream"])
def test_index_and_search(models, fingerprint, footage, tmp_path, kind):
    model = models[kind]
    built = run(
        *("vmr-index", "build", footage, "--out", tmp_path / "index", "--encoder", model.name, "--window", 4),
        cwd=model.parent,
    )
    assert built.returncode == 0, built.stderr
    assert "3 videos, 0 left out" in built.stdout
    info = vmr.open_index(tmp_path / "index").info
    assert (info.encoder, info.fingerprint, info.embed_dim, info.num_frames) == (str(model), fingerprint, 16, 2)

    found = run("vmr-search", tmp_path / "index", "a cyclist", "--json", "--k", 3, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    hits = json.loads(found.stdout)["hits"]
    assert len(hits) == 3 and all(-1 <= hit["score"] <= 1 for hit in hits)
    assert "was made by" in refused(run_here("vmr-search", tmp_path / "index", "a dog", "--encoder", "offline"))


@pytest.mark.parametrize("kind", ["saved", "upstream"])
def test_eval(models, fingerprint, annotations, footage, tmp_path, kind):
    out = tmp_path / "report.json"
    result = run_here(
        *("vmr-eval", "--dataset", annotations, "--video-dir", footage, "--encoder", models[kind], "--out", out)
    )
    assert result.returncode == 0, result.stderr
    assert "over 3 of 3 videos, 4 of 4 texts" in result.stdout
    report = json.loads(out.read_text())
    assert (report["encoder"], report["fingerprint"]) == (str(models[kind]), fingerprint)
    assert report["scores"]["embedding"]["text_to_video/R@10"] == 100.0  # of 3


def test_patches_that_repeat_are_left_out(models, footage, annotations, tmp_path):
    """The index keeps the threshold in the name of its model, so that later searches leave out the same."""
    model = models["saved"]
    index = tmp_path / "index"
    built = run_here("vmr-index", "build", footage, "--out", index, "--encoder", model, "--skip", 0.05, "--window", 4)
    assert built.returncode == 0, built.stderr
    info = vmr.open_index(index).info
    assert info.encoder == f"{model}@skip=0.05"
    assert info.fingerprint == vmr.load_model(model, skip=0.05).fingerprint != vmr.load_model(model).fingerprint
    assert run_here("vmr-search", index, "a cyclist").returncode == 0
    assert run_here("vmr-index", "build", footage, "--out", index, "--window", 4).returncode == 0
    said = refused(run_here("vmr-index", "build", footage, "--out", index, "--skip", 0.05))
    assert said == "error: --skip needs --encoder: a model of an index keeps what it was built with"

    out = tmp_path / "report.json"
    score = ("vmr-eval", "--dataset", annotations, "--video-dir", footage, "--no-cache", "--out", out)
    assert run_here(*score, "--encoder", model, "--skip", 0.05).returncode == 0
    assert json.loads(out.read_text())["fingerprint"] == info.fingerprint
    assert "offline: skip cannot be chosen" in refused(run_here(*score, "--skip", 0.05))
    assert "--skip" in refused(run_here(*score, "--encoder", model, "--skip", 2))

    described = run_here("vmr-info", model, "--video-dir", footage, "--skip", 0.05)
    assert described.returncode == 0, described.stderr
    for said in (f"{model.name}@skip=0.05", "3 of 3 videos", "patches kept", "times as fast"):
        assert said in described.stdout.replace("\n", ""), described.stdout
    assert "name the model" in refused(run_here("vmr-info", "--video-dir", footage))
    assert "--skip is for the videos of --video-dir" in refused(run_here("vmr-info", model, "--skip", 0.05))
    assert "leave out --video-dir" in refused(run_here("vmr-info", "--check-gpu", "--video-dir", footage))


def test_info_on_models(models, fingerprint):
    num_parameters = sum(parameter.numel() for parameter in tiny_model().parameters())
    for kind, said in (
        ("saved", ["a video-text model trained with vmr"]),
        ("upstream", ["in upstream's format", "44 of its keys: the frozen teacher", "1 of its keys: a constant"]),
    ):
        result = run_here("vmr-info", models[kind])
        assert result.returncode == 0, result.stderr
        for fact in (str(models[kind]), fingerprint, "2 frames of 32 x 32 pixels", f"{num_parameters:,} in all", *said):
            assert fact in result.stdout, fact
        assert "2 layers of width 32" in result.stdout and "1 layers of width 32" in result.stdout
        assert f"{len(tiny_model().state_dict())} weights unchanged" in result.stdout


def test_info_lists_the_models_and_describes_any():
    listed = run("vmr-info")
    assert listed.returncode == 0, listed.stderr
    for name in ("backend reference", "offline", "videomamba-m-25m", "open_clip:MODEL/WEIGHTS", ".safetensors"):
        assert name in listed.stdout
    offline = run_here("vmr-info", "offline")
    assert offline.returncode == 0, offline.stderr
    assert "8 frames of 224 x 224 pixels" in offline.stdout and "384" in offline.stdout


def test_a_released_model_without_a_network(tmp_path):
    """The command prints the catalogue's facts, then one line that says where to get the file."""
    result = run("vmr-info", "videomamba-m-25m", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    line = refused(result)
    url = "https://huggingface.co/OpenGVLab/VideoMamba/resolve/main/videomamba_m16_25M_f8_res224.pth"
    assert url in line and "give the file's path" in line
    assert len(result.stderr.splitlines()) == 1
    for fact in ("CC3M + CC12M + COCO + VG + SBU + WebVid10M", "35.6", "re-ranked", "MODEL_ZOO.md", url):
        assert fact in result.stdout


def test_a_released_model_in_the_hubs_cache(tmp_path):
    """A small model under a released name is found and read, but refused because it is not the published model."""
    put_into_cache(tmp_path / "hub", "videomamba-m-17m")
    result = run("vmr-info", "videomamba-m-17m", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    line = refused(result)
    assert "videomamba-m-17m: video.width is 32 in the file, but 576 in what was published" in line
    assert "34.7" in result.stdout


def test_damaged_models_get_one_line(models, footage, tmp_path):
    (tmp_path / "cut.pth").write_bytes(models["upstream"].read_bytes()[:10_000])
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    config = (models["saved"] / "config.json").read_text()
    (tmp_path / "half" / "config.json").write_text(config)
    cases = {
        tmp_path / "cut.pth": "cut.pth: not a readable checkpoint",
        tmp_path / "empty": "no saved model here (no config.json)",
        tmp_path / "half": ".txt is missing: copy the folder again",
        tmp_path / "gone": "gone: no such file or folder",
    }
    for model, said in cases.items():
        assert said in refused(run_here("vmr-info", model)), model
    build = ("vmr-index", "build", footage, "--out", tmp_path / "index", "--encoder")
    assert "no such file or folder" in refused(run_here(*build, tmp_path / "gone"))
    assert not (tmp_path / "index").exists()
