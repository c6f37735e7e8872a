"""Classification and self-distillation on tiny networks: exact resume, targets, weights, refused settings."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.classifiers import save_tiny_classifier, write_colour_film
from tests.integration.commands import run_here
from tests.integration.processes import finish
from tests.integration.tiny_run import assert_same_state, kill_after, one_thread, start
from vmr.cli.train import main, make_validate
from vmr.errors import VmrError
from vmr.models.catalogue import load_classifier
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.distillation import HEAD
from vmr.models.classification.networks import build_network
from vmr.models.classification.saved import save_classifier
from vmr.models.classifier import ClipInput
from vmr.models.text.encoder import TextConfig
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.processes import ALONE
from vmr.train.build import build_loader, build_sources, build_task
from vmr.train.config import ModelConfig, RunConfig, StageConfig, TrainConfig, ValidationConfig
from vmr.train.config_file import save_config
from vmr.train.data_config import BatchSize, DataConfig
from vmr.train.loop import train
from vmr.train.optimizer import OptimizerConfig
from vmr.train.source_config import LabelledSourceConfig, ShapesSourceConfig
from vmr.train.tasks.classification import Classification
from vmr.train.tasks.config import ClassificationConfig, DistillationConfig, LossWeights, MaskConfig, ObjectiveConfig

COLORS = {"blue": (20, 30, 200), "green": (30, 190, 40), "red": (210, 20, 30)}
PICTURES = NetworkConfig(width=16, num_layers=2, image_size=32, patch_size=8, num_frames=1, num_classes=3)
SMALL = replace(PICTURES, width=8)
NUM_STEPS = 12
COMMANDS = ("vmr-train configs/train/finetune_k400", "vmr-eval --task classify")


@pytest.fixture(scope="module", autouse=True)
def as_the_command() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder for each color, with four pictures of noise around it."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name).mkdir()
        for number in range(4):
            noisy = np.clip(rng.normal(color, 40, (36, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A saved classifier that is smaller than the trained one."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("teacher")
    save_classifier(folder, build_network(SMALL), ["a", "b", "c"], "single", ClipInput(1, 32))
    return folder


@pytest.fixture(scope="module")
def plain(pictures) -> TrainConfig:
    """A few steps on the pictures, without a teacher."""
    return TrainConfig(
        task="classification",
        model=ModelConfig(network=PICTURES),
        data=DataConfig(
            [LabelledSourceConfig(path=".")], root=str(pictures), batch_size=BatchSize(video=4, image=4), num_workers=0
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2, schedule="upstream_steps"),
        stages=[StageConfig(num_steps=2)],
        run=RunConfig(ema=0.9, keep=99, device="cpu", log_every=1),
    )


@pytest.fixture(scope="module")
def distilled(plain, teacher) -> TrainConfig:
    """Twelve steps: the teacher helps in the first eight, clips are mixed in the first six."""
    classification = ClassificationConfig(distillation=DistillationConfig(str(teacher), weight=0.5, stop_after=8))
    return replace(
        plain,
        model=ModelConfig(network=replace(PICTURES, drop_path=0.2)),
        classification=classification,
        stages=[StageConfig("mixed", num_steps=6), StageConfig("plain", num_steps=NUM_STEPS - 6, mixing=False)],
        run=replace(plain.run, checkpoint_every=1),
    )


def in_folder(config: TrainConfig, out: Path, **run: object) -> TrainConfig:
    return replace(config, run=replace(config.run, out=str(out), **run))


def at_step(out: Path, step: int, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08}" / f"{name}.safetensors")


def logged(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(distilled, tmp_path_factory) -> Path:
    """All steps with a teacher, without interruption."""
    return train(in_folder(distilled, tmp_path_factory.mktemp("straight") / "run"))


# -- the run ---------------------------------------------------------------------------------------------------------


def test_resume_is_exact_after_a_kill(straight, distilled, tmp_path):
    """Of classification and of self-distillation: the run is killed while the teacher still helps."""
    out = tmp_path / "run"
    save_config(in_folder(distilled, out), tmp_path / "config.yaml")
    kill_after(start(tmp_path / "config.yaml"), out, 3)
    assert not (out / "model").exists()
    train(in_folder(distilled, out))
    assert_same_state(out, straight, NUM_STEPS)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_resume_is_exact_after_a_kill_of_two_processes(distilled, tmp_path):
    """`pytest -m slow tests/integration/test_train_classification.py`: four starts of torchrun, 40 s on two cores."""
    outs = [tmp_path / "straight", tmp_path / "killed"]
    files = [tmp_path / f"{out.name}.yaml" for out in outs]
    for out, file in zip(outs, files, strict=True):
        save_config(in_folder(distilled, out), file)
    finish(start(files[0], world=2))
    for step in (2, 7):  # while clips are mixed, and after that
        kill_after(start(files[1], world=2), outs[1], step)
        assert not (outs[1] / "model").exists()
    finish(start(files[1], world=2))
    assert_same_state(*outs, NUM_STEPS)


def test_the_teacher_helps_until_it_is_told_to_stop(straight):
    losses = {record["step"]: record["losses"] for record in logged(straight) if "losses" in record}
    assert [step for step in losses if "distillation" in losses[step]] == [*range(1, 9)]
    assert all("labels" in losses[step] for step in losses)
    head = f"{HEAD}1.weight"
    assert not torch.equal(at_step(straight, 7)[head], at_step(straight, 8)[head])
    assert torch.equal(at_step(straight, 8)[head], at_step(straight, NUM_STEPS)[head])
    assert losses[1]["distillation"] == pytest.approx(0.5 * 2, abs=0.5)  # random directions have a cosine around 0


def test_the_saved_model_classifies_without_what_only_distillation_needs(straight):
    classifier = load_classifier(straight / "model", device="cpu")
    assert (classifier.labels, classifier.target) == (("blue", "green", "red"), "single")
    average = at_step(straight, NUM_STEPS, "ema")
    weights = classifier.network.state_dict()
    assert all(torch.equal(weights[name], average[f"module.{name}"]) for name in weights)
    left_out = {name.removeprefix("module.") for name in average} - set(weights) - {"n_averaged"}
    assert left_out == {f"{HEAD}0.weight", f"{HEAD}1.weight", f"{HEAD}1.bias"}


def test_it_learns_and_keeps_the_best(plain, pictures, tmp_path):
    """Colors are learnt in a few steps; the accuracy is that of vmr-eval."""
    config = replace(
        plain,
        classification=ClassificationConfig(smoothing=0.0, mixup=0.0, cutmix=0.0, erasing=0.0),
        stages=[StageConfig(num_steps=40)],
        run=replace(plain.run, out=str(tmp_path / "run"), validate_every=20, ema=None),
        validation=ValidationConfig(str(pictures)),
    )
    train(config, make_validate(config.validation, config.task))
    *_, last = (record["validation"] for record in logged(tmp_path / "run") if "validation" in record)
    assert set(last) == {"top-1", "mean class accuracy"}
    assert last["top-1"] == 100.0
    assert load_classifier(tmp_path / "run" / "best", device="cpu").labels == tuple(COLORS)


def test_videos_are_learnt_as_well(plain, footage, tmp_path):
    """Several labels a clip, and two clips of each decoding."""
    (tmp_path / "names.txt").write_text("cartoon\nman\nride\nseat\n")
    (tmp_path / "multi.json").write_text(
        json.dumps(
            [
                {"video": "bigbuckbunny.mp4", "label": ["cartoon"]},
                {"video": "bikes.mp4", "label": ["man", "ride"]},
                {"video": "carphone_pristine.mp4", "label": ["man", "ride", "seat"]},
            ]
        )
    )
    source = LabelledSourceConfig(
        path=str(tmp_path / "multi.json"), video_dir=str(footage), classes=str(tmp_path / "names.txt"), target="multi"
    )
    network = replace(PICTURES, num_frames=2, num_classes=4)
    config = replace(
        in_folder(plain, tmp_path / "run"),
        model=ModelConfig(network=network),
        data=replace(plain.data, sources=[source], batch_size=BatchSize(video=2), num_augmented=2, sampling="segments"),
    )
    classifier = load_classifier(train(config) / "model", device="cpu")
    assert (classifier.target, classifier.labels) == ("multi", ("cartoon", "man", "ride", "seat"))
    assert (classifier.clip.num_frames, classifier.clip.frames) == (2, "sthsth")  # as Something-Something is tested
    assert logged(tmp_path / "run")[-1]["losses"]["labels"] == pytest.approx(0.7, abs=0.3)  # binary, of each class


def test_a_number_is_learnt(plain, pictures, tmp_path):
    """A validation over whole numbers takes them for numbers, since the network predicts one."""
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("".join(f"{name}/0.png,{row}\n" for row, name in enumerate(COLORS)))
    source = LabelledSourceConfig(path=str(numbers), video_dir=str(pictures), target="regression")
    config = replace(
        plain,
        run=replace(plain.run, out=str(tmp_path / "run"), validate_every=2),
        model=ModelConfig(network=replace(PICTURES, num_classes=1)),
        data=replace(plain.data, sources=[source]),
        validation=ValidationConfig(str(numbers), video_dir=str(pictures), metric="-MSE"),
    )
    out = train(config, make_validate(config.validation, config.task))
    (said,) = (record["validation"] for record in logged(out) if "validation" in record)
    assert set(said) == {"MSE", "-MSE"}
    assert "classification.smoothing 0.1 is not used: the labels are numbers" in (out / "log.jsonl").read_text()
    classifier = load_classifier(out / "model", device="cpu")
    assert (classifier.target, len(classifier.labels)) == ("regression", 1)


def test_all_processes_mix_in_the_same_way(plain):
    task = build_task(plain, start=True)
    assert isinstance(task, Classification)
    sources = build_sources(plain)
    task.check_sources([source for source, _ in sources])
    with build_loader(plain, sources, plain.stages[0], ALONE) as loader:
        batch = next(loader.batches())

    def prepared(shared: int, own: int, **stage: bool):
        task.set_stage(StageConfig(**stage))
        return task.prepare(batch, np.random.default_rng(shared), np.random.default_rng(own))

    one, other = prepared(1, 1), prepared(1, 2)
    assert torch.equal(one.targets, other.targets)
    assert not torch.equal(one.targets, prepared(2, 1).targets)
    assert not torch.equal(one.video, other.video)  # what is erased is drawn by each process
    plain_targets = prepared(1, 1, mixing=False).targets
    assert torch.equal(plain_targets.argmax(dim=1), torch.from_numpy(batch.labels))
    assert plain_targets.max().item() == pytest.approx(0.9 + 0.1 / 3)
    assert torch.allclose(one.targets.sum(dim=1), torch.ones(4))


# -- initial weights ---------------------------------------------------------------------------------------------------


def start_from(plain: TrainConfig, network: NetworkConfig, name: str, **model: object) -> dict[str, torch.Tensor]:
    task = build_task(replace(plain, model=ModelConfig(network=network, init=name, **model)), start=True)
    return task.model.state_dict()


def test_a_classifier_of_pictures_starts_one_of_videos(plain, straight):
    before = load_classifier(straight / "model", device="cpu").network.state_dict()
    after = start_from(plain, replace(PICTURES, num_frames=4, image_size=48), str(straight / "model"))
    changed = [name for name in after if after[name].shape != before[name].shape]
    assert changed == ["pos_embed", "temporal_pos_embedding"]
    assert all(torch.equal(after[name], before[name]) for name in after if name not in changed)


def test_other_classes_are_learnt_only_when_asked(plain, straight):
    network, model = replace(PICTURES, num_classes=5), str(straight / "model")
    with pytest.raises(VmrError, match=r"has 3 classes, but model.network.num_classes is 5: set model.fresh_head"):
        start_from(plain, network, model)
    after = start_from(plain, network, model, fresh_head=True)
    before = load_classifier(model, device="cpu").network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if not name.startswith("head."))
    assert after["head.weight"].shape == (5, 16)


def test_transformers_start_from_their_own_folder(plain, tmp_path):
    vit = replace(PICTURES, kind="vit")
    network = build_network(vit)
    save_classifier(tmp_path, network, ["a", "b", "c"], "single", ClipInput(1, 32))
    after = start_from(plain, vit, str(tmp_path))
    assert all(torch.equal(after[name], tensor) for name, tensor in network.state_dict().items())
    with pytest.raises(VmrError, match=r"is a vit, but model.network.kind is videomamba"):
        start_from(plain, PICTURES, str(tmp_path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["red", "green", "blue"],
            "has the classes in another order: its class 0 is 'red', but 'blue' in data.sources",
        ),
        (["blue", "green", "black"], "has other classes: its class 2 is 'black', but 'red' in data.sources"),
        (["blue", "Green", "RED"], None),
        (["class 0", "class 1", "class 2"], None),  # numbers are no names
        (["LABEL_0", "LABEL_1", "LABEL_2"], None),
    ],
)
def test_a_head_of_other_classes_is_not_kept(plain, tmp_path, capsys, names, said):
    save_classifier(tmp_path / "init", build_network(PICTURES), names, "single", ClipInput(1, 32))
    config = replace(plain, model=replace(plain.model, init=str(tmp_path / "init")))
    if said is not None:
        assert f"{said}: set model.fresh_head" in refused(capsys, config, tmp_path)
        config = replace(config, model=replace(config.model, fresh_head=True))
    task = build_task(config, start=True)
    task.check_sources([source for source, _ in build_sources(config)])
    assert task.labels == tuple(COLORS)


def test_the_documented_fine_tuning_on_own_classes_runs(tmp_path, monkeypatch):
    """The commands of docs/training.md, with a network and a run that are small."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text().replace("\\\n", " ")
    training, evaluation = (re.search(rf"^{name}.* mine.*$", text, re.MULTILINE)[0] for name in COMMANDS)
    for split in ("train", "val"):
        for number in range(12):
            film = tmp_path / "mine" / split / f"kind {number:02}" / "a.mp4"
            write_colour_film(film, (20 * number, 10 * number, 99), num_frames=3)
    save_tiny_classifier(tmp_path / "trained", ("a", "b"))
    network = {"width": 16, "num_layers": 1, "image_size": 16, "patch_size": 8, "num_frames": 2}
    small = [word for name, size in network.items() for word in (f"--model.network.{name}", str(size))]
    short = "--stages '[{num_steps: 1, warmup: 0}]' --run.validate_every 1 --run.precision fp32 --run.device cpu"
    short += " --model.init trained --data.batch_size.video 2 --data.num_workers 0"
    monkeypatch.chdir(tmp_path)
    main([*shlex.split(training)[1:], *small, *shlex.split(short)])
    assert load_classifier("runs/mine/best", device="cpu").labels == tuple(f"kind {n:02}" for n in range(12))
    assert "over 12 of 12 videos" in run_here(*shlex.split(evaluation)).stdout


