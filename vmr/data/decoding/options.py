"""How videos are decoded: with which library, in how many processes, and how long a file may take. Imports no torch."""

from dataclasses import dataclass

from vmr.errors import VmrError


@dataclass(frozen=True)
class DecodeOptions:
    """How video files are decoded, whatever the frames are for.

    Attributes:
        reader: the library that decodes: pyav, decord, torchcodec or torchcodec-cuda (on a GPU)
        num_workers: decoding processes, at least 1; default, one for each core
        timeout_s: seconds that a file may go without delivering frames before it is given up; above 0

    Raises:
        VmrError: num_workers is below 1, or timeout_s is not above 0.
    """

    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise VmrError(f"num_workers is {self.num_workers}: expected at least 1 decoding process")
        if not self.timeout_s > 0:
            raise VmrError(f"timeout_s is {self.timeout_s}: expected seconds above 0")
