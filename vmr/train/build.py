"""From a config to the parts of a run: model, teacher, losses, data, optimiser. Here their sizes are compared."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from vmr.data.extras import import_extra
from vmr.data.media import Media
from vmr.data.sources.annotated import AnnotatedSource, load_table
from vmr.data.sources.hub import HubSource
from vmr.data.sources.hub_rows import HubData
from vmr.data.sources.hub_stream import HubStream
from vmr.data.sources.shapes import ShapesSource
from vmr.data.sources.source import TrainSource, TrainStream
from vmr.data.sources.tar import TarSource, find_shards
from vmr.data.training.loader import TrainLoader
from vmr.errors import ModelError, VmrError
from vmr.models.checkpoint_file import find_state_dict, read_checkpoint
from vmr.models.families.video_text import check_input
from vmr.models.saved_model import load_saved
from vmr.models.teachers import Teacher, load_teacher
from vmr.models.text.bert_weights import bert_config, load_bert
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.upstream.video_text import load_video_text, read_video_text
from vmr.models.upstream.vision import load_upstream
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.weights import LoadReport, match_weights
from vmr.processes import Processes
from vmr.train.config import StageConfig, TrainConfig
from vmr.train.objective import Objective, ObjectiveConfig
from vmr.train.optimizer import parameter_groups
from vmr.train.schedule import cosine_with_warmup
from vmr.train.source_config import HubSourceConfig, ShapesSourceConfig, SourceConfig, TarSourceConfig

# Parts that only training needs: a saved model may lack them, or have some that this run does not train.
_FOR_TRAINING = ("video_encoder.clip_decoder.", "masked_lm_head.")

_SPOOLED = 2048  # lower limit of the clips from tar shards and hub rows that temporary files hold

Source = tuple[TrainSource | TrainStream, float]
"""A source and its weight."""


def build_objective(config: TrainConfig, *, start: bool) -> tuple[Objective, list[LoadReport]]:
    """Build the model with its losses, set to the first stage.

    Args:
        config: the config of the run.
        start: whether to fill the model with the weights that the config names; a resumed run does not need them.

    Returns:
        The objective, and a report on each file of weights.

    Raises:
        ModelError: sizes, files, tokeniser, teacher and losses do not fit each other.
        MissingExtraError: a package is not installed.
    """
    tokenizer = CaptionTokenizer(config.model.tokenizer)
    sizes = model_sizes(config)
    check_input("data", sizes, config.model.preprocess, config.data.max_text_tokens)
    if tokenizer.vocab_size != sizes.text.vocab_size:
        raise ModelError(
            f"model.tokenizer: {tokenizer.source} has {tokenizer.vocab_size} entries, but model.text.vocab_size is "
            f"{sizes.text.vocab_size}"
        )
    teacher = build_teacher(config)  # before the model, which takes longer to make
    torch.manual_seed(config.run.seed)
    model = VideoTextModel(sizes)
    reports = load_initial_weights(model, config, tokenizer) if start else []
    first, *_ = config.stages
    objective = Objective(model, teacher, tokenizer, config.objective_of(first))
    for stage in [*config.stages[1:], first]:
        objective.set_config(config.objective_of(stage))
    return objective, reports


def model_sizes(config: TrainConfig) -> VideoTextConfig:
    """Return the sizes of the model. It has a masked-language head if any stage needs one."""
    model = config.model
    text = model.text or (bert_config(model.text_init) if model.text_init else TextConfig())
    guesses = any(config.objective_of(stage).weights.masked_lm for stage in config.stages)
    return VideoTextConfig(model.video, text, model.embed_dim, masked_lm=guesses)


def build_teacher(config: TrainConfig) -> Teacher | None:
    """Return the teacher, or None if no stage needs it. Raises ModelError, MissingExtraError as `load_teacher`."""
    model = config.model
    if model.teacher is None or not any(needs_teacher(config.objective_of(stage)) for stage in config.stages):
        return None
    taps = model.video.student.num_taps if model.video.student else 1
    return load_teacher(model.teacher, model.video.grid_size, num_features=taps, pixels=model.teacher_pixels)


def needs_teacher(objective: ObjectiveConfig) -> bool:
    """Tell whether these losses and masks need a teacher."""
    return bool(objective.weights.alignment) or "attention" in (objective.video_mask.kind, objective.image_mask.kind)


def load_initial_weights(model: VideoTextModel, config: TrainConfig, tokenizer: CaptionTokenizer) -> list[LoadReport]:
    """Fill a model with the weights that its config names.

    Args:
        model: the model.
        config: the config of the run.
        tokenizer: the tokeniser of the run; a saved model must have the same vocabulary.

    Returns:
        A report on each file.

    Raises:
        ModelError: some of the weights do not fit.
    """
    named = config.model
    if named.init is not None:
        if Path(named.init).is_dir():
            return [_start_from_folder(model, Path(named.init), tokenizer)]
        return [load_video_text(model, read_video_text(named.init))]
    reports = []
    if named.video_init is not None:
        reports.append(_load_initial_video_encoder(model, named.video_init))
    if named.text_init is not None:
        reports.append(load_bert(model.text_encoder, model.fusion, named.text_init, model.masked_lm_head))
    return reports


def _start_from_folder(model: VideoTextModel, folder: Path, tokenizer: CaptionTokenizer) -> LoadReport:
    video = model.config.video
    saved = load_saved(folder, num_frames=video.num_frames, image_size=video.image_size)
    if saved.tokenizer.words != tokenizer.words:
        raise ModelError(f"{folder}: has another vocabulary, {saved.tokenizer.source}: set model.tokenizer to it")
    stated, own = saved.model.config.text.num_heads, model.config.text.num_heads
    if stated != own:
        raise ModelError(f"{folder}: has {stated} attention heads, but model.text.num_heads is {own}")
    weights, wanted = saved.model.state_dict(), model.state_dict()
    unused = {key: "not trained here" for key in weights if key not in wanted and key.startswith(_FOR_TRAINING)}
    may_lack = [key for key in wanted if key.startswith(_FOR_TRAINING)]
    matched, report = match_weights(str(folder), weights, wanted, ignored=unused, may_lack=may_lack)
    model.load_state_dict(wanted | matched)
    fitted = saved.report.fitted if saved.report is not None else {}
    return replace(report, loaded=tuple(key for key in report.loaded if key not in fitted), fitted=fitted)


def _load_initial_video_encoder(model: VideoTextModel, file: str) -> LoadReport:
    """Load the video encoder. Masked pre-training saves no pooling norm; classifiers lack student outputs too."""
    weights = find_state_dict(read_checkpoint(file), file)
    fresh = ("pool_norm.",) if any("clip_decoder." in key for key in weights) else ("pool_norm.", "clip_decoder.")
    try:
        return replace(load_upstream(model.video_encoder, weights, fresh=fresh), source=file)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error


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
    if config.data.rand_augment:
        import_extra("torchvision")
    if not config.data.sources:
        raise VmrError("data.sources: name one at least, such as {kind: shapes}")
    others = [source.kind for source in config.data.sources if source.kind != "annotations"]
    if config.data.frame_cache is not None and others:
        raise VmrError(f"data.frame_cache keeps frames of files, and {others[0]} has no lasting files: leave it null")
    sizes = [config.data.batch_size, *(stage.batch_size for stage in config.stages if stage.batch_size is not None)]
    ahead = (config.data.prefetch + 1) * max(max(size.video, size.image) for size in sizes)
    keep = max(2 * ahead, _SPOOLED)
    clips = Path(config.run.out) / f".clips-{rank}"
    shutil.rmtree(clips, ignore_errors=True)  # clips that a killed run left
    return [(_source(Path(config.data.root), source, keep, clips), source.weight) for source in config.data.sources]


def _source(root: Path, config: SourceConfig, keep: int, clips: Path) -> TrainSource | TrainStream:
    """Open one source. keep: how many unpacked clips may lie in the folder `clips`."""
    if isinstance(config, ShapesSourceConfig):
        return ShapesSource(config.parts, config.num_clips, config.seed, config.group, config.difference)
    path = root / config.path
    if isinstance(config, TarSourceConfig):
        return TarSource(find_shards(path), config.media, config.path, keep, clips)
    if isinstance(config, HubSourceConfig):
        data = HubData(
            name=str(path) if path.exists() else config.path,
            split=config.split,
            video_column=config.video_column,
            caption_column=config.caption_column,
            media=config.media,
            root=root / (config.video_dir or "."),
            subset=config.subset,
            revision=config.revision,
        )
        return HubStream(data, config.shuffle_buffer, keep, clips) if config.stream else HubSource(data, keep, clips)
    only = root / config.only if config.only else None
    folder = root / config.video_dir if config.video_dir else path.parent
    return AnnotatedSource(load_table(path, config.format, only), folder, config.media, config.path)


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
        data.clip_spec(config.model.video),
        batch_size={media: max(size // processes.world, 1) for media, size in sizes.items()},
        seed=config.run.seed,
        rank=processes.rank,
        world=processes.world,
        decode=data.decode,
        in_process=data.num_workers == 0,
        max_bad_share=data.max_bad_share,
        prefetch=data.prefetch,
    )


def build_optimizer(config: TrainConfig, objective: Objective) -> torch.optim.AdamW:
    """Return AdamW over the parameters of the model; each group keeps its full learning rate as `full_lr`.

    Args:
        config: the config of the run.
        objective: from `build_objective`.

    Raises:
        VmrError: a rate is out of range, or no parameter uses it.
    """
    settings = config.optimizer
    groups = parameter_groups(
        objective.model.named_parameters(),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        overrides=settings.overrides,
        layer_decay=settings.layer_decay,
    )
    for group in groups:
        group["full_lr"] = group["lr"]
    return torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps)


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Return the factor of the full learning rates at a step; every stage has its own warm-up and cosine."""
    stage, step_in_stage = config.stage_at(step)
    num_steps = stage.cosine_steps or stage.num_steps
    factor = cosine_with_warmup(config.warmup_of(stage), num_steps, config.optimizer.min_ratio)(step_in_stage)
    scale = 1.0 if stage.learning_rate is None else stage.learning_rate / config.optimizer.learning_rate
    return scale * factor
