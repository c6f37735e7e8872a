"""Training with the real command on a tiny model: exact resume, kills, broken files, validation, refused settings."""

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.processes import finish
from tests.integration.tiny_run import finish_here, kill_after, start, write_config
from vmr.cli.train import main
from vmr.errors import VmrError
from vmr.models.catalogue import load_model
from vmr.models.text.bert_names import tied_copies
from vmr.models.upstream.video_text import upstream_name
from vmr.train.checkpoint import list_checkpoints, step_of
from vmr.train.config import TrainConfig
from vmr.train.config_file import read_config, save_config
from vmr.train.loop import Clock, train
from vmr.train.run_config import ValidationConfig
from vmr.train.source_config import AnnotatedSourceConfig, ShapesSourceConfig, TarSourceConfig

FILES = ("model.safetensors", "optimizer.safetensors", "ema.safetensors")


@pytest.fixture(scope="module")
def config_file(footage, annotations, tmp_path_factory) -> Path:
    """25 steps in two stages; two workers decode."""
    run = {"checkpoint_every": 10, "log_every": 5}
    return write_config(tmp_path_factory.mktemp("config"), footage, num_steps=(13, 12), num_workers=2, run=run)


@pytest.fixture(scope="module")
def tiny(config_file) -> TrainConfig:
    """The same run with shapes as its only source, without worker processes, in one stage of four steps."""
    config = read_config(config_file)
    data = replace(config.data, sources=[ShapesSourceConfig(num_clips=50)], num_workers=0)
    return replace(config, data=data, stages=[replace(config.stages[0], num_steps=4)])


