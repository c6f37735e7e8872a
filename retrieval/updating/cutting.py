"""How the videos of an index are cut: from options to what the index remembers, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmr.errors import IndexFileError
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.records import IndexSettings

REMEDY = "give the same, name another folder, or start anew with --overwrite (overwrite=True)"


def settings_of(options: SegmentOptions) -> IndexSettings:
    """Return what a new index remembers of options about windows."""
    segmenter = options.segmenter()
    if segmenter is None or options.segments == "whole":
        return IndexSettings(None, None)
    stride_s = None if options.segments == "shots" else options.stride_s
    if options.segments == "fixed" and stride_s is None:
        stride_s = segmenter.window_s / 2
    return IndexSettings(segmenter.window_s, stride_s, options.segments, options.whole_video)


def options_of(settings: IndexSettings, frames: Mapping[str, Any] | None) -> SegmentOptions:
    """Return the options that an index was built with.

    Args:
        settings: what the index remembers.
        frames: of one of its spaces; None if it has none.
    """
    frames = frames or {}
    return SegmentOptions(
        settings.segments,
        settings.window_s,
        settings.stride_s,
        settings.whole_video,
        "keyframes" if frames.get("keyframes", False) else "all",
        frames.get("skip_still", 0.0),
    )


def check_settings(folder: Path, known: IndexSettings, options: SegmentOptions) -> None:
    """Refuse windows that are not those of an index.

    Raises:
        IndexFileError: an option differs.
    """
    given = settings_of(options)
    for option in ("window_s", "stride_s", "segments", "whole_video"):
        check_option(folder, option, getattr(known, option), getattr(given, option))


def check_option(folder: Path, option: str, known: object, given: object) -> None:
    """Refuse an option that is not that of an index.

    Raises:
        IndexFileError: it differs.
    """
    if given != known:
        raise IndexFileError(f"{folder} was built with {option} {_text(known)}, not {_text(given)}: {REMEDY}")


def _text(value: object) -> str:
    if isinstance(value, bool | None):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
