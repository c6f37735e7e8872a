"""How videos are decoded: by which library, by how many processes, with how much patience."""

import threading
from dataclasses import dataclass

from vmr.errors import VmrError

READERS = ("pyav", "decord", "torchcodec", "torchcodec-cuda")


@dataclass(frozen=True)
class DecodeOptions:
    """How videos are decoded. None of this decides which frames are taken; the reader may decide what they look like.

    Attributes:
        reader: "pyav", "decord", "torchcodec" or "torchcodec-cuda" (on a GPU); see `vmr.VideoReader`.
        num_workers: how many processes decode; None for one a CPU, but at most 8.
        timeout_s: how many seconds a file may go without delivering frames before its decoder is stopped and the file
            counts as unreadable.

    Raises:
        VmrError: the reader is unknown, or a number makes no sense.
    """

    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise VmrError(f"reader must be one of {', '.join(READERS)}, not {self.reader!r}")
        if self.num_workers is not None and self.num_workers < 1:
            raise VmrError(f"num_workers must be at least 1, not {self.num_workers}")
        if not 0 < self.timeout_s <= threading.TIMEOUT_MAX:
            raise VmrError(f"timeout_s must be a positive number of seconds, not {self.timeout_s}")
