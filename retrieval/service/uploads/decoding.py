"""From an uploaded file to frames for an encoder. Runs in a decoding process: the file may be hostile.

What a file claims is checked before its pixels are decoded. A claim that is a lie meets the limits on time and memory
of the process.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vmr.data.decoding.ffmpeg.video_file import NotAVideoError, VideoFile
from vmr.data.decoding.segments import FrameSpec, read_segments
from vmr.data.decoding.squares import square_frames
from vmr.data.decoding.stills import Frames
from vmr.data.decoding.video import VideoReader
from vmr.data.discovery.contents import kind_of_other
from vmr.errors import VideoError

FUNCTION = f"{__name__}:read_upload"
"""The name of `read_upload` for a decoding process."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_BEHIND = (128, 128, 128)  # what is seen through a transparent picture
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_ENOUGH = 4  # a picture is reduced to no less than so many times the side that an encoder takes


class _RefusedError(Exception):
    """An upload that is not decoded: a status of HTTP, and why."""


def read_upload(request: dict[str, Any]) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    """Read the frames of a picture or of a clip.

    Args:
        request: `path` of the file; `spec`, the fields of a `FrameSpec`; `pixels`, how many a picture may have;
            `seconds`, how long a clip may be.

    Returns:
        {"kind": "picture" or "clip"} and one array, uint8 (T, 3, S, S). Or {"status": of HTTP, "reason": why} and
        nothing.

    Raises:
        VideoError: the file is damaged.
    """
    path, spec, pixels = request["path"], FrameSpec(**request["spec"]), int(request["pixels"])
    try:
        picture = _picture(path, spec, pixels)
        if picture is not None:
            return {"kind": "picture"}, [picture]
        return {"kind": "clip"}, [_clip(path, spec, pixels, float(request["seconds"]))]
    except _RefusedError as error:
        status, reason = error.args
        return {"status": status, "reason": reason}, []
    except MemoryError:
        return {"status": 413, "reason": "it takes too much memory to decode: send a smaller one"}, []


def _picture(path: str, spec: FrameSpec, pixels: int) -> NDArray[np.uint8] | None:
    """The frames of a still picture; None if the file is something else, such as a video or an animation."""
    Image.init()
    Image.MAX_IMAGE_PIXELS = pixels
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Pillow tolerates
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with _damage(path), Image.open(path, formats=formats) as image:
                _check_size(*image.size, pixels)
                if image.format == "GIF" and getattr(image, "is_animated", False):
                    return None
                rgb = _upright(image, _ENOUGH * spec.size)
        except UnidentifiedImageError:
            return None
        except _TOO_LARGE:
            raise _too_large(pixels) from None
    still = Frames(path, np.asarray(rgb).transpose(2, 0, 1)[None])
    return np.repeat(square_frames(still, spec.resize, spec.size, np.zeros(1, np.int64)), spec.num_frames, axis=0)


@contextlib.contextmanager
def _damage(path: str) -> Iterator[None]:
    """Say that a picture is damaged, whichever error the library raises about it."""
    try:
        yield
    except (_RefusedError, MemoryError, UnidentifiedImageError, *_TOO_LARGE):
        raise
    except Exception as error:
        raise VideoError(path, f"the picture is damaged: {error}") from error


def _upright(image: Image.Image, enough: int) -> Image.Image:
    """Decode a picture: RGB, upright, and with something behind what is transparent; a very large one is reduced."""
    factor = max(1, min(image.size) // enough)
    image.draft(None, (image.width // factor, image.height // factor))  # a JPEG can be decoded smaller
    if image.mode.startswith(("I", "F")):  # grey of more than 8 bits, which Pillow would cut off
        grey = np.asarray(image)
        grey = grey * 255.0 if image.mode == "F" else grey >> 8
        whole: Image.Image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
        whole.info.update(image.info)  # also says how to turn it
    else:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        whole = image if image.mode == mode else image.convert(mode)
    factor = min(whole.size) // enough
    small = ImageOps.exif_transpose(whole.reduce(factor) if factor > 1 else whole)
    if small.mode != "RGBA":
        return small.convert("RGB")
    behind = Image.new("RGBA", small.size, (*_BEHIND, 255))
    return Image.alpha_composite(behind, small).convert("RGB")


def _clip(path: str, spec: FrameSpec, pixels: int, seconds: float) -> NDArray[np.uint8]:
    """The frames of a clip as a whole."""
    if kind_of_other(Path(path)) is not None:
        raise _RefusedError(415, "it is neither a picture nor a video")
    try:
        with contextlib.closing(VideoFile(path, num_threads=1)) as file:
            _check_size(file.stream.width, file.stream.height, pixels)
            _check_length(file.probable_s or 0.0, seconds)
    except NotAVideoError:
        raise _RefusedError(415, "it is neither a picture nor a video that can be read") from None
    with VideoReader(path) as video:  # lists all packets, so that it knows better than the file's header
        _check_size(video.width, video.height, pixels)
        _check_length(video.duration_s, seconds)
    return next(read_segments(path, spec)).video


def _check_size(width: int, height: int, pixels: int) -> None:
    if width * height > pixels:
        raise _too_large(pixels)


def _too_large(pixels: int) -> _RefusedError:
    return _RefusedError(413, f"its pictures are larger than {pixels / 1e6:g} million pixels: send a smaller one")


def _check_length(seconds: float, most: float) -> None:
    if seconds > most:
        raise _RefusedError(413, f"it is longer than {most:g} s: send a shorter clip")
