"""vmr-classify on real files, with a tiny classifier: labels, windows, pictures, and what cannot be read."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import vmr
from tests.classifiers import save_tiny_classifier
from tests.films import write_film
from tests.integration.commands import refused, run_here
from vmr.models.catalogue import load_classifier

LABELS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("classifier") / "model", LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two films, of 4 s and 1 s, a file that is no film, and a picture."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "long.mp4", num_frames=40, fps=10)
    write_film(folder / "short.mp4", num_frames=10, fps=10)
    (folder / "broken.mp4").write_bytes(b"no film")
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    with av.open(str(folder / "picture.png"), "w", format="image2") as target:
        stream = target.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 40, 60, "rgb24"
        target.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        target.mux(stream.encode())
    return folder


def classify(*arguments: object):
    return run_here("vmr-classify", *arguments, "--device", "cpu", "--num-workers", 1)


def test_whole_files(model, folder):
    done = classify(folder, folder / "picture.png", "--model", model, "--k", 2)
    assert done.returncode == 0, done.stderr
    classifier, expected = load_classifier(model, "cpu"), []
    for name in ("long.mp4", "short.mp4", "picture.png"):
        (said,) = classifier.classify(vmr.read_video(folder / name, classifier), k=2)
        rows = [f"  {label} {value:.3f}" for label, value in zip(said.labels, said.probabilities, strict=True)]
        expected += [str(folder / name), *rows]
    assert done.stdout.splitlines() == expected
    assert f"left out: {folder / 'broken.mp4'}: not a video that FFmpeg can read" in done.stderr
    assert "3 files classified, 1 left out" in done.stderr


def test_windows(model, folder):
    arguments = (folder / "long.mp4", folder / "short.mp4", "--model", model, "--window", 2, "--stride", 1)
    done = classify(*arguments, "--k", 9)
    lines = done.stdout.splitlines()
    assert lines[0] == str(folder / "long.mp4") and lines[4] == str(folder / "short.mp4") and len(lines) == 6
    times = ["0:00:00.0-0:00:02.0", "0:00:01.0-0:00:03.0", "0:00:02.0-0:00:04.0"]
    for line, time in zip([*lines[1:4], lines[5]], [*times, "0:00:00.0-0:00:01.0"], strict=True):
        when, _, said = line.strip().partition("  ")
        pairs = [pair.split() for pair in said.split("; ")]
        assert when == time and {label for label, _ in pairs} == set(LABELS)
        values = [float(value) for _, value in pairs]
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1, abs=0.002)


def test_a_folder_of_numbered_pictures_is_a_video(model, tmp_path):
    """As find_videos names videos: below a folder, or the folder itself. Other pictures are passed over and counted."""
    rng = np.random.default_rng(0)
    for name in ("run/img_00001.jpg", "run/img_00002.jpg", "gap/1.png", "gap/3.png", "a.jpg", "films/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    write_film(tmp_path / "films" / "short.mp4", num_frames=10, fps=10)
    done = classify(tmp_path, "--model", model, "--k", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[::2] == [str(tmp_path / "films/short.mp4"), str(tmp_path / "run")]
    assert f"passed over: 2 pictures, such as {tmp_path}/a.jpg: name pictures to classify them" in done.stderr
    assert f"left out: {tmp_path}/gap: lacks pictures before 3.png: number 2" in done.stderr
    classifier = load_classifier(model, "cpu")
    (said,) = classifier.classify(vmr.read_video(tmp_path / "run", classifier), k=1)
    alone = classify(tmp_path / "run", "--model", model, "--k", 1)
    assert alone.stdout.splitlines() == [str(tmp_path / "run"), f"  {said.labels[0]} {said.probabilities[0]:.3f}"]
    windows = classify(tmp_path, "--model", model, "--window", 1)
    assert f"left out: {tmp_path}/run: a folder of pictures has no times, so that it cannot be cut" in windows.stderr


def test_json_and_other_names(model, folder, tmp_path):
    (tmp_path / "names.txt").write_text("rot\ngrün\nblau\n", encoding="utf-8")
    arguments = ("--model", model, "--labels", tmp_path / "names.txt", "--json", "--fail-on-skip", "--window", 5)
    done = classify(folder / "short.mp4", folder / "broken.mp4", *arguments)
    assert done.returncode == 3
    (found,) = map(json.loads, done.stdout.splitlines())
    assert found["file"] == str(folder / "short.mp4")
    (window,) = found["windows"]
    assert (window["start_s"], window["end_s"]) == (0, 1)
    assert {each["label"] for each in window["classes"]} == {"rot", "grün", "blau"}
    assert sum(each["probability"] for each in window["classes"]) == pytest.approx(1, abs=1e-5)


def test_what_is_wrong_is_said_in_one_line(model, folder, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    film = folder / "short.mp4"
    cases = [
        ((film, "--model", "offline"), "offline is an encoder, which names no classes"),
        ((film, "--model", "videomamba-ti-k400"), "did you mean 'videomamba-ti-k400-f8'?"),
        ((tmp_path / "gone.mp4", "--model", model), f"{tmp_path / 'gone.mp4'}: no such file or folder"),
        ((film, "--model", model, "--stride", 1), "--stride is for windows: give --window too"),
        ((film, "--model", model, "--window", 1, "--stride", 2), "--stride must be positive and at most --window"),
        ((film, "--model", model, "--labels", tmp_path / "names.txt"), "2 labels for a network of 3 classes"),
        ((folder / "broken.mp4", "--model", model), "no file can be read: see above"),
    ]
    for arguments, said in cases:
        assert said in refused(classify(*arguments))
    assert f"{model} is a classifier, which has no vectors to search by" in refused(
        run_here("vmr-index", "build", folder, "--out", tmp_path / "index", "--encoder", model)
    )


def test_info_describes_classifiers(model):
    described = run_here("vmr-info", model).stdout
    assert "single, 3 outputs: red; green; blue" in described and "2 x 16 x 16 pixels" in described
    listed = run_here("vmr-info").stdout
    assert "videomamba-m-k400-mask-f64-384" in listed and "85.0" in listed
    pretrained = run_here("vmr-info", "videomamba-m-ssv2-mask-pt")
    assert pretrained.returncode == 0 and "videomamba_m16_ssv2_mask_pt_f8_res224.pth" in pretrained.stdout
    absent = run_here("vmr-info", "videomamba-ti-k400-f8")  # nothing is downloaded to describe it
    assert absent.returncode == 0 and "top-1 76.9" in absent.stdout and "not on this machine yet" in absent.stdout
    assert not absent.stderr
