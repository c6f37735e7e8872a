"""Tar files in the layout of WebDataset."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_shard(path: Path, members: Mapping[str, str | bytes]) -> Path:
    """Write a tar file with these members in this order."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
