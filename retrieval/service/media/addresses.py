"""Where pictures and files of videos are found."""

from __future__ import annotations

from vmr.retrieval.service.media.sources import Source
from vmr.retrieval.service.options import API
from vmr.retrieval.storage.records import Video


def stamp_of(video: Video) -> str:
    """Return 16 hex digits that differ from those of every other video, and of this one after a change."""
    return Source.of(video).stamp[:16]


def thumbnail_url(video: Video, moment_id: int) -> str:
    """Where the picture of a moment is found; a browser may keep it for ever.

    The number of a moment is never used again, but another index that is served at the same place later has its own.
    """
    return f"{API}/moments/{moment_id}/thumbnail.jpg?of={stamp_of(video)}"


def media_url(video: Video, start_s: float, end_s: float, offset_s: float = 0.0) -> str:
    """Where the file of a video is found, with a moment as a media fragment.

    Args:
        video: the video.
        start_s: start of the moment, in seconds of the video.
        end_s: its end.
        offset_s: see `Media.timeline_offset_s`; a fragment is in the file's own time.
    """
    start, end = (f"{max(0.0, time_s + offset_s):.3f}".rstrip("0").rstrip(".") for time_s in (start_s, end_s))
    return f"{API}/videos/{video.id}/media#t={start},{end}"
