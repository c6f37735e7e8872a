"""A saved model of any kind: a folder with `config.json` and the files that it names, no pickles.

The names of the files contain their checksums, and `config.json`, which names them, is written last. A reader therefore
finds the old model, the new model, or none, and never the config of one with the weights of the other.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from vmr.errors import ModelError, VmrError
from vmr.files import remove_unnamed, write_atomically
from vmr.from_json import from_json
from vmr.locks import locked_folder
from vmr.models.weights import shape_text
from vmr.version import __version__

CONFIG_FILE = "config.json"
CLASSIFIER = "vmr-classifier"
"""The kind of the schema of saved classifiers, see `saved_kind`."""
VIDEO_TEXT = "vmr-model"
"""The kind of the schema of saved video-text models."""
PRETRAINED = "vmr-encoder"  # the kind of models that nothing but training can use

_REMEDY = "copy the folder again, or save the model anew"
_OWN_FILE = re.compile(r"model-[0-9a-f]{16}\.safetensors|vocab-[0-9a-f]{16}\.txt")
_REMOVABLE_FILE = re.compile(rf"(?:{_OWN_FILE.pattern})|\.(?:{_OWN_FILE.pattern})(?:\.\w+)?\.tmp")  # unless in use

C = TypeVar("C")
T = TypeVar("T")


@dataclass(frozen=True)
class Schema(Generic[C]):
    """What a folder of one kind of model holds.

    Attributes:
        name: stands in `config.json`, such as `vmr-model/1`: the kind of model, and the version of its layout.
        config: the dataclass of the rest of `config.json`. It has two fields for each file, such as `weights_file`, the
            name in the folder, and `weights_sha256`.
        files: the beginnings of the names of these fields, such as `weights`.
        what: what messages call the kind of model.
    """

    name: str
    config: Callable[..., C]
    files: tuple[str, ...]
    what: str

    @property
    def kind(self) -> str:
        """The kind of model, whatever the version: `vmr-model`."""
        return self.name.partition("/")[0]


def named(role: str, stem: str, suffix: str, data: bytes) -> dict[str, Any]:
    """Name a file by its checksum.

    Args:
        role: the beginning of the names of its fields, such as `weights`.
        stem: the beginning of its name, such as `model`.
        suffix: with the dot.
        data: its content.

    Returns:
        The two fields of the config.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    return {f"{role}_file": f"{stem}-{sha256[:16]}{suffix}", f"{role}_sha256": sha256}


