"""Every writer on a disk that is full, broken or over its quota: what was there before stays, and one line says why.

A library that is loaded before all others makes one call to the system after the other fail; see `tests/faults`.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.cases import CASES, Case
from tests.paths import REPOSITORY
from tests.sources import SOURCES, calls, name_of

WRITE_FUNCTIONS = {
    "write_atomically", "write_folder_atomically", "AppendedFile", "scratch_file", "tempfile.TemporaryFile",
    "sqlite3.connect",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Case -> the functions that it ran, and its runs with a fault."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, cc or gcc")
    folder = tmp_path_factory.mktemp("faults")
    source = REPOSITORY / "tests" / "faults" / "faults.c"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", folder / "faults.so", source, "-ldl"], check=True
    )
    variables = {"LD_PRELOAD": str(folder / "faults.so"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.runner"],
        env={**os.environ, **variables},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    cases = {content.pop("case"): content for content in map(json.loads, done.stdout.splitlines())}
    assert cases.keys() == CASES.keys(), f"the run of a case crashed: {done.stderr[-3000:]}"
    return cases


def may_succeed(case: Case, run: dict[str, Any]) -> bool:
    """Whether a fault may do no harm at all."""
    call, _, path = run["hit"].partition(" ")
    if case.is_cache or call == "limit" or path.endswith(".lock"):
        return True
    if path.endswith("(deleted)") or (call.startswith("open") and path == "FOLDER"):
        return True  # a file without a name, which nobody reads again; Python has other ways to make one
    of_sqlite = re.search(r"\.(sqlite3?|db)(-\w+)?( \(deleted\))?$", path) or (call, path) == (
        "fdatasync",
        "FOLDER",
    )
    return case.is_database and of_sqlite is not None


def faults_of(case: Case, run: dict[str, Any]) -> list[str]:
    """What is wrong with the outcome of a run."""
    wrong = []
    if run["error"] is None:
        if not may_succeed(case, run):
            wrong.append("no error is raised")
        if not run["is_new"] and not case.is_cache:
            wrong.append("no error is raised, but the new content is not there")
    else:
        if run["kind"] != "VmrError":
            wrong.append(f"{run['kind']} is raised")
        if "FOLDER" not in run["error"] or "\n" in run["error"]:
            wrong.append("the error is not one line that names the file")
        is_in_place = run["hit"].startswith("fsync") and ".tmp" not in run["hit"]  # only its folder is not flushed
        may_be_new = is_in_place or case.is_database or case.in_parts
        if not run["is_old"] and not may_be_new:
            wrong.append("the old content is gone")
    if not run["is_whole"]:
        wrong.append("what is there is neither old nor new")
    if run["left_over"] or run["left_over_again"]:
        wrong.append("files are left over")
    if run["lost"]:
        wrong.append("files are lost")
    if run["again"] and (case.replaces or not run["is_new"]):
        wrong.append("it does not work when the fault is gone")
    return wrong


@pytest.mark.parametrize("name", CASES)
def test_a_writer_survives_every_fault(results: dict[str, Any], name: str):
    runs = results[name]["runs"]
    wrong = [f"{', '.join(faults)}: {run}" for run in runs if (faults := faults_of(CASES[name], run))]
    assert not wrong, f"{len(wrong)} of {len(runs)} runs:\n" + "\n".join(wrong[:20])
    if not CASES[name].is_cache:
        kinds = {run["fault"].rpartition(" ")[0] for run in runs if run["error"] is not None}
        assert kinds >= {"call", "short write", "write and all later ones", "limit"}, "some faults were not tried"


def test_every_function_that_writes_is_run(results: dict[str, Any]):
    writers = {
        (str(path.resolve()), function)
        for module, path in SOURCES.items()
        if module not in ("vmr.files", "vmr.data.decoding.worker_process")  # the latter keeps what a decoder prints
        for function, call in calls(ast.parse(path.read_text()))
        if name_of(call) in WRITE_FUNCTIONS and [ast.unparse(one) for one in call.args] != ["':memory:'"]
    }
    run = {tuple(function) for result in results.values() for function in result["functions"]}
    assert len(writers) > 15
    assert writers <= run, f"no case in tests/faults/cases.py runs {writers - run}"
