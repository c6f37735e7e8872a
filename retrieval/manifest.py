"""What an index says of itself: its rows, their videos, its encoder. Imports neither torch nor FAISS.

The manifest is the commit point of an index. It names the file of vectors with its checksum and is put in place last,
by an atomic rename, so a reader finds the old index, the new one, or none, and never half of one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from vmr.errors import IndexFileError
from vmr.files import write_atomically

SCHEMA = "vmr-index/1"
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Row:
    """One vector of the index: `id` is its number in the vectors file, times are seconds from the video's start."""

    id: int
    video: str  # relative to the manifest's root
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Failure:
    """A video that was asked for and is not in the index, and why."""

    video: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All that an index knows besides its vectors."""

    encoder: str
    fingerprint: str
    embed_dim: int
    num_frames: int
    window_s: float | None
    stride_s: float | None
    reader: str
    root: str  # absolute folder that the rows' videos are relative to
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    vectors_file: str
    vectors_sha256: str
    created: str  # ISO 8601, UTC
    vmr_version: str

    @property
    def num_videos(self) -> int:
        """Videos with at least one row."""
        return len(self.videos)

    @property
    def videos(self) -> tuple[str, ...]:
        """The videos with at least one row, relative to `root`, in order."""
        return tuple(dict.fromkeys(row.video for row in self.rows))

    def save(self, folder: Path) -> None:
        """Commits the index: after this call, and not before, a reader sees it."""
        counts = {"videos": self.num_videos, "rows": len(self.rows), "failures": len(self.failures)}
        text = json.dumps({"schema": SCHEMA, "counts": counts, **asdict(self)}, indent=1, allow_nan=False)
        write_atomically(folder / FILE_NAME, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Reads and checks the manifest in `folder`. Raises IndexFileError, one line, for anything that is not one."""
        path = folder / FILE_NAME
        if not folder.is_dir():
            raise IndexFileError(f"{folder}: no such index: make one with vmr-index build DIR --out {folder}")
        if not path.is_file():
            raise IndexFileError(
                f"{folder} is not a finished index (no {FILE_NAME}): build it again with vmr-index build"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != SCHEMA:
                raise IndexFileError(f"{path}: not of schema {SCHEMA}: build the index again with this version of vmr")
            num_rows = content.pop("counts")["rows"]
            content["rows"] = tuple(_checked(Row, row) for row in content["rows"])
            content["failures"] = tuple(_checked(Failure, failure) for failure in content["failures"])
            manifest: Manifest = _checked(cls, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexFileError(f"{path} is damaged ({error}): build the index again") from error
        if [row.id for row in manifest.rows] != list(range(num_rows)):
            raise IndexFileError(f"{path} is damaged (rows missing or out of order): build the index again")
        return manifest


def _checked(kind: type, content: dict[str, Any]) -> Any:
    """A dataclass from JSON. Raises TypeError where a key is unknown or missing, or a value not of its field's type."""
    for name, expected in get_type_hints(kind).items():
        if not isinstance(content.get(name), tuple if get_origin(expected) is tuple else expected):
            raise TypeError(f"{name} is {content.get(name)!r:.40}")
    return kind(**content)
