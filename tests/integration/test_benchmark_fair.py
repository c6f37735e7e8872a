"""The fair comparison: it is killed, goes on where it was, and its tables hold the numbers of its files.

python -m pytest tests/integration/test_benchmark_fair.py -m slow
"""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from benchmarks.fair.__main__ import estimate_minutes
from benchmarks.fair.jobs import jobs_of
from benchmarks.fair.kept import code_hash, keep_plan
from benchmarks.fair.lanes import Job, run_jobs
from benchmarks.fair.plan import ABLATIONS, KINDS, Folder, Settings, config_of
from benchmarks.fair.report import markdown
from tests.paths import REPOSITORY
from vmr.errors import VmrError
from vmr.models.classification.matching import count_parameters
from vmr.train.config_file import read_config


def test_networks_have_equal_parameters_and_share_the_recipe():
    configs = {name: read_config(config_of(name)) for name in KINDS}
    reference = configs["videomamba"]
    for name, config in configs.items():
        assert config.model.network.kind == name
        assert count_parameters(config.model.network) == pytest.approx(564_312, rel=0.02)
        for section in ("data", "optimizer", "classification", "stages", "objective"):
            assert getattr(config, section) == getattr(reference, section)
        assert config.model.network.num_frames == 8 and config.model.network.image_size == 32


def test_all_of_it_fits_into_an_evening():
    assert 60 < estimate_minutes(Settings(7.0, 3, (*KINDS, *ABLATIONS)), lanes=2) < 135


def all_is_well():
    """Nothing has changed since the comparison began."""


def script(*lines):
    return lambda: [sys.executable, "-c", "; ".join(lines)]


def test_jobs_run_after_what_they_need_and_once_only(tmp_path):
    first, second = tmp_path / "a" / "first", tmp_path / "a" / "second"
    jobs = [
        Job("second", second, script(f"open({str(second)!r}, 'w').write(open({str(first)!r}).read() + '2')"), (first,)),
        Job("first", first, script(f"open({str(first)!r}, 'w').write('1')")),
    ]
    said = []
    run_jobs(jobs, 2, Folder(tmp_path), said.append, all_is_well)
    assert second.read_text() == "12"
    assert [line.partition(",")[0] for line in said] == ["1 of 2: first", "2 of 2: second"]
    run_jobs(jobs, 2, Folder(tmp_path), said.append, all_is_well)
    assert len(said) == 2
    records = [json.loads(line) for line in Folder(tmp_path).processes.read_text().splitlines()]
    assert [record["job"] for record in records] == ["first", "second"] and records[0]["cpu_s"] > 0


def test_a_job_that_fails_stops_the_others_and_is_named(tmp_path):
    jobs = [
        Job("long", tmp_path / "long", script("import time", "time.sleep(60)")),
        Job("broken", tmp_path / "broken", script("print('the reason')", "raise SystemExit(3)")),
    ]
    began = time.monotonic()
    with pytest.raises(VmrError, match="broken failed with status 3: the reason"):
        run_jobs(jobs, 2, Folder(tmp_path), print, all_is_well)
    assert time.monotonic() - began < 30
    with pytest.raises(VmrError, match="nobody is missing, and no job makes it"):
        run_jobs([Job("x", tmp_path / "x", script(), (tmp_path / "nobody",))], 2, Folder(tmp_path), print, all_is_well)


def test_no_job_starts_when_the_code_has_changed(tmp_path):
    def changed():
        raise VmrError("other code")

    job = Job("only", tmp_path / "only", script(f"open({str(tmp_path / 'only')!r}, 'w')"))
    with pytest.raises(VmrError, match="other code"):
        run_jobs([job], 1, Folder(tmp_path), print, changed)
    assert not job.result.exists() and not Folder(tmp_path).log("only").exists()
    with pytest.raises(VmrError, match="other code"):  # during the last job
        run_jobs([], 1, Folder(tmp_path), print, changed)


