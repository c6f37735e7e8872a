"""Save a video-text model as a folder and load it again: `config.json` and the two files that it names, no pickles.

The weights are a safetensors file and the tokeniser's vocabulary is a text file, so that the folder is all that a model
needs. `vmr.models.saved_folder` says what holds if a write fails or another process reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vmr.from_json import LATER
from vmr.models.encoder import Preprocess
from vmr.models.families.inputs import check_input
from vmr.models.families.video_text import MAX_TEXT_TOKENS, VideoTextEncoder
from vmr.models.saved_folder import (
    VIDEO_TEXT,
    Schema,
    fitted_weights,
    named,
    packed_weights,
    read_checked,
    read_saved,
    read_weights,
    recorded,
    write_saved,
)
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.repeats import SkipConfig
from vmr.models.weights import match_weights

ABOUT = "a video-text model trained with vmr: it knows the kind of videos and captions that it was trained on"


@dataclass(frozen=True)
class SavedConfig:
    """The content of `config.json`, without its schema.

    Attributes:
        model: sizes of the model.
        preprocess: the model's preprocessing of videos.
        max_text_tokens: where captions are cut, [CLS] and [SEP] included.
        weights_file: name of the file of weights, in the same folder.
        weights_sha256: its checksum, in hex.
        vocabulary_file: name of the file of the vocabulary, in the same folder.
        vocabulary_sha256: its checksum, in hex.
        vmr_version: the version that saved the model.
        training: a record of the training; anything.
        skip: which patches the model leaves out, because they repeat earlier ones; None to leave out none.
    """

    model: VideoTextConfig
    preprocess: Preprocess
    max_text_tokens: int
    weights_file: str
    weights_sha256: str
    vocabulary_file: str
    vocabulary_sha256: str
    vmr_version: str
    training: dict[str, Any] | None
    skip: SkipConfig | None = field(default=None, metadata=LATER)


SCHEMA = Schema(f"{VIDEO_TEXT}/1", SavedConfig, ("weights", "vocabulary"), "model")


def save_model(
    folder: str | Path,
    model: VideoTextModel,
    preprocess: Preprocess,
    tokenizer: CaptionTokenizer,
    *,
    max_text_tokens: int = MAX_TEXT_TOKENS,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    skip: SkipConfig | None = None,
) -> None:
    """Write a model for `load_model(folder)`, replacing a model that is in the folder.

    Args:
        folder: created if needed; may hold other files.
        model: the model; its weights are stored, but no state of its training.
        preprocess: the model's preprocessing of videos.
        tokenizer: the tokeniser, whose vocabulary is stored as well.
        max_text_tokens: where captions are cut, [CLS] and [SEP] included.
        training: a record of how the model was made; anything that can be written as JSON.
        dtype: of the stored weights, which are loaded as float32 again; bfloat16 or float16 halve the file.
        skip: which patches the model leaves out when it is used; for a model that was trained so.

    Raises:
        ModelError: the preprocessing is not the model's, a weight is not finite in `dtype`, `training` is not JSON,
            another process is writing, or the folder holds a config.json that is not a saved model's.
        VmrError: a file cannot be written. A model that was in the folder is still there.
    """
    check_input(str(folder), model.config, preprocess, max_text_tokens)
    weights, vocabulary = packed_weights(model, dtype), "\n".join(tokenizer.words).encode()
    config = SavedConfig(
        model=model.config,
        preprocess=preprocess,
        max_text_tokens=max_text_tokens,
        skip=skip,
        **recorded(weights, training),
        **named("vocabulary", "vocab", ".txt", vocabulary),
    )
    write_saved(folder, SCHEMA, config, {"weights": weights, "vocabulary": vocabulary})


def load_saved(
    folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    name: str | None = None,
    about: str = ABOUT,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoTextEncoder:
    """Load the model in a folder that `save_model` wrote.

    Args:
        folder: the folder.
        device: where the model runs.
        name: of the encoder; default, the folder's absolute path.
        about: one line on what the model can and cannot do.
        num_frames: frames of a clip; default, as saved. Temporal positions are interpolated.
        image_size: side of the frames in pixels; default, as saved. Positions are interpolated.

    Returns:
        The model as an encoder, in float32.

    Raises:
        ModelError: a file is absent, damaged, of another schema, or does not fit; the message names it.
    """
    folder = Path(folder).absolute()
    config, weights, tokenizer = _read(folder)
    model = VideoTextModel(config.model)
    wanted = model.state_dict()
    source = str(folder / config.weights_file)
    weights, report = match_weights(source, weights, wanted)
    model.load_state_dict(weights)
    fitted = _resize(model, num_frames, image_size)
    preprocess = config.preprocess
    return VideoTextEncoder(
        model,
        tokenizer,
        replace(preprocess, num_frames=num_frames or preprocess.num_frames, size=image_size or preprocess.size),
        name=name or str(folder),
        about=about,
        max_text_tokens=config.max_text_tokens,
        device=device,
        report=report.refitted(fitted),
        skip=config.skip,
        learnt_skip=_learnt_skip(config.training),
    )


def _learnt_skip(training: Mapping[str, Any] | None) -> bool:
    """Whether a record of vmr-train's has a stage in which patches that repeat were left out."""
    try:
        masks = [stage["video_mask"] for stage in (training or {})["config"]["stages"]]
        return any(mask is not None and mask["kind"] == "changed" for mask in masks)
    except (KeyError, TypeError):  # another record, which may be anything
        return False


def _resize(model: VideoTextModel, num_frames: int | None, image_size: int | None) -> dict[str, str]:
    """Fit the positions to another input. Returns changed weights -> description of the change."""
    if num_frames is None and image_size is None:
        return {}
    before = model.state_dict()
    model.video_encoder = model.video_encoder.resized(num_frames=num_frames, image_size=image_size)
    model.config = replace(model.config, video=model.video_encoder.config)
    return fitted_weights(before, model.state_dict())


def _read(folder: Path) -> tuple[SavedConfig, dict[str, Tensor], CaptionTokenizer]:
    """Read the config, weights and tokeniser of one save."""

    def read(config: SavedConfig) -> tuple[dict[str, Tensor], CaptionTokenizer]:
        vocabulary = folder / config.vocabulary_file
        read_checked(vocabulary, config.vocabulary_sha256)
        return read_weights(folder / config.weights_file, config.weights_sha256), CaptionTokenizer(str(vocabulary))

    config, (weights, tokenizer) = read_saved(folder, SCHEMA, read)
    return config, weights, tokenizer