def lines(out: Path) -> list[dict]:
    """The log's lines of training, without what depends on the clock."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in record.items() if key not in ("step_s", "waiting")}
        for record in records
        if "loss" in record
    ]


def same_files(first: Path, second: Path) -> None:
    for name in FILES:
        one, other = load_file(first / name), load_file(second / name)
        assert one.keys() == other.keys()
        different = [key for key in one if not torch.equal(one[key], other[key])]
        assert not different, f"{name}: {len(different)} of {len(one)} tensors differ, first: {different[0]}"


@pytest.fixture(scope="module")
def straight(config_file, tmp_path_factory) -> Path:
    """The 25 steps without interruption."""
    out = tmp_path_factory.mktemp("straight") / "run"
    printed = finish_here(config_file, "--run.out", out)
    assert f"trained: {out}" in printed
    assert "step 25 plain: loss" in printed
    return out


def test_a_run_leaves_all_that_it_should(straight, config_file):
    assert {path.name for path in straight.iterdir()} >= {"config.yaml", "log.jsonl", "skipped.jsonl", "model"}
    assert read_config(straight / "config.yaml") == read_config(config_file, ["--run.out", str(straight)])
    assert [record["step"] for record in lines(straight)] == [1, 5, 10, 13, 15, 20, 25]  # the stages end at 13 and 25
    first, *_, last = lines(straight)
    assert set(first["losses"]) == {"contrastive", "matching", "masked_lm", "alignment"}
    assert set(last["losses"]) == {"contrastive", "matching", "masked_lm"}
    assert last["loss"] == pytest.approx(sum(last["losses"].values()))
    assert last["loss"] < first["loss"]
    encoder = load_model(straight / "model", device="cpu")
    weights, average = encoder.model.state_dict(), load_file(straight / "checkpoints/step-00000025/ema.safetensors")
    assert all(torch.equal(weights[name], average[f"module.{name}"]) for name in weights)  # the average is what is kept


def test_resume_is_exact_after_a_kill(straight, config_file, tmp_path):
    out = tmp_path / "run"
    kill_after(start(config_file, "--run.out", out), out, 10)
    assert not (out / "checkpoints" / "step-00000025").exists()
    assert list(out.glob(".clips-0/*/*.mp4"))  # clips of the stream; the next run removes them
    assert "resumes from" in finish(start(config_file, "--run.out", out))
    assert not list(out.glob(".clips*"))
    same_files(out / "checkpoints" / "step-00000025", straight / "checkpoints" / "step-00000025")
    # log lines are means since the last one, so those of step 15 on cover the same steps in both
    assert lines(out) == lines(straight)


def test_kills_at_any_moment_lose_nothing(straight, config_file, tmp_path):
    """In this test a checkpoint is being written most of the time, so most kills leave an incomplete checkpoint."""
    out = tmp_path / "run"
    options = ("--run.out", out, "--run.checkpoint_every", 1, "--run.keep", 2)
    for step in (3, 9, 17):
        kill_after(start(config_file, *options), out, step)
    finish_here(config_file, *options)
    same_files(out / "checkpoints" / "step-00000025", straight / "checkpoints" / "step-00000025")


def test_a_finished_run_is_not_trained_further(straight, config_file, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (weights,) = (out / "model").glob("*.safetensors")
    shutil.rmtree(out / "model")
    finish_here(config_file, "--run.out", out)
    assert [path.name for path in (out / "model").glob("*.safetensors")] == [weights.name]  # named by their sum
    assert lines(out) == lines(straight)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(straight, config_file, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    broken = out / "checkpoints" / "step-00000025" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    printed = finish_here(config_file, "--run.out", out)
    assert "ignores a checkpoint:" in printed and "step-00000025/model.safetensors is damaged" in printed
    same_files(out / "checkpoints" / "step-00000025", straight / "checkpoints" / "step-00000025")


# -- in this process -----------------------------------------------------------------------------------------------


def trained_weights(out: Path, step: int = 4) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08}" / "model.safetensors")


def test_stopping_and_going_on(tiny, tmp_path):
    whole = train(replace(tiny, run=replace(tiny.run, out=str(tmp_path / "whole"))))
    parts = replace(tiny, run=replace(tiny.run, out=str(tmp_path / "parts"), stop_after_steps=3))
    train(parts)
    assert not (tmp_path / "parts" / "model").exists()
    train(replace(parts, run=replace(parts.run, stop_after_steps=None)))
    same_files(whole / "checkpoints" / "step-00000004", tmp_path / "parts" / "checkpoints" / "step-00000004")


def test_time_runs_out(tiny, tmp_path):
    train(replace(tiny, run=replace(tiny.run, out=str(tmp_path / "run"), max_minutes=1e-9)))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_keeps_master_weights(tiny, tmp_path, precision):
    run = replace(tiny.run, out=str(tmp_path / "run"), precision=precision, log_every=1, stop_after_steps=3)
    train(replace(tiny, run=run))
    weights = trained_weights(tmp_path / "run", 3)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())
    resumed = replace(run, stop_after_steps=None)
    train(replace(tiny, run=resumed))
    straight = replace(run, out=str(tmp_path / "straight"), stop_after_steps=None)
    train(replace(tiny, run=straight))
    same_files(tmp_path / "run/checkpoints/step-00000004", tmp_path / "straight/checkpoints/step-00000004")
    losses = {record["step"]: record["loss"] for record in lines(tmp_path / "run")}
    assert losses[max(losses)] == pytest.approx(15, abs=8)  # a step that fp16 skips is not in the log


def test_accumulation_is_a_mean_over_batches(tiny, tmp_path):
    """With two batches per step, data are used twice as fast; the loss in the log is the mean of both."""
    run = replace(tiny.run, out=str(tmp_path / "run"), accumulate=2, stop_after_steps=2)
    train(replace(tiny, run=run))
    state = json.loads((tmp_path / "run/checkpoints/step-00000002/state.json").read_text())
    assert state["positions"][0]["batch"] == 4


def test_rand_augment_is_repeated_exactly(tiny, tmp_path):
    data = replace(tiny.data, rand_augment=True)
    for name in ("first", "second"):
        train(replace(tiny, data=data, run=replace(tiny.run, out=str(tmp_path / name))))
    train(replace(tiny, run=replace(tiny.run, out=str(tmp_path / "without"))))
    first, second, without = (trained_weights(tmp_path / name) for name in ("first", "second", "without"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], without[key]) for key in first)


def test_the_best_model_is_kept(tiny, tmp_path):
    seen = []

    def validate(encoder) -> dict[str, float]:
        seen.append(encoder.encode_text(["a red circle moves left"]))
        return {"text_to_video/R@1": [10.0, 30.0, 20.0, 30.0][len(seen) - 1]}

    run = replace(tiny.run, out=str(tmp_path / "run"), validate_every=1, keep=1, checkpoint_every=100)
    train(replace(tiny, run=run, validation=ValidationConfig("any.json")), validate)
    assert len(seen) == 4
    assert not torch.equal(seen[0], seen[1])
    best = load_model(tmp_path / "run" / "best", device="cpu")
    assert torch.equal(best.encode_text(["a red circle moves left"]), seen[1])  # ties do not replace it
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000004"]
    state = json.loads((tmp_path / "run/checkpoints/step-00000004/state.json").read_text())
    assert state["best"] == {"step": 2, "metrics": {"text_to_video/R@1": 30.0}}


def test_a_metric_that_a_validation_lacks_is_refused(tiny, annotations, footage, tmp_path, capsys):
    run = replace(tiny.run, out=str(tmp_path / "run"), validate_every=2)
    validation = ValidationConfig(str(annotations), str(footage), metric="text_to_video/R1")
    save_config(replace(tiny, run=run, validation=validation), tmp_path / "config.yaml")
    line = refused(capsys, tmp_path / "config.yaml")
    assert "validation.metric: no 'text_to_video/R1'; use one of rsum, text_to_video/R@1" in line
    assert not (tmp_path / "run").exists()


def test_a_run_may_go_on_with_another_metric(tiny, tmp_path):
    def go(metric: str, until: int) -> dict:
        run = replace(tiny.run, out=str(tmp_path / "run"), validate_every=1, stop_after_steps=until)
        validation = ValidationConfig("any.json", metric=metric)
        train(replace(tiny, run=run, validation=validation), lambda encoder: {metric: 7.0})
        return json.loads((tmp_path / f"run/checkpoints/step-{until:08}/state.json").read_text())["best"]

    assert go("text_to_video/R@1", 2) == {"step": 1, "metrics": {"text_to_video/R@1": 7.0}}
    assert go("rsum", 4) == {"step": 3, "metrics": {"rsum": 7.0}}


def test_validation_does_not_disturb_training(tiny, tmp_path):
    run = replace(tiny.run, out=str(tmp_path / "with"), validate_every=1)
    train(replace(tiny, run=run, validation=ValidationConfig("any.json")), lambda encoder: {"text_to_video/R@1": 0.0})
    train(replace(tiny, run=replace(tiny.run, out=str(tmp_path / "without"))))
    same_files(tmp_path / "with/checkpoints/step-00000004", tmp_path / "without/checkpoints/step-00000004")


def test_the_command_validates_by_retrieval(tiny, annotations, footage, tmp_path, capsys):

    run = replace(tiny.run, out=str(tmp_path / "run"), validate_every=2)
    validation = ValidationConfig(str(annotations), str(footage), rerank=3, metric="vtm/video_to_text/R@5")
    save_config(replace(tiny, run=run, validation=validation), tmp_path / "config.yaml")
    main([str(tmp_path / "config.yaml")])
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [(record["step"], record["validation"]) for record in records if "validation" in record]
    assert [step for step, _ in found] == [2, 4]
    # there are only four texts, so with any model a video's own text is among the first five
    assert [metrics["video_to_text/R@5"] for _, metrics in found] == [100.0, 100.0]
    assert [metrics["vtm/text_to_video/R@10"] for _, metrics in found] == [100.0, 100.0]


def test_broken_files_are_skipped_by_name(tiny, footage, tmp_path):
    """Three videos in eight are broken in different ways; only the next pair of the source takes the place of each."""
    folder = tmp_path / "data"
    shutil.copytree(footage, folder)
    whole = (footage / "bikes.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 50])
    good = ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"]
    names = [*good, *good[:2], "empty.mp4", "text.mp4", "cut.mp4", "absent.mp4"]
    rows = [{"video": name, "caption": f"caption {number}"} for number, name in enumerate(names)]
    (folder / "train.json").write_text(json.dumps(rows))
    data = replace(
        tiny.data,
        root=str(folder),
        sources=[AnnotatedSourceConfig(path="train.json")],
        num_workers=2,
        max_bad_share=0.6,
    )
    stages = [replace(tiny.stages[0], name=name) for name in ("one", "two")]  # each meets all of them
    config = replace(tiny, data=data, stages=stages, run=replace(tiny.run, out=str(tmp_path / "run"), log_every=1))
    train(replace(config, run=replace(config.run, stop_after_steps=7)))
    train(config)
    skipped = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(line["name"] for line in skipped) == ["absent.mp4", "cut.mp4", "empty.mp4", "text.mp4"]
    assert all(line["reason"] for line in skipped)
    assert [record["num_skipped"] for record in lines(tmp_path / "run")][-1] == 4


def test_broken_files_of_one_name_in_two_sources_are_both_listed(tiny, footage, tmp_path):
    for source in ("one", "two"):
        (tmp_path / source).mkdir()
        shutil.copy(footage / "bikes.mp4", tmp_path / source / "good.mp4")
        (tmp_path / source / "broken.mp4").write_text(source)
        rows = [{"video": name, "caption": "a red circle"} for name in ("good.mp4", "good.mp4", "broken.mp4")]
        (tmp_path / f"{source}.json").write_text(json.dumps(rows))
    sources = [AnnotatedSourceConfig(path=f"{source}.json", video_dir=source) for source in ("one", "two")]
    data = replace(tiny.data, root=str(tmp_path), sources=sources, max_bad_share=0.9)
    train(replace(tiny, data=data, run=replace(tiny.run, out=str(tmp_path / "run"))))
    skipped = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted((line["source"], line["name"]) for line in skipped) == [
        ("one.json", "broken.mp4"),
        ("two.json", "broken.mp4"),
    ]


def test_shards_are_trained_on_and_what_they_lack_is_said(tiny, footage, tmp_path):
    (tmp_path / "caption.txt").write_text("a red circle moves up")
    with tarfile.open(tmp_path / "clips.tar", "w") as shard:
        for number, name in enumerate(("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")):
            shard.add(footage / name, f"{number}.mp4")
            if number:
                shard.add(tmp_path / "caption.txt", f"{number}.txt")
    data = replace(tiny.data, root=str(tmp_path), sources=[TarSourceConfig(path="clips.tar")])
    out = tmp_path / "run"
    train(replace(tiny, data=data, run=replace(tiny.run, out=str(out))))
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records if "event" in record] == [
        f"clips.tar: 1 samples have no video or no caption, such as {tmp_path / 'clips.tar'}/0"
    ]
    assert lines(out)[-1]["step"] == 4  # the last of a stage has its line, though log_every is 10


def test_images_and_videos_are_mixed(tiny, tmp_path):
    """Images are videos of one frame: their batches leave the temporal positions alone."""
    from PIL import Image

    for number in range(6):
        Image.new("RGB", (40, 50), (40 * number, 90, 20)).save(tmp_path / f"{number}.png")
    rows = [{"image": f"{number}.png", "caption": "a red circle moves up"} for number in range(6)]
    (tmp_path / "images.json").write_text(json.dumps(rows))
    images = AnnotatedSourceConfig(path="images.json", media="image")
    mixed = replace(tiny.data, root=str(tmp_path), sources=[*tiny.data.sources, images])
    batches = replace(mixed, batch_size=replace(mixed.batch_size, image=3))
    train(replace(tiny, data=batches, run=replace(tiny.run, out=str(tmp_path / "mixed"), seed=1)))
    state = json.loads((tmp_path / "mixed/checkpoints/step-00000004/state.json").read_text())
    videos, pictures = state["positions"][0]["taken"]
    assert videos % 4 == pictures % 3 == 0  # a batch is of one kind
    assert (videos // 4, pictures // 3) == (2, 2)  # as seed 1 draws them

    only = replace(batches, sources=[images])
    train(replace(tiny, data=only, run=replace(tiny.run, out=str(tmp_path / "only"))))
    moments = load_file(tmp_path / "only/checkpoints/step-00000004/optimizer.safetensors")
    assert "video_encoder.temporal_pos_embedding/exp_avg" not in moments
    assert "video_encoder.pos_embed/exp_avg" in moments


@pytest.fixture
def diverging(tiny, tmp_path) -> TrainConfig:
    """A run whose first step changes the weights so much that the second step has no finite loss."""
    optimizer = replace(tiny.optimizer, learning_rate=1e30, max_grad_norm=None)
    return replace(tiny, optimizer=optimizer, run=replace(tiny.run, out=str(tmp_path / "run")))


def test_divergence_is_named(diverging):
    with pytest.raises(VmrError, match=r"step 2: the \w+ loss is not finite \(losses: .*nan.*\): lower optimizer"):
        train(diverging)


def test_bad_steps_can_be_left_out(diverging, tmp_path):
    train(replace(diverging, run=replace(diverging.run, skip_bad_steps=3)))
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    left_out = [record["step"] for record in records if "skipped: the" in record.get("event", "")]
    assert left_out == [2, 3, 4]
    weights = trained_weights(tmp_path / "run")
    assert all(weight.isfinite().all() for weight in weights.values())
    state = json.loads((tmp_path / "run/checkpoints/step-00000004/state.json").read_text())
    assert (state["step"], state["num_bad_steps"]) == (4, 3)


# -- refused settings ----------------------------------------------------------------------------------------------


def refused(capsys, *arguments: object) -> str:
    """The one line on standard error of a command that ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def other_sizes(tiny, tmp_path_factory) -> Path:
    """A saved model that is wider than the tiny one."""
    wider = replace(tiny.model, video=replace(tiny.model.video, width=32))
    out = tmp_path_factory.mktemp("other") / "run"
    return train(replace(tiny, model=wider, run=replace(tiny.run, out=str(out)))) / "model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run.sed", 1], "--run.sed"),
        (["--data.root", "nowhere"], "nowhere/test.json"),
        (["--data.sources", '[{"path": "absent.json"}]'], "absent.json"),
        (["--data.sources", "[]"], "data.sources: name one at least"),
        (["--data.frame_cache", "cache"], "data.frame_cache keeps frames of files, and shapes has no lasting files"),
        (["--model.text.num_layers", 2], "2 text layers of 2 leave none"),
        (["--data.sources", '[{"kind": "shapes", "parts": ["pair"]}]'], "no training part 'pair'"),
        (["--data.max_text_tokens", 25], "max_text_tokens is 25"),
        (["--data.max_bad_share", 2], "max_bad_share"),
        (["--model.tokenizer", "minilm"], "minilm has 30522 entries, but model.text.vocab_size is 40"),
        (["--model.teacher", "resnet"], "unknown teacher 'resnet'"),
        (["--model.teacher", "null"], "need a teacher"),
        (["--model.video.student.teacher_dim", 512], "teacher_dim is 512; this teacher has 112"),
        (["--model.video.student.num_taps", 2], "gives features of 1 layer, not 2"),
        (["--model.video.tubelet_size", 3], "num_frames 2 is no multiple of tubelet_size 3"),
        (["--model.init", "nowhere.pth"], "nowhere.pth"),
        (["--model.text", "null", "--model.text_init", "minilm"], "has 40 entries"),
        (["--optimizer.overrides", '{"enkoder": 0.1}'], "'enkoder' matches no parameter's name"),
        (["--optimizer.overrides", '{"(": 0.1}'], "overrides: '(' is not a regular expression"),
        (["--optimizer.warmup", 30], "but a warmup of 30"),
        (["--run.device", "tpu"], "run.device 'tpu' is not available"),
        (["--run.wandb", "project"], "pip install wandb"),
    ],
)
def test_wrong_input_is_one_line_before_training(config_file, tmp_path, capsys, arguments, message):
    line = refused(capsys, config_file, "--run.out", tmp_path / "run", *arguments)
    assert message in line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_of_another_size_is_refused(config_file, other_sizes, tmp_path, capsys):
    line = refused(capsys, config_file, "--run.out", tmp_path / "run", "--model.init", other_sizes)
    assert "another shape" in line and "32" in line


