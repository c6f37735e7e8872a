"""The command itself: which of its three ways of searching is meant, and the answer to one query."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveInt

from vmr.cli.search.hits import label_of, print_result
from vmr.cli.search.options import SearchOptions
from vmr.errors import VmrError
from vmr.files import require_writable

if TYPE_CHECKING:
    from vmr.retrieval.index import VideoIndex
    from vmr.retrieval.results import SearchResult


def search(
    index: str,
    query: str | None = None,
    like: NonNegativeInt | None = None,
    json: bool = False,
    sheet: str | None = None,
    play: PositiveInt | None = None,
    encoder: str | None = None,
    *,
    options: SearchOptions,
) -> None:
    """Find the moments that a sentence describes.

    Without a sentence, an interactive search begins on a terminal. From a pipe, or with - in place of the sentence,
    each line of standard input is a query, which is answered by one line of JSON.

    Args:
        index: folder made by vmr-index
        query: what the video should show
        like: in place of a sentence, the number of a moment (moment_id in JSON) to find others like
        json: print the result as one JSON object
        sheet: draw the moments into this PNG file
        play: open a player at the moment with this number
        encoder: default, the encoder that built the index; any other is refused
    """
    from vmr.progress import spinner
    from vmr.retrieval.index import open_index

    if query is not None and like is not None:
        raise VmrError("--like takes the place of the sentence: give one of them")
    asked = query if like is None else like
    is_of_lines = query == "-" or (asked is None and not (sys.stdin.isatty() and sys.stdout.isatty()))
    if is_of_lines or asked is None:
        for flag, value in (("--sheet", sheet), ("--play", play)):
            if value is not None:
                raise VmrError(f"{flag} needs a sentence")
    if sheet is not None:
        require_writable(sheet)
    opened = open_index(index, encoder)
    if is_of_lines:
        from vmr.cli.search.lines import answer_lines

        answer_lines(opened, options)
    elif asked is None:
        from vmr.cli.search.session import Session

        Session(opened, options).run()
    else:
        with spinner(True, "searching"):
            result = options.search(opened, asked)
        _tell(opened, result, as_json=json, sheet=sheet, play_number=play)


def _tell(
    index: "VideoIndex", result: "SearchResult", *, as_json: bool, sheet: str | None, play_number: int | None
) -> None:
    """Print a result, draw it, and play one of its moments, as was asked for."""
    if as_json:
        print(dumps(result.to_json(), indent=1))
    else:
        print_result(result, index.roots)
    if sheet is not None:
        from vmr.retrieval.contact_sheet import save_contact_sheet

        save_contact_sheet([(result.query, result.hits)], Path(sheet), label_of)
    if play_number is not None:
        from vmr.cli.search.player import play

        if play_number > len(result):
            raise VmrError(f"--play {play_number}: there is no such moment, but {len(result)} of them")
        print(play(result[play_number - 1]), file=sys.stderr)
