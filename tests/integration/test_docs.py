"""The documents: their code runs, their commands are parsed, their links and file names exist."""

import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import vmr

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES]
FOLDERS = ("vmr", "eval", "retrieval", "configs", "tests", "benchmarks", "examples", "docs")

# Blocks whose output is checked: words of the block -> words of its output.
PRINTED = {
    "a man rides a bicycle through the city": "bikes.mp4",
    "green grass": "bigbuckbunny.mp4",
    "batch.captions": "(2, 4, 3, 64, 64)",
    "EvalOptions": "embedding+qbnorm",
    "three.yaml": "3 of 3 videos, 3 of 3 texts",
    "NumpyStore": "True",
    "model.match": "tensor([[",
    "model.classify": "yes",
    "index/index.db": "bikes.mp4",
    '"vmr-search"': "a rabbit",
}


class Block(NamedTuple):
    """A fenced block of a document."""

    page: Path
    line: int
    language: str
    code: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every fenced block of every document."""
    for page in DOCUMENTS:
        text = page.read_text()
        for match in re.finditer(r"(<!-- not run: .+ -->\n+)?^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start(3))
            yield Block(page, line, match[2], match[3], match[1] is None)


def blocks_of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(page))


def headings(page: Path) -> set[str]:
    """The anchors that a forge makes from a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture
def folder(footage, annotations, tmp_path, monkeypatch) -> Path:
    """A working folder as the documents assume it: `videos`, and `test.json` about them."""
    (tmp_path / "videos").symlink_to(footage)
    (tmp_path / "test.json").symlink_to(annotations)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


PYTHON = [block for block in blocks_of("python") if block.page.name != "CONTRIBUTING.md"]


@pytest.mark.parametrize("block", [block for block in PYTHON if block.is_run], ids=str)
def test_python_blocks_run(block, folder, capsys):
    if "index/index.db" in block.code or '"vmr-search"' in block.code:  # programs that do without the library
        vmr.build_index("videos", "index")
    exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for words, expected in PRINTED.items():
        assert words not in block.code or expected in printed


def test_few_python_blocks_are_left_out():
    for block in PYTHON:
        compile(block.code, str(block), "exec")
    assert [str(block) for block in PYTHON if not block.is_run] == []
    assert all(any(words in block.code for block in PYTHON) for words in PRINTED)


def test_the_readme_has_ten_lines_of_python():
    (block,) = [block for block in PYTHON if block.page.name == "README.md"]
    assert len(block.code.strip().splitlines()) <= 12


def command_lines() -> list[list[str]]:
    """Every vmr command in the shell blocks of the documents."""
    lines = [line for block in blocks_of("bash") for line in block.code.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("vmr-")]


@pytest.mark.parametrize("command", command_lines(), ids=" ".join)
def test_documented_commands_are_understood(command, monkeypatch):
    """Parsed by the real parsers; what they do is tested in test_commands.py."""
    called = []
    monkeypatch.setattr("vmr.cli.common.call_command", lambda function, config: called.append(function))
    import_module(f"vmr.cli.{command[0].removeprefix('vmr-')}").main(command[1:])
    assert len(called) == 1


@pytest.fixture(scope="module")
def troubled(footage, tmp_path_factory) -> Path:
    """A folder in which every error of the page Troubleshooting occurs."""
    folder = tmp_path_factory.mktemp("you")
    for name in ("videos", "empty", "half", "notes"):
        (folder / name).mkdir()
    for file in footage.glob("*.mp4"):
        shutil.copy(file, folder / "videos")
    (folder / "videos" / "broken.mp4").write_text("nothing")
    (folder / "videos" / "zero.mp4").write_text("")
    (folder / "half" / "vectors-1.faiss").write_bytes(b"IxFI")
    (folder / "notes" / "a.txt").write_text("notes")
    torch.save({"weights": torch.zeros(1000)}, folder / "model.pth")
    os.truncate(folder / "model.pth", 2000)  # as a download that was cut off leaves it
    (folder / "lacking.json").write_text('[{"video": "bikes.mp4"}]')
    (folder / "notjson.json").write_text("[{")
    rows = [{"video": "bikes.mp4", "caption": "a cyclist"}, {"video": "gone.mp4", "caption": "nothing"}]
    (folder / "test.json").write_text(json.dumps(rows))
    (folder / "typo.yaml").write_text("optimizer: {learning_rat: 1}\n")
    vmr.build_index(footage, folder / "index", "videomamba-nano-shapes")
    return folder


