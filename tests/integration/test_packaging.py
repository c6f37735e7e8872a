"""The distribution: a complete wheel with `vmr/` only, and configs that the commands can read."""

import ast
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    """Build a wheel from the files that git tracks, so that other files are not included."""
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", REPOSITORY, source], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(built: zipfile.ZipFile) -> list[str]:
    return built.namelist()


def test_a_build_without_a_compiler_works_all_the_same(tmp_path):
    build_wheel(tmp_path, CC="/nowhere/cc", CXX="/nowhere/c++").extractall(tmp_path / "installed")
    script = (
        "import torch, vmr.ops\n"
        "print(vmr.ops.__file__)\n"
        "print(vmr.ops.available_backends()['cpu'])\n"
        "one = torch.ones(1, 3, 2)\n"
        "print(vmr.ops.selective_scan(one, one, -torch.ones(2, 1), one[..., :1], one[..., :1])[0, :, 0].tolist())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    place, backend, outputs = result.stdout.splitlines()
    assert place.startswith(str(tmp_path / "installed"))
    assert backend.startswith("vmr was installed without a C++ compiler")
    # h = h / e + 1: 1, 1 + 1 / 2.71828 = 1.36788, 1 + 1.36788 / 2.71828 = 1.50322
    assert ast.literal_eval(outputs) == pytest.approx([1, 1.36788, 1.50322], abs=1e-5)


def test_the_wheel_holds_vmr_alone(wheel):
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vmr"}


def test_the_wheel_is_complete(wheel):
    for name in (
        "vmr/retrieval/index.py",
        "vmr/eval/metrics/ranks.py",
        "vmr/configs/eval/msrvtt_clip.yaml",
        "vmr/eval/protocols/msrvtt.yaml",
        "vmr/eval/report/templates/report.html.j2",
        "vmr/retrieval/service/static/page.css",
        "vmr/retrieval/service/templates/page.html.j2",
        "vmr/__init__.pyi",
        "vmr/data/decoding/worker.py",
        "vmr/py.typed",
        "vmr/models/shipped/videomamba-nano-actions/config.json",
        "vmr/models/shipped/videomamba-nano-shapes/config.json",
        "vmr/models/shipped/videomamba-nano-shapes/report.json",
    ):
        assert name in wheel
    assert [name for name in wheel if name.startswith("vmr/ops/_scan.")], "the kernels were not built"
    assert not [name for name in wheel if name.startswith(("vmr/vmr", "vmr/tests"))]


# A user's script. mypy leaves torch out, which would take it a minute.
SCRIPT = """
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vmr


def best(folder: Path, sentence: str) -> str | None:
    try:
        index: vmr.VideoIndex = vmr.open_index(folder)
    except vmr.IndexFileError:
        index = vmr.build_index("videos", folder, window_s=4, decode=vmr.DecodeOptions(num_workers=2))
    hits: vmr.SearchResult = index.search(sentence, k=3)
    vectors: NDArray[np.float32] = index.vectors
    print(len(index), vectors.shape, [hit.start_s for hit in hits])
    return hits[0].video if hits else None


def scores(videos: list[Path], texts: list[str]) -> NDArray[np.float32]:
    encoder: vmr.Encoder = vmr.load_model("offline")
    embedding = vmr.embed_videos(videos, encoder, cache=vmr.FeatureCache("cache"))
    rows = np.concatenate([video.vectors for video in embedding.videos])
    products: NDArray[np.float32] = vmr.embed_texts(texts, encoder) @ rows.T
    return products


def store(dim: int) -> vmr.VectorStore:
    return vmr.FaissStore(dim)
"""


def test_a_typed_script_of_a_user(built, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    built.extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n")

    def check() -> str:
        python = ["--python-executable", tmp_path / "venv" / "bin" / "python"]
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", *python, "script.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    assert "Success" in (said := check()), said
    (tmp_path / "script.py").write_text(SCRIPT.replace("k=3", 'k="three"'))
    assert 'Argument "k" to "search" of "VideoIndex" has incompatible type "str"' in check()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "eval").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_is_understood(path, monkeypatch):
    """The configs for training are tested in test_train_config.py."""
    from importlib import import_module

    called = []
    monkeypatch.setattr("vmr.cli.common.call_command", lambda function, config: called.append(config))
    import_module(f"vmr.cli.{path.parent.name}").main(["--config", str(path)])
    assert len(called) == 1
