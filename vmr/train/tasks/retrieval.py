"""Video-text training: the four losses of `vmr.train.tasks.objective`, from a config to a saved video-text model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vmr.data.sources.folder import FolderSource
from vmr.data.sources.source import LabelledData, TrainData
from vmr.data.training.loader import TrainBatch
from vmr.errors import ModelError, VmrError
from vmr.models.families.inputs import check_input
from vmr.models.families.video_text import VideoTextEncoder
from vmr.models.saved_model import load_saved, save_model
from vmr.models.teachers import Teacher
from vmr.models.text.bert_weights import bert_config, load_bert
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption
from vmr.models.upstream.video_text import load_video_text, read_video_text
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.backbone import VideoMambaBackbone
from vmr.models.videomamba.repeats import as_mask, find_repeats, keep_equally
from vmr.models.weights import LoadReport, match_weights
from vmr.train.config import StageConfig, TrainConfig
from vmr.train.tasks.config import ObjectiveConfig
from vmr.train.tasks.objective import Batch, Draws, Objective
from vmr.train.tasks.student import named_teacher, start_encoder
from vmr.train.tasks.task import Task

# Parts that only training needs: a saved model may lack them, or have some that this run does not train.
_FOR_TRAINING = ("video_encoder.clip_decoder.", "masked_lm_head.")


class Retrieval(Task):
    """Learns to compare videos with texts.

    Args:
        config: the config of the run.
        objective: the model with its losses.
        notes: as for `Task`.

    Attributes:
        objective: as given.
    """

    def __init__(self, config: TrainConfig, objective: Objective, notes: tuple[str, ...] = ()) -> None:
        super().__init__(config, frozen=objective.teacher, notes=notes)
        self.objective = objective

    @property
    def model(self) -> VideoTextModel:
        """The video-text model."""
        return self.objective.model

    def check_sources(self, sources: Sequence[TrainData]) -> None:
        """Refuse clips without captions; the name of a class may be a caption. See `Task`."""
        for source in sources:
            if isinstance(source, FolderSource):
                raise VmrError(f"data.sources: {source.name} has no captions, from which retrieval learns")
            if isinstance(source, LabelledData) and (source.target != "single" or source.classes is None):
                raise VmrError(
                    f"data.sources: {source.name} has labels without a text, but retrieval learns from captions"
                )

    def set_stage(self, stage: StageConfig) -> None:
        """Change losses and masks; see `Task`."""
        self.objective.set_config(self.config.objective_of(stage))

    def prepare(self, batch: TrainBatch, shared: np.random.Generator, own: np.random.Generator) -> Batch:
        """Normalise the clips and tokenise the captions; see `Task`."""
        video = self.pixels(batch, own)
        captions = [clean_caption(caption) for caption in batch.captions]
        input_ids, attention_mask = self.objective.tokenizer(captions, self.config.data.max_text_tokens)
        teacher = self.objective.teacher if needs_teacher(self.objective.config) else None
        return Batch(
            video=self.config.model.preprocess(video),
            teacher_video=None if teacher is None else teacher.normalize(video),
            input_ids=input_ids.to(self.device),
            attention_mask=attention_mask.to(self.device),
            ids=torch.from_numpy(batch.ids).to(self.device),
            repeats=self._repeats(video, shared),
        )

    def _repeats(self, video: Tensor, shared: np.random.Generator) -> Tensor | None:
        """The mask of what repeats in uint8 clips (B, T, 3, S, S), by a threshold that all processes draw alike."""
        masking, sizes = self.objective.config.video_mask, self.model.config.video
        if masking.kind != "changed" or video.shape[1] == 1:
            return None
        threshold = masking.draw_threshold(shared)
        if threshold is None:
            return None
        skip = self.config.model.skip  # by the rule that the trained model uses
        found = find_repeats(
            video,
            threshold,
            tubelet_size=sizes.tubelet_size,
            patch_size=sizes.patch_size,
            ignore_fades=skip is not None and skip.ignore_fades,
        )
        return as_mask(keep_equally(found))

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Tensor]:
        """Compute the losses of a batch; see `Objective`."""
        losses: dict[str, Tensor] = self.objective(batch, draws)
        return losses

    def facts(self) -> dict[str, float]:
        """Return the temperature of VTC."""
        return {"temperature": self.model.temperature.item()}

    def new_model(self) -> VideoTextModel:
        """Make a model of the same sizes; see `Task`."""
        return VideoTextModel(self.model.config)

    def compiled_modules(self) -> list[nn.Module]:
        """List the three encoders; see `Task`."""
        return [self.model.video_encoder, self.model.text_encoder, self.model.fusion]

    def backbone(self) -> VideoMambaBackbone:
        """Return the video encoder; see `Task`."""
        return self.model.video_encoder

    def layers_of(self, model: nn.Module) -> list[nn.Module]:
        """List the layers of both encoders. Those of the fusion stay together: their keys are made outside of them."""
        assert isinstance(model, VideoTextModel)
        return [*model.video_encoder.layers, *model.text_encoder.layers]

    @property
    def metric(self) -> str:
        """Recall of texts; see `Task`."""
        return "text_to_video/R@1"

    def as_validated(self, model: nn.Module) -> VideoTextEncoder:
        """Return the model as an encoder; see `Task`."""
        assert isinstance(model, VideoTextModel)
        return VideoTextEncoder(
            model,
            self.objective.tokenizer,
            self.config.model.preprocess,
            name=self.config.run.out,
            about="a model in training",
            max_text_tokens=self.config.data.max_text_tokens,
            device=self.device,
            skip=self.config.model.skip,
        )

    def save_model(self, folder: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """Write the model with its tokeniser; see `Task`."""
        assert isinstance(model, VideoTextModel)
        tokenizer, max_text_tokens = self.objective.tokenizer, self.config.data.max_text_tokens
        save_model(
            folder,
            model,
            self.config.model.preprocess,
            tokenizer,
            max_text_tokens=max_text_tokens,
            training=training,
            skip=self.config.model.skip,
        )


def build_retrieval(config: TrainConfig, *, start: bool) -> Retrieval:
    """Build the model with its losses, set to the first stage.

    Args:
        config: the config of the run.
        start: whether to fill the model with the weights that the config names; a resumed run does not need them.

    Returns:
        The task; its notes are a report on each file of weights.

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
    objective = Objective(model, teacher, tokenizer, config.objective_of(config.stages[0]))
    return Retrieval(config, objective, tuple(str(report) for report in reports))


def model_sizes(config: TrainConfig) -> VideoTextConfig:
    """Return the sizes of the model. It has a masked-language head if any stage needs one."""
    model = config.model
    text = model.text or (bert_config(model.text_init) if model.text_init else TextConfig())
    guesses = any(config.objective_of(stage).weights.masked_lm for stage in config.stages)
    return VideoTextConfig(model.video, text, model.embed_dim, masked_lm=guesses)


def build_teacher(config: TrainConfig) -> Teacher | None:
    """Return the teacher, or None if no stage needs it. Raises ModelError, MissingExtraError as `load_teacher`."""
    is_needed = any(needs_teacher(config.objective_of(stage)) for stage in config.stages)
    return named_teacher(config.model) if is_needed else None


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
        reports.append(start_encoder(model.video_encoder, named.video_init))
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
