"""`vmr-eval --task classify` as a command: its report, its exit status, a kill, several processes, wrong options."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.classifiers import save_tiny_classifier, write_colour_film
from tests.integration.commands import refused, run_here
from tests.patience import PATIENCE_S
from vmr.cli.eval import main

NUM_VIDEOS = 40
TIMES = ("command", "date")
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of 40 colours in folders of three classes, and a classifier of random weights."""
    folder = tmp_path_factory.mktemp("classify")
    for number in range(NUM_VIDEOS):
        name = CLASSES[number % 3]
        write_colour_film(folder / "videos" / name / f"{number}.mp4", (5 * number, 200 - 5 * number, 99), 4)
    save_tiny_classifier(folder / "model", CLASSES)
    return folder


def options(folder: Path, *more: object) -> list[str]:
    given = ["--task", "classify", "--dataset", folder / "videos", "--model", folder / "model", "--num-workers", 1]
    return list(map(str, (*given, *more)))


def finish(folder: Path, out: Path, *more: object) -> dict:
    """The report of the command, run in this process, without the times."""
    main(options(folder, "--out", out, *more))
    return {name: value for name, value in json.loads(out.read_text()).items() if name not in TIMES}


def num_kept(cache: Path) -> int:
    try:
        with sqlite3.connect(f"file:{cache / 'features-2.sqlite3'}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM videos").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0


def test_a_killed_evaluation_goes_on_to_the_same_report(folder, tmp_path, monkeypatch):
    straight = finish(folder, tmp_path / "one.json", "--no-cache")
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "vmr.cli.eval", *options(folder, "--cache", cache, "--out", tmp_path / "two.json")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    start = time.monotonic()
    while num_kept(cache) < 3:
        assert process.poll() is None and time.monotonic() - start < PATIENCE_S, "it ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = num_kept(cache)
    assert 3 <= kept < NUM_VIDEOS and not (tmp_path / "two.json").exists()
    decoded = []
    from vmr.eval.classification import logits

    real = logits.decode_views
    monkeypatch.setattr(
        logits, "decode_views", lambda items, *rest: real([decoded.append(item) or item for item in items], *rest)
    )
    assert finish(folder, tmp_path / "two.json", "--cache", cache) == straight
    assert len(decoded) == NUM_VIDEOS - kept
    assert finish(folder, tmp_path / "two.json", "--cache", cache) == straight
    assert len(decoded) == NUM_VIDEOS - kept  # the second time none


def test_missing_videos_cost_the_exit_status(folder, tmp_path, capsys):
    names = [f"{CLASSES[number % 3]}/{number}.mp4,{number % 3}" for number in range(3)]
    (tmp_path / "list.csv").write_text("\n".join([*names, "red/gone.mp4,2"]))
    given = ["--task=classify", "--dataset", str(tmp_path / "list.csv"), "--video-dir", str(folder / "videos")]
    given += ["--model", str(folder / "model"), "--num-workers", "1", "--cache", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as end:
        main([*given, "--markdown", str(tmp_path / "report.md"), "--html", str(tmp_path / "report.html")])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and "left out: red/gone.mp4: no such file" in err
    assert "error: the score is over 3 of 4 videos (1 missing or unreadable): repair the files" in err
    assert "3 of 4 videos" in (tmp_path / "report.md").read_text() and (tmp_path / "report.html").is_file()
    main([*given, "--allow-missing", "--join", "basename", "--views", "1x1", "--average", "logits"])
    out, err = capsys.readouterr()
    assert "joined by basename" in out and "views 2 x 16, 1 x 1" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--task classify --dataset {videos} --model {model} --encoder offline", "there is no option --encoder"),
        ("--task classify --dataset {videos} --model {model} --rerank 5", "there is no option --rerank"),
        ("--dataset {videos} --model {model}", "--model is an option for classifiers: give --task classify"),
        ("--dataset {videos} --overlap-classes=x", "--overlap-classes is an option for classifiers: give --task"),
        ("--task classify --dataset {videos} --model {model} --num-frames 1000000000", "must be at most 65536"),
        ("--task classify --dataset {videos} --model {model} --image-size 80000", "must be at most 4096"),
        ("--task classify --dataset {videos} --model {model} --frames some", "--frames must be one of sparse, sthsth"),
        ("--dataset {videos} --out x.json --html x.json", "--html x.json is the file that --out names"),
        ("--task clasify --dataset {videos}", "--task must be one of retrieval, classify"),
        ("--dataset k400 --data-dir {videos}", "k400 is a data set with classes: give --task classify --model NAME"),
        ("--task classify --dataset k400 --model {model}", "data set 'k400' needs --data-dir"),
        ("--task classify --dataset k500 --model {model}", "neither a data set nor a file 'k500': did you mean 'k"),
        ("--task classify --dataset {videos} --data-dir {videos} --model {model}", "leave out --data-dir; --video-dir"),
        ("--task classify --dataset {videos} --model {model} --views 4", "views is '4': give segments x crops"),
        ("--task classify --dataset {videos} --model {model} --controls --no-controls", "contradict each other"),
        ("--task classify --dataset shapes-actions --video-dir {videos} --model {model}", "leave out --video-dir"),
        ("--task classify --dataset shapes-actions --model {model}", "model does not know 24 of the classes of"),
        ("--task classify --dataset {videos} --model offline", "offline is an encoder, which names no classes"),
        (
            "--task classify --dataset ssv2 --data-dir {videos} --model {model}",
            "videos: no list and no folder of the split val",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(given, said, folder):
    words = given.format(videos=folder / "videos", model=folder / "model").split()
    assert said in refused(run_here("vmr-eval", *words))


def test_the_task_may_stand_in_a_file_of_options(folder, tmp_path, capsys):
    config = tmp_path / "eval.yaml"
    config.write_text(f"task: classify\ndataset: {folder / 'videos'}\nmodel: {folder / 'model'}\nlimit: 1\n")
    main(["--config", str(config), "--num-workers", "1", "--no-cache"])
    assert "PARTIAL" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(folder, tmp_path):
    """pytest -m slow tests/integration/test_eval_classify.py"""
    one = finish(folder, tmp_path / "one.json", "--no-cache")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    given = options(folder, "--no-cache", "--out", tmp_path / "two.json")
    done = subprocess.run([*command, "vmr.cli.eval", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two.json").read_text())
    assert {name: value for name, value in two.items() if name not in TIMES} == one
