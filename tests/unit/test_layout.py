"""The house: packages, links and the direction of every import."""

import ast
import configparser
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
MAPPED = {"vmr.retrieval": "retrieval", "vmr.eval": "eval", "vmr.configs": "configs"}

# part -> the parts that it may import. `vmr` itself only hands names on.
ALLOWED = {
    "vmr.errors": set(),
    "vmr.files": {"vmr.errors"},
    "vmr.from_json": {"vmr.errors"},
    "vmr.version": set(),
    "vmr.progress": set(),
    "vmr.processes": set(),
    "vmr.ops": {"vmr.errors"},
    "vmr.models": {"vmr.ops", "vmr.errors", "vmr.files", "vmr.from_json", "vmr.version"},
    "vmr.losses": {"vmr.errors"},
    "vmr.train": {
        "vmr.models",
        "vmr.losses",
        "vmr.data",
        "vmr.errors",
        "vmr.files",
        "vmr.from_json",
        "vmr.version",
        "vmr.progress",
    }
    | {"vmr.processes"},
    "vmr.data": {"vmr.errors", "vmr.files", "vmr.from_json", "vmr.progress"},
    "vmr.retrieval": {
        "vmr.models",
        "vmr.data",
        "vmr.errors",
        "vmr.files",
        "vmr.from_json",
        "vmr.version",
        "vmr.progress",
        "vmr.processes",
    },
    "vmr.eval": {
        "vmr.retrieval",
        "vmr.models",
        "vmr.data",
        "vmr.errors",
        "vmr.files",
        "vmr.from_json",
        "vmr.progress",
        "vmr.processes",
    },
    "vmr.cli": {"vmr", "vmr.progress", "vmr.processes", "vmr.version", "vmr.ops"}
    | {"vmr.train", "vmr.eval", "vmr.retrieval", "vmr.models", "vmr.data", "vmr.errors", "vmr.files", "vmr.from_json"},
    "vmr.configs": set(),
    "vmr": {
        "vmr.eval",
        "vmr.retrieval",
        "vmr.models",
        "vmr.data",
        "vmr.errors",
        "vmr.files",
        "vmr.from_json",
        "vmr.version",
    },
}
TORCH_FREE = [
    "vmr/__init__.py", "vmr/errors.py", "vmr/files.py", "vmr/from_json.py", "vmr/data/**/*.py", "vmr/cli/*.py",
    "vmr/models/upstream/published.py", "retrieval/manifest.py", "retrieval/feature_cache.py", "eval/protocols/*.py",
    "eval/metrics/*.py", "eval/report/*.py",
]  # fmt: skip


def sources() -> dict[str, Path]:
    """Module name -> file, for every module that is shipped."""
    found = {}
    for top, package in {"vmr": "vmr", **{folder: name for name, folder in MAPPED.items()}}.items():
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / top).with_suffix("").parts
            if top == "vmr" and parts[0] in MAPPED.values():
                continue  # the link to a folder that is walked in its own right
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def part_of(module: str) -> str:
    candidates = [part for part in ALLOWED if module == part or module.startswith(part + ".")]
    return max(candidates, key=len)


def imports_of(path: Path, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    return names


def test_package_list_is_the_folders():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {name if path.stem == "__init__" else name.rpartition(".")[0] for name, path in sources().items()}
    assert listed == found
    package_dir = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert package_dir == {"vmr": "vmr", **MAPPED}


@pytest.mark.parametrize("folder", MAPPED.values())
def test_links_stand(folder: str):
    link = REPOSITORY / "vmr" / folder
    assert link.is_symlink()
    assert link.resolve() == REPOSITORY / folder


@pytest.mark.parametrize("module", sources())
def test_imports_run_one_way(module: str):
    part = part_of(module)
    for name in imports_of(sources()[module]):
        if name == "vmr" or name.startswith("vmr."):
            target = part_of(name)
            assert target == part or target in ALLOWED[part], f"{module} imports {name}"


def test_every_module_has_a_place():
    assert {part_of(module) for module in sources()} == set(ALLOWED)


@pytest.mark.parametrize("path", [p for pattern in TORCH_FREE for p in sorted(REPOSITORY.glob(pattern))], ids=str)
def test_no_torch_at_import(path: Path):
    heavy = {"torch", "transformers", "timm", "open_clip", "faiss", "torchvision"}
    assert not heavy & {name.partition(".")[0] for name in imports_of(path, top_level_only=True)}


def test_files_stay_short():
    for path in sources().values():
        assert len(path.read_text().splitlines()) <= 420, f"{path} is more than one thing"


def test_no_test_file_imports_another():
    """Helpers that tests share stand in modules of their own; programs that tests start as text count, too."""
    of_a_test = re.compile(r"^ *(from|import) [^\n(]*(\([^)]*)?\btest_", re.MULTILINE)
    tests = REPOSITORY / "tests"
    importing = [
        str(path.relative_to(tests)) for path in sorted(tests.rglob("*.py")) if of_a_test.search(path.read_text())
    ]
    assert importing == []
