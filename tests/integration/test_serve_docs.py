"""The curl examples of docs/serve.md do what they say, sent to a real service in their order."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vmr
from tests.paths import REPOSITORY
from tests.patience import PATIENCE_S
from tests.services import serving

PAGE = REPOSITORY / "docs" / "serve.md"
ADDRESS = "http://127.0.0.1:8765"


def curls() -> str:
    """All examples as one script."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if "curl " in line)


@pytest.fixture(scope="module")
def answers(footage: Path, offline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which the examples were run, and what each of them printed."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    folder = tmp_path_factory.mktemp("you")
    shutil.copytree(footage, folder / "videos")
    (folder / "videos" / "uploads").mkdir()
    vmr.build_index(folder / "videos", folder / "index", offline, window_s=4)
    with vmr.VideoReader(folder / "videos" / "bikes.mp4") as reader:
        _save(reader.frames_at([10])[0], folder / "frame.jpg")
    shutil.copy(footage / "bikes.mp4", folder / "clip.mp4")
    options = ("--allow-indexing", str(folder / "videos"), "--upload-dir", str(folder / "videos" / "uploads"))
    with serving(folder / "index", *options) as address:
        script = curls().replace(ADDRESS, address).replace("curl ", "curl -sS --fail-with-body ")
        script = f'set -e\n{script}\ncurl -sS "{address}/api/v1/search?q=a&k=1000"'.replace(
            "\n", "\necho; echo =====\n"
        )
        places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            env={**os.environ, "PATH": places},
        )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    return folder, [answer.strip() for answer in done.stdout.split("=====")[1:]]


def _save(frame, path: Path) -> None:
    from PIL import Image

    Image.fromarray(frame.transpose(1, 2, 0)).save(path)


def answer_to(words: str, answers: list[str]) -> str:
    """What the example that has these words printed."""
    (place,) = [place for place, line in enumerate(curls().splitlines()) if words in line]
    return answers[place]


def test_searches_find_what_they_ask_for(answers):
    _, printed = answers
    for words, name in (
        ("q=two+people", "bikes.mp4"),
        ('"query": "a rabbit"', "bigbuckbunny.mp4"),
        ("search -F file=@frame.jpg", "bikes.mp4"),
    ):
        assert json.loads(answer_to(words, printed))["hits"][0]["path"] == name
    assert len(json.loads(answer_to('"like": 1', printed))["hits"]) == 3


def test_the_example_of_a_hit_has_the_fields_of_a_hit(answers):
    _, printed = answers
    shown = json.loads(re.search(r'^(\{"moment_id".*?\})$', PAGE.read_text(), re.DOTALL | re.MULTILINE)[1])
    hit = json.loads(answer_to("q=two+people", printed))["hits"][0]
    assert shown.keys() == hit.keys()


def test_pages_do_not_overlap(answers):
    _, printed = answers
    first = json.loads(answer_to("q=two+people", printed))["hits"]
    second = json.loads(answer_to("cursor=$cursor", printed))["hits"]
    assert len(first) == 3
    assert len(second) == 1


def test_pictures_and_clips_are_written(answers):
    folder, printed = answers
    assert (folder / "moment.jpg").read_bytes().startswith(b"\xff\xd8")
    assert (folder / "start.bin").stat().st_size == 1024
    with vmr.VideoReader(folder / "moment.mp4") as clip:
        assert 3.5 < clip.duration_s < 4.5
    assert answer_to("captions.vtt", printed).startswith("WEBVTT")


def test_vectors_are_those_of_the_encoder(answers, offline):
    _, printed = answers
    data = json.loads(answer_to('"a dog"', printed))["data"]
    assert [round(x, 5) for x in data[1]["embedding"]] == [
        round(float(x), 5) for x in offline.encode_text(["a cat"])[0]
    ]
    assert len(json.loads(answer_to("embeddings -F", printed))["data"][0]["embedding"]) == offline.embed_dim


def test_jobs_run_and_tell_how_far_they_are(answers):
    folder, printed = answers
    assert json.loads(answer_to('"path": "."', printed))["id"] == 1
    assert "event: " in answer_to("jobs/1/events", printed)
    assert [path.name for path in (folder / "videos" / "uploads").iterdir()] == ["clip.mp4"]


def test_the_error_that_the_page_shows_is_what_the_service_says(answers):
    _, printed = answers
    (shown,) = re.findall(r'^(\{"detail".*?\})$', PAGE.read_text(), re.MULTILINE)
    assert json.loads(printed[-1]) == json.loads(shown)