# -- refused settings --------------------------------------------------------------------------------------------------


def refused(capsys, config: TrainConfig, folder: Path, *arguments: str) -> str:
    """The one line on standard error of a command that ends with status 2, before a step."""
    save_config(in_folder(config, folder / "run"), folder / "config.yaml")
    with pytest.raises(SystemExit) as caught:
        main([str(folder / "config.yaml"), *arguments])
    assert caught.value.code == 2
    assert not (folder / "run" / "checkpoints").exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.network.num_classes", "4"], "has 3 classes (single): set model.network.num_classes to 3, not 4"),
        (["--data.sources", '[{"kind": "shapes"}]'], "shapes has captions, but classification learns from labels"),
        (["--model.network", "null"], "task classification and model.network need each other"),
        (["--model.network.kind", "vit"], "self-distillation is for kind videomamba, not vit"),
        (["--model.network.num_frames", "0"], "--model.network.num_frames is 0, but must be at least 1"),
        (["--model.network.drop_path", "1"], "--model.network.drop_path is 1.0, but must be in [0, 1)"),
        (
            ["--model.network.init", "scaled"],
            "model.network.init is for kind vit or timesformer or vivit, not videomamba",
        ),
        (["--model.network.num_heads", "2"], "model.network.num_heads is for kind vit"),
        (["--model.teacher", "efficientnet"], "model.teacher: a classifier does not learn from it"),
        (["--model.text_init", "minilm"], "model.text_init: a classifier has no text encoder"),
        (["--model.network.image_size", "48", "--model.network.patch_size", "16"], "the teacher's patch_size is 8"),
        (["--classification.distillation.teacher", "nowhere/model"], "classification.distillation.teacher: "),
        (["--classification.distillation.weight", "0"], "classification.distillation: weight is 0"),
        (["--classification.smoothing", "1"], "classification: smoothing is 1"),
        (["--run.compile", "true"], "run.compile leaves out classification.distillation"),
        (["--task", "clasify"], "task"),
        (["--optimizer.steps_per_epoch", "5"], "schedule upstream_epochs and steps_per_epoch need each other"),
    ],
)
def test_wrong_input_is_one_line_before_training(distilled, tmp_path, capsys, arguments, message):
    assert message in refused(capsys, distilled, tmp_path, *arguments)


