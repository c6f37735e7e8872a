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
from tests.sources import MAPPED, SOURCES, calls, imports_of, name_of

# Modules that every package may import.
FOUNDATION = "checks cpus errors files from_json hashes locks memory parsing processes progress signals targets version"
# Modules that all packages of vmr.models may import.
MODEL_BASE = "models.checkpoint_file models.encoder models.hub models.pip_weights models.runtime models.weights"

# Package -> the packages and files that it may import, besides itself and FOUNDATION. Names are without `vmr.`.
ALLOWED = {
    "cpus": "",
    "errors": "",
    "files": "errors",
    "from_json": "errors",
    "hashes": "files",
    "locks": "errors files",
    "memory": "errors",
    "checks": "errors",
    "parsing": "",
    "processes": "errors",
    "progress": "",
    "signals": "",
    "targets": "",
    "version": "",
    "configs": "",
    "ops": "ops.gpu",
    "ops.gpu": "ops ops.gpu.kernels",
    "ops.gpu.kernels": "",
    "losses": "",
    "models.checkpoint_file": "",
    "models.encoder": "models.classifier",
    "models.hub": "",
    "models.pip_weights": "",
    "models.runtime": "",
    "models.saved_folder": "models.weights",
    "models.weights": "",
    "models.open_clip_weights": "models.encoder",
    "models.text": MODEL_BASE,
    "models.videomamba": "models.encoder models.saved_folder models.weights ops",
    "models.video_text": "models.text models.videomamba ops",
    "models.masks": "models.videomamba",
    "models.teachers": f"{MODEL_BASE} models.open_clip_weights models.videomamba",
    "models.upstream": f"{MODEL_BASE} models.saved_folder models.text models.videomamba models.video_text ops",
    "models.families": f"{MODEL_BASE} models.open_clip_weights models.text models.upstream models.videomamba "
    "models.video_text",
    "models.saved_model": f"{MODEL_BASE} models.families models.saved_folder models.text models.video_text "
    "models.videomamba",
    "models.classifier": "models.encoder",
    "models.comparators": f"{MODEL_BASE} models.videomamba ops",
    "models.classification": f"{MODEL_BASE} models.classifier models.comparators models.saved_folder "
    "models.teachers models.upstream models.videomamba ops",
    "models.catalogue": f"{MODEL_BASE} models.families models.saved_folder models.saved_model models.text "
    "models.upstream "
    "models.classification models.classifier",
    "models": "",
    "data": "",
    "data.decoding": "data data.decoding.ffmpeg",
    "data.decoding.ffmpeg": "data",
    "data.discovery": "data data.decoding data.decoding.ffmpeg",
    "data.shapes": "data data.decoding",
    "data.annotations": "data data.decoding data.shapes",
    "data.labels": "data data.annotations data.decoding data.views",
    "data.views": "data data.decoding",
    "data.sources": "data data.annotations data.decoding data.discovery data.labels data.shapes",
    "data.training": "data data.annotations data.decoding data.labels data.sources data.views",
    "data.doctor": "data data.annotations data.decoding data.labels data.training data.views",
    "train.tasks": "train losses data.sources data.training models.encoder models.families models.masks "
    "models.saved_model models.teachers models.text models.video_text models.videomamba models.classification "
    f"models.catalogue models.classifier models.upstream {MODEL_BASE}",
    "train": "data data.annotations data.decoding data.shapes data.sources data.training losses models.encoder "
    "models.families models.masks models.saved_model models.teachers models.text models.upstream models.videomamba "
    "models.classification models.classifier models.video_text data.labels train.tasks "
    f"{MODEL_BASE}",
    "retrieval.embedding": "data data.decoding models.encoder",
    "retrieval.reranking": "models.encoder",
    "retrieval.searching": "data.decoding models.encoder retrieval retrieval.calibration retrieval.embedding "
    "retrieval.reranking retrieval.storage retrieval.vectors",
    "retrieval.storage": "data",
    "retrieval.vectors": "retrieval.storage",
    "retrieval.calibration": "models.encoder retrieval retrieval.storage retrieval.vectors",
    "retrieval.upkeep": "data data.decoding models.catalogue models.encoder retrieval retrieval.embedding "
    "retrieval.storage retrieval.updating retrieval.vectors",
    "retrieval.updating": "data data.decoding data.discovery models.catalogue models.encoder retrieval "
    "retrieval.calibration retrieval.embedding retrieval.storage retrieval.vectors",
    "retrieval": "data data.annotations data.decoding data.discovery data.views models.catalogue models.classifier "
    "models.encoder "
    "retrieval.calibration retrieval.embedding retrieval.searching retrieval.storage retrieval.updating "
    "retrieval.vectors",
    "retrieval.service.guard": "retrieval.service.options",
    "retrieval.service.media": "data data.decoding data.decoding.ffmpeg retrieval retrieval.storage "
    "retrieval.service.options retrieval.service.processes",
    "retrieval.service.pages": "retrieval.service retrieval.service.media retrieval.service.options retrieval.storage",
    "retrieval.service.jobs": "data data.decoding data.discovery retrieval retrieval.storage retrieval.updating "
    "retrieval.service.options",
    "retrieval.service.lanes": "models.catalogue models.encoder retrieval.service.processes retrieval.storage",
    "retrieval.service.uploads": "data.decoding data.decoding.ffmpeg data.discovery retrieval.service.options "
    "retrieval.service.processes",
    "retrieval.service.routes": "models.encoder retrieval retrieval.searching retrieval.service "
    "retrieval.service.guard retrieval.service.jobs retrieval.service.media retrieval.service.pages "
    "retrieval.service.processes "
    "retrieval.service.uploads retrieval.storage",
    "retrieval.service.assistant": "retrieval.service retrieval.service.options retrieval.service.processes "
    "retrieval.storage",
    "retrieval.service.options": "",
    "retrieval.service.processes": "data.decoding",
    "retrieval.service": "data data.decoding models.catalogue models.encoder retrieval retrieval.searching "
    "retrieval.service.guard retrieval.service.jobs retrieval.service.lanes retrieval.service.media "
    "retrieval.service.options retrieval.service.pages retrieval.service.processes retrieval.service.routes "
    "retrieval.service.uploads retrieval.storage retrieval.vectors",
    "eval.metrics": "data.annotations",
    "eval.protocols": "data data.annotations data.decoding data.shapes",
    "eval.report": "data.decoding data.views eval.metrics models.upstream retrieval",
    "eval.classification.protocols": "data data.labels data.shapes data.views",
    "eval.classification.report": "data.decoding data.views eval.metrics eval.report models.upstream retrieval",
    "eval.classification": "data data.decoding data.labels data.shapes data.views eval eval.classification.protocols "
    "eval.classification.report eval.metrics eval.report models.catalogue models.classification models.classifier "
    "retrieval",
    "eval": "data data.annotations data.decoding eval.metrics eval.protocols eval.report models.catalogue "
    "models.classifier models.encoder retrieval retrieval.reranking retrieval.vectors",
    "cli": "everything",
    "": "everything",  # vmr/__init__.py, which re-exports names of the others
}
TORCH_FREE = [
    "vmr/__init__.py", "vmr/checks.py", "vmr/cpus.py", "vmr/errors.py", "vmr/files.py", "vmr/from_json.py",
    "vmr/hashes.py", "vmr/locks.py", "vmr/memory.py", "vmr/parsing.py", "vmr/data/**/*.py",
    "vmr/cli/**/*.py", "vmr/models/encoder.py", "vmr/models/catalogue.py", "vmr/models/pip_weights.py",
    "vmr/models/classifier.py", "vmr/models/runtime.py", "vmr/targets.py",
    "vmr/models/families/frames.py", "vmr/models/families/offline.py",
    "vmr/models/text/__init__.py", "vmr/models/text/tokenizer.py", "vmr/models/upstream/published*.py",
    "retrieval/*.py", "retrieval/calibration/*.py", "retrieval/embedding/*.py", "retrieval/searching/*.py",
    "retrieval/service/**/*.py",
    "retrieval/storage/*.py", "retrieval/updating/*.py", "retrieval/upkeep/*.py",
    "retrieval/vectors/*.py", "eval/protocols/*.py", "eval/metrics/*.py", "eval/report/*.py",
    "eval/classification/classes.py", "eval/classification/load.py", "eval/classification/videos.py",
    "eval/classification/protocols/*.py", "eval/classification/report/*.py",
]  # fmt: skip
HEAVY = {"torch", "transformers", "timm", "open_clip", "faiss", "torchvision"}
# What writes, renames or opens a file: the last part of a call, or "object.name" where the last part has other uses.
WRITING = {
    "NamedTemporaryFile", "SpooledTemporaryFile", "TarFile", "ZipFile", "copyfile", "copyfileobj", "copytree", "fopen",
    "fromfile", "hardlink_to", "imwrite", "memmap", "mkstemp", "move", "openvino.save_model", "os.link", "os.replace",
    "rename", "renames", "save_file", "savefig", "savetxt", "savez", "savez_compressed", "serialize_file",
    "shelve.open", "shutil.copy", "shutil.copy2", "sqlite3.connect", "symlink_to", "to_csv", "to_feather", "to_parquet",
    "tofile", "touch", "truncate", "write_bytes", "write_image", "write_index", "write_table", "write_text",
    "write_video",
}  # fmt: skip
# Modules that write in ways that are named here, and why they may.
WRITES_ITSELF = {
    "vmr.files": {"open", "rename", "replace"},  # all others call its functions
    "vmr.hashes": {"sqlite3.connect"},  # a transaction is as good as a rename
    "vmr.retrieval.feature_cache": {"sqlite3.connect", "np.save"},  # the array is written to memory
    "vmr.retrieval.reranking.log": {"sqlite3.connect"},
    "vmr.retrieval.storage.connection": {"sqlite3.connect"},
    "vmr.retrieval.storage.seal": {"open"},  # a number that is overwritten in place
    "vmr.retrieval.service.jobs.received": {"open", "os.link"},  # a name that replaces nothing
    "vmr.retrieval.service.jobs.store": {"sqlite3.connect"},
    "vmr.retrieval.service.media.sources": {"symlink_to"},  # in a temporary folder
    "vmr.retrieval.service.media.thumbnails": {"save"},  # in memory
    "vmr.retrieval.service.media.copying": {"open"},  # a container in memory
    "vmr.retrieval.service.media.encoding": {"open"},  # likewise
    "vmr.retrieval.contact_sheet": {"save"},  # to the file of write_atomically
    "vmr.retrieval.vectors.faiss_store": {"write_index"},  # to the file of write_atomically
    "vmr.retrieval.service.uploads.receiving": {"NamedTemporaryFile", "copyfileobj"},  # a copy for another process
    "vmr.retrieval.upkeep.vector_files": {"savez"},  # to the file of write_atomically
    "vmr.models.classification.measuring": {"open"},  # a switch of the kernel
    "vmr.models.runtime": {"openvino.save_model"},  # to a temporary folder
    "vmr.data.training.frame_cache": {"np.save"},  # to the file of write_atomically
    "vmr.data.shapes.files": {"open"},  # a container in memory
    "vmr.data.decoding.worker": {"fdopen"},  # pipes
    "vmr.cli.common": {"open"},  # /dev/null
    "vmr.eval.report.svg": {"savefig"},  # in memory
    "vmr.eval.report.frame_strips": {"save"},  # in memory
}
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
    assert users == {"vmr.retrieval.vectors.faiss_store"}


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


