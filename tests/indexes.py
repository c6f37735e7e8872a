"""Indexes of vectors that were chosen by hand, written through the real writer, and an encoder for their queries."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

import vmr
from vmr.data.remark import Remark
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.storage.changes import Changes
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter

STATE = FileState(size=10, mtime_ns=1_000_000_000, inode=7, seen_ns=5_000_000_000)
SETTINGS = IndexSettings(8.0, 4.0)

Row = tuple[str, float, float]
"""Path of a video, start and end of a window in seconds."""


class TwoDimensional:
    """Texts are a pair of numbers; the vector of a video is its mean red and blue."""

    name, about, embed_dim = "two", "by hand", 2
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)
    fingerprint = "f" * 16

    def encode_video(self, video):
        mean = video.float().mean(dim=(1, 3, 4))  # (B, 3)
        return torch.nn.functional.normalize(mean[:, [0, 2]], dim=1)

    def encode_text(self, texts):
        return torch.tensor([[float(number) for number in text.split()] for text in texts])


class Other(TwoDimensional):
    """The same numbers under another fingerprint."""

    name, fingerprint = "other", "0" * 16


def space(encoder="two", dim=2, dtype="float32", **options):
    """The space of a TwoDimensional encoder."""
    frames = {"num_frames": 1, "reader": "pyav"}
    values = {"name": encoder, "encoder": encoder, "fingerprint": "f" * 16, **options}
    return Space(id=0, dim=dim, dtype=dtype, frames=frames, **values)


def put_rows(
    changes: Changes,
    space_id: int,
    rows: Sequence[Row],
    vectors: np.ndarray,
    *,
    root: str = "/videos",
    remarks: Mapping[str, Sequence[Remark]] | None = None,
) -> None:
    """Put rows into an index, video by video."""
    for path in dict.fromkeys(row[0] for row in rows):
        numbers = [number for number, row in enumerate(rows) if row[0] == path]
        spans = tuple(rows[number][1:] for number in numbers)
        noticed = tuple((remarks or {}).get(path, ()))
        end_s = max(end for _, end in spans)
        some = np.asarray(vectors, np.float32)[numbers]
        changes.put_video(NewVideo(root, path, b"", STATE, end_s, noticed, spans, {space_id: some}))


def write_index(folder: Path, rows: Sequence[Row], vectors: np.ndarray, **options) -> Path:
    """Write an index of rows, (video, start_s, end_s), and their vectors; options are those of `space`."""
    with IndexWriter(folder, SETTINGS) as writer, writer.commit() as changes:
        dim = np.shape(vectors)[1]
        put_rows(changes, changes.add_space(space(**{"dim": dim, **options})), rows, vectors)
    return folder
