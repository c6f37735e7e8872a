"""A command on a terminal of its own, as a person uses it: what is typed goes in, what is shown comes out."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.patience import PATIENCE_S

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")
_AT_PROMPT = re.compile(r"(^|[\r\n])> $")
# Makes standard input the terminal that Ctrl-C comes from, and becomes the command.
_STARTER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command that runs on a terminal of 100 columns.

    Args:
        arguments: the command and its options.
        environment: variables that it gets besides those of this process.
    """

    def __init__(self, *arguments: object, **environment: str) -> None:
        self._outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        variables |= {"TERM": "xterm", "LANG": "C.UTF-8", "NO_COLOR": "1", "INPUTRC": "/dev/null", **environment}
        command = [Path(sys.executable).parent / str(arguments[0]), *map(str, arguments[1:])]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STARTER, *command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=variables,
            start_new_session=True,
        )
        os.close(inner)

    def type(self, keys: str | bytes) -> str:
        """Type keys, and return what is shown until the next prompt."""
        self.press(keys)
        return self.until_prompt()

    def press(self, keys: str | bytes) -> None:
        """Type keys."""
        os.write(self._outer, keys.encode() if isinstance(keys, str) else keys)

    def until_prompt(self) -> str:
        """Return what is shown until the next prompt, without the sequences that move the cursor."""
        shown = b""
        while True:
            part = self._read()
            assert part, f"it ended: {shown!r}"
            shown += part
            text = _SEQUENCES.sub("", shown.decode(errors="replace"))
            if _AT_PROMPT.search(text):
                self._until_it_waits()
                return text

    def interrupt(self) -> None:
        """Type a letter and, when it is shown, Ctrl-C."""
        self.press("x")
        while b"x" not in (part := self._read()):
            assert part, "it ended"
        self._until_it_waits()
        self.press("\x03")

    def end(self) -> tuple[int, str]:
        """Wait for the end of the command; return its exit status and what was shown before."""
        shown = b""
        while part := self._read():
            shown += part
        os.close(self._outer)
        return self._process.wait(PATIENCE_S), _SEQUENCES.sub("", shown.decode(errors="replace"))

    def _until_it_waits(self) -> None:
        """Wait until the command does nothing but wait for a key.

        Before readline has begun, the terminal itself acts on some keys; and Python notices a Ctrl-C that comes just
        before it begins to wait only with the next key. People are not so quick.
        """
        stat = Path(f"/proc/{self._process.pid}/stat")
        while termios.tcgetattr(self._outer)[3] & termios.ICANON or (
            stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S"
        ):
            time.sleep(0.01)

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._outer], [], [], PATIENCE_S)
        assert ready, "it hangs"
        try:
            return os.read(self._outer, 65536)
        except OSError:  # Linux says so when the other end is closed
            return b""
