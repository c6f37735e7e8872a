"""What setup.cfg promises: one lowest version of every package, and every package that the code imports."""

import configparser
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.paths import REPOSITORY
from tests.sources import SOURCES, imports_of

SETUP = configparser.ConfigParser()
SETUP.read(REPOSITORY / "setup.cfg")
CORE = SETUP["options"]["install_requires"].splitlines()
EXTRAS = {name: lines.splitlines() for name, lines in SETUP["options.extras_require"].items()}
FOR_DEVELOPERS = {"bench", "docs", "dev"}
FOR_USERS = [line for name, lines in EXTRAS.items() if name not in FOR_DEVELOPERS for line in lines]

SERVICE = "vmr.retrieval.service"
"""The package whose modules import what the extra `serve` names: nothing but `vmr-serve` imports it."""

# Modules whose package has another name. Triton comes with torch on Linux, and nothing imports it elsewhere.
PACKAGE_OF = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "open_clip": "open_clip_torch",
    "scenedetect": "scenedetect-headless",
    "triton": "torch",
    "yaml": "pyyaml",
}


def parse(lines: list[str]) -> list[Requirement]:
    """The packages that lines of setup.cfg or of a constraints file name, without vmr itself."""
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [requirement for requirement in found if requirement.name != "vmr"]


def lowest_versions(requirements: list[Requirement]) -> dict[str, set[Version]]:
    versions = defaultdict(set)
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator in (">=", "=="), requirement
        versions[canonicalize_name(requirement.name)].add(Version(specifier.version))
    return dict(versions)


def packages_of(path: Path, top_level_only: bool) -> set[str]:
    modules = {name.partition(".")[0] for name in imports_of(path, top_level_only)} - {"vmr", *sys.stdlib_module_names}
    return {canonicalize_name(PACKAGE_OF.get(module, module)) for module in modules}


def test_lowest_versions_are_those_that_are_tested():
    """A package without a lowest version, or with two, is found here as well."""
    pinned = lowest_versions(parse((REPOSITORY / "tests" / "lowest.txt").read_text().splitlines()))
    assert lowest_versions(parse([*CORE, *(line for lines in EXTRAS.values() for line in lines)])) == pinned
    assert all(len(versions) == 1 for versions in pinned.values())
    (setuptools,) = pinned["setuptools"]
    assert f'requires = ["setuptools>={setuptools}"]' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.parametrize("module", SOURCES)
def test_what_is_imported_is_required(module: str):
    core = lowest_versions(parse(CORE)).keys()
    at_once = core | lowest_versions(parse(EXTRAS["serve"])).keys() if module.startswith(SERVICE) else core
    assert packages_of(SOURCES[module], top_level_only=True) <= at_once, "imported when the module is"
    assert packages_of(SOURCES[module], top_level_only=False) <= core | lowest_versions(parse(FOR_USERS)).keys()


def test_the_oldest_and_the_newest_python_are_tested():
    promised = [line.rpartition(" ")[2] for line in SETUP["metadata"]["classifiers"].splitlines() if "3." in line]
    assert SETUP["options"]["python_requires"] == f">={promised[0]}"
    assert f"\nLOWEST_PYTHON ?= python{promised[0]}\n" in (REPOSITORY / "Makefile").read_text()
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "tests.yml").read_text())
    runs = {(run["target"], run["python"]) for run in workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]}
    assert runs == {("test-lowest", promised[0]), ("test", promised[0]), ("test", promised[-1])}
