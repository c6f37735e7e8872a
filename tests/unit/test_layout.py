"""The layout of the code: packages, links, the direction of every import, and the length of files."""

import ast
import configparser
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from tests.sources import MAPPED, SOURCES, imports_of

# Modules that every package may import.
FOUNDATION = "errors files from_json memory processes progress version"
# Modules that all packages of vmr.models may import.
MODEL_BASE = "models.checkpoint_file models.encoder models.hub models.pip_weights models.weights"

# Package -> the packages and files that it may import, besides itself and FOUNDATION. Names are without `vmr.`.
ALLOWED = {
    "errors": "",
    "files": "errors",
    "from_json": "errors",
    "memory": "errors",
    "processes": "",
    "progress": "",
    "version": "",
    "configs": "",
    "ops": "ops.gpu",
    "ops.gpu": "ops ops.gpu.kernels",
    "ops.gpu.kernels": "",
    "losses": "",
    "models.checkpoint_file": "",
    "models.encoder": "",
    "models.hub": "",
    "models.pip_weights": "",
    "models.weights": "",
    "models.open_clip_weights": "models.encoder",
    "models.text": MODEL_BASE,
    "models.videomamba": "ops",
    "models.video_text": "models.text models.videomamba ops",
    "models.masks": "models.videomamba",
    "models.teachers": f"{MODEL_BASE} models.open_clip_weights models.videomamba",
    "models.upstream": f"{MODEL_BASE} models.text models.videomamba models.video_text ops",
    "models.families": f"{MODEL_BASE} models.open_clip_weights models.text models.upstream models.videomamba "
    "models.video_text",
    "models.saved_model": f"{MODEL_BASE} models.families models.text models.video_text",
    "models.catalogue": f"{MODEL_BASE} models.families models.saved_model models.text models.upstream",
    "models": "",
    "data": "",
    "data.decoding": "data",
    "data.shapes": "data data.decoding",
    "data.annotations": "data data.decoding data.shapes",
    "data.sources": "data data.annotations data.decoding data.shapes",
    "data.training": "data data.annotations data.decoding data.sources",
    "train": "data data.annotations data.decoding data.shapes data.sources data.training losses models.encoder "
    "models.families models.masks models.saved_model models.teachers models.text models.upstream models.videomamba "
    f"models.video_text {MODEL_BASE}",
    "retrieval.reranking": "models.encoder",
    "retrieval": "data data.annotations data.decoding models.catalogue models.encoder",
    "eval.metrics": "data.annotations",
    "eval.protocols": "data data.annotations data.decoding data.shapes",
    "eval.report": "data.decoding eval.metrics models.upstream retrieval",
    "eval": "data.annotations data.decoding eval.metrics eval.protocols eval.report models.catalogue models.encoder "
    "retrieval retrieval.reranking",
    "cli": "everything",
    "": "everything",  # vmr/__init__.py, which re-exports names of the others
}
TORCH_FREE = [
    "vmr/__init__.py", "vmr/errors.py", "vmr/files.py", "vmr/from_json.py", "vmr/memory.py", "vmr/data/**/*.py",
    "vmr/cli/*.py", "vmr/models/upstream/published.py", "retrieval/manifest.py", "retrieval/feature_cache.py",
    "retrieval/segments.py", "retrieval/store.py", "eval/protocols/*.py", "eval/metrics/*.py", "eval/report/*.py",
]  # fmt: skip
HEAVY = {"torch", "transformers", "timm", "open_clip", "faiss", "torchvision"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FILES_OF_A_PACKAGE = 14  # about twelve
MAX_SHARED_LINES = 5


def package_of(module: str) -> str:
    name = module.removeprefix("vmr").removeprefix(".")
    while name not in ALLOWED:
        name = name.rpartition(".")[0]
    return name


def test_package_list_is_the_folders():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {name if path.stem == "__init__" else name.rpartition(".")[0] for name, path in SOURCES.items()}
    assert listed == found
    package_dir = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert package_dir == {"vmr": "vmr", **MAPPED}


@pytest.mark.parametrize("folder", MAPPED.values())
def test_links_stand(folder: str):
    link = REPOSITORY / "vmr" / folder
    assert link.is_symlink()
    assert link.resolve() == REPOSITORY / folder


@pytest.mark.parametrize("folder", MAPPED.values())
def test_the_name_of_a_folder_is_not_its_name_for_imports(folder: str):
    """A contributor who works in the folder would import every module a second time."""
    command = [sys.executable, "-c", f"import {folder}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert f"this folder is imported as vmr.{folder}, not as {folder}" in done.stderr


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_arrows(module: str):
    package = package_of(module)
    allowed = {package, *ALLOWED[package].split(), *(FOUNDATION.split() if package not in FOUNDATION.split() else ())}
    for name in imports_of(SOURCES[module]):
        if name == "vmr" or name.startswith("vmr."):
            target = package_of(name)
            assert target in allowed or "everything" in allowed, f"{module} imports {name}: {package} may not"
            assert target != "cli" or package == "cli", f"{module} imports a command"


def test_imports_run_in_no_circle():
    graph = {
        module: {name for name in imports_of(path, top_level_only=True) if name in SOURCES and name != module}
        for module, path in SOURCES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", [p for pattern in TORCH_FREE for p in sorted(REPOSITORY.glob(pattern))], ids=str)
def test_no_torch_at_import(path: Path):
    assert not HEAVY & {name.partition(".")[0] for name in imports_of(path, top_level_only=True)}


def test_one_file_calls_faiss():
    users = {module for module, path in SOURCES.items() if "faiss" in imports_of(path)}
    assert users == {"vmr.retrieval.store"}


def test_files_and_functions_stay_short():
    for module, path in SOURCES.items():
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_FILE_LINES, f"{module} is more than one thing"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{module}.{node.name} has {length} lines"


def code_of(path: Path) -> list[str]:
    """The lines of a file that do something: no imports, signatures, docstrings, comments and blank lines."""
    text = path.read_text()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= {*range(node.lineno, node.end_lineno + 1)}
        if isinstance(node, ast.FunctionDef):
            left_out |= {*range(node.lineno, node.body[0].lineno)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out |= {*range(node.lineno, node.end_lineno + 1)}
    lines = (line.strip() for number, line in enumerate(text.splitlines(), start=1) if number not in left_out)
    return [line for line in lines if line and not line.startswith("#")]


def test_nothing_is_written_twice():
    """Six lines that stand in two places are one function that is missing."""
    first_place: dict[tuple[str, ...], str] = {}
    for module, path in SOURCES.items():
        code = code_of(path)
        for start in range(len(code) - MAX_SHARED_LINES):
            lines = tuple(code[start : start + MAX_SHARED_LINES + 1])
            assert lines not in first_place, f"{module} and {first_place[lines]} share: {lines}"
            first_place[lines] = module


def test_packages_stay_small_and_say_what_they_are():
    for path in SOURCES.values():
        if path.name == "__init__.py" and path.parent.name != "configs":
            assert len(list(path.parent.glob("*.py"))) <= MAX_FILES_OF_A_PACKAGE + 1, path
            lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
            assert len(lines) >= 3, f"{path}: say in three lines what this package holds and what it may import"


def test_no_test_file_imports_another():
    """Helpers that tests share are in separate modules; this also holds for programs that tests start as text."""
    of_a_test = re.compile(r"^ *(from|import) [^\n(]*(\([^)]*)?\btest_", re.MULTILINE)
    tests = REPOSITORY / "tests"
    importing = [
        str(path.relative_to(tests)) for path in sorted(tests.rglob("*.py")) if of_a_test.search(path.read_text())
    ]
    assert importing == []
