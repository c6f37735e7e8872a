"""Save a video-text model as a folder and load it again: `config.json` and the two files that it names, no pickles.

The weights are a safetensors file and the tokeniser's vocabulary is a text file, so that the folder is all that a model
needs. The names of both files contain their checksums, and `config.json`, which names them, is written last. A reader
therefore finds the old model, the new model, or none, and never the config of one with the weights of the other.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from vmr.errors import ModelError, VmrError
from vmr.files import remove_unnamed, write_atomically
from vmr.from_json import from_json
from vmr.locks import locked_folder
from vmr.models.encoder import Preprocess
from vmr.models.families.video_text import MAX_TEXT_TOKENS, VideoTextEncoder, check_input
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.weights import match_weights, shape_text
from vmr.version import __version__

SCHEMA = "vmr-model/1"
CONFIG_FILE = "config.json"
ABOUT = "a video-text model trained with vmr: it knows the kind of videos and captions that it was trained on"

_REMEDY = "copy the folder again, or save the model anew"
_OWN_FILE = re.compile(r"model-[0-9a-f]{16}\.safetensors|vocab-[0-9a-f]{16}\.txt")
_REMOVABLE_FILE = re.compile(rf"(?:{_OWN_FILE.pattern})|\.(?:{_OWN_FILE.pattern})(?:\.\w+)?\.tmp")  # unless in use


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


def save_model(
    folder: str | Path,
    model: VideoTextModel,
    preprocess: Preprocess,
    tokenizer: CaptionTokenizer,
    *,
    max_text_tokens: int = MAX_TEXT_TOKENS,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
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

    Raises:
        ModelError: the preprocessing is not the model's, a weight is not finite in `dtype`, `training` is not JSON,
            another process is writing, or the folder holds a config.json that is not a saved model's.
        VmrError: a file cannot be written. A model that was in the folder is still there.
    """
    folder = Path(folder)
    check_input(str(folder), model.config, preprocess, max_text_tokens)
    weights, vocabulary = safetensors.save(_in_dtype(model, dtype)), "\n".join(tokenizer.words).encode()
    weights_sha256, vocabulary_sha256 = (hashlib.sha256(data).hexdigest() for data in (weights, vocabulary))
    config = SavedConfig(
        model=model.config,
        preprocess=preprocess,
        max_text_tokens=max_text_tokens,
        weights_file=f"model-{weights_sha256[:16]}.safetensors",
        weights_sha256=weights_sha256,
        vocabulary_file=f"vocab-{vocabulary_sha256[:16]}.txt",
        vocabulary_sha256=vocabulary_sha256,
        vmr_version=__version__,
        training=None if training is None else dict(training),
    )
    try:
        text = json.dumps({"schema": SCHEMA, **asdict(config)}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the model's record of its training is not JSON: {error}") from error
    busy = ModelError(f"{folder} is being written by another process: save to another folder")
    with locked_folder(folder, busy):
        if (folder / CONFIG_FILE).exists() and not _is_ours(folder):
            raise ModelError(f"{folder / CONFIG_FILE} is not a saved model's: save to another folder, or remove it")
        try:
            write_atomically(folder / config.weights_file, weights)
            write_atomically(folder / config.vocabulary_file, vocabulary)
            write_atomically(folder / CONFIG_FILE, f"{text}\n".encode())
        finally:
            remove_unnamed(folder, _REMOVABLE_FILE, named_in=folder / CONFIG_FILE)


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
    # safetensors returns the weights in any order; sorted, error messages always name the same key.
    weights, report = match_weights(source, dict(sorted(weights.items())), wanted)
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
        report=replace(report, loaded=tuple(key for key in report.loaded if key not in fitted), fitted=fitted),
    )


def _in_dtype(model: VideoTextModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights to store, contiguous and on the CPU. Raises ModelError if one is not finite in `dtype`."""
    weights = {}
    for key, tensor in model.state_dict().items():
        stored = tensor.detach().to("cpu", dtype).contiguous()
        if not bool(stored.isfinite().all()):
            raise ModelError(f"cannot save the model: {key} is not finite in {str(dtype).removeprefix('torch.')}")
        weights[key] = stored
    return weights


def _resize(model: VideoTextModel, num_frames: int | None, image_size: int | None) -> dict[str, str]:
    """Fit the positions to another input. Returns changed weights -> description of the change."""
    if num_frames is None and image_size is None:
        return {}
    before = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    model.video_encoder = model.video_encoder.resized(num_frames=num_frames, image_size=image_size)
    model.config = replace(model.config, video=model.video_encoder.config)
    after = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    changed = [key for key in after if after[key] != before[key]]
    return {key: f"interpolated from {shape_text(before[key])} to {shape_text(after[key])}" for key in changed}


def _is_ours(folder: Path) -> bool:
    """Whether the config.json of a folder is a saved model's, of any version of the schema."""
    try:
        return str(_read_json(folder).get("schema")).startswith("vmr-model/")
    except ModelError:
        return False


def _read(folder: Path) -> tuple[SavedConfig, dict[str, Tensor], CaptionTokenizer]:
    """Read the config, weights and tokeniser of one save, even while another process replaces them."""
    config = _read_config(folder)
    while True:
        try:
            _read_checked(folder / config.vocabulary_file, config.vocabulary_sha256)
            return config, _read_weights(folder, config), CaptionTokenizer(str(folder / config.vocabulary_file))
        except ModelError:
            newer = _read_config(folder)
            if newer == config:
                raise
            config = newer  # the files were removed because a newer save has replaced them


def _read_config(folder: Path) -> SavedConfig:
    path = folder / CONFIG_FILE
    content = _read_json(folder)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise ModelError(f"{path}: schema is {schema!r:.40}, but this version of vmr ({__version__}) reads {SCHEMA!r}")
    try:
        config: SavedConfig = from_json(SavedConfig, content, "")
    except VmrError as error:
        raise ModelError(f"{path} does not follow the schema {SCHEMA}: {error}: save the model again") from error
    for name in ("weights_file", "vocabulary_file"):
        if not _OWN_FILE.fullmatch(getattr(config, name)):
            raise ModelError(f"{path}: {name} is {getattr(config, name)!r}, not a file that vmr writes")
    return config


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: no saved model here (no {CONFIG_FILE})")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error!s:.80}): {_REMEDY}") from error
    return content if isinstance(content, dict) else {}


def _read_weights(folder: Path, config: SavedConfig) -> dict[str, Tensor]:
    path = folder / config.weights_file
    try:
        return safetensors.load(_read_checked(path, config.weights_sha256))
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file ({error}): {_REMEDY}") from error


def _read_checked(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} is damaged ({len(data)} bytes, another checksum than in {CONFIG_FILE}): {_REMEDY}")
    return data
