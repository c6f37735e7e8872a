"""How much of a sequence a program of the scan takes: what `python -m benchmarks.gpu` tunes, per kind of GPU.

`tiles.json` holds what was measured, by architecture ("sm_90"); a GPU that is not in it gets the defaults, which were
chosen by counting registers and instructions.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import torch

SHORTEST_CHUNK = 16  # rows; what a chunk costs beside its rows is as much as about eight of them

TABLE = Path(__file__).with_name("tiles.json")


@dataclass(frozen=True)
class Tiles:
    """Sizes of the scan's programs.

    Attributes:
        rows: rows that lie in registers at a time, going forward.
        channels: channels of a program, going forward: 32, 64 or 128.
        programs: programs to have on a multiprocessor, going forward; a sequence is cut into chunks for it.
        whole: from so many programs a multiprocessor, sequences are walked whole: a cut doubles the exponentials.
        backward_rows, backward_channels, backward_programs, backward_whole: the same for the gradients.
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
    """What one launch does: `count` chunks of `chunk` rows, `rows` at a time, `channels` channels a program."""

    rows: int
    channels: int
    chunk: int
    count: int


def forward_plan(batch: int, length: int, channels: int, device: torch.device) -> Plan:
    """For the outputs of `batch` sequences."""
    tiles = tiles_of(device)
    return _plan(tiles.rows, tiles.channels, tiles.programs, tiles.whole, batch, length, channels, device)


def backward_plan(sequences: int, length: int, channels: int, device: torch.device) -> Plan:
    """For the gradients of `sequences` walks: the batch, times two where there are two directions."""
    tiles = tiles_of(device)
    rows, block = tiles.backward_rows, tiles.backward_channels
    return _plan(rows, block, tiles.backward_programs, tiles.backward_whole, sequences, length, channels, device)


@functools.cache
def tiles_of(device: torch.device) -> Tiles:
    """Of the device's architecture."""
    if device.type != "cuda":
        return Tiles()
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    return Tiles(**table.get(architecture(device), {}))


def architecture(device: torch.device) -> str:
    """As in "sm_90" or "gfx942"."""
    properties = torch.cuda.get_device_properties(device)
    amd = getattr(properties, "gcnArchName", "")
    return amd.split(":")[0] if torch.version.hip else f"sm_{properties.major}{properties.minor}"


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """On the interpreter's CPU as few as make short test sequences end up in one chunk or several."""
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
