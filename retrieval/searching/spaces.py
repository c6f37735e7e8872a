"""Which of the vector spaces of an index is searched."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vmr.errors import IndexFileError
from vmr.models.encoder import Encoder, check_encoder
from vmr.retrieval.storage.records import Space


def chosen_space(folder: Path, spaces: Sequence[Space], encoder: Encoder | None, name: str | None) -> Space:
    """Return the space that has a name, or that an encoder made; the first if neither is given.

    Args:
        folder: the folder of the index.
        spaces: those of the index.
        encoder: the encoder.
        name: the name.

    Raises:
        IndexFileError: there is none.
        ModelError: the encoder is none.
    """
    if not spaces:
        raise IndexFileError(f"{folder} is empty: add videos with vmr-index build")
    if name is not None:
        for space in spaces:
            if space.name == name:
                return space
        raise IndexFileError(f"{folder} has no space {name}, but {', '.join(each.name for each in spaces)}")
    if encoder is None:
        return spaces[0]
    check_encoder(encoder)
    for space in spaces:
        if (space.fingerprint, space.dim) == (encoder.fingerprint, encoder.embed_dim):
            return space
    raise made_by_another(folder, spaces, encoder)


def space_for(
    folder: Path,
    spaces: Sequence[Space],
    encoder: str | Path | Encoder | None,
    name: str | None,
    load: Callable[[str | Path], Encoder],
) -> tuple[Space, Encoder | None]:
    """Return the space to search, and the encoder where one was given that the index does not name.

    Args:
        folder: the folder of the index.
        spaces: those of the index.
        encoder: the encoder, or its name or path; None for that of the space.
        name: that of the space; None for that of the encoder, or the first.
        load: loads a model, given its name or path.

    Raises:
        IndexFileError: there is none.
        ModelError: the encoder is none.
    """
    if isinstance(encoder, str | Path):
        own = [each.name for each in spaces if str(encoder) in (each.encoder, each.name)]
        name = name or next(iter(own), None)
        encoder = None if own else load(encoder)
    return chosen_space(folder, spaces, encoder, name), encoder


def made_by_another(folder: Path, spaces: Sequence[Space], encoder: Encoder) -> IndexFileError:
    """Return an error that says which encoders made the spaces of an index, and that another one did not."""
    makers = " and ".join(f"{space.encoder} ({space.fingerprint})" for space in spaces)
    return IndexFileError(
        f"{folder} was made by {makers}, not by {encoder.name} ({encoder.fingerprint}): search with the former or "
        "build the index again"
    )
