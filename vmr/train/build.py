"""From a config to the parts of a run: task, data, optimiser."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypedDict

import torch
from torch import nn

from vmr.data.extras import import_extra
from vmr.data.labels.read import read_labels
from vmr.data.media import Media
from vmr.data.sources.annotated import AnnotatedSource, load_table
from vmr.data.sources.folder import FolderSource
from vmr.data.sources.hub import HubSource
from vmr.data.sources.hub_rows import HubData
from vmr.data.sources.hub_stream import HubStream
from vmr.data.sources.labelled import LabelledHubSource, LabelledHubStream, LabelledSource, LabelledTarSource
from vmr.data.sources.shapes import ShapesSource
from vmr.data.sources.shapes_actions import ShapesActionsSource
from vmr.data.sources.source import TrainSource, TrainStream
from vmr.data.sources.tar import TarSource, find_shards
from vmr.data.training.loader import TrainLoader
from vmr.data.training.rand_augment import require_timm
from vmr.errors import VmrError
from vmr.processes import Processes
from vmr.targets import Target
from vmr.train.config import StageConfig, TaskName, TrainConfig
from vmr.train.optimizer import parameter_groups
from vmr.train.schedule import cosine_with_warmup, upstream_epochs, upstream_steps
from vmr.train.source_config import (
    AnnotatedSourceConfig,
    FolderSourceConfig,
    HubSourceConfig,
    LabelledSourceConfig,
    ShapesActionsSourceConfig,
    ShapesSourceConfig,
    SourceConfig,
    TarSourceConfig,
)
from vmr.train.tasks.classification import build_classification
from vmr.train.tasks.masked import build_masked
from vmr.train.tasks.retrieval import build_retrieval
from vmr.train.tasks.task import Task

StoredConfig: TypeAlias = (
    AnnotatedSourceConfig | FolderSourceConfig | HubSourceConfig | LabelledSourceConfig | TarSourceConfig
)
"""A source of clips that lie in files."""

_SPOOLED = 2048  # lower limit of the clips from tar shards and hub rows that temporary files hold

Source = tuple[TrainSource | TrainStream, float]
"""A source and its weight."""

_SECTIONS: dict[TaskName, str] = {
    "retrieval": "objective",
    "classification": "classification",
    "masked": "masked",
}
_BUILD: dict[TaskName, Callable[..., Task]] = {
    "retrieval": build_retrieval,
    "classification": build_classification,
    "masked": build_masked,
}


def build_task(config: TrainConfig, *, start: bool) -> Task:
    """Build the task of a run with its model, set to the first stage; all stages are checked.

    Args:
        config: the config of the run.
        start: whether to fill the model with the weights that the config names; a resumed run does not need them.

    Returns:
        The task, on the CPU.

    Raises:
        VmrError: settings of the task do not fit each other, or a file is missing (a `ModelError` for the model).
        MissingExtraError: a package is not installed.
    """
    for name, section in _SECTIONS.items():
        if name != config.task and getattr(config, section) != getattr(TrainConfig(), section):
            raise VmrError(f"{section} belongs to the task {name}: leave it out for the task {config.task}")
    task = _BUILD[config.task](config, start=start)
    for stage in [*config.stages[1:], config.stages[0]]:
        task.set_stage(stage)
    return task


def build_sources(config: TrainConfig, rank: int = 0) -> list[Source]:
    """Open the sources of a run.

    Clips that have to be unpacked are put into `.clips-RANK` in run.out; clips of a killed run in it are removed.

    Args:
        config: the config of the run.
        rank: the rank of this process.

    Returns:
        The sources with their weights.

    Raises:
        VmrError: there is no source, or something that a source needs is missing.
        AnnotationError: an annotation file is refused.
        MissingExtraError: a package is not installed.
    """
    if isinstance(config.data.rand_augment, str):
        require_timm()
    elif config.data.rand_augment:
        import_extra("torchvision")
    if not config.data.sources:
        raise VmrError("data.sources: name one at least, such as {kind: shapes}")
    others = [source.kind for source in config.data.sources if source.kind not in ("annotations", "labelled", "folder")]
    if config.data.frame_cache is not None and others:
        raise VmrError(f"data.frame_cache keeps frames of files, and {others[0]} has no lasting files: leave it null")
    sizes = [config.data.batch_size, *(stage.batch_size for stage in config.stages if stage.batch_size is not None)]
    ahead = (config.data.prefetch + 1) * max(max(size.video, size.image) for size in sizes)
    keep = max(2 * ahead, _SPOOLED)
    clips = Path(config.run.out) / f".clips-{rank}"
    shutil.rmtree(clips, ignore_errors=True)  # clips that a killed run left
    return [(_source(Path(config.data.root), source, keep, clips), source.weight) for source in config.data.sources]


class _Learned(TypedDict):
    """What the labels of a source mean."""

    classes: Path | None
    target: Target | None


def _source(root: Path, config: SourceConfig, keep: int, clips: Path) -> TrainSource | TrainStream:
    """Open one source. keep: how many unpacked clips may lie in the folder `clips`."""
    if isinstance(config, ShapesSourceConfig):
        return ShapesSource(config.parts, config.num_clips, config.seed, config.group, config.difference)
    if isinstance(config, ShapesActionsSourceConfig):
        return ShapesActionsSource(config.num_clips, config.seed)
    return _stored_source(root, config, keep, clips)


def _stored_source(root: Path, config: StoredConfig, keep: int, clips: Path) -> TrainSource | TrainStream:
    path = root / config.path
    if isinstance(config, FolderSourceConfig):
        return FolderSource(path, config.path)
    folder = root / config.video_dir if not isinstance(config, TarSourceConfig) and config.video_dir else None
    if isinstance(config, AnnotatedSourceConfig):
        only = root / config.only if config.only else None
        return AnnotatedSource(load_table(path, config.format, only), folder or path.parent, config.media, config.path)
    learned: _Learned = {"classes": root / config.classes if config.classes else None, "target": config.target}
    if isinstance(config, LabelledSourceConfig):
        return LabelledSource(read_labels(path, config.format, video_dir=folder, split=config.split, **learned))
    if isinstance(config, TarSourceConfig):
        opened = (find_shards(path), config.media, config.path, keep, clips)
        return LabelledTarSource(*opened, **learned) if config.labels else TarSource(*opened)
    return _hub_source(path, folder or root, config, keep, clips, learned)


def _hub_source(
    path: Path, folder: Path, config: HubSourceConfig, keep: int, clips: Path, learned: _Learned
) -> TrainSource | TrainStream:
    """Open a data set of the hub, or one at `path`. folder: of the clips where rows hold paths."""
    data = HubData(
        name=str(path) if path.exists() else config.path,
        split=config.split,
        video_column=config.video_column,
        caption_column=config.label_column or config.caption_column,
        media=config.media,
        root=folder,
        subset=config.subset,
        revision=config.revision,
        labels=config.label_column is not None,
    )
    if config.stream:
        streamed = (data, config.shuffle_buffer, keep, clips)
        return LabelledHubStream(*streamed, **learned) if data.labels else HubStream(*streamed)
    return LabelledHubSource(data, keep, clips, **learned) if data.labels else HubSource(data, keep, clips)


def build_loader(config: TrainConfig, sources: list[Source], stage: StageConfig, processes: Processes) -> TrainLoader:
    """Return the batches of a stage for this process.

    Args:
        config: the config of the run.
        sources: from `build_sources`.
        stage: the stage of the run.
        processes: the processes of the run.

    Raises:
        VmrError: settings make no sense, or the processes cannot share a batch evenly.
    """
    batch_size = stage.batch_size or config.data.batch_size
    if stage.source_weights is not None:
        sources = [(source, weight) for (source, _), weight in zip(sources, stage.source_weights, strict=True)]
    sizes: dict[Media, int] = {"video": batch_size.video, "image": batch_size.image}
    for media in {source.media for source, _ in sources}:
        if sizes[media] % processes.world:
            raise VmrError(
                f"batch_size.{media} is {sizes[media]}, which {processes.world} processes cannot share evenly"
            )
    data = config.data
    return TrainLoader(
        sources,
        data.clip_spec(config.model.input),
        batch_size={media: max(size // processes.world, 1) for media, size in sizes.items()},
        seed=config.run.seed,
        rank=processes.rank,
        world=processes.world,
        decode=data.decode,
        in_process=data.num_workers == 0,
        max_bad_share=data.max_bad_share,
        prefetch=data.prefetch,
    )


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW over the parameters of the model; each group keeps its full learning rate as `full_lr`.

    Args:
        config: the config of the run.
        model: the model that is trained.

    Raises:
        VmrError: a rate is out of range, or no parameter uses it.
    """
    settings = config.optimizer
    groups = parameter_groups(
        model.named_parameters(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        overrides=settings.overrides,
        layer_decay=settings.layer_decay,
        layer_scope=settings.layer_scope,
    )
    for group in groups:
        group["full_lr"] = group["lr"]
    return torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps)


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Return the factor of the full learning rates at a step; every stage has its own warm-up and cosine."""
    stage, step_in_stage = config.stage_at(step)
    settings, num_steps, warmup = config.optimizer, stage.cosine_steps or stage.num_steps, config.warmup_of(stage)
    ratios = {"start_ratio": settings.start_ratio, "min_ratio": settings.min_ratio}
    if settings.schedule == "cosine":
        factor = cosine_with_warmup(warmup, num_steps, settings.min_ratio)
    elif settings.steps_per_epoch is None:
        factor = upstream_steps(round(warmup), num_steps, **ratios)
    else:
        epoch = settings.steps_per_epoch
        factor = upstream_epochs(round(warmup / epoch), math.ceil(num_steps / epoch), epoch, **ratios)
    scale = 1.0 if stage.learning_rate is None else stage.learning_rate / settings.learning_rate
    return scale * factor(step_in_stage)
