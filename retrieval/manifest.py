"""The description of an index: its rows, their videos, its encoder. Imports neither torch nor FAISS.

The manifest is the commit point of an index. It names the file of vectors with its checksum, and is put in place last
by an atomic rename. So a reader finds the old index, the new index, or none, and never a half-written one.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from vmr.errors import IndexFileError, VmrError
from vmr.from_json import from_json
from vmr.retrieval.results import Failure, VideoRemark

SCHEMA = "vmr-index/1"
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class Row:
    """One vector of an index.

    Attributes:
        id: its number in the file of vectors, from 0.
        video: path of the video, relative to the manifest's root.
        start_s: where its segment starts, in seconds from the video's start.
        end_s: where it ends.
    """

    id: int
    video: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Manifest:
    """Everything that an index holds besides its vectors.

    Attributes:
        encoder: name or path of the model that made the vectors.
        fingerprint: of that model, see `vmr.models.encoder.Encoder`.
        embed_dim: dimensions of the vectors.
        num_frames: frames of a segment.
        window_s: seconds that one row covers; None for whole videos.
        stride_s: seconds from the start of one window to the start of the next.
        reader: the library that decoded the videos, see `vmr.VideoReader`.
        root: the folder that the videos' paths are relative to, as an absolute path.
        rows: one for each vector, in order.
        failures: the videos that were left out.
        remarks: what was noticed about the videos that were not left out.
        vectors_file: name of the file of vectors, in the same folder.
        vectors_sha256: of that file, in hex.
        created: when, in ISO 8601, UTC.
        vmr_version: which version of vmr built it.
        other_files: kind -> how many files below `root` are no videos, see `vmr.FoundVideos`; empty for an index of a
            list of videos, and for one that an earlier version built.
    """

    encoder: str
    fingerprint: str
    embed_dim: int
    num_frames: int
    window_s: float | None
    stride_s: float | None
    reader: str
    root: str
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    remarks: tuple[VideoRemark, ...]
    vectors_file: str
    vectors_sha256: str
    created: str
    vmr_version: str
    other_files: dict[str, int] = field(default_factory=dict)

    @property
    def videos(self) -> tuple[str, ...]:
        """The videos with at least one row, relative to `root`, in order."""
        return tuple(dict.fromkeys(row.video for row in self.rows))

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check the manifest in a folder.

        Raises:
            IndexFileError: there is none, or it is damaged or of another version.
        """
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
            # Earlier versions did not write these.
            manifest: Manifest = from_json(cls, {"remarks": [], "other_files": {}, **content}, "")
        except IndexFileError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, VmrError) as error:
            raise IndexFileError(f"{path} is damaged ({error}): build the index again") from error
        if [row.id for row in manifest.rows] != list(range(num_rows)):
            raise IndexFileError(f"{path} is damaged (rows missing or out of order): build the index again")
        return manifest
