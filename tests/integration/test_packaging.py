"""What is shipped: a wheel with `vmr/` only, complete, and documents whose commands are real."""

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"  # built from what git tracks, so that nothing lying about gets in
    subprocess.run(["git", "clone", "-q", REPOSITORY, source], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_vmr_alone(wheel):
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vmr"}


def test_the_wheel_is_complete(wheel):
    for name in (
        "vmr/retrieval/index.py",
        "vmr/eval/metrics.py",
        "vmr/configs/eval/msrvtt_clip.yaml",
        "vmr/data/decode_worker.py",
        "vmr/py.typed",
    ):
        assert name in wheel
    assert not [name for name in wheel if name.startswith(("vmr/vmr", "vmr/tests"))]


def commands_of(document: str) -> list[list[str]]:
    """Every vmr command in the shell blocks of a document."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", (REPOSITORY / document).read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("vmr-")]


@pytest.mark.parametrize("command", commands_of("README.md"), ids=" ".join)
def test_readme_commands_are_understood(command, monkeypatch):
    """Parsed by the real parsers; what they do is tested in test_commands.py."""
    from importlib import import_module

    called = []
    monkeypatch.setattr("vmr.cli.common._call", lambda function, config: called.append(function))
    import_module(f"vmr.cli.{command[0].removeprefix('vmr-')}").main(command[1:])
    assert len(called) == 1


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_config_is_understood(path, monkeypatch):
    from importlib import import_module

    called = []
    monkeypatch.setattr("vmr.cli.common._call", lambda function, config: called.append(config))
    import_module(f"vmr.cli.{path.parent.name}").main(["--config", str(path)])
    assert len(called) == 1


def test_the_readme_script_runs(footage, tmp_path, monkeypatch, capsys):
    """The Python of the README, as it stands there, on real videos."""
    (script,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert len(script.strip().splitlines()) <= 12
    (tmp_path / "videos").symlink_to(footage)
    (tmp_path / "script.py").write_text(script)
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert result.returncode == 0, result.stderr
    assert "bikes.mp4" in result.stdout