def test_a_teacher_of_another_grid_is_refused(tmp_path, config_file, capsys):
    open_clip = pytest.importorskip("open_clip")
    visual = open_clip.create_model("ViT-S-32-alt")  # 7 x 7 patches at 224 px, the student has 4 x 4
    torch.save(visual.state_dict(), tmp_path / "clip.pt")
    teacher = f"open_clip:ViT-S-32-alt/{tmp_path / 'clip.pt'}"
    line = refused(capsys, config_file, "--run.out", tmp_path / "run", "--model.teacher", teacher)
    assert "its grid is 7 x 7 patches at 224 px, the student's 4 x 4" in line


def test_another_run_is_not_gone_on_with(straight, config_file, tmp_path, capsys):
    before = sorted(path.name for path in (straight / "checkpoints").iterdir())
    line = refused(capsys, config_file, "--run.out", straight, "--run.seed", 1)
    assert "holds another run: run.seed is 1, but 0 in the other" in line
    assert "holds a run already" in refused(capsys, config_file, "--run.out", straight, "--run.resume", "false")
    assert sorted(path.name for path in (straight / "checkpoints").iterdir()) == before


def test_a_folder_in_use_is_refused(config_file, tmp_path, capsys):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        assert "another run is writing here" in refused(capsys, config_file, "--run.out", tmp_path / "run")


