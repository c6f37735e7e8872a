"""An interactive search: a person types sentences and commands, the model stays in memory."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.cli.search.history import History
from vmr.cli.search.hits import label_of, print_result
from vmr.cli.search.options import SearchOptions
from vmr.cli.search.player import play
from vmr.errors import VmrError
from vmr.progress import printable, spinner

if TYPE_CHECKING:
    from vmr.retrieval.index import VideoIndex
    from vmr.retrieval.results import Hit, SearchResult

_HELP = """\
Type what a video should show. Besides:
  :more              the next moments for the same query
  :play 2            open moment 2 in a player
  :like 3            moments like moment 3
  :where EXPRESSION  search some videos only, such as :where folder = "cam07"; :where alone searches all again
  :k 10              show 10 moments
  :sheet FILE.png    draw the moments that are shown
  :help              this list
  :quit              end; so does Ctrl-D. Ctrl-C stops a query
A command may be shortened: :p 2"""


class Session:
    """The state of an interactive search.

    Args:
        index: the index.
        options: which moments to return; `:k` and `:where` change them.
    """

    def __init__(self, index: "VideoIndex", options: SearchOptions) -> None:
        self._index, self._options = index, options
        self._query: str | Hit | None = None  # the last one
        self._title = ""
        self._shown: list[Hit] = []  # moment 1 is the first of them
        self._commands: dict[str, Callable[[str], None]] = {
            "more": self._more,
            "play": self._play,
            "like": self._like,
            "where": self._where,
            "k": self._k,
            "sheet": self._sheet,
            "help": self._help,
            "quit": self._quit,
        }

    def run(self) -> None:
        """Answer line after line until the end of the input, `:quit`, or Ctrl-C twice in a row.

        Raises:
            VmrError: the index cannot be searched with these options.
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        with spinner(True, "loading the model"):
            # Reads all that queries need: nobody waits later, and Ctrl-C cannot stop an import half-way.
            self._options.changed({"rerank": None}).search(self._index, "a video")
        print(f"{len(self._index)} windows. Type what a video should show, or :help")
        num_interrupts = 0  # in a row
        with _keyboard() as ask:
            while num_interrupts < 2:
                try:
                    if line := ask().strip():
                        self._answer(line)
                    num_interrupts = 0
                except EOFError:
                    return
                except VmrError as error:
                    print(f"error: {printable(str(error))}", file=sys.stderr)
                    num_interrupts = 0
                except KeyboardInterrupt:
                    num_interrupts += 1
                    print("\ninterrupted; Ctrl-C once more, Ctrl-D or :quit ends", file=sys.stderr)
        raise KeyboardInterrupt

    def _answer(self, line: str) -> None:
        if not line.startswith(":"):
            self._search(line)
            return
        word, _, rest = line[1:].partition(" ")
        meant = [name for name in self._commands if name.startswith(word)] if word else []
        if len(meant) != 1:
            raise VmrError(f"there is no command :{word}: see :help")
        self._commands[meant[0]](rest.strip())

    def _search(self, query: "str | Hit") -> None:
        result = self._found(query, self._options)
        where = self._options.where
        self._title = result.query if where is None else f"{result.query}, where {where}"
        self._query, self._shown = query, list(result)
        print_result(result, self._index.roots, title=self._title)

    def _again(self) -> None:
        if self._query is not None:
            self._search(self._query)

    def _found(self, query: "str | Hit", options: SearchOptions) -> "SearchResult":
        with spinner(True, "searching"):
            return options.search(self._index, query)

    def _more(self, rest: str) -> None:
        self._no_words(rest, ":more")
        if self._query is None:
            raise VmrError("there is no query yet")
        known = {hit.moment_id for hit in self._shown}
        k = self._options.k
        result = self._found(self._query, self._options.changed({"k": len(known) + k}))
        new = [hit for hit in result if hit.moment_id not in known][:k]
        print_result(result, self._index.roots, hits=new, first=len(self._shown) + 1)
        self._shown += new

    def _play(self, rest: str) -> None:
        print(play(self._hit(rest, ":play")))

    def _like(self, rest: str) -> None:
        self._search(self._hit(rest, ":like"))

    def _where(self, rest: str) -> None:
        from vmr.retrieval.storage.where import Where

        if rest:
            Where.parse(rest)
        self._options = self._options.changed({"where": rest or None})
        self._again()

    def _k(self, rest: str) -> None:
        self._options = self._options.changed({"k": _number(rest, ":k")})
        self._again()

    def _sheet(self, rest: str) -> None:
        from vmr.retrieval.contact_sheet import save_contact_sheet

        if not rest:
            raise VmrError(":sheet needs the name of a file, such as :sheet moments.png")
        if not self._shown:
            raise VmrError("there are no moments to draw yet")
        save_contact_sheet([(self._title, self._shown)], Path(rest), label_of)
        print(f"drew {len(self._shown)} moments: {printable(rest)}")

    def _help(self, rest: str) -> None:
        self._no_words(rest, ":help")
        print(_HELP)

    def _quit(self, rest: str) -> None:
        self._no_words(rest, ":quit")
        raise EOFError

    def _hit(self, rest: str, command: str) -> "Hit":
        number = _number(rest, command)
        if number > len(self._shown):
            raise VmrError(f"{command} {number}: {len(self._shown)} moments are shown")
        return self._shown[number - 1]

    @staticmethod
    def _no_words(rest: str, command: str) -> None:
        if rest:
            raise VmrError(f"{command} takes no value: leave out {rest!r}")


def _number(text: str, command: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise VmrError(f"{command} needs a whole number of at least 1, such as {command} 2")
    return int(text)


@contextmanager
def _keyboard() -> Iterator[Callable[[], str]]:
    """A function that asks for a line; where Python has readline, lines can be edited and are remembered."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # the search refuses what is no text
    try:
        import readline
    except ImportError:  # on Windows
        yield _ask
        return
    history = History()
    for line in history.lines:
        readline.add_history(line)

    def remembered() -> str:
        line = _ask()
        history.add(line)
        return line

    try:
        yield remembered
    finally:
        history.close()


def _ask() -> str:
    try:
        return input("> ")
    except EOFError:
        print()  # what comes next on the terminal begins on a line of its own
        raise
