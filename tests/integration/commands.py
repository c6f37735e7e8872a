"""Run the commands, in new processes as a user starts them or in this one, and check their error messages."""

import contextlib
import io
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from tests.patience import PATIENCE_S

BIN = Path(sys.executable).parent
COMMANDS = (
    "vmr-classify",
    "vmr-data",
    "vmr-demo",
    "vmr-eval",
    "vmr-index",
    "vmr-info",
    "vmr-search",
    "vmr-serve",
    "vmr-train",
)


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / str(arguments[0])), *map(str, arguments[1:])]
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=variables, check=False, timeout=PATIENCE_S
    )


def run_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, which spares the second that it takes to start one."""
    command, *options = map(str, arguments)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            import_module(f"vmr.cli.{command.removeprefix('vmr-')}").main(options)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess([command, *options], status, out.getvalue(), err.getvalue())


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error that the user can repair."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
