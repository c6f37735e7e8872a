"""Names of files beside the database, and paths as texts of it: names that are not UTF-8 survive.

A byte that is not part of valid UTF-8 is written as two slashes and two hexadecimal digits. No normalised path holds
two slashes in a row, so every other path is written as it is.
"""

import os
import re
from pathlib import Path

JOBS = "jobs"
"""The folder of an index in which a service keeps its jobs."""
JOBS_DATABASE = "jobs.db"
"""The file of this folder that holds them."""

_OF_JOBS = re.compile(rf"{JOBS_DATABASE}(-journal)?|\.lock")

_ESCAPED = re.compile(r"//([0-9a-f]{2})")


def only_holds_jobs(folder: Path) -> bool:
    """Whether there is no such folder, or nothing in it that a service has not written."""
    return not folder.exists() or (folder.is_dir() and all(_OF_JOBS.fullmatch(file.name) for file in folder.iterdir()))


def path_to_text(path: str) -> str:
    """Return the text for a path; Python keeps bytes that are not UTF-8 as lone surrogates."""
    data = os.fsencode(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        escaped = data.decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda match: f"//{ord(match[0]) - 0xDC00:02x}", escaped)


def text_to_path(text: str) -> str:
    """Return the path for a text that `path_to_text` returned."""
    if "//" not in text:
        return text
    return os.fsdecode(b"".join(_parts(text)))


def _parts(text: str) -> list[bytes]:
    parts = _ESCAPED.split(text)  # text, digits, text, digits, ..., text
    return [bytes.fromhex(part) if number % 2 else part.encode("utf-8") for number, part in enumerate(parts)]
