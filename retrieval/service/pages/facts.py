"""What the page says about the index as a whole, and what its filters offer."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from vmr.retrieval.storage.conditions import source_names
from vmr.retrieval.storage.snapshot import Snapshot

_MAX_FOLDERS = 300
_AT_LEAST_S = 5.0


@dataclass(frozen=True)
class Facts:
    """What there is to know before anything is searched.

    Attributes:
        num_videos: videos in the index.
        num_moments: their windows.
        num_texts: their texts.
        num_failures: files that could not be read.
        sources: what `source = ...` can select: names of the folders that were indexed, or paths where a name is
            there twice.
        folders: folders of videos, relative to these, in alphabetical order.
    """

    num_videos: int
    num_moments: int
    num_texts: int
    num_failures: int
    sources: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Facts":
        """Read them from an index."""
        sources = source_names(snapshot.roots().values()).values()
        return cls(
            snapshot.num_videos(),
            snapshot.num_windows(),
            snapshot.num_texts(),
            snapshot.num_failures(),
            tuple(sorted(filter(str.isprintable, sources))),
            tuple(sorted(filter(str.isprintable, _with_parents(snapshot.folders(_MAX_FOLDERS))))),
        )


def _with_parents(folders: Iterable[str]) -> set[str]:
    return {str(one) for folder in map(PurePosixPath, folders) for one in (folder, *folder.parents) if one.name}


class KnownFacts:
    """Facts that are read again when the index has changed, but at most every five seconds."""

    def __init__(self) -> None:
        self._facts: Facts | None = None
        self._state: tuple[str, int] | None = None
        self._read_at = 0.0

    def of(self, snapshot: Snapshot) -> Facts:
        """Return the facts of the index, or of the one that has taken its place."""
        state = (snapshot.meta("created"), snapshot.meta("commit"))
        if self._facts is None or (state != self._state and time.monotonic() > self._read_at + _AT_LEAST_S):
            self._facts = Facts.of(snapshot)
            self._state, self._read_at = state, time.monotonic()
        return self._facts
