"""The fair comparison: it is killed, goes on where it was, and its tables hold the numbers of its files.

python -m pytest tests/integration/test_benchmark_fair.py -m slow
"""

import json
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.fair.__main__ import estimate_minutes
from benchmarks.fair.jobs import jobs_of
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


def script(*lines):
    return lambda: [sys.executable, "-c", "; ".join(lines)]


def test_jobs_run_after_what_they_need_and_once_only(tmp_path):
    first, second = tmp_path / "a" / "first", tmp_path / "a" / "second"
    jobs = [
        Job("second", second, script(f"open({str(second)!r}, 'w').write(open({str(first)!r}).read() + '2')"), (first,)),
        Job("first", first, script(f"open({str(first)!r}, 'w').write('1')")),
    ]
    said = []
    run_jobs(jobs, 2, Folder(tmp_path), said.append)
    assert second.read_text() == "12"
    assert [line.partition(",")[0] for line in said] == ["1 of 2: first", "2 of 2: second"]
    run_jobs(jobs, 2, Folder(tmp_path), said.append)
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
        run_jobs(jobs, 2, Folder(tmp_path), print)
    assert time.monotonic() - began < 30
    with pytest.raises(VmrError, match="nobody is missing, and no job makes it"):
        run_jobs([Job("x", tmp_path / "x", script(), (tmp_path / "nobody",))], 2, Folder(tmp_path), print)


def test_steps_fill_the_time_of_a_network(tmp_path):
    folder, settings = Folder(tmp_path), Settings(2.0, 1, ("masked", "masked_tuned"))
    jobs = {job.name: job for job in jobs_of(settings, folder)}
    assert jobs["masked_tuned-0"].needs == (folder.probe("masked_tuned"), folder.model("masked", 0))
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
