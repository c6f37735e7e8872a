"""What `vmr-index import` is told besides the file."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImportOptions:
    """What a file of vectors may not say about itself.

    Attributes:
        space: name of the vector space, new or of the index; default, the name of the encoder
        encoder: name or path of the model that made the vectors
        fingerprint: of that model, which is then not loaded
        root: folder that the paths of the file are relative to; default, the current folder
        dtype: how a new space stores vectors; default, as the file says, or float16
        window: seconds that a window of a new index covers; default, as the file says, or the whole video
        stride: seconds from the start of one window of a new index to the start of the next
        normalize: divide each vector by its length
    """

    space: str | None = None
    encoder: str | None = None
    fingerprint: str | None = None
    root: str | None = None
    dtype: Literal["float16", "float32"] | None = None
    window: float | None = None
    stride: float | None = None
    normalize: bool = False