def test_a_model_is_done_when_its_config_is_written_which_comes_last(tmp_path):
    folder = Folder(tmp_path)
    jobs = {
        job.name: job for job in jobs_of(Settings(2.0, 1, ("videomamba", "wide", "wide_distilled"), steps=2), folder)
    }
    written = folder.model("videomamba", 0) / "config.json"
    assert jobs["videomamba-0"].result == written
    assert jobs["wide_distilled-0"].needs == jobs["score-videomamba-0"].needs == (written,)
    assert all(job.result.suffix == ".json" for job in jobs.values())  # no folder, which is there before it is whole
    command = jobs["wide_distilled-0"].command()
    assert command[-2:] == ["--classification.distillation.teacher", str(folder.model("videomamba", 0))]


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """A folder of recipes in place of the shipped ones, which a test may change."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "base.yaml").write_text("optimizer: {learning_rate: 0.001}\n")
    for name in ("vit", "vim"):
        (folder / f"fair_{name}.yaml").write_text(f"base: base.yaml\nrun: {{out: runs/{name}}}\n")
    monkeypatch.setattr("benchmarks.fair.kept.config_of", lambda name: folder / f"fair_{name}.yaml")
    return folder


def test_a_comparison_goes_on_by_the_same_recipes_and_code_only(tmp_path, recipes, monkeypatch):
    settings, folder = Settings(2.0, 1, ("vit", "vim")), Folder(tmp_path / "out")
    keep_plan(settings, folder)
    (recipes / "fair_vit.yaml").write_text("# in other words\nrun: {out: runs/vit}\nbase: base.yaml\n")
    keep_plan(settings, folder)  # a comment is no change
    (recipes / "fair_vit.yaml").write_text("base: base.yaml\nrun: {out: runs/vit, seed: 3}\n")
    with pytest.raises(
        VmrError, match=r"out: holds runs by other recipes \(fair_vit.yaml changed\): go back to commit"
    ):
        keep_plan(settings, folder)
    (recipes / "fair_vit.yaml").write_text("base: base.yaml\nrun: {out: runs/vit}\n")
    (recipes / "base.yaml").write_text("optimizer: {learning_rate: 0.002}\n")
    with pytest.raises(VmrError, match=r"\(fair_vit.yaml, fair_vim.yaml changed\)"):
        keep_plan(settings, folder)
    (recipes / "base.yaml").write_text("optimizer: {learning_rate: 0.001}\n")
    monkeypatch.setattr("benchmarks.fair.kept._ROOT", tmp_path)
    with pytest.raises(VmrError, match="holds runs by other code of vmr: go back to commit"):
        keep_plan(settings, folder)
    with pytest.raises(VmrError, match=r"holds a comparison with minutes 2.0: repeat its options"):
        keep_plan(replace(settings, minutes=1.0), folder)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"{}", b'{"minutes": 2.0}', None])
def test_a_damaged_plan_is_named(tmp_path, recipes, content):
    settings, folder = Settings(2.0, 1, ("vit", "vim")), Folder(tmp_path / "out")
    keep_plan(settings, folder)
    whole = folder.plan.read_bytes()
    folder.plan.write_bytes(whole.replace(b'"recipes": {', b'"recipes": [], "r": {') if content is None else content)
    with pytest.raises(VmrError, match=r"plan.json is damaged, or was written by another version of vmr: name another"):
        keep_plan(settings, folder)


def test_changed_code_has_another_hash(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.fair.kept._ROOT", tmp_path)
    (tmp_path / "vmr").mkdir()
    (tmp_path / "vmr" / "a.py").write_text("1")
    one = code_hash()
    (tmp_path / "vmr" / "note.md").write_text("1")
    assert code_hash() == one
    (tmp_path / "vmr" / "a.py").write_text("2")
    assert code_hash() != one


def test_steps_fill_the_time_of_a_network(tmp_path):
    folder, settings = Folder(tmp_path), Settings(2.0, 1, ("masked", "masked_tuned"))
    jobs = {job.name: job for job in jobs_of(settings, folder)}
    assert jobs["masked_tuned-0"].needs == (folder.probe("masked_tuned"), folder.trained("masked", 0))
    probed = folder.probe("masked").with_suffix("")
    probed.mkdir(parents=True)
    records = [{"step": step, "step_s": 9.0 if step < 20 else 0.25} for step in (1, 10, 20, 30, 40, 50, 60)]
    (probed / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    jobs["probe-masked"].finish()
    command = jobs["masked-0"].command()
    assert json.loads(command[command.index("--stages") + 1])[0]["num_steps"] == 60 / 0.25  # half of two minutes


def command_of(out, *options):
    return [
        *(sys.executable, "-m", "benchmarks.fair", "--out", str(out), "--seeds", "1", "--steps", "2", "--limit", "24"),
        *(*options, "--only", "videomamba", "vit"),
    ]


@pytest.mark.slow
def test_a_killed_comparison_goes_on(tmp_path):
    out = tmp_path / "fair"
    started = subprocess.Popen(command_of(out), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert "1 of 6" in started.stdout.readline()
    started.send_signal(signal.SIGKILL)
    started.communicate()
    done = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/model/*")}
    assert done
    time.sleep(5)  # its processes end by themselves
    again = subprocess.run(command_of(out), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not trained again
    results = json.loads((out / "results.json").read_text())
    assert results["runs"]["vit"]["0"]["scores"]["32"]["views"]["top-1"] <= 100
    assert (out / "results.md").read_text() == markdown(results)
    assert all((out / name).read_text().startswith("<?xml") for name in ("frames.svg", "cpu.svg"))
    changed = command_of(out, "--minutes", "1")
    other = subprocess.run(changed, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert "holds a comparison with minutes 7.0: repeat its options" in other.stderr