@pytest.mark.parametrize("block", blocks_of("console"), ids=str)
def test_messages_are_what_the_code_prints(block, troubled, monkeypatch, capsys):
    first, *expected = block.code.strip().splitlines()
    command = shlex.split(first.removeprefix("$ "))
    monkeypatch.chdir(troubled)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status = 0
    try:
        import_module(f"vmr.cli.{command[0].removeprefix('vmr-')}").main(command[1:])
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).replace(str(troubled), "/home/you").splitlines()
    assert [line for line in expected if line not in lines] == [], "\n".join(lines)
    assert status == (2 if any(line.startswith("error: ") for line in expected) else 0)


def links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]+`", "", prose(page)))
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in headings(target), link
        if page in PAGES:
            assert target.is_relative_to(REPOSITORY / "docs"), f"{link}: the site holds docs/ alone"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page):
    named = re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*-]+", "\n".join(inline_code(page)))
    assert [path for path in named if not any(REPOSITORY.glob(path.rstrip("./")))] == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_python_names_that_are_written_exist(page):
    for name in re.findall(r"(?<![\w./-])vmr(?:\.[A-Za-z_]\w*)+(?!\w*/)", "\n".join(inline_code(page))):
        pkgutil.resolve_name(name)


def test_the_api_page_has_every_public_name():
    text = (REPOSITORY / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    assert {f"vmr.{name}" for name in vmr.__all__ if name != "__version__"} <= documented
    for name in documented:
        pkgutil.resolve_name(name)
        assert re.search(rf"^\| `{re.escape(name)}(\(.*\))?` \| .+ \|$", text, re.MULTILINE), f"{name} has no row"


@pytest.fixture
def site(tmp_path) -> Path:
    """The sources of the site, in a new folder."""
    for name in ("vmr", "retrieval", "eval"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    return tmp_path


def build(site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tool = shutil.which("zensical", path=places)
    if tool is None:
        pytest.skip("needs zensical and mkdocstrings: pip install 'vmr[docs]'")
    command = [tool, "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning(site):
    built = build(site)
    said = built.stdout + built.stderr
    assert built.returncode == 0, said
    assert not re.search("warning|^griffe: |^mkdocstrings: ", said, re.IGNORECASE | re.MULTILINE), said
    for page in PAGES:
        stem = "" if page.stem == "index" else page.stem
        assert (site / "site" / stem / "index.html").is_file()
    api = (site / "site" / "api" / "index.html").read_text()
    assert 'id="vmr.build_index"' in api and "window_s" in api


@pytest.mark.parametrize("broken", ["[gone](gone.md)", "[no such heading](api.md#gone)"])
def test_a_broken_link_ends_the_build(site, broken):
    with (site / "docs" / "index.md").open("a") as page:
        page.write(f"\n{broken}\n")
    assert build(site).returncode != 0


# Words of a command -> the extras that it needs. `train` brings `index`.
NEEDS = {
    r"^vmr-(index build|search|eval(?! compare| --task classify))": {"index"},
    r"^vmr-(index build|search)|^vmr-data check \S+\.json": {"offline"},
    r"^vmr-eval(?! compare| --task classify)(?!.*videomamba-nano|.*runs/shapes_nano)": {"offline"},
    r"^vmr-serve": {"serve"},
    r"--html": {"report"},
    r"_clip\.yaml": {"clip"},
    r"vmr(-|\.cli\.)train": {"train", "offline"},
    r"pytest": {"dev"},
}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_the_extras_of_every_command_are_named_before_it(page):
    text = page.read_text()
    for block in [block for block in blocks_of("bash") if block.page == page]:
        said = text.partition(block.code)[0] + block.code
        named = {name for found in re.findall(r"(?:'\.|'vmr)\[([\w,]+)\]'", said) for name in found.split(",")}
        named |= {"index"} if "train" in named else set()
        named |= {"dev"} if page.name == "CONTRIBUTING.md" and "make test" in said else set()
        for line in block.code.splitlines():
            needed = {name for words, names in NEEDS.items() if re.search(words, line) for name in names}
            assert needed <= named, f"{page.name}: {line}: name the extras {', '.join(needed - named)} before it"