def test_a_config_is_needed(capsys):
    assert "CONFIG" in refused(capsys)
    assert "name a config" in refused(capsys, "--run.seed", "1")
    assert "nowhere.yaml: No such file" in refused(capsys, "nowhere.yaml")


def test_help_is_quick_and_without_torch():
    code = (
        "import sys; from vmr.cli.train import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "vmr-train configs/train/shapes_nano.yaml" in result.stdout


def test_help_with_a_config_lists_every_key(config_file, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(config_file), "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for key in ("--model.video.width", "--data.max_bad_share", "--optimizer.layer_decay", "--run.skip_bad_steps"):
        assert key in printed
    assert "steps from one checkpoint to the next" in printed


# -- initial weights -------------------------------------------------------------------------------------------


def test_going_on_with_a_saved_model(tiny, straight, tmp_path):
    saved = load_model(straight / "model", device="cpu").model.state_dict()
    video = replace(tiny.model.video, num_frames=4)
    model = replace(tiny.model, init=str(straight / "model"), video=video)
    optimizer = replace(tiny.optimizer, learning_rate=1e-12)
    out = train(replace(tiny, model=model, optimizer=optimizer, run=replace(tiny.run, out=str(tmp_path / "run"))))
    weights = trained_weights(out)
    assert weights["video_encoder.temporal_pos_embedding"].shape == (1, 4, 16)
    same = [name for name in weights if name in saved and saved[name].shape == weights[name].shape]
    assert len(same) == len(weights) - 1
    assert all(torch.allclose(weights[name], saved[name], atol=1e-6) for name in same)
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert "weights loaded" in events[0]["event"]


@pytest.mark.parametrize("part", ["all", "video"])
def test_starting_from_a_file_of_upstreams(tiny, straight, tmp_path, part):
    """A whole video-text checkpoint, or the vision weights of masked pre-training, which have no norm after pooling."""
    saved = load_model(straight / "model", device="cpu").model.state_dict()
    if part == "all":
        content = {upstream_name(name, 2, "bert."): tensor for name, tensor in saved.items()}
        content |= {copy: content[original] for copy, original in tied_copies("text_encoder.", "bert.").items()}
        loaded = set(saved)
    else:
        loaded = {name for name in saved if name.startswith("video_encoder.") and "pool_norm" not in name}
        content = {name.removeprefix("video_encoder."): saved[name] for name in loaded}
    torch.save({"model": content, "epoch": 9}, tmp_path / "upstream.pth")
    model = replace(tiny.model, **{"init" if part == "all" else "video_init": str(tmp_path / "upstream.pth")})
    run = replace(tiny.run, out=str(tmp_path / "run"))
    optimizer = replace(tiny.optimizer, learning_rate=1e-12)
    weights = trained_weights(train(replace(tiny, model=model, optimizer=optimizer, run=run)))
    same = {name for name in weights if torch.allclose(weights[name], saved[name], atol=1e-6)}
    assert loaded <= same
    fresh = ("text_proj.weight", "text_encoder.layers.0.expand.weight", "fusion.layers.0.expand.weight")
    assert part == "all" or not same.intersection(fresh)


def test_checkpoints_come_by_the_clock(tiny, tmp_path):
    run = replace(tiny.run, out=str(tmp_path / "run"), checkpoint_minutes=1e-9)
    assert [step_of(path) for path in list_checkpoints(train(replace(tiny, run=run)) / "checkpoints")] == [4, 3, 2, 1]


def test_the_first_checkpoint_comes_early_and_changes_nothing(tiny, tmp_path, monkeypatch):
    """After a limit that is shorter here, whatever checkpoint_every says; the next ones come as it says."""
    run = replace(tiny.run, checkpoint_every=1000)
    late = train(replace(tiny, run=replace(run, out=str(tmp_path / "late")))) / "checkpoints"
    monkeypatch.setattr("vmr.train.loop.FIRST_CHECKPOINT_MINUTES", 1e-9)
    early = train(replace(tiny, run=replace(run, out=str(tmp_path / "early")))) / "checkpoints"
    assert [step_of(path) for path in list_checkpoints(late)] == [4]
    assert [step_of(path) for path in list_checkpoints(early)] == [4, 1]
    same_files(early / "step-00000004", late / "step-00000004")


@pytest.mark.parametrize(("minutes", "due"), [(None, [300]), (3.0, [180, 360, 540]), (60.0, [300])])
def test_when_a_checkpoint_is_due(minutes, due):
    """The first after 5 minutes or sooner, the others when the config says so, counted from the last one."""
    seconds = [1000.0]
    clock, found = Clock(None, minutes, now=lambda: seconds[0]), []
    for passed in range(600):
        seconds[0] = 1000.0 + passed
        if clock.is_due():
            found.append(passed)
            clock.saved()
    assert found == due
    assert not clock.is_over()


def test_a_checkpoint_that_came_anyway_is_the_first():
    seconds = [0.0]
    clock = Clock(10.0, None, now=lambda: seconds[0])
    seconds[0] = 200.0
    clock.saved()
    seconds[0] = 550.0
    assert not clock.is_due() and not clock.is_over()
    seconds[0] = 600.0
    assert clock.is_over()
