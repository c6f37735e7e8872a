"""Indexes of schema 1, which vmr reads and does not write any more."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.vectors.faiss_store import FaissStore

VECTORS = np.eye(5, 3, dtype=np.float32) / 3
SPANS = (("b.mp4", 0.0, 2.0), ("b.mp4", 1.0, 3.5), ("a/c.mp4", 0.0, 1.5), ("\udcff.mp4", 0.0, 2.0), ("b.mp4", 2.0, 4.0))


def old_index(
    folder: Path, spans: Sequence[tuple[str, float, float]] = SPANS, vectors: np.ndarray = VECTORS, **changes: object
) -> Path:
    """Write an index of schema 1; returns the manifest.

    Args:
        folder: the folder to make.
        spans: video, start and end of each row.
        vectors: of each row.
        changes: what the manifest says instead.
    """
    folder.mkdir()
    store = FaissStore(vectors.shape[1], path=folder / f"vectors-{'0' * 32}.faiss")
    store.add(np.arange(len(vectors)), vectors)
    store.commit()
    rows = [{"id": i, "video": video, "start_s": start, "end_s": end} for i, (video, start, end) in enumerate(spans)]
    content = {
        "schema": "vmr-index/1",
        "counts": {"videos": len({row["video"] for row in rows}), "rows": len(rows), "failures": 1},
        "encoder": "tiny",
        "fingerprint": "f00d",
        "embed_dim": vectors.shape[1],
        "num_frames": 4,
        "window_s": 2.0,
        "stride_s": 1.0,
        "reader": "pyav",
        "root": "/videos",
        "rows": rows,
        "failures": [{"video": "sub/broken.mp4", "reason": "is empty"}],
        "remarks": [{"video": "b.mp4", "kind": "damage", "text": "3 frames are missing"}],
        "other_files": {".txt": 2},
        "vectors_file": store.path.name,
        "vectors_sha256": store.sha256,
        "created": "2026-11-01T00:00:00+00:00",
        "vmr_version": "0.1.0",
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


def content_of(reader: IndexReader) -> dict[str, Any]:
    """What an index holds, without numbers that only the database knows, and without states of files."""
    with reader, reader.snapshot() as snapshot:
        vectors = {}
        for space in snapshot.spaces():
            for block in snapshot.blocks(space.id):
                ids = range(block.first_window, block.first_window + len(block.vectors))
                hits = snapshot.hits(ids)
                rows = [(hits[one].file, hits[one].start_s, hits[one].end_s) for one in ids]
                vectors |= {
                    (space.name, *row): vector.tobytes() for row, vector in zip(rows, block.vectors, strict=True)
                }
        return {
            "vectors": vectors,
            "videos": {v.file: (v.duration_s, v.remarks, v.metadata, snapshot.texts(v.id)) for v in snapshot.videos()},
            "spaces": [(one.name, one.encoder, one.fingerprint, one.dim, one.frames) for one in snapshot.spaces()],
            "failures": [(failure.file, failure.reason) for failure in snapshot.failures()],
            "others": snapshot.other_files(),
            "settings": snapshot.settings,
            "created": snapshot.meta("created"),
        }
