"""Frame-averaged CLIP through open_clip_torch: the strong baseline that users know.

A video is the mean of its frames' unit image vectors, made a unit vector again; a text is CLIP's text vector.
Nothing here knows the order of frames.
"""

import contextlib
import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.errors import MissingExtraError, ModelError
from vmr.models.encoder import Preprocess, fingerprint

PREFIX = "open_clip:"
IMAGES_AT_ONCE = 64


class OpenClipEncoder:
    """An open_clip model: `open_clip:ViT-B-32/openai`, `open_clip:ViT-B-32/FILE` or `open_clip:hf-hub:ORG/NAME`.

    What stands after the first slash is one of open_clip's own weight tags or a file. Raises ModelError where the name
    is unknown, and where the weights cannot be reached or do not fit: a model is never left with random weights.
    """

    about = "CLIP averaged over frames: it knows nothing of their order"

    def __init__(self, name: str, num_frames: int = 8, device: str | torch.device = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        architecture, weights = _parse_name(name)
        self.model = _load(name, architecture, weights).eval().to(self.device)
        self.tokenizer = _open_clip().get_tokenizer(architecture)
        self.preprocess = _preprocess_of(self.model, name, num_frames)
        self.embed_dim = self.encode_text(["a"]).shape[-1]
        self.fingerprint = fingerprint(
            self.model.state_dict(), self.preprocess, {"family": "open_clip", "architecture": architecture}
        )

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> float32 unit vectors (B, D)."""
        images = self.preprocess(video.to(self.device)).flatten(0, 1)  # (B*T, 3, S, S)
        frames = torch.cat([normalize(self.model.encode_image(part), dim=-1) for part in images.split(IMAGES_AT_ONCE)])
        return normalize(frames.unflatten(0, video.shape[:2]).mean(1).float(), dim=-1)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """texts: B strings, cut at the model's context length -> float32 unit vectors (B, D)."""
        vectors = [
            self.model.encode_text(self.tokenizer(list(texts[i : i + IMAGES_AT_ONCE])).to(self.device))
            for i in range(0, len(texts), IMAGES_AT_ONCE)
        ]
        if not vectors:
            return torch.empty(0, self.embed_dim, device=self.device)
        return normalize(torch.cat(vectors).float(), dim=-1)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip") from error
    return open_clip


def _parse_name(name: str) -> tuple[str, str | None]:
    """`open_clip:ARCHITECTURE/WEIGHTS` -> both parts; a hub or folder name carries its own weights, so None."""
    open_clip = _open_clip()
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
    open_clip = _open_clip()
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


def _preprocess_of(model: Any, name: str, num_frames: int) -> Preprocess:
    """open_clip's own record of how the model wants its images, as an order to the decoder."""
    config = _open_clip().get_model_preprocess_cfg(model)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    resize: Any = {"shortest": "crop", "squash": "stretch"}.get(config["resize_mode"])
    if height != width or resize is None or config["interpolation"] != "bicubic":
        raise ModelError(
            f"{name}: cannot prepare images of {height} x {width}, {config['resize_mode']}, "
            f"{config['interpolation']}: vmr decodes to squares, bicubic, cropped or stretched"
        )
    return Preprocess(num_frames, height, resize, mean=tuple(config["mean"]), std=tuple(config["std"]))