def writes(call: ast.Call) -> str | None:
    """The name of a call that may write a file, without the functions of vmr.files; None for any other call."""
    name = name_of(call)
    last = name.rpartition(".")[2]
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if last in WRITING or name in WRITING:
        return last if last in WRITING else name
    if last in ("open", "fdopen"):
        constants = [node.value for node in arguments if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        is_mode = any(re.fullmatch(r"[rbt]*[wxa+][wxab+t]*(:\w*)?", text) for text in constants)
        flags = {part.attr for node in arguments for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        unclear = last == "fdopen" and not constants
        return last if is_mode or unclear or flags & {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND"} else None
    if name in ("np.save", "numpy.save", "torch.save"):
        return name
    if last == "save" and name not in ("save", "safetensors.save", "report.save"):
        return last  # of a picture
    if name.endswith(".replace") and len(call.args) == 1 and not call.keywords:
        return last  # of a path: that of a string takes two arguments, that of a time takes keywords
    return None


@pytest.mark.parametrize("module", SOURCES)
def test_files_are_written_in_one_way(module: str):
    """A full disk, a quota or a failing close must not cost what was there before: vmr.files sees to it."""
    tree = ast.parse(SOURCES[module].read_text())
    found = {name: call.lineno for _, call in calls(tree) if (name := writes(call)) is not None}
    allowed = WRITES_ITSELF.get(module, set())
    assert found.keys() <= allowed, f"{module} writes without vmr.files: {found}"
    assert found.keys() == allowed, f"{module} does not call {allowed - found.keys()}: shorten WRITES_ITSELF"


@pytest.mark.parametrize(
    "text",
    [
        'open(path, "w")', 'open(path, mode="ab")', 'path.open("x")', 'path.open("r+b")', 'io.open(path, "wt")',
        "os.open(path, os.O_WRONLY | os.O_CREAT)", "os.open(path, flags=os.O_RDWR)", 'os.fdopen(one, "wb")',
        "os.fdopen(one, mode)", 'av.open(path, "w")', 'av.open(path, mode="w")', 'tarfile.open(path, "w:gz")',
        'gzip.open(path, "wb")', "path.write_text(text)", "path.write_bytes(data)", "(a / b).write_text(text)",
        "np.save(path, array)", "numpy.savez(path, array)", "torch.save(model, path)", "save_file(tensors, path)",
        "safetensors.torch.save_file(tensors, path)", "table.to_parquet(path)", "parquet.write_table(table, path)",
        "faiss.write_index(index, path)", "sqlite3.connect(path)", "tempfile.mkstemp()",
        "tempfile.NamedTemporaryFile()", "shutil.copy(a, b)", "shutil.move(a, b)", "os.replace(a, b)", "a.rename(b)",
        "temporary.replace(path)", "os.rename(a, b)", "picture.save(path)", "figure.savefig(path)",
        "array.tofile(path)", "path.touch()", 'zipfile.ZipFile(path, "w")',
    ],
)  # fmt: skip
def test_what_counts_as_writing(text: str):
    ((_, call),) = [each for each in calls(ast.parse(text)) if each[1].col_offset == 0]
    assert writes(call) is not None


@pytest.mark.parametrize(
    "text",
    [
        "open(path)", 'path.open("rb")', 'open(path, encoding="utf-8")', "os.open(path, os.O_RDONLY)", "av.open(path)",
        'tarfile.open(path, "r:")', 'text.replace("a", "b")', "now.replace(tzinfo=utc)", "replace(state, step=1)",
        "report.save(out)", "safetensors.save(tensors)", "save(tensors)", "write_atomically(path, data)",
    ],
)  # fmt: skip
def test_what_does_not_count_as_writing(text: str):
    ((_, call),) = [each for each in calls(ast.parse(text)) if each[1].col_offset == 0]
    assert writes(call) is None
