"""The page's templates, and the files that the page is made of."""

import functools
import hashlib
import mimetypes
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from vmr.retrieval.service.options import API

_FOLDER = Path(__file__).parent.parent
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_SHORT_S = 3.0


class StaticFile(NamedTuple):
    """A file of the page: its media type, and its bytes."""

    media_type: str
    content: bytes


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """Return all files of the page by their names. They are read once, so no name from a request becomes a path."""
    return {
        path.name: StaticFile(_KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "", path.read_bytes())
        for path in sorted((_FOLDER / "static").iterdir())
        if path.is_file()
    }


@functools.cache
def static_version() -> str:
    """Return a hash of all files of the page. It is in their addresses, so that browsers may keep them for good."""
    digest = hashlib.blake2b(digest_size=8)
    for name, file in static_files().items():
        digest.update(f"{name} {len(file.content)}\n".encode())
        digest.update(file.content)
    return digest.hexdigest()


def render(template: str, **values: Any) -> str:
    """Return a template filled with values, all of them escaped.

    Args:
        template: its name, such as "page.html.j2".
        values: what it shows.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(static=f"/static/{static_version()}", clip=_clip)
    environment.filters.update(clock=clock, moment=moment_in_words, size=size_in_words, day=_day)
    return environment


def clock(seconds: float) -> str:
    """Return a time as people write it: `0:07`, `1:02:30`.

    Args:
        seconds: from the start of the video.
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment_in_words(start_s: float, end_s: float) -> str:
    """Return where a moment lies: from, a dash, to, such as 0:07 and 0:12; with tenths if it is short."""
    tenths = [f".{int(at % 1 * 10)}" if end_s - start_s < _SHORT_S else "" for at in (start_s, end_s)]
    return f"{clock(start_s)}{tenths[0]} \N{EN DASH} {clock(end_s)}{tenths[1]}"


def _clip(moment_id: int, start_s: float, end_s: float) -> str:
    """Where a moment is found as a file of its own."""
    return f"{API}/moments/{moment_id}/clip.mp4?start_s={start_s:.3f}&end_s={end_s:.3f}"


def size_in_words(size: float) -> str:
    """Return a number of bytes: `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _day(modified: str | float | datetime) -> str:
    """Return the day of a time."""
    if isinstance(modified, str):
        return modified[:10]
    time = modified if isinstance(modified, datetime) else datetime.fromtimestamp(modified, timezone.utc)
    return time.strftime("%Y-%m-%d")
