"""The config of a training run: frozen dataclasses, whose docstrings are the help of `vmr-train CONFIG --help`."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vmr.models.classification.config import NetworkConfig
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, RGB, Preprocess
from vmr.models.teachers import Pixels
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import MINILM
from vmr.models.videomamba.backbone import BackboneConfig
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.repeats import SkipConfig
from vmr.train.data_config import BatchSize, DataConfig
from vmr.train.optimizer import OptimizerConfig
from vmr.train.run_config import RunConfig, ValidationConfig
from vmr.train.source_config import completed_source, require
from vmr.train.tasks.config import ClassificationConfig, LossWeights, MaskConfig, MaskedConfig, ObjectiveConfig

TaskName = Literal["retrieval", "classification", "masked"]


@dataclass(frozen=True)
class ModelConfig:
    """The model, the weights that it starts from, and its teacher.

    Attributes:
        video: sizes of the video encoder, which include the frames and pixels of a clip.
        network: kind and sizes of a classifier, which include the frames and pixels of a clip; null without
            classification.
        text: sizes of BERT; null takes those of text_init, or those of BERT base without text_init.
        embed_dim: dimensions of the space that videos and texts share.
        init: start the whole model from a folder saved by vmr, or from a checkpoint file of upstream's; a classifier
            also from the name of a released one.
        fresh_head: with init, start a classifier with a new head, for other classes.
        video_init: start the video encoder from a folder saved by vmr, such as that of masked pre-training, from a
            vision-only file of upstream's, or from a published one by name, such as videomamba-m-k400-mask-pt; a
            classifier starts from it with a new head.
        fresh_norm: with video_init, let the last norm of a classifier restart at 1. Upstream does so by accident: it
            looks for the trained one under another name.
        text_init: start BERT from minilm, a folder, or a repository of the Hugging Face hub.
        tokenizer: minilm (BERT uncased), a vocab.txt (relative to the config file or the current folder), or a hub
            repository.
        mean: mean of each RGB channel, of pixels in [0, 1]; subtracted from the input.
        std: standard deviation of each RGB channel, of pixels in [0, 1]; the input is divided by it.
        resize: how frames are resized when the trained model is used; see `Preprocess`.
        teacher: efficientnet, open_clip:MODEL/WEIGHTS, or null if no loss or mask needs a teacher.
        teacher_pixels: how pixels are normalised for a teacher of open_clip; see `load_teacher`.
        skip: which patches the trained video-text model leaves out when it is used, because they repeat earlier ones;
            null to leave out none. Train with the mask kind changed for it.
    """

    video: VideoMambaConfig = field(default_factory=VideoMambaConfig)
    network: NetworkConfig | None = None
    text: TextConfig | None = None
    embed_dim: int = 512
    init: str | None = None
    fresh_head: bool = False
    video_init: str | None = None
    fresh_norm: bool = False
    text_init: str | None = None
    tokenizer: str = MINILM
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    resize: Literal["crop", "stretch", "upstream"] = "upstream"
    teacher: str | None = None
    teacher_pixels: Pixels = "imagenet"
    skip: SkipConfig | None = None

    def __post_init__(self) -> None:
        require(self.embed_dim >= 1, f"model.embed_dim is {self.embed_dim}, but must be at least 1")
        parts = self.video_init or self.text_init
        require(not (self.init and parts), "model.init starts the whole model: leave out video_init and text_init")
        require(not (self.text and self.text_init), "model.text: text_init has its own sizes: leave out one of them")

    @property
    def input(self) -> BackboneConfig:
        """The sizes of the model that takes the clips."""
        return self.video if self.network is None else self.network

    @property
    def preprocess(self) -> Preprocess:
        """The size and normalisation of the model's videos."""
        return Preprocess(self.input.num_frames, self.input.image_size, self.resize, self.mean, self.std)


