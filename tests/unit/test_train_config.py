"""Training configs: files, their base files, refused values, and every config that comes with vmr."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.paths import CONFIGS
from vmr.errors import VmrError
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import SPECIAL, CaptionTokenizer, clean_caption
from vmr.models.upstream.published_vision import PUBLISHED_VISION
from vmr.processes import ALONE
from vmr.train.build import build_loader, build_sources, build_task, learning_rate_factor
from vmr.train.checkpoint import first_difference
from vmr.train.config import (
    ModelConfig,
    RunConfig,
    StageConfig,
    TrainConfig,
    ValidationConfig,
    with_defaults,
)
from vmr.train.config_file import read_config, save_config
from vmr.train.data_config import BatchSize, DataConfig
from vmr.train.optimizer import OptimizerConfig
from vmr.train.source_config import AnnotatedSourceConfig, HubSourceConfig, ShapesSourceConfig, TarSourceConfig
from vmr.train.tasks.config import LossWeights, MaskConfig
from vmr.train.tasks.retrieval import model_sizes

SHIPPED = sorted((CONFIGS / "train").glob("*.yaml"))
UNMASKED = MaskConfig("none", 0.0)


def write(folder: Path, **files: str) -> Path:
    """Write files, by names without suffix; return the last."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


# -- shipped configs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_configs_are_read(file, tmp_path):
    config = read_config(file)
    assert config.data.clip_spec(config.model.input).num_frames == config.model.preprocess.num_frames
    if "base" not in file.stem:
        assert config.run.out.endswith(file.stem)
        assert config.data.sources
    for name in ("contrastive", "matching"):
        assert getattr(config.objective.weights, name) == 1.0
    save_config(config, tmp_path / "copy.yaml")
    assert read_config(tmp_path / "copy.yaml") == config


