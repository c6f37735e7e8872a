"""An index that is open as long as it is served, and is opened again when another one takes its place."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vmr.errors import IndexFileError
from vmr.models.catalogue import load_encoder
from vmr.models.encoder import Encoder
from vmr.retrieval.storage.schema import DATABASE

T = TypeVar("T")


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Close it."""


Open = TypeVar("Open", bound=Closable)


class Reopened(Generic[Open]):
    """Something that reads an index, for the use of one thread.

    Args:
        folder: of the index.
        open_it: opens it.
    """

    def __init__(self, folder: Path, open_it: Callable[[], Open]) -> None:
        self._database, self._open_it = folder / DATABASE, open_it
        self._place = self._look()
        self._open: Open | None = None

    def use(self, work: Callable[[Open], T]) -> T:
        """Do something with it. If the index was replaced or built in another way, it is opened and done again.

        Raises:
            IndexFileError: the index cannot be read.
        """
        was_open = self._open is not None and self._place == self._look()
        try:
            return work(self.current())
        except IndexFileError:
            self.forget()
            if not was_open:
                raise
            return work(self.current())

    def current(self) -> Open:
        """Return it, opened again if the index was replaced.

        Raises:
            IndexFileError: the index cannot be opened.
        """
        place = self._look()
        if place != self._place:
            self.forget()
        if self._open is None:
            self._open, self._place = self._open_it(), place
        return self._open

    def forget(self) -> None:
        """Close it; it is opened again when it is used."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _look(self) -> tuple[int, int] | None:
        """Which file the database is; None if there is none."""
        try:
            status = self._database.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


class Encoders:
    """Models, each of which is loaded once, whichever threads ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[str, Encoder] = {}

    def load(self, name: str | Path) -> Encoder:
        """Load a model, given its name or path.

        Raises:
            ModelError: there is none, or it cannot be loaded.
        """
        with self._lock:
            if str(name) not in self._loaded:
                self._loaded[str(name)] = load_encoder(name)
            return self._loaded[str(name)]
