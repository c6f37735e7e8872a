"""Saved models: they load bit for bit or not at all, and damage is refused by name."""

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import CONFIG, PREPROCESS, make_encoder, make_video, tiny_model
from vmr.errors import ModelError, VmrError
from vmr.models import saved_folder
from vmr.models.saved_model import load_saved, save_model
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.videomamba.encoder import VideoMamba
from vmr.models.videomamba.student import StudentConfig

TEXTS = ["two dogs run", "a man talks in a car"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, tiny_model(), PREPROCESS, CaptionTokenizer(), training={"steps": 7, "data": ["shapes"]})
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """The saved model, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def weights_file(folder: Path) -> Path:
    (path,) = folder.glob("model-*.safetensors")
    return path


def edit_config(folder: Path, **changes: object) -> None:
    """Set fields of the config, `a__b` for b inside a; None removes a field."""
    content = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        *parents, key = name.split("__")
        record = content
        for parent in parents:
            record = record[parent]
        if value is None:
            del record[key]
        else:
            record[key] = value
    (folder / "config.json").write_text(json.dumps(content))


def replace_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    """Write other weights, with their checksum."""
    path = weights_file(folder)
    path.unlink()  # `weights` may be mapped from this file
    save_file(weights, path)
    edit_config(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_saved(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_to_the_bit(saved):
    original, loaded = make_encoder(tiny_model()), load_saved(saved)
    video = make_video(3)
    assert torch.equal(loaded.encode_video(video), original.encode_video(video))
    assert torch.equal(loaded.encode_text(TEXTS), original.encode_text(TEXTS))
    tokens = original.video_tokens(video)
    assert torch.equal(loaded.match(loaded.video_tokens(video), TEXTS), original.match(tokens, TEXTS))
    assert loaded.fingerprint == original.fingerprint
    assert (loaded.name, loaded.preprocess) == (str(saved), PREPROCESS)
    assert str(loaded.report) == f"{weights_file(saved)}: {len(tiny_model().state_dict())} weights loaded"


def test_the_folder_is_a_config_and_the_weights_it_names(saved):
    path = weights_file(saved)
    config = json.loads((saved / "config.json").read_text())
    names = {"config.json", path.name, config["vocabulary_file"], ".lock"}
    assert {file.name for file in saved.iterdir()} == names
    assert config["schema"] == "vmr-model/1"
    assert config["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"model-{config['weights_sha256'][:16]}.safetensors"
    assert config["model"]["video"]["width"] == 32 and config["model"]["embed_dim"] == 16
    assert config["training"] == {"steps": 7, "data": ["shapes"]}
    assert load_file(path).keys() == tiny_model().state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_halves_the_file_and_is_float32_again(saved, tmp_path, dtype):
    save_model(tmp_path, tiny_model(), PREPROCESS, CaptionTokenizer(), dtype=dtype)
    assert 0.49 < weights_file(tmp_path).stat().st_size / weights_file(saved).stat().st_size < 0.52
    rounded = tiny_model()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.to(dtype))
    loaded = load_saved(tmp_path)
    assert loaded.fingerprint == make_encoder(rounded).fingerprint
    assert {value.dtype for value in loaded.model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (float("nan"), torch.float32, "text_proj.bias is not finite in float32"),
        (7e4, torch.float16, "text_proj.bias is not finite in float16"),  # float16 ends at 65504
    ],
)
def test_weights_that_are_not_finite_are_not_saved(tmp_path, value, dtype, said):
    model = tiny_model()
    model.text_proj.bias.data[3] = value
    with pytest.raises(ModelError, match=said):
        save_model(tmp_path / "model", model, PREPROCESS, CaptionTokenizer(), dtype=dtype)
    assert not (tmp_path / "model").exists()


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ModelError, match="makes 8 frames of 32 pixels"):
        save_model(tmp_path / "model", tiny_model(), replace(PREPROCESS, num_frames=8), CaptionTokenizer())
    with pytest.raises(ModelError, match="max_text_tokens is 600"):
        save_model(tmp_path / "model", tiny_model(), PREPROCESS, CaptionTokenizer(), max_text_tokens=600)
    for training in ({"loss": float("nan")}, {"folder": tmp_path}):
        with pytest.raises(ModelError, match="record of its training is not JSON"):
            save_model(tmp_path / "model", tiny_model(), PREPROCESS, CaptionTokenizer(), training=training)
    assert not (tmp_path / "model").exists()


def test_vocabulary_and_text_length_come_back(tmp_path):
    words = CaptionTokenizer().words
    own = [*words[:-1], "videomamba"]
    (tmp_path / "vocab.txt").write_text("\n".join(own) + "\n")
    save_model(tmp_path / "model", tiny_model(), PREPROCESS, CaptionTokenizer(str(tmp_path)), max_text_tokens=20)
    (tmp_path / "vocab.txt").unlink()  # the model needs only its folder
    loaded = load_saved(tmp_path / "model")
    assert (loaded.tokenizer.words, loaded.max_text_tokens) == (own, 20)


def test_student_outputs_come_back_without_their_constant_positions(tmp_path):
    config = replace(CONFIG, masked_lm=False, video=replace(CONFIG.video, student=StudentConfig(teacher_dim=8)))
    model = tiny_model(config=config)
    save_model(tmp_path, model, PREPROCESS, CaptionTokenizer())
    assert not any("student_positions" in key for key in load_file(weights_file(tmp_path)))
    loaded = load_saved(tmp_path).model
    assert loaded.config == config and loaded.masked_lm_head is None
    assert isinstance(loaded.video_encoder, VideoMamba)
    assert torch.equal(loaded.video_encoder.student_positions, model.video_encoder.student_positions)


def test_another_size_is_interpolated(saved):
    loaded = load_saved(saved, num_frames=4, image_size=48)
    model = tiny_model()
    model.video_encoder = model.video_encoder.resized(num_frames=4, image_size=48)
    model.config = replace(CONFIG, video=replace(CONFIG.video, num_frames=4, image_size=48))
    expected = make_encoder(model, replace(PREPROCESS, num_frames=4, size=48))
    assert loaded.fingerprint == expected.fingerprint
    video = make_video(2, 4, 48)
    assert torch.equal(loaded.encode_video(video), expected.encode_video(video))
    assert loaded.report is not None and loaded.report.fitted == {
        "video_encoder.pos_embed": "interpolated from 1x5x32 to 1x10x32",  # CLS and 2 x 2 patches, then 3 x 3
        "video_encoder.temporal_pos_embedding": "interpolated from 1x2x32 to 1x4x32",
    }


def test_a_relative_path_becomes_an_absolute_name(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert load_saved("model").name == str(saved)


def test_saving_again_replaces_the_weights_and_nothing_else(copy):
    (copy / "notes.txt").write_text("mine")
    (copy / ".model-0123456789abcdef.safetensors.tmp").write_bytes(b"of a save that was killed")
    old = weights_file(copy)
    save_model(copy, tiny_model(1), PREPROCESS, CaptionTokenizer())
    assert load_saved(copy).fingerprint == make_encoder(tiny_model(1)).fingerprint
    assert not old.exists()
    vocabulary = json.loads((copy / "config.json").read_text())["vocabulary_file"]
    names = {".lock", "config.json", "notes.txt", vocabulary, weights_file(copy).name}
    assert {file.name for file in copy.iterdir()} == names


@pytest.mark.parametrize("file", ["safetensors", "config.json"])
def test_a_save_that_is_cut_off_leaves_the_old_model(copy, monkeypatch, file):
    """A save that ends before all files are in place keeps the old model, even if the new weights are complete."""
    before = load_saved(copy).fingerprint
    real = Path.replace

    def cut_off(self, target):
        if Path(target).name.endswith(file):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_model(copy, tiny_model(1), PREPROCESS, CaptionTokenizer())
    assert load_saved(copy).fingerprint == before
    assert len(list(copy.glob("model-*.safetensors"))) == 1
    monkeypatch.undo()
    save_model(copy, tiny_model(1), PREPROCESS, CaptionTokenizer())
    assert load_saved(copy).fingerprint == make_encoder(tiny_model(1)).fingerprint != before
    assert weights_file(copy).is_file() and not list(copy.glob("*.tmp")) + list(copy.glob(".*.tmp"))


def test_a_first_save_that_is_cut_off_leaves_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_folder, "CONFIG_FILE", "file/config.json")  # a write that fails
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VmrError, match=r"config\.json: cannot be written: "):
        save_model(tmp_path, tiny_model(), PREPROCESS, CaptionTokenizer())
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} <= {"file", ".lock"}
    assert "no saved model here (no config.json)" in refused(tmp_path)


def test_a_reader_beside_a_writer_gets_one_save_or_the_other(copy):
    models = [tiny_model(1), tiny_model(2)]
    expected = {load_saved(copy).fingerprint, *(make_encoder(model).fingerprint for model in models)}
    writer = threading.Thread(
        target=lambda: [save_model(copy, models[i % 2], PREPROCESS, CaptionTokenizer()) for i in range(30)]
    )
    writer.start()
    seen = {load_saved(copy).fingerprint}
    while writer.is_alive():
        seen.add(load_saved(copy).fingerprint)
    writer.join()
    assert seen <= expected
    assert load_saved(copy).fingerprint == make_encoder(tiny_model(2)).fingerprint


def test_two_writers_are_one_too_many(copy):
    before = load_saved(copy).fingerprint
    with FileLock(copy / ".lock"), pytest.raises(ModelError, match="is being written by another process"):
        save_model(copy, tiny_model(1), PREPROCESS, CaptionTokenizer())
    assert load_saved(copy).fingerprint == before


@pytest.mark.parametrize("content", ['{"architectures": ["BertModel"]}', "[1]", '{"half": '])
def test_somebody_elses_config_is_left_alone(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json is not a saved model's: save to another folder"):
        save_model(tmp_path, tiny_model(), PREPROCESS, CaptionTokenizer())
    assert (tmp_path / "config.json").read_text() == content
    line = refused(tmp_path)
    assert "schema is None, but this version of vmr" in line or "config.json is damaged" in line


def test_weights_that_do_not_fit_are_refused(copy):
    whole = load_file(weights_file(copy))
    total = len(whole)
    replace_weights(copy, {key: value for key, value in whole.items() if key != "text_proj.bias"})
    assert f"lacks 1 of {total} keys, first: text_proj.bias" in refused(copy)
    replace_weights(copy, {**whole, "surplus.weight": torch.zeros(2)})
    assert "has 1 left over, first: surplus.weight" in refused(copy)
    replace_weights(copy, {**whole, "text_proj.bias": torch.zeros(17)})
    assert "text_proj.bias is 17, but this model takes 16" in refused(copy)
    replace_weights(copy, {**whole, "text_proj.bias": torch.full((16,), float("nan"))})
    assert f"{weights_file(copy)}: text_proj.bias is not finite in float32" in refused(copy)
    replace_weights(copy, {**whole, "text_proj.bias": torch.zeros(16, dtype=torch.int64)})
    assert "text_proj.bias holds int64, not floating-point numbers" in refused(copy)
    # Positions of another size are interpolated when asked for, never to make a damaged file fit.
    replace_weights(copy, {**whole, "video_encoder.pos_embed": torch.zeros(1, 10, 32)})
    assert "video_encoder.pos_embed is 1x10x32, but this model takes 1x5x32" in refused(copy)
    replace_weights(copy, whole)
    assert load_saved(copy).fingerprint == make_encoder(tiny_model()).fingerprint


def test_damaged_weights_are_refused(copy):
    path = weights_file(copy)
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    line = refused(copy)
    assert f"{path} is damaged ({len(data) - 100} bytes, another checksum than in config.json): copy the folder" in line
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert f"{path} is damaged" in refused(copy)
    path.write_bytes(b"\x80\x04nothing that anybody would unpickle")
    edit_config(copy, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert f"{path} is not a safetensors file" in refused(copy)
    path.unlink()
    assert f"{path} is missing: copy the folder again" in refused(copy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "vmr-model/2"}, "schema is 'vmr-model/2', but this version of vmr"),
        ({"colour": "red"}, "unknown key colour"),
        ({"vocabulary_file": None}, "missing key vocabulary_file"),
        ({"model__video__depth": 3}, "model.video: unknown key depth"),
        ({"model__video__width": None}, "model.video: missing key width"),
        ({"model__video__width": "32"}, "model.video.width is '32', expected an integer"),
        ({"model__video__width": True}, "model.video.width is True, expected an integer"),
        ({"model__video__width": 0}, "width is 0, but must be at least 1"),
        ({"model__video__pool": "max"}, "model.video.pool is 'max', expected one of cls, avg, cls+avg, cls_cat_avg"),
        (
            {"model__video__student": {"teacher_dim": 8}},
            "model.video.student: missing keys interval, last_tap, num_taps",
        ),
        ({"model__text": [1]}, "model.text is [1], expected an object"),
        ({"model__masked_lm": 1}, "model.masked_lm is 1, expected true or false"),
        ({"preprocess__resize": "squash"}, "resize is 'squash', expected one of crop, stretch, upstream"),
        ({"preprocess__mean": [0.5, 0.5]}, "preprocess.mean has 2 items, expected 3"),
        ({"preprocess__std": [0.5, 0.5, "x"]}, "preprocess.std[2] is 'x', expected a number"),
        ({"preprocess__num_frames": 8}, "makes 8 frames of 32 pixels, but the model takes 2 of 32"),
        ({"weights_file": "../elsewhere.safetensors"}, "weights_file is '../elsewhere.safetensors'"),
        ({"weights_sha256": "0" * 64}, "is damaged"),
        ({"vocabulary_file": "/etc/passwd"}, "vocabulary_file is '/etc/passwd'"),
        ({"vocabulary_sha256": "0" * 64}, "is damaged"),
        ({"model__embed_dim": 17}, "video_proj.weight is 16x32, but this model takes 17x32"),
    ],
)
def test_a_config_that_is_not_right_is_refused_by_name(copy, changes, said):
    edit_config(copy, **changes)
    line = refused(copy)
    assert said in line and str(copy) in line


def test_whole_numbers_do_for_fractions(copy):
    edit_config(copy, model__video__drop_path=0, preprocess__mean=[0, 0, 1])
    assert load_saved(copy).preprocess.mean == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("text", ["", '{"schema": "vmr-model/1", ', "[" * 100_000, b"\xff\xfe\x00"])
def test_a_damaged_config_is_refused(copy, text):
    (copy / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refused(copy)
    assert f"{copy / 'config.json'} is damaged" in line and "copy the folder again" in line
