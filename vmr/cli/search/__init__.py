"""`vmr-search`: the moments of an index that answer a sentence.

`command` parses the options and answers one query; `session` asks a person for queries, and `lines` another program.
`hits` prints moments, `player` shows one, `history` keeps what was asked. They may import every package of vmr, and
torch only while a command runs.
"""

from collections.abc import Sequence

from vmr.cli.common import run
from vmr.cli.search.command import search


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-search", search, ["index", "query"], 'vmr-search index "two people riding bicycles" --k 3', argv)
