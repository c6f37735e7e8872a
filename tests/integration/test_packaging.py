"""What is shipped: a wheel with `vmr/` only, complete, and configs that are understood."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    """Build from what git tracks, so that nothing lying about gets in."""
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", REPOSITORY, source], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build_wheel(tmp_path_factory.mktemp("wheel")).namelist()


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
        "vmr/eval/templates/report.html.j2",
        "vmr/data/decoding/worker.py",
        "vmr/py.typed",
        "vmr/models/shipped/videomamba-nano-shapes/config.json",
        "vmr/models/shipped/videomamba-nano-shapes/report.json",
    ):
        assert name in wheel
    assert [name for name in wheel if name.startswith("vmr/ops/_scan.")], "the kernels were not built"
    assert not [name for name in wheel if name.startswith(("vmr/vmr", "vmr/tests"))]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "eval").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_is_understood(path, monkeypatch):
    """Those of training are read by test_train_config.py."""
    from importlib import import_module

    called = []
    monkeypatch.setattr("vmr.cli.common.call_command", lambda function, config: called.append(config))
    import_module(f"vmr.cli.{path.parent.name}").main(["--config", str(path)])
    assert len(called) == 1
