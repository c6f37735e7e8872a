"""Which of the vector spaces of an index is searched."""

from collections.abc import Sequence
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


def made_by_another(folder: Path, spaces: Sequence[Space], encoder: Encoder) -> IndexFileError:
    """Return an error that says which encoders made the spaces of an index, and that another one did not."""
    makers = " and ".join(f"{space.encoder} ({space.fingerprint})" for space in spaces)
    return IndexFileError(
        f"{folder} was made by {makers}, not by {encoder.name} ({encoder.fingerprint}): search with the former or "
        "build the index again"
    )