def test_labels_of_two_kinds_do_not_fit(plain, pictures, tmp_path, capsys):
    (tmp_path / "numbers.csv").write_text("red/0.png,0.5\nblue/0.png,1.5\n")
    numbers = LabelledSourceConfig(path=str(tmp_path / "numbers.csv"), video_dir=str(pictures), target="regression")
    data = replace(plain.data, sources=[*plain.data.sources, numbers])
    line = refused(capsys, replace(plain, data=data), tmp_path)
    assert "numbers.csv has numbers to predict, but" in line and "3 classes (single)" in line


def test_a_single_class_leaves_nothing_to_learn(plain, pictures, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("red/0.png,0\nblue/0.png,0\n")
    one = LabelledSourceConfig(path=str(tmp_path / "one.csv"), video_dir=str(pictures))
    line = refused(capsys, replace(plain, data=replace(plain.data, sources=[one])), tmp_path)
    assert "one.csv has one class only, which leaves nothing to learn" in line


def test_data_of_the_validation_is_named_by_its_keys(tmp_path):
    config = ValidationConfig("k400", data_dir=str(tmp_path / "K400"))
    with pytest.raises(VmrError, match=r"validation\.dataset k400, validation\.data_dir .*K400: .*K400: "):
        make_validate(config, "classification")
    with pytest.raises(VmrError, match=r"validation\.dataset gone\.json: "):
        make_validate(ValidationConfig("gone.json"), "retrieval")


def test_a_validation_that_does_not_fit_is_noticed_before_training(plain, tmp_path, capsys):
    config = replace(
        plain, run=replace(plain.run, validate_every=1), validation=ValidationConfig("shapes-actions", metric="top-1")
    )
    line = refused(capsys, config, tmp_path)
    assert "validation: " in line and "does not know 24 of the classes of shapes-actions" in line


def test_numbers_are_no_captions(pictures, tmp_path, capsys):
    (tmp_path / "numbers.csv").write_text("red/0.png,0.5\nblue/0.png,1.5\n")
    numbers = LabelledSourceConfig(path=str(tmp_path / "numbers.csv"), video_dir=str(pictures), target="regression")
    model = ModelConfig(
        video=VideoMambaConfig(width=16, num_layers=2, image_size=32, num_frames=1),
        text=TextConfig(width=16, num_layers=2, num_text_layers=1, num_heads=2, feed_forward=16),
        embed_dim=8,
    )
    weights, unmasked = LossWeights(masked_lm=0.0, alignment=0.0), MaskConfig("none", 0.0)
    objective = ObjectiveConfig(weights, unmasked, unmasked)
    config = TrainConfig(model=model, data=DataConfig([numbers], root=str(pictures)), objective=objective)
    line = refused(capsys, config, tmp_path)
    assert "numbers.csv has labels without a text, but retrieval learns from captions" in line


def test_sections_belong_to_their_tasks(plain, tmp_path, capsys):
    config = TrainConfig(
        data=DataConfig([ShapesSourceConfig()]), classification=ClassificationConfig(mixup=0.0), run=plain.run
    )
    assert "classification belongs to the task classification" in refused(capsys, config, tmp_path)
