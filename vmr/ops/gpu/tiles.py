"""The sizes of the scan's programs for each kind of GPU, which `python -m benchmarks.gpu` tunes.

`tiles.json` holds the best measured sizes by architecture ("sm_90"); other GPUs get the defaults, which were chosen by
counting registers and instructions.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import torch

SHORTEST_CHUNK = 16  # in rows; the fixed cost of a chunk is that of about eight rows

TABLE = Path(__file__).with_name("tiles.json")


@dataclass(frozen=True)
class Tiles:
    """Sizes of the scan's programs.

    Attributes:
        rows: rows that a program of the forward pass holds in registers at a time.
        channels: channels of a program of the forward pass: 32, 64 or 128.
        programs: how many programs should run on each multiprocessor in the forward pass; sequences are cut into chunks
            to reach this number.
        whole: with at least this many programs on each multiprocessor, sequences are not cut in the forward pass,
            because a cut doubles the number of exponentials.
        backward_rows: as `rows`, for the gradients.
        backward_channels: as `channels`, for the gradients.
        backward_programs: as `programs`, for the gradients.
        backward_whole: as `whole`, for the gradients.
    """

    rows: int = 2
    channels: int = 64
    programs: int = 12
    whole: int = 4
    backward_rows: int = 4
    backward_channels: int = 64
    backward_programs: int = 12
    backward_whole: int = 4


@dataclass(frozen=True)
class Plan:
    """How one launch divides its sequences.

    Attributes:
        rows: rows that a program holds in registers at a time.
        channels: channels of a program.
        chunk: rows of a chunk.
        count: chunks of a sequence.
    """

    rows: int
    channels: int
    chunk: int
    count: int


def forward_plan(batch: int, length: int, channels: int, device: torch.device) -> Plan:
    """Plan the launches that compute outputs.

    Args:
        batch: number of sequences.
        length: steps of a sequence.
        channels: channels of a sequence.
        device: where the kernels run.

    Returns:
        The plan.
    """
    tiles = tiles_of(device)
    return _plan(tiles.rows, tiles.channels, tiles.programs, tiles.whole, batch, length, channels, device)


def backward_plan(sequences: int, length: int, channels: int, device: torch.device) -> Plan:
    """Plan the launches that compute gradients.

    Args:
        sequences: number of sequences, both directions counted.
        length: steps of a sequence.
        channels: channels of a sequence.
        device: where the kernels run.

    Returns:
        The plan.
    """
    tiles = tiles_of(device)
    rows, block = tiles.backward_rows, tiles.backward_channels
    return _plan(rows, block, tiles.backward_programs, tiles.backward_whole, sequences, length, channels, device)


@functools.cache
def tiles_of(device: torch.device) -> Tiles:
    """Look up the sizes for a device.

    Args:
        device: a GPU, or the CPU of the interpreter.

    Returns:
        The sizes for its architecture; the defaults if it is not in `tiles.json`.
    """
    if device.type != "cuda":
        return Tiles()
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    return Tiles(**table.get(architecture(device), {}))


def architecture(device: torch.device) -> str:
    """Name the architecture of a GPU.

    Args:
        device: a GPU.

    Returns:
        The name, as in "sm_90" or "gfx942".
    """
    properties = torch.cuda.get_device_properties(device)
    amd = getattr(properties, "gcnArchName", "")
    return amd.split(":")[0] if torch.version.hip else f"sm_{properties.major}{properties.minor}"


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Count the multiprocessors of a GPU.

    Args:
        device: a GPU, or the CPU of the interpreter.

    Returns:
        Their number. 1 for the CPU, so that the short sequences of tests are cut into one chunk or several.
    """
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _plan(  # noqa: PLR0917 - the sizes of one launch
    rows: int, block: int, programs: int, whole: int, walks: int, length: int, channels: int, device: torch.device
) -> Plan:  # fmt: skip
    whole_programs = walks * -(-channels // block)
    available = multiprocessors(device)
    if whole_programs >= whole * available:
        return Plan(rows, block, length, 1)
    wanted = max(1, programs * available // whole_programs)
    chunk = max(-(-length // wanted), SHORTEST_CHUNK)
    chunk = -(-chunk // rows) * rows
    return Plan(rows, block, chunk, -(-length // chunk))
