"""Shows a moment in a player of the machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.cli.output import clock
from vmr.errors import VmrError
from vmr.progress import printable

if TYPE_CHECKING:
    from vmr.retrieval.results import Hit

# Player -> its option that says at which second to start.
_STARTING = {"mpv": "--start=", "vlc": "--start-time="}
_OPENERS = {"darwin": "open"}
_PATIENCE_S = 0.5  # a player that cannot show anything ends at once


def play(hit: "Hit") -> str:
    """Open the video of a moment in mpv or vlc where the moment starts, or else in the program that the system opens.

    The player goes on when this process ends.

    Args:
        hit: the moment.

    Returns:
        A line that says what was started.

    Raises:
        VmrError: the video is gone, there is no player, or it ended at once with an error.
    """
    name = printable(hit.video)
    if not Path(hit.video).is_file():
        raise VmrError(f"{name}: no such file: it was moved or removed since it was indexed")
    for player, option in _STARTING.items():
        if (program := shutil.which(player)) is not None:
            _start(player, [program, f"{option}{hit.start_s:.3f}", hit.video])
            return f"{player} plays {name} from {clock(hit.start_s)}"
    opener = _OPENERS.get(sys.platform, "xdg-open")
    if (open_file := getattr(os, "startfile", None)) is not None:  # on Windows
        try:
            open_file(hit.video)
        except OSError as error:
            raise VmrError(f"{name}: cannot be opened: {error.strerror}") from error
    elif (program := shutil.which(opener)) is not None:
        _start(opener, [program, hit.video])
    else:
        raise VmrError("there is no player: install mpv or vlc")
    return f"opened {name}; it starts at the beginning, so go to {clock(hit.start_s)} (mpv and vlc start there)"


def _start(name: str, command: list[str]) -> None:
    nowhere = subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
        status = process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        raise VmrError(f"{command[0]}: cannot be started: {error.strerror}") from error
    if status != 0:
        raise VmrError(f"{name} ended with status {status}: can this session show windows?")
