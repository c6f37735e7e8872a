"""The names of the known models, and the functions that turn a name or a path into an encoder or a classifier.

Imports no torch: names, paths and sizes are checked first.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmr.checks import check_path, whole_number
from vmr.cpus import let_threads_sleep
from vmr.errors import ModelError, VmrError
from vmr.models.encoder import Encoder
from vmr.models.families.names import plain_name, skip_of
from vmr.models.upstream.published import RELEASED_MODELS, about_released
from vmr.models.upstream.published_vision import PUBLISHED_VISION

if TYPE_CHECKING:
    import torch

    from vmr.models.classification.family import VideoClassifier

logger = logging.getLogger(__name__)

UNTRAINED_SKIP = "expect worse results. In our test R@1 fell from 79.6 to 64.2 at threshold 0.002, and to 57.2 at 0.02"

WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

SHIPPED = {path.parent.name: path.parent for path in sorted(Path(__file__).with_name("shipped").glob("*/config.json"))}
"""Name -> folder, for the models that come with vmr."""

KNOWN = {
    "offline": "a baseline whose weights come with pip",
    "videomamba-nano-shapes": "trained with vmr on its own synthetic benchmark, and comes with it",
    **{name: about_released(pairs) for name, pairs in RELEASED_MODELS.items()},
    "videomamba-nano-actions": "a classifier trained with vmr on its own drawn actions, and comes with it",
    "videomamba-ti-k400-f8": "a published classifier, one of many; vmr-info lists all",
    "open_clip:MODEL/WEIGHTS": "CLIP averaged over frames",
    "a folder": "a model or a classifier saved by vmr",
    f"a file ({' '.join(WEIGHT_SUFFIXES)})": "a video-text checkpoint or a classifier of upstream's VideoMamba",
}
"""Name, or kind of name or path -> what it is, in one line; the published classifiers are one line."""


def known_models() -> dict[str, str]:
    """List what `load_model` accepts.

    Returns:
        Name, or kind of name or path -> one line on what it is, in the order in which to show them.
    """
    return {**KNOWN, **{name: published.about for name, published in PUBLISHED_VISION.items() if published.has_head}}


def load_model(
    name: str | Path = "offline",
    device: str = "auto",
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
    num_heads: int | None = None,
    skip: float | None = None,
) -> Any:
    """Load an encoder or a classifier by name or path.

    Args:
        name: `offline` (weights installed by pip), a released VideoMamba such as `videomamba-m-25m` or the classifier
            `videomamba-ti-k400-f8` (downloaded once), `open_clip:MODEL/WEIGHTS`, a folder that vmr saved, a folder
            of TimeSformer in Hugging Face's layout, or a checkpoint file of upstream's. A path becomes the model's
            name, made absolute. `NAME@skip=0.02` means the same as the argument `skip`, so that an index can name it.
        device: `cpu`, `cuda` (under torchrun, the GPU of this process), `cuda:1`, or `auto` (`cuda` if there is a GPU;
            for `offline`, `cpu` if OpenVINO is installed).
        num_frames: frames of a clip; default, the model's own.
        image_size: side of the frames in pixels; default, the model's own. VideoMamba's positions are interpolated to
            this size and to num_frames.
        num_heads: attention heads of BERT in a checkpoint file of an unusual width.
        skip: leave out patches that differ from earlier ones by no more than this share of the range of pixels, see
            `vmr.models.videomamba.repeats`; only for video-text models. 0 leaves out none; default, the model's own
            choice. A model that was not trained so is worse then, also where it leaves out exact repetitions only; a
            warning says so. It becomes part of the model's name.

    Returns:
        The model, in evaluation mode: an `Encoder`, and also a `vmr.models.encoder.Matcher` if it can re-rank; or a
        `Classifier`. Its type depends on the name, so none is stated.

    Raises:
        ModelError: a name that is unknown (with a suggestion), a path that does not exist, a device that is not
            available, weights that cannot be reached or do not fit, a size that the model cannot take, an argument of a
            wrong type.
        MissingExtraError: the packages for this kind of model are not installed.
    """
    name, path, skip, sizes = _checked(name, skip, num_frames, image_size, num_heads)
    if not _is_classifier(name, path):
        return _load_encoder(name, path, device, skip, **sizes)
    _refuse(name, skip=skip)
    return _load_classifier(name, path, device, **sizes)


def load_encoder(
    name: str | Path = "offline",
    device: str = "auto",
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
    num_heads: int | None = None,
    skip: float | None = None,
) -> Encoder:
    """Load an encoder: `load_model` for those who cannot use a classifier. See there."""
    name, path, skip, sizes = _checked(name, skip, num_frames, image_size, num_heads)
    if _is_classifier(name, path):
        raise ModelError(
            f"{name} is a classifier, which has no vectors to search by: use it with vmr-classify or vmr-eval --task "
            "classify, and here an encoder, such as offline"
        )
    return _load_encoder(name, path, device, skip, **sizes)


def load_classifier(
    name: str | Path,
    device: str = "auto",
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> VideoClassifier:
    """Load a classifier: `load_model` for those who cannot use an encoder. See there."""
    name, path, skip, sizes = _checked(name, None, num_frames, image_size, None)
    _refuse(name, skip=skip)
    if not _is_classifier(name, path):
        if path is not None and path.is_dir():
            from vmr.models.saved_folder import check_saved

            check_saved(path)
        raise ModelError(
            f"{name} is an encoder, which names no classes: use it with vmr-search or vmr-eval, and here a classifier, "
            "such as videomamba-ti-k400-f8 or a folder that vmr-train made"
        )
    return _load_classifier(name, path, device, **sizes)


def _checked(
    name: str | Path, skip: float | None, num_frames: int | None, image_size: int | None, num_heads: int | None
) -> tuple[str, Path | None, float | None, dict[str, int | None]]:
    """The plain name, the path if it is one, the threshold, and the sizes by the names of their arguments."""
    sizes = {"num_frames": num_frames, "image_size": image_size, "num_heads": num_heads}
    try:
        name = str(check_path("name", name))
        sizes = {key: None if value is None else whole_number(key, value) for key, value in sizes.items()}
    except VmrError as error:
        raise ModelError(str(error)) from error
    skip, name = skip_of(name) if skip is None else skip, plain_name(name)
    return name, None if _is_named(name) else _existing(name), skip, sizes


def _is_classifier(name: str, path: Path | None) -> bool:
    """Whether a name or a path means a classifier. Raises ModelError for a file without a head."""
    path = path or SHIPPED.get(name)
    if path is None:
        return name in PUBLISHED_VISION
    if path.is_dir():
        from vmr.models.classification.timesformer_files import is_timesformer
        from vmr.models.saved_folder import CLASSIFIER, saved_kind

        return saved_kind(path) == CLASSIFIER or is_timesformer(path)
    from vmr.models.classification.released import is_classifier_file

    return is_classifier_file(path)


def _load_classifier(
    name: str, path: Path | None, device: str, *, num_frames: int | None, image_size: int | None, num_heads: int | None
) -> VideoClassifier:
    from vmr.models.classification.released import load_classifier_file, load_released_classifier
    from vmr.models.classification.saved import load_saved_classifier
    from vmr.models.classification.timesformer_files import is_timesformer, load_timesformer

    _refuse(name, num_heads=num_heads)
    chosen = _device(device)
    let_threads_sleep()
    if name in SHIPPED:
        return load_saved_classifier(
            SHIPPED[name], chosen, name=name, about=KNOWN[name], num_frames=num_frames, image_size=image_size
        )
    if path is None:
        return load_released_classifier(name, chosen, num_frames=num_frames, image_size=image_size)
    of_a_folder = load_timesformer if is_timesformer(path) else load_saved_classifier
    load = of_a_folder if path.is_dir() else load_classifier_file
    return load(path, chosen, num_frames=num_frames, image_size=image_size)


def _load_encoder(
    name: str,
    path: Path | None,
    device: str,
    skip: float | None,
    *,
    num_frames: int | None,
    image_size: int | None,
    num_heads: int | None,
) -> Encoder:
    """Load an encoder, and change what it leaves out if that is asked for."""
    encoder = _loaded_encoder(name, path, device, num_frames=num_frames, image_size=image_size, num_heads=num_heads)
    if skip is None:
        return encoder
    from vmr.models.families.video_text import VideoTextEncoder

    if not isinstance(encoder, VideoTextEncoder):
        raise ModelError(f"{name}: skip cannot be chosen for this model")
    if skip and not encoder.learnt_skip:
        logger.warning("%s was not trained to leave out what repeats: %s", name, UNTRAINED_SKIP)
    return encoder.with_skip(skip)


def _loaded_encoder(
    name: str, path: Path | None, device: str, *, num_frames: int | None, image_size: int | None, num_heads: int | None
) -> Encoder:
    sizes = {"num_frames": num_frames, "image_size": image_size, "num_heads": num_heads}
    if name == "offline":
        _refuse(name, **sizes)
        return _load_offline(device)
    chosen = _device(device)
    let_threads_sleep()
    if name.startswith("open_clip:"):
        from vmr.models.families.open_clip import OpenClipEncoder

        _refuse(name, image_size=image_size, num_heads=num_heads)
        return OpenClipEncoder(name, num_frames or 8, device=chosen)
    if name in SHIPPED:
        from vmr.models.saved_model import load_saved

        _refuse(name, num_heads=num_heads)
        return load_saved(
            SHIPPED[name], chosen, name=name, about=KNOWN[name], num_frames=num_frames, image_size=image_size
        )
    if path is None:
        _refuse(name, num_heads=num_heads)
        return _load_released(name, chosen, num_frames=num_frames, image_size=image_size)
    return _load_path(path, chosen, **sizes)


def _is_named(name: str) -> bool:
    named = {"offline", *SHIPPED, *RELEASED_MODELS, *PUBLISHED_VISION}
    return name in named or name.startswith("open_clip:")


def _load_offline(device: str) -> Encoder:
    """Load `offline`. On `auto` it runs on the CPU without torch, if it can."""
    from vmr.models.families.offline import OfflineEncoder
    from vmr.models.runtime import runtime_version

    if device == "cpu" or (device == "auto" and runtime_version() is not None):
        return OfflineEncoder()
    return OfflineEncoder(str(_device(device)))


def _load_released(name: str, device: torch.device, *, num_frames: int | None, image_size: int | None) -> Encoder:
    from vmr.models.families.video_text import VideoTextEncoder
    from vmr.models.text.tokenizer import CaptionTokenizer
    from vmr.models.upstream.released import RELEASED, check_sizes, download

    released = RELEASED[name]
    tokenizer = CaptionTokenizer()  # may raise MissingExtraError, so call it before a long download
    encoder = VideoTextEncoder.from_upstream(
        download(released),
        name=released.name,
        about=released.about,
        device=device,
        num_frames=num_frames,
        image_size=image_size,
        tokenizer=tokenizer,
    )
    check_sizes(released, encoder.model.config)
    return encoder


def shows_progress(name: str | Path) -> bool:
    """Tell whether loading a model may show a progress bar of its own, because it is downloaded first.

    Args:
        name: as for `load_model`.

    Returns:
        True for the released models.
    """
    return plain_name(name) in RELEASED_MODELS or plain_name(name) in PUBLISHED_VISION


def _load_path(
    path: Path, device: torch.device, *, num_frames: int | None, image_size: int | None, num_heads: int | None
) -> Encoder:
    if path.is_dir():
        from vmr.models.saved_model import load_saved

        _refuse(str(path), num_heads=num_heads)
        return load_saved(path, device, num_frames=num_frames, image_size=image_size)
    from vmr.models.families.video_text import VideoTextEncoder

    return VideoTextEncoder.from_upstream(
        path,
        name=str(path),
        about="a VideoMamba checkpoint in upstream's format, from a file",
        device=device,
        num_frames=num_frames,
        image_size=image_size,
        num_heads=num_heads,
    )


def _existing(name: str) -> Path:
    """The absolute path of a saved model or a checkpoint file. Raises ModelError if there is none."""
    if not _is_path(name):
        raise ModelError(_unknown(name))
    path = Path(name).expanduser().absolute()
    if not path.is_dir() and not path.is_file():
        raise ModelError(f"{path}: no such file or folder")
    if path.is_file() and path.suffix not in WEIGHT_SUFFIXES:
        raise ModelError(f"{path}: not a model: name a folder saved by vmr, or a file in {' '.join(WEIGHT_SUFFIXES)}")
    return path


def _is_path(name: str) -> bool:
    """Whether a name means a path: the path exists, or the name is of no other known kind."""
    path = Path(name).expanduser()
    return path.exists() or path.suffix in WEIGHT_SUFFIXES or ("/" in name and ":" not in name)


def _unknown(name: str) -> str:
    names = [known.partition(":")[0] for known in (*KNOWN, *PUBLISHED_VISION)]
    close = difflib.get_close_matches(name.partition(":")[0], names, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    return f"unknown model {name!r}{hint} (known: {', '.join(KNOWN)})"


def _refuse(name: str, **sizes: float | None) -> None:
    for key, value in sizes.items():
        if value is not None:
            raise ModelError(f"{name}: {key} cannot be chosen for this model")


def _device(name: str) -> torch.device:
    from vmr.processes import choose_device

    try:
        return choose_device(name)
    except VmrError as error:
        raise ModelError(str(error)) from error
