"""Training clips from every video below a folder, without captions and labels: for masked pre-training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vmr.data.discovery.find import find_videos
from vmr.data.media import Media
from vmr.data.sources.source import Pair


class FolderSource:
    """The videos below a folder, one pair for each; a TrainSource.

    They are sorted by path, so that a run can be resumed as long as none comes or goes. A broken file is noticed when
    it is decoded.

    Args:
        root: the folder.
        name: what to call this source in logs.

    Raises:
        VmrError: `root` is not a readable folder, or there is no video in it.
    """

    media: Media = "video"
    group = 1

    def __init__(self, root: str | Path, name: str) -> None:
        found = find_videos(root)
        self.name = name
        self._root, self._files = Path(root), list(found)
        self.num_ids = len(found)
        self.notes = tuple(f"{name}: skips {failure.path}: {failure.reason}" for failure in found.failures)

    def __len__(self) -> int:
        return len(self._files)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return video `index`; `rng` is not used."""
        path = self._files[index]
        return Pair(str(path.relative_to(self._root)), index, path=path)