def test_classifiers_are_trained_at_upstreams_rates():
    """Kinetics with 1e-6 of 2e-4 at both ends, times 512 clips and 2 augmentations over 256; ImageNet unscaled ends."""

    def rates(name: str) -> tuple[TrainConfig, list[float]]:
        config = read_config(CONFIGS / "train" / f"{name}.yaml")
        warmup = config.optimizer.warmup * (1 if config.optimizer.warmup >= 1 else config.num_steps)
        steps = (0, round(warmup) - 1, config.num_steps - 1)
        return config, [config.optimizer.learning_rate * learning_rate_factor(config, step) for step in steps]

    config, found = rates("finetune_k400")
    assert found == pytest.approx([4e-6, 8e-4, 4e-6], rel=1e-3)
    assert config.num_steps == 70 * (240_436 // config.data.batch_size.video)
    config, (first, _, last) = rates("distill_middle")
    assert (first, last) == pytest.approx((5e-7, 5e-6), rel=0.05)
    assert config.num_steps == 300 * config.optimizer.steps_per_epoch
    assert config.data.repeats == 3 and config.classification.distillation.teacher == "videomamba-s-in1k"
    config, found = rates("finetune_lvu_like")
    assert found == pytest.approx([5e-7, 2e-4, 5e-7], rel=0.02)
    assert config.model.network.num_classes == 1 and config.classification.mixup == config.classification.cutmix == 0


@pytest.mark.parametrize(
    ("name", "of", "epochs", "num_items", "rate"),
    [
        ("finetune_k400_384", "videomamba-ti-k400-f64-384", (10, 2), 240_436, 5e-6 * 2 / 256),
        ("finetune_ssv2_288", "videomamba-ti-ssv2-f16-288", (10, 2), 168_913, 5e-6 * 2 / 256),
        ("imagenet_tiny_448", "videomamba-ti-in1k-448", (30, 5), 1_281_167, 5e-6 / 512),
        ("imagenet_tiny_576", "videomamba-ti-in1k-576", (10, 2), 1_281_167, 5e-6 / 512),
    ],
)
def test_higher_resolutions_continue_the_classifier_below(name, of, epochs, num_items, rate):
    config = read_config(CONFIGS / "train" / f"{name}.yaml")
    made, begun, network = PUBLISHED_VISION[of], PUBLISHED_VISION[config.model.init], config.model.network
    assert (network.num_frames, network.image_size, network.num_classes) == (
        made.num_frames, made.image_size, made.num_classes,
    )  # fmt: skip
    assert (begun.data, begun.size, begun.num_frames) == (made.data, made.size, made.num_frames)
    assert begun.image_size < made.image_size and not config.model.fresh_head
    batch = config.data.batch_size.image if made.num_frames == 1 else config.data.batch_size.video
    steps = num_items // batch
    assert (config.num_steps, config.optimizer.warmup) == (epochs[0] * steps, epochs[1] * steps)
    assert config.optimizer.learning_rate == pytest.approx(rate * batch)
    assert config.optimizer.steps_per_epoch in (None, steps)
    ends = (config.optimizer.start_ratio, config.optimizer.min_ratio)  # of images they are not scaled by the batch
    scale = config.optimizer.learning_rate if made.num_frames == 1 else 5e-6
    assert ends == pytest.approx((1e-6 / scale, (5e-6 if made.num_frames == 1 else 1e-6) / scale))
    assert config.optimizer.weight_decay == 1e-8


def test_all_that_were_promised_are_shipped():
    pretraining = {f"pretrain_{pairs}{kind}" for pairs in ("5m", "17m", "25m") for kind in ("", "_unmasked")}
    tuning = {f"finetune_{name}" for name in ("msrvtt", "didemo", "activitynet", "lsmdc", "msvd")}
    assert pretraining | tuning | {"clips_smoke", "shapes_nano"} <= {file.stem for file in SHIPPED}


def test_unmasked_pretraining_starts_from_the_masked_one():
    for pairs in ("5m", "17m", "25m"):
        masked = read_config(CONFIGS / "train" / f"pretrain_{pairs}.yaml")
        unmasked = read_config(CONFIGS / "train" / f"pretrain_{pairs}_unmasked.yaml")
        assert unmasked.model.init == f"{masked.run.out}/model"
        assert unmasked.data.sources == masked.data.sources
        assert model_sizes(unmasked).embed_dim == masked.model.embed_dim == 512
        assert replace(unmasked.model.video, student=masked.model.video.student) == masked.model.video


def test_shapes_nano_is_small_and_reads_all_its_captions():
    config = read_config(CONFIGS / "train" / "shapes_nano.yaml")
    objective = build_task(config, start=True).objective
    assert sum(parameter.numel() for parameter in objective.parameters()) <= 3_000_000
    captions = [
        clean_caption(caption)
        for source, _ in build_sources(config)
        for index in range(500)
        for caption in source.scene(index).captions
    ]
    ids, mask = objective.tokenizer(captions, 512)
    assert not (ids == objective.tokenizer.unknown_id).any()
    assert mask.sum(dim=1).max() <= config.data.max_text_tokens


def test_shapes_vocabulary_is_the_words_of_the_captions():
    from vmr.data.shapes.world import KINDS
    from vmr.data.sources.shapes import ShapesSource

    source = ShapesSource(KINDS, num_clips=2000)
    captions = [caption for index in range(2000) for caption in source.scene(index).captions]
    words = {word for caption in captions for word in clean_caption(caption).split()}
    assert CaptionTokenizer(str(CONFIGS / "model" / "shapes_vocab.txt")).words == [*SPECIAL, *sorted(words)]


# -- files ---------------------------------------------------------------------------------------------------------


# What sources of all kinds had in common, with the defaults, when they were one dataclass: what saved configs say.
SHARED = {
    "path": None, "media": "video", "weight": 1.0, "video_dir": None, "format": "auto", "only": None, "split": "train",
    "subset": None, "revision": None, "video_column": "video", "caption_column": "caption", "stream": False,
    "shuffle_rows": 1000, "parts": ["pairs"], "num_clips": 20000, "seed": 0, "group": 1, "difference": "motion",
}  # fmt: skip
SAVED_SOURCES = [
    {"kind": "annotations", **SHARED, "path": "a.json", "only": "b.txt"},
    {"kind": "tar", **SHARED, "path": "c", "weight": 2.0},
    {"kind": "hub", **SHARED, "path": "d", "stream": True, "shuffle_rows": 7},
    {"kind": "shapes", **SHARED, "parts": ["order"], "num_clips": 50},
]
TODAYS_SOURCES = [
    AnnotatedSourceConfig(path="a.json", only="b.txt"),
    TarSourceConfig(path="c", weight=2.0),
    HubSourceConfig(path="d", stream=True, shuffle_buffer=7),
    ShapesSourceConfig(parts=("order",), num_clips=50),
]


def test_sources_saved_with_the_keys_of_all_kinds_are_read(tmp_path):
    file = write(tmp_path, config=yaml.safe_dump({"data": {"sources": SAVED_SOURCES}, "optimizer": {"eps": 1e-9}}))
    config = read_config(file)
    assert (config.data.sources, config.optimizer.eps) == (TODAYS_SOURCES, 1e-9)
    for option in (["--data.sources", json.dumps(SAVED_SOURCES)], [f"--data.sources={json.dumps(SAVED_SOURCES)}"]):
        assert read_config(None, option).data.sources == TODAYS_SOURCES
    more = read_config(file, ["--data.sources+", json.dumps(SAVED_SOURCES[3])])
    assert more.data.sources == [*TODAYS_SOURCES, TODAYS_SOURCES[3]]
    with pytest.raises(VmrError, match=r"kind tar has no key 'stream'; its keys are kind, path, media, weight, labels"):
        read_config(file, ["--data.sources+", json.dumps({**SAVED_SOURCES[1], "stream": True})])


def test_help_lists_the_keys_of_each_kind(capsys):
    keys = {"AnnotatedSourceConfig": "only", "HubSourceConfig": "shuffle_buffer", "LabelledSourceConfig": "classes"}
    for name, key in keys.items():
        with pytest.raises(SystemExit):
            read_config(None, ["--data.sources.help", name])
        assert f"--data.sources.{key} " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        read_config(None, ["--help"])
    assert "HubSourceConfig" in capsys.readouterr().out


def test_a_file_lists_only_what_differs_from_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path, first="run: {seed: 1, keep: 3}\nmodel: {video: {width: 64, student: {teacher_dim: 7}}}\n")
    write(tmp_path, second="base: first.yaml\nmodel: {video: {num_layers: 3, student: {num_taps: 2}}}\n")
    file = write(tmp_path / "deep", third="base: ../second.yaml\nrun: {seed: 5}\n")
    config = read_config(file, ["--run.keep", "9"])
    assert (config.run.seed, config.run.keep) == (5, 9)
    video = config.model.video
    assert (video.width, video.num_layers, video.patch_size) == (64, 3, 16)
    assert video.student is not None
    assert (video.student.teacher_dim, video.student.num_taps) == (7, 2)


