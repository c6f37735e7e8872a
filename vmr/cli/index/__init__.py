"""`vmr-index`: make, update, describe and look after indexes of videos.

Each module holds a group of subcommands, in its `COMMANDS`. They may import every package of vmr, and torch only while
a command runs.
"""

from collections.abc import Sequence

from vmr.cli.common import run_subcommands
from vmr.cli.index import build, care, exchange, show, tune, watch

GROUPS = (build, watch, show, care, exchange, tune)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    commands = {name: command for group in GROUPS for name, command in group.COMMANDS.items()}
    run_subcommands("vmr-index", "Make and look after indexes of videos.", commands, argv)