@dataclass(frozen=True)
class StageConfig:
    """A part of the run, with its own warm-up and cosine. A setting that is null is taken from the rest of the config.

    Attributes:
        name: name of the stage in logs.
        num_steps: optimiser steps.
        learning_rate: learning rate at the end of the warm-up; the rates of overrides change in proportion.
        warmup: length of the warm-up, in steps, or, below 1, as a share of the stage's steps.
        cosine_steps: steps of the warm-up and the whole cosine; null for num_steps. If greater than num_steps, the
            stage ends before the learning rate has reached its lowest value.
        batch_size: pairs in a batch of all processes together.
        source_weights: how often pairs are taken from each of data.sources; 0 for never, null for their own weights.
        weights: loss -> weight, for the losses whose weight differs from objective.weights.
        video_mask: which patches of clips are hidden.
        image_mask: which patches of images are hidden.
        mixing: whether classification mixes clips, as classification.mixup and classification.cutmix say.
    """

    name: str = "train"
    num_steps: int = 1000
    learning_rate: float | None = None
    warmup: float | None = None
    cosine_steps: int | None = None
    batch_size: BatchSize | None = None
    source_weights: list[float] | None = None
    weights: dict[str, float] = field(default_factory=dict)
    video_mask: MaskConfig | None = None
    image_mask: MaskConfig | None = None
    mixing: bool = True

    def __post_init__(self) -> None:
        require(self.num_steps >= 1, f"stages: num_steps of {self.name!r} is {self.num_steps}, but must be at least 1")
        longer = self.cosine_steps is None or self.cosine_steps >= self.num_steps
        require(longer, f"stages: cosine_steps of {self.name!r} is {self.cosine_steps}, less than its steps")
        weights = self.source_weights
        drawn = weights is None or (min(weights, default=0) >= 0 and any(weights))
        require(drawn, f"stages: source_weights of {self.name!r} are {weights}: each must be at least 0, one above it")
        positive = self.learning_rate is None or self.learning_rate > 0
        require(positive, f"stages: learning_rate of {self.name!r} is {self.learning_rate}, but must be above 0")
        known = asdict(LossWeights())
        unknown = [name for name in self.weights if name not in known]
        require(not unknown, f"stages: no loss {', '.join(unknown)}; there are {', '.join(known)}")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        task: retrieval (videos and captions), classification, or masked (pre-training of a video encoder alone).
        model: the model, the weights that it starts from, and its teacher.
        data: the training data.
        objective: the losses of retrieval.
        classification: the losses of classification.
        masked: the masks and the loss of masked pre-training.
        optimizer: AdamW and its learning rate.
        stages: the parts of the run, in their order.
        run: folder, device, precision, checkpoints and logs.
        validation: evaluation during training; null for none.
    """

    task: TaskName = "retrieval"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    masked: MaskedConfig = field(default_factory=MaskedConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stages: list[StageConfig] = field(default_factory=lambda: [StageConfig()])
    run: RunConfig = field(default_factory=RunConfig)
    validation: ValidationConfig | None = None

    def __post_init__(self) -> None:
        require(self.task in get_args(TaskName), f"task is {self.task!r}; use one of {', '.join(get_args(TaskName))}")
        classifies = self.task == "classification"
        require(classifies == (self.model.network is not None), "task classification and model.network need each other")
        skips = self.model.skip is not None
        require(not skips or self.task == "retrieval", f"model.skip is for video-text models, not for {self.task}")
        fits = self.model.video.across_time
        require(not skips or fits, "model.skip needs frames that are encoded together: model.video.across_time")
        require(bool(self.stages), "stages: there must be at least one")
        validates = self.run.validate_every is not None
        require(validates == (self.validation is not None), "validation and run.validate_every need each other")
        for stage in self.stages:
            self.objective_of(stage)  # raises if losses and masks do not fit each other
            fits = stage.source_weights is None or len(stage.source_weights) == len(self.data.sources)
            require(fits, f"stages: source_weights of {stage.name!r} must be as many as data.sources")
            warmup = self.warmup_of(stage)
            require(
                0 <= warmup <= stage.num_steps,
                f"stages: {stage.name!r} has {stage.num_steps} steps, but a warmup of {warmup:g}: set its own, or "
                "optimizer.warmup",
            )

    @property
    def num_steps(self) -> int:
        """Optimiser steps of all stages together."""
        return sum(stage.num_steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[StageConfig, int]:
        """Find the stage of a step.

        Args:
            step: the step, counted from 0 over all stages.

        Returns:
            The stage, and the number of the step within it, counted from 0.

        Raises:
            IndexError: the run has no such step.
        """
        for stage in self.stages:
            if step < stage.num_steps:
                return stage, step
            step -= stage.num_steps
        raise IndexError(f"step {self.num_steps + step} of {self.num_steps}")

    def warmup_of(self, stage: StageConfig) -> float:
        """Compute the length of a stage's warm-up.

        Args:
            stage: one of the stages.

        Returns:
            Its length in steps, which may be a fraction.
        """
        warmup = self.optimizer.warmup if stage.warmup is None else stage.warmup
        return warmup * stage.num_steps if warmup < 1 else warmup

    def objective_of(self, stage: StageConfig) -> ObjectiveConfig:
        """Merge the losses and masks of a stage into those of the config.

        Args:
            stage: one of the stages.

        Returns:
            The losses and masks of the stage.

        Raises:
            ModelError: weights and masks do not fit each other.
        """
        return replace(
            self.objective,
            weights=replace(self.objective.weights, **stage.weights),
            video_mask=stage.video_mask or self.objective.video_mask,
            image_mask=stage.image_mask or self.objective.image_mask,
        )

    def essentials(self) -> dict[str, Any]:
        """Select the settings that a resumed run must share with the run that it resumes.

        Returns:
            The config as JSON values, without settings that do not change what the model learns.
        """
        content = _without_inessentials(json.loads(json.dumps(asdict(self))))
        content["model"]["tokenizer"] = Path(self.model.tokenizer).name  # its folder may have been moved
        return content


def with_defaults(essentials: Mapping[str, Any]) -> dict[str, Any]:
    """Add settings that an older version of vmr did not have; their defaults are the behaviour of that version.

    Args:
        essentials: `TrainConfig.essentials`, as saved by that version.

    Returns:
        A copy with all settings of this version.
    """
    found: dict[str, Any] = _completed(TrainConfig, essentials)
    found["data"]["sources"] = [completed_source(item) for item in found["data"]["sources"]]
    return _without_inessentials(found)


def _completed(kind: Any, saved: Any) -> Any:
    """JSON values of a type, with defaults for the keys that its dataclasses lack, those that may be null as well."""
    if get_origin(kind) is list and isinstance(saved, list):
        return [_completed(get_args(kind)[0], item) for item in saved]
    groups = [part for part in (kind, *get_args(kind)) if is_dataclass(part)]
    if len(groups) != 1 or not isinstance(saved, Mapping):
        return saved
    types, filled = get_type_hints(groups[0]), dict(saved)
    for one in fields(groups[0]):
        if one.name in saved:
            filled[one.name] = _completed(types[one.name], saved[one.name])
        elif one.default is not MISSING or one.default_factory is not MISSING:
            default = one.default_factory() if one.default_factory is not MISSING else one.default
            filled[one.name] = json.loads(json.dumps(default, default=asdict))
    return filled


def _without_inessentials(content: dict[str, Any]) -> dict[str, Any]:
    for section, names in _INESSENTIAL.items():
        for name in names:
            content[section].pop(name, None)
    content.pop("validation", None)
    return content


# These settings change how fast a run is, how it is saved and what it logs, but not what the model learns.
_INESSENTIAL = {
    "model": ("init", "video_init", "fresh_head", "fresh_norm", "skip"),
    "data": ("root", "num_workers", "timeout_s", "max_bad_share", "prefetch"),
    "run": (
        "out", "device", "log_every", "checkpoint_every", "checkpoint_minutes", "keep", "validate_every", "parallel",
        "skip_bad_steps", "wandb", "resume", "stop_after_steps", "max_minutes", "cuda_graphs",
    ),
}  # fmt: skip