def test_lists_are_replaced_and_can_be_added_to(tmp_path):
    write(tmp_path, first="data: {sources: [{kind: shapes}, {path: a.json}]}\n")
    file = write(tmp_path, second="base: first.yaml\ndata: {sources: [{path: b.json, weight: 2}]}\n")
    assert [source.path for source in read_config(file).data.sources] == ["b.json"]
    more = read_config(file, ["--data.sources+", '{"path": "c.json"}'])
    assert [source.path for source in more.data.sources] == ["b.json", "c.json"]


def test_nothing_of_a_list_is_left_when_it_is_replaced(tmp_path):
    """A list of the same length is replaced too, in a file and on the command line; the parser would merge both."""
    write(
        tmp_path,
        first="data: {sources: [{path: a.json, only: y.txt, video_dir: v, weight: 3}]}\n"
        "stages: [{name: s, learning_rate: 0.5, weights: {matching: 0.5}}]\n",
    )
    file = write(tmp_path, second="base: first.yaml\ndata: {sources: [{path: b.json}]}\nstages: [{num_steps: 7}]\n")
    wanted = ([AnnotatedSourceConfig(path="b.json")], [StageConfig(num_steps=7)])
    config = read_config(file)
    assert (config.data.sources, config.stages) == wanted
    for argument in (["--data.sources", '[{"path": "c.json"}]'], ['--data.sources=[{"path": "c.json"}]']):
        assert read_config(tmp_path / "first.yaml", argument).data.sources == [AnnotatedSourceConfig(path="c.json")]
    stages = read_config(tmp_path / "first.yaml", ["--stages", '[{"num_steps": 7}]']).stages
    assert stages == [StageConfig(num_steps=7)]
    named_so = read_config(tmp_path / "first.yaml", ["--run.out", "stages"])  # a value, no option
    assert (named_so.run.out, named_so.stages[0].name) == ("stages", "s")


