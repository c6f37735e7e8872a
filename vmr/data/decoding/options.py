"""How videos are decoded: by which library, by how many processes, and how long a file may take."""

import threading
from dataclasses import dataclass

from vmr.checks import real_number, whole_number
from vmr.errors import VmrError

READERS = ("pyav", "decord", "torchcodec", "torchcodec-cuda")


@dataclass(frozen=True)
class DecodeOptions:
    """How videos are decoded. No option changes which frames are taken, but their pixels may depend on the reader.

    Attributes:
        reader: "pyav", "decord", "torchcodec" or "torchcodec-cuda" (on a GPU); see `vmr.VideoReader`.
        num_workers: decoding processes; None for one per CPU that this process may use, but at most 8.
        timeout_s: after this many seconds without a new frame, decoding is stopped and the file counts as unreadable.
        strict: whether a video that is read with damage counts as unreadable.

    Raises:
        VmrError: the reader is unknown, or a number is out of range.
    """

    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0
    strict: bool = False

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise VmrError(f"reader must be one of {', '.join(READERS)}, not {self.reader!r}")
        if self.num_workers is not None:
            whole_number("num_workers", self.num_workers)
        if not 0 < real_number("timeout_s", self.timeout_s) <= threading.TIMEOUT_MAX:
            raise VmrError(f"timeout_s is {self.timeout_s}: expected a positive number of seconds")
