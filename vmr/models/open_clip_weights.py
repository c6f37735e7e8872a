"""Load open_clip's models by name, never without their weights, and read how they preprocess images."""

import contextlib
import difflib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmr.errors import MissingExtraError, ModelError
from vmr.models.encoder import Preprocess

PREFIX = "open_clip:"
"""The prefix of these models' names."""


def load_open_clip(name: str) -> tuple[Any, str]:
    """Load a model of open_clip on the CPU.

    Args:
        name: `open_clip:MODEL/WEIGHTS`, where WEIGHTS is one of open_clip's own weight tags or a file;
            `open_clip:hf-hub:ORG/NAME`; or `open_clip:local-dir:FOLDER`.

    Returns:
        The model, and the part of the name that open_clip calls its architecture.

    Raises:
        ModelError: the name is unknown (with a suggestion), or the weights cannot be reached or do not fit: a model is
            never left with random weights.
        MissingExtraError: open_clip is not installed.
    """
    architecture, weights = _parse_name(name)
    return _load(name, architecture, weights), architecture


def open_clip_preprocess(model: Any, name: str, num_frames: int) -> Preprocess:
    """Translate open_clip's preprocessing settings of a model.

    Args:
        model: a model of open_clip.
        name: of the model, for the error message.
        num_frames: frames of a clip, which is no setting of open_clip.

    Returns:
        The settings as a `Preprocess`.

    Raises:
        ModelError: vmr cannot preprocess images as the model needs.
    """
    config = import_open_clip().get_model_preprocess_cfg(model)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    resize: Any = {"shortest": "crop", "squash": "stretch"}.get(config["resize_mode"])
    if height != width or resize is None or config["interpolation"] != "bicubic":
        raise ModelError(
            f"{name}: cannot prepare images of {height} x {width}, {config['resize_mode']}, "
            f"{config['interpolation']}: vmr decodes to squares, bicubic, cropped or stretched"
        )
    return Preprocess(num_frames, height, resize, mean=tuple(config["mean"]), std=tuple(config["std"]))


def import_open_clip() -> Any:
    """Import open_clip.

    Returns:
        The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip") from error
    return open_clip


def _parse_name(name: str) -> tuple[str, str | None]:
    """`open_clip:ARCHITECTURE/WEIGHTS` -> both parts; a hub or folder name carries its own weights, so None."""
    open_clip = import_open_clip()
    rest = name.removeprefix(PREFIX)
    if rest.startswith(("hf-hub:", "local-dir:")):
        return rest, None
    architecture, _, weights = rest.partition("/")
    if architecture not in open_clip.list_models():
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        hint = f": did you mean {' or '.join(close)}?" if close else ", see open_clip.list_models()"
        raise ModelError(f"{name}: open_clip has no model {architecture!r}{hint}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights or (weights not in tags and not Path(weights).is_file()):
        said = f"{weights!r} is neither a file nor one of its weights" if weights else "name its weights"
        known = f"one of its {len(tags)}, such as {tags[0]}" if tags else "nothing else: open_clip knows none for it"
        raise ModelError(f"{name}: {said}: {PREFIX}{architecture}/WEIGHTS, where WEIGHTS is a file or {known}")
    return architecture, weights


def _load(name: str, architecture: str, weights: str | None) -> Any:
    open_clip = import_open_clip()
    # OpenAI's weights were trained with another GELU than the plain architecture has; open_clip only warns of it.
    tag = open_clip.get_pretrained_cfg(architecture, weights) if weights else {}
    quick_gelu = bool(tag.get("quick_gelu", False))
    try:
        with _quiet_root_logger():
            return open_clip.create_model(
                architecture, pretrained=weights, force_quick_gelu=quick_gelu, require_pretrained=True
            )
    except Exception as error:  # open_clip, huggingface_hub and torch raise a dozen types here
        reason = " ".join(str(error).split())[:300]
        if weights and Path(weights).is_file():
            raise ModelError(f"{name}: the file does not fit {architecture}: {reason}") from error
        raise ModelError(
            f"{name}: weights cannot be reached: connect to the internet once, or give a file as "
            f"{PREFIX}{architecture}/FILE ({reason})"
        ) from error


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """open_clip logs errors that it also raises through the root logger; one line to the user is enough."""
    root = logging.getLogger()
    before = root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