def test_a_vocabulary_is_looked_for_beside_the_config_that_names_it(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("\n".join(SPECIAL))
    file = write(tmp_path / "words", first="model: {tokenizer: vocab.txt}\n")
    based = write(tmp_path, second="base: words/first.yaml\n")
    expected = str(tmp_path / "words" / "vocab.txt")
    assert read_config(file).model.tokenizer == read_config(based).model.tokenizer == expected
    assert read_config(based, ["--model.tokenizer", "minilm"]).model.tokenizer == "minilm"


def test_flip_has_three_values(tmp_path):
    for text, value in (("false", False), ("true", True), ("unless_sided", "unless_sided")):
        config = read_config(write(tmp_path, config=f"data: {{flip: {text}}}\n"))
        assert config.data.clip_spec(config.model.video).flip == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: {sed: 1}", "config.yaml: there is no key run.sed: did you mean run.seed?"),
        ("runn: {seed: 1}", "runn"),
        ("run: {seed: x}", "run.seed"),
        ("run: {seed: -1}", "run.seed"),
        ("run: {precision: fp8}", "fp8"),
        ("run: {precision: fp16, parallel: fsdp}", "fsdp takes bf16 or fp32"),
        ("run: {accumulate: 0}", "run.accumulate is 0"),
        ("run: {ema: 1.0}", "run.ema is 1.0"),
        ("run: {validate_every: 5}", "validation and run.validate_every need each other"),
        ("stages: []", "stages: there must be at least one"),
        ("stages: [{name: a, num_steps: 0}]", "num_steps of 'a' is 0"),
        ("stages: [{weights: {contrast: 1}}]", "no loss contrast; there are contrastive"),
        ("stages: [{video_mask: {kind: none, ratio: 0}}]", "alignment needs masks"),
        ("objective: {weights: {contrastive: 0, matching: 0, masked_lm: 0, alignment: 0}}", "nor all of them 0"),
        ("model: {video: {image_size: 100}}", "image_size 100 is no multiple of patch_size 16"),
        ("model: {init: a, text_init: minilm}", "model.init starts the whole model"),
        ("model: {text: {width: 24, num_heads: 12}, text_init: minilm}", "text_init has its own sizes"),
        ("data: {sources: [{path: a.json, weight: 0}]}", "weight is 0"),
        ("data: {sources: [{kind: annotations}]}", "kind annotations needs the key 'path'"),
        (
            "data: {sources: [{kind: shapes, path: a.json}]}",
            "config.yaml: data.sources: kind shapes has no key 'path'; its keys are",
        ),
        (
            "data: {sources: [{path: a.json, stream: true}]}",
            "kind annotations has no key 'stream'; its keys are kind",
        ),
        ("data: {sources: [{kind: hub, path: a, shuffle_rows: 0}]}", "shuffle_buffer is 0"),
        (
            "data: {sources: [{kind: files, path: a}]}",
            "no kind 'files': use one of annotations, labelled, folder, tar",
        ),
        ("data: {flip: sometimes}", "data.flip"),
        ("data: {max_text_tokens: 1}", "max_text_tokens"),
        ("optimizer: {learning_rate: 0}", "learning_rate is 0"),
        ("optimizer: {betas: [0.9, 1.0]}", "betas"),
        ("optimizer: {warmup: -1}", "warmup is -1"),
        ("optimizer: {eps: 0}", "eps is 0"),
        ("optimizer: {min_ratio: 7}", "min_ratio is 7"),
        ("optimizer: 5", "config.yaml: optimizer must be keys with values, not 5"),
        ("model: 5", "config.yaml: model must be keys with values, not 5"),
        ("data: null", "config.yaml: data must be keys with values, not null"),
        ("stages: 5", "config.yaml: stages must be a list, not 5"),
        ("data: {batch_size: 64}", "config.yaml: data.batch_size must be keys with values, not 64"),
        ("model: {video: null}", "config.yaml: model.video must be keys with values, not null"),
        ("model: {text: {width: 128, num_heads: 12}}", "width 128 is no multiple of num_heads 12"),
        ("model: {video: {student: {teacher_dim: 0}}}", "teacher_dim"),
        ("stages: [{batch_size: {video: 0}}]", "batch_size must be at least 1"),
        ("stages: [{learning_rate: -0.1}]", "learning_rate of 'train' is -0.1"),
        ("stages: [{num_steps: 9}, {num_steps: 5, warmup: 6}]", "'train' has 5 steps, but a warmup of 6"),
        (
            "{optimizer: {warmup: 6}, stages: [{num_steps: 9}, {num_steps: 5}]}",
            "'train' has 5 steps, but a warmup of 6",
        ),
        ("stages: [{num_steps: 5, cosine_steps: 4}]", "cosine_steps of 'train' is 4, less than its steps"),
        ("stages: [{source_weights: [1]}]", "source_weights of 'train' must be as many as data.sources"),
        ("stages: [{source_weights: [-1, 2]}]", "each must be at least 0, one above it"),
        ("stages: [{source_weights: [0, 0]}]", "each must be at least 0, one above it"),
        ("objective: {alignment_norm: none}", "alignment_kind l2 compares unit vectors"),
        ("base: config.yaml", "is based on itself"),
        ("base: nowhere.yaml", "nowhere.yaml: No such file"),
        ("[1, 2]", "not a config: holds a list"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, text, message):
    with pytest.raises(VmrError, match=re.escape(message)) as caught:
        read_config(write(tmp_path, config=text + "\n"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VmrError, match=r"absent\.yaml: No such file"):
        read_config(tmp_path / "absent.yaml")


def test_the_configs_that_come_along_are_found_from_anywhere(tmp_path, monkeypatch):
    here = read_config(CONFIGS / "train" / "shapes_nano.yaml")
    monkeypatch.chdir(tmp_path)
    assert read_config("configs/train/shapes_nano.yaml").essentials() == here.essentials()
    with pytest.raises(VmrError, match=r"configs/train/absent\.yaml: No such file"):
        read_config("configs/train/absent.yaml")


def test_printing_a_config_and_the_defaults(tmp_path, capsys):
    with pytest.raises(SystemExit):
        read_config(write(tmp_path, config="run: {seed: 77}\n"), ["--print_config"])
    printed = capsys.readouterr().out
    assert "seed: 77" in printed and "num_steps: 1000" in printed
    again = write(tmp_path, printed=printed)
    assert read_config(again) == replace(TrainConfig(), run=RunConfig(seed=77))


# -- what a config means -------------------------------------------------------------------------------------------


def test_stages_follow_each_other():
    config = TrainConfig(stages=[StageConfig("a", 3), StageConfig("b", 2, weights={"alignment": 0.0})])
    assert config.num_steps == 5
    found = [(stage.name, step) for stage, step in (config.stage_at(step) for step in range(5))]
    assert found == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    with pytest.raises(IndexError):
        config.stage_at(5)


def test_a_stage_overrides_what_it_names():
    stage = StageConfig("b", 2, weights={"alignment": 0.0}, video_mask=UNMASKED, image_mask=UNMASKED)
    config = TrainConfig(stages=[StageConfig("a", 3), stage])
    first, second = (config.objective_of(stage) for stage in config.stages)
    assert first == config.objective
    assert second.weights == LossWeights(alignment=0.0)
    assert second.video_mask == second.image_mask == UNMASKED
    assert second.word_mask_probability == config.objective.word_mask_probability


def test_every_stage_has_its_own_schedule():
    optimizer = OptimizerConfig(learning_rate=1.0, warmup=0.5, min_ratio=0.1)
    config = TrainConfig(
        optimizer=optimizer, stages=[StageConfig("a", 4), StageConfig("b", 4, learning_rate=0.5, warmup=1)]
    )
    factors = [learning_rate_factor(config, step) for step in range(8)]
    # a: 2 steps of warm-up (the first at the floor), then the cosine over 2: 1 and 1/2.
    # b: 1 step of warm-up, then the cosine over 3: 1, 3/4, 1/4; all at half the rate
    expected = [0.1, 0.5, 1.0, 0.5, 0.05, 0.5, 0.375, 0.125]
    assert factors == pytest.approx(expected)


def test_a_stage_may_end_before_its_rate_has_fallen():
    optimizer = OptimizerConfig(learning_rate=1.0, warmup=1, min_ratio=0.1)
    config = TrainConfig(
        optimizer=optimizer, stages=[StageConfig("a", 3, cosine_steps=5), StageConfig("b", 2, warmup=0)]
    )
    factors = [learning_rate_factor(config, step) for step in range(5)]
    # a: the first three of 1 step of warm-up and the cosine over 4: 1, (1 + cos 45 deg) / 2; b: the cosine over 2
    assert factors == pytest.approx([0.1, 1.0, 0.8535534, 1.0, 0.5])


def test_a_stage_may_leave_sources_to_a_later_one():
    drawn = [ShapesSourceConfig(num_clips=50), ShapesSourceConfig(num_clips=50, seed=1)]
    stages = [StageConfig("a", 3, source_weights=[1, 0]), StageConfig("b", 3)]
    config = TrainConfig(data=DataConfig(sources=drawn, num_workers=0, batch_size=BatchSize(8)), stages=stages)
    sources = build_sources(config)
    position = None
    taken = []
    for stage in config.stages:
        with build_loader(config, sources, stage, ALONE) as loader:
            batches = loader.batches(position)
            for _ in range(stage.num_steps):
                position = next(batches).position
        taken.append(position.taken)
    assert taken[0] == (24, 0)  # three batches of eight
    assert sum(taken[1]) == 48 and taken[1][1] > 0


def test_the_model_guesses_words_only_if_it_is_taught_to():
    text = TextConfig(width=24, num_heads=2)
    taught = TrainConfig(model=ModelConfig(text=text))
    untaught = replace(taught, stages=[StageConfig(weights={"masked_lm": 0.0})])
    assert model_sizes(taught).masked_lm
    assert not model_sizes(untaught).masked_lm


def test_sizes_come_with_the_pretrained_bert():
    sizes = model_sizes(TrainConfig(model=ModelConfig(text_init="minilm"))).text
    assert (sizes.width, sizes.num_layers, sizes.num_text_layers) == (384, 6, 4)


def test_essentials_are_what_a_resumed_run_must_share():
    config = TrainConfig(data=DataConfig(sources=[ShapesSourceConfig()]))
    essentials = config.essentials()
    assert json.loads(json.dumps(essentials)) == essentials
    same = replace(
        config,
        run=RunConfig(out="b", keep=9, log_every=1, stop_after_steps=3, validate_every=2),
        data=replace(config.data, num_workers=1),
        validation=ValidationConfig("x.json"),
    )
    assert first_difference(same.essentials(), essentials) is None
    other = replace(config, data=replace(config.data, batch_size=BatchSize(64)))
    assert first_difference(other.essentials(), essentials) == "data.batch_size.video is 64, but 32 in the other"
    longer = replace(config, stages=[StageConfig(num_steps=2000)])
    assert first_difference(longer.essentials(), essentials) == "stages[0].num_steps is 2000, but 1000 in the other"
    more = replace(config, stages=[*config.stages, StageConfig()])
    assert first_difference(more.essentials(), essentials) == "stages are 2, but 1 in the other"


def test_a_run_of_a_version_with_fewer_keys_can_be_gone_on_with():
    config = read_config(CONFIGS / "train" / "shapes_nano.yaml")
    older = config.essentials()
    del older["data"]["sources"][1]["parts"], older["stages"][-1]["cosine_steps"], older["optimizer"]["eps"]
    assert with_defaults(older) == config.essentials()
    older["data"]["sources"] = SAVED_SOURCES
    todays = replace(config, data=replace(config.data, sources=TODAYS_SOURCES), stages=[StageConfig()])
    assert with_defaults(older)["data"]["sources"] == todays.essentials()["data"]["sources"]
    older = config.essentials()
    older["optimizer"]["from_the_future"] = 1
    assert (
        first_difference(config.essentials(), with_defaults(older))
        == "optimizer.from_the_future is None, but 1 in the other"
    )


def test_defaults_are_those_of_the_dataclasses():
    assert read_config(None) == TrainConfig()
    assert asdict(TrainConfig())["optimizer"]["learning_rate"] == 4e-4


def test_start_of_the_model_follows_from_the_seed():
    text = TextConfig(vocab_size=30522, width=16, num_layers=2, num_text_layers=1, num_heads=2, feed_forward=16)
    video = replace(ModelConfig().video, width=16, num_layers=1, image_size=32)
    stage = StageConfig(weights={"alignment": 0.0}, video_mask=UNMASKED, image_mask=UNMASKED)
    config = TrainConfig(model=ModelConfig(video=video, text=text), stages=[stage])
    torch.manual_seed(123)
    first, second = (build_task(config, start=True).state_dict() for _ in range(2))
    other = build_task(replace(config, run=RunConfig(seed=1)), start=True).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--data.sources.num_clips", "500"], {"num_clips": 500}),
        (["--data.sources.seed=5"], {"seed": 5}),
        (["--data.sources.weight", "2", "--data.sources.num_clips", "500"], {"weight": 2.0, "num_clips": 500}),
    ],
)
def test_one_key_of_a_source_changes_nothing_else(options, changed):
    before = read_config(CONFIGS / "train" / "shapes_nano.yaml").data.sources
    after = read_config(CONFIGS / "train" / "shapes_nano.yaml", options).data.sources
    assert after == [*before[:-1], replace(before[-1], **changed)]