def recorded(weights: bytes, training: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the fields that the config of every kind of model has.

    Args:
        weights: the content of the file of weights.
        training: a record of how the model was made; anything that can be written as JSON.

    Returns:
        The two fields of `weights`, `training`, and `vmr_version`, the version that saves the model.
    """
    record = None if training is None else dict(training)
    return {"vmr_version": __version__, "training": record, **named("weights", "model", ".safetensors", weights)}


def packed_weights(model: nn.Module, dtype: torch.dtype) -> bytes:
    """Write the weights of a model as safetensors.

    Args:
        model: on any device.
        dtype: of the stored weights.

    Returns:
        The content of the file.

    Raises:
        ModelError: a weight is not finite in `dtype`.
    """
    weights = {}
    for key, tensor in model.state_dict().items():
        stored = tensor.detach().to("cpu", dtype).contiguous()
        if not bool(stored.isfinite().all()):
            raise ModelError(f"cannot save the model: {key} is not finite in {str(dtype).removeprefix('torch.')}")
        weights[key] = stored
    return safetensors.save(weights)


def write_saved(folder: str | Path, schema: Schema[C], config: C, contents: Mapping[str, bytes]) -> None:
    """Write a model, replacing a model of the same kind that is in the folder.

    Args:
        folder: created if needed; may hold other files.
        schema: of the kind of model.
        config: the content of `config.json`.
        contents: what each of `schema.files` is to hold.

    Raises:
        ModelError: the config is not JSON, another process is writing, or the folder holds a config.json that is not
            that of a saved model of this kind.
        VmrError: a file cannot be written. A model that was in the folder is still there.
    """
    folder = Path(folder)
    values: dict[str, Any] = asdict(config)  # type: ignore[call-overload]
    try:
        text = json.dumps({"schema": schema.name, **values}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the model's record of its training is not JSON: {error}") from error
    busy = ModelError(f"{folder} is being written by another process: save to another folder")
    with locked_folder(folder, busy):
        if (folder / CONFIG_FILE).exists() and saved_kind(folder) != schema.kind:
            raise ModelError(
                f"{folder / CONFIG_FILE} is not a saved {schema.what}'s: save to another folder, or remove it"
            )
        try:
            for role in schema.files:
                write_atomically(folder / values[f"{role}_file"], contents[role])
            write_atomically(folder / CONFIG_FILE, f"{text}\n".encode())
        finally:
            remove_unnamed(folder, _REMOVABLE_FILE, named_in=folder / CONFIG_FILE)


def saved_kind(folder: str | Path) -> str | None:
    """Tell what kind of saved model a folder holds.

    Args:
        folder: the folder.

    Returns:
        The kind of its schema, such as `vmr-model`; None if the folder has no config.json that can be read.
    """
    try:
        return str(_read_json(Path(folder)).get("schema")).partition("/")[0]
    except ModelError:
        return None


def check_saved(folder: Path) -> None:
    """Check that a folder holds a model that can be used.

    Args:
        folder: the folder.

    Raises:
        ModelError: it holds no model of a known kind, or one that only training can use; the message says what it is.
    """
    schema = str(_read_json(folder).get("schema"))
    kind = schema.partition("/")[0]
    if kind == PRETRAINED:
        raise _pretrained(folder)
    if kind not in (CLASSIFIER, VIDEO_TEXT):
        raise ModelError(
            f"{folder / CONFIG_FILE}: of no model that vmr can read: its schema is {schema!r:.40}, not {VIDEO_TEXT!r} "
            f"or {CLASSIFIER!r}"
        )


def read_saved(folder: Path, schema: Schema[C], read: Callable[[C], T]) -> tuple[C, T]:
    """Read all of one save, even while another process replaces it.

    Args:
        folder: the folder.
        schema: of the kind of model.
        read: reads the files that a config names.

    Returns:
        The config, and what `read` returned for it.

    Raises:
        ModelError: a file is absent or damaged, or config.json does not follow the schema; the message names it.
    """
    config = _read_config(folder, schema)
    while True:
        try:
            return config, read(config)
        except ModelError:
            newer = _read_config(folder, schema)
            if newer == config:
                raise
            config = newer  # the files were removed because a newer save has replaced them


def read_any_weights(folder: str | Path) -> dict[str, Tensor]:
    """Read the weights of a saved model of any kind, for another model that takes some of them.

    Args:
        folder: the folder.

    Returns:
        Key -> weight.

    Raises:
        ModelError: the folder holds no saved model, or its weights are absent or damaged.
    """
    folder = Path(folder)
    content = _read_json(folder)
    name, sha256 = (content.get(f"weights_{field}") for field in ("file", "sha256"))
    if not isinstance(name, str) or not _OWN_FILE.fullmatch(name) or not isinstance(sha256, str):
        raise ModelError(f"{folder / CONFIG_FILE} is not a saved model's: it names no weights that vmr writes")
    return read_weights(folder / name, sha256)


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read the weights of a saved model.

    Args:
        path: the file.
        sha256: its checksum, in hex.

    Returns:
        Key -> weight, sorted: safetensors returns them in any order, and error messages name the first wrong one.

    Raises:
        ModelError: the file is absent or damaged.
    """
    try:
        return dict(sorted(safetensors.load(read_checked(path, sha256)).items()))
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file ({error}): {_REMEDY}") from error


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file of a saved model. Raises ModelError if it is absent, or if its checksum is another."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{path} is damaged ({len(data)} bytes, another checksum than in {CONFIG_FILE}): {_REMEDY}")
    return data


def fitted_weights(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe which weights of a model changed their shape.

    Args:
        before: its weights.
        after: its weights for another input; the same keys.

    Returns:
        Key -> the change, such as "interpolated from 1x5x32 to 1x10x32".
    """
    return {
        key: f"interpolated from {shape_text(before[key].shape)} to {shape_text(after[key].shape)}"
        for key in after
        if after[key].shape != before[key].shape
    }


def _read_config(folder: Path, schema: Schema[C]) -> C:
    path = folder / CONFIG_FILE
    content = _read_json(folder)
    found = content.pop("schema", None)
    if str(found).startswith(f"{PRETRAINED}/"):
        raise _pretrained(folder)
    if found != schema.name:
        raise ModelError(
            f"{path}: schema is {found!r:.40}, but this version of vmr ({__version__}) reads {schema.name!r}"
        )
    try:
        config: C = from_json(schema.config, content, "")
    except VmrError as error:
        raise ModelError(f"{path} does not follow the schema {schema.name}: {error}: save the model again") from error
    for role in schema.files:
        name = getattr(config, f"{role}_file")
        if not _OWN_FILE.fullmatch(name):
            raise ModelError(f"{path}: {role}_file is {name!r}, not a file that vmr writes")
    return config


def _pretrained(folder: Path) -> ModelError:
    return ModelError(
        f"{folder}: a pre-trained video encoder, which knows neither texts nor classes: train from it by "
        "vmr-train with model.video_init"
    )


def _what_else(folder: Path) -> str:
    """What a folder of training is, and which folder to name in its place; "" for other folders."""
    models = [str(folder / name) for name in ("model", "best") if (folder / name / CONFIG_FILE).is_file()]
    if models:
        return f": it is a run of vmr-train, whose model is in {' or '.join(models)}"
    if (folder / "checkpoints").is_dir():
        return ": it is a run of vmr-train that has no model yet: start the run again to finish it"
    if (folder / "state.json").is_file():
        return ": it is a checkpoint to resume a run from: name the folder model or best of the run"
    return ""


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: no saved model here (no {CONFIG_FILE}){_what_else(folder)}")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error!s:.80}): {_REMEDY}") from error
    return content if isinstance(content, dict) else {}