def test_an_old_name_of_a_key_of_a_source_works_alone(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {sources: [{kind: hub, path: rows, stream: true, shuffle_rows: 3}]}")
    (source,) = read_config(tmp_path / "a.yaml", ["--data.sources.shuffle_rows", "5"]).data.sources
    assert (source.kind, source.stream, source.shuffle_buffer) == ("hub", True, 5)
    (source,) = read_config(tmp_path / "a.yaml", ["--data.sources.weight=3"]).data.sources
    assert (source.kind, source.stream, source.shuffle_buffer, source.weight) == ("hub", True, 3, 3.0)
    added = read_config(tmp_path / "a.yaml", ["--data.sources+={kind: shapes}", "--data.sources.seed=1"]).data.sources
    assert [source.kind for source in added] == ["hub", "shapes"] and added[1].seed == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.sources.num_clips=7", "kind hub has no key 'num_clips'"),
        ("--data.sources.weight=-1", "weight"),
        ("--data.sources={kind: shape}", "there is no kind 'shape'"),
        ("--data.sources=[", "--data.sources: not YAML"),
    ],
)
def test_a_wrong_key_of_a_source_is_one_line(tmp_path, option, words):
    (tmp_path / "a.yaml").write_text("data: {sources: [{kind: hub, path: rows}]}")
    with pytest.raises(VmrError, match=re.escape(words)) as caught:
        read_config(tmp_path / "a.yaml", [option])
    assert "\n" not in str(caught.value)


def test_a_key_of_no_source():
    with pytest.raises(VmrError, match="there is no source whose key could be changed"):
        read_config(None, ["--data.sources.weight=2"])
