"""How the moments that a search found look on a terminal and in a picture: times, matches and names in words."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmr.cli.output import clock
from vmr.progress import printable
from vmr.retrieval.results import match_in_words

if TYPE_CHECKING:
    from vmr.retrieval.results import Hit, SearchResult

SHORT_S = 3.0
"""Times of moments shorter than this are printed with tenths of a second."""

MAX_PREFIX = 24
"""Paths relative to the current folder may be so many characters longer than those relative to that of the index."""

_COLOURS = {"strong": "green", "good": "green", "weak": "yellow", "unlikely": "red"}
_BAR_WIDTH = 10
_WIDE = 80  # columns of a terminal that has room for bars
_NOTHING_CLOSE = (
    "nothing close: as far as this encoder can tell, no video of the index shows this. The nearest moments follow; try "
    "other words for what can be seen."
)


def print_result(
    result: "SearchResult",
    roots: Sequence[str],
    *,
    title: str | None = None,
    hits: "Sequence[Hit] | None" = None,
    first: int = 1,
) -> None:
    """Print what a search found on standard output: the query, whether anything is close, and the moments.

    Args:
        result: what it found.
        roots: the folders of the videos.
        title: what was asked for; None for the query.
        hits: the moments to print; None for all.
        first: the number of the first of them.
    """
    hits = result.hits if hits is None else hits
    console = _console()
    if first == 1:
        console.print(Text(printable(result.query if title is None else title), "bold"), soft_wrap=True)
        if result.nothing_close and hits:
            console.print(Text(_NOTHING_CLOSE, "yellow"))
        for remark in result.remarks:
            print(printable(remark), file=sys.stderr)
    if hits:
        with console.capture() as drawn:
            console.print(_table(hits, roots, first, console))
        print("\n".join(line.rstrip() for line in drawn.get().splitlines()))
    else:
        console.print("no moment was found" if first == 1 else "no more moments")


def moment_in_words(hit: "Hit") -> str:
    """Return where a moment lies in its video: `0:01:04 - 0:01:12`, with tenths if it is short."""
    tenths = hit.end_s - hit.start_s < SHORT_S
    return f"{clock(hit.start_s, tenths)} - {clock(hit.end_s, tenths)}"


def notes_on(hit: "Hit") -> str:
    """Return what else there is to know about a moment: that its file is missing, and how many copies there are."""
    copies = len(hit.duplicates)
    notes = ["missing"] if hit.missing else []
    if copies:
        notes.append(f"+{copies} {'copy' if copies == 1 else 'copies'}")
    return ", ".join(notes)


def label_of(hit: "Hit") -> tuple[str, str]:
    """Return the two lines below the picture of a moment: its time and match, and its file."""
    told = f"score {hit.score:.3f}" if hit.match is None else match_in_words(hit.match)
    return f"{moment_in_words(hit)}  {told}", printable(Path(hit.video).name)


def names_of(videos: Sequence[str], roots: Sequence[str], here: str) -> tuple[str, list[str]]:
    """Return paths relative to the current folder, or to that of the index if they are much shorter so.

    Args:
        videos: absolute paths.
        roots: the folders of the index; if there are several, paths are relative to the folder that holds them all.
        here: the current folder.

    Returns:
        The folder that the paths are relative to, an empty text for the current folder or if paths are absolute; the
        paths.
    """
    base = _common(roots)
    if all(_below(video, here) for video in videos) and len(_below(base, here)) <= MAX_PREFIX:
        return "", [_below(video, here) for video in videos]
    if all(_below(video, base) for video in videos):
        return base, [_below(video, base) for video in videos]
    return "", list(videos)


def _common(roots: Sequence[str]) -> str:
    """The folder in which all roots lie; an empty text if that is the top of the file system."""
    try:
        folder = os.path.commonpath(roots) if roots else ""
    except ValueError:  # on several drives
        return ""
    return folder if Path(folder).parent != Path(folder) else ""


def _below(path: str, folder: str) -> str:
    """A path relative to a folder; an empty text if it does not lie below it."""
    return str(Path(path).relative_to(folder)) if folder and Path(path).is_relative_to(folder) else ""


def _console() -> Console:
    """A console whose lines are as long as the terminal; in a pipe each line of a table is one line."""
    width = None if sys.stdout.isatty() else 10_000
    return Console(markup=False, emoji=False, highlight=False, width=width)


def _table(hits: "Sequence[Hit]", roots: Sequence[str], first: int, console: Console) -> Table:
    """The moments, one a row. The names of files, which may be in any script, stand last."""
    base, names = names_of([hit.video for hit in hits], roots, os.getcwd())  # noqa: PTH109 - as text
    is_calibrated = all(hit.match is not None for hit in hits)
    is_reranked = any(hit.rerank_score is not None for hit in hits)
    notes = [notes_on(hit) for hit in hits]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("match" if is_calibrated else "score", no_wrap=True)
    if is_reranked:
        table.add_column("re-ranked", justify="right", no_wrap=True)
    if any(notes):
        table.add_column("", no_wrap=True)
    table.add_column(f"video, in {printable(base)}" if base else "video", overflow="fold")
    for number, (hit, name, note) in enumerate(zip(hits, names, notes, strict=True), start=first):
        row: list[str | Text] = [str(number), moment_in_words(hit), _match(hit, is_calibrated, console)]
        if is_reranked:
            row.append("" if hit.rerank_score is None else f"{hit.rerank_score:.2f}")
        if any(notes):
            row.append(Text(note, "red" if hit.missing else "dim"))
        table.add_row(*row, printable(name))
    return table


def _match(hit: "Hit", is_calibrated: bool, console: Console) -> Text:
    """The match as a word and, where there is room, a bar; the score if it is not calibrated."""
    if hit.match is None or not is_calibrated:
        return Text(f"{hit.score:.3f}")
    word = match_in_words(hit.match)
    text = Text(f"{word:8}", _COLOURS[word])
    if console.width >= _WIDE:
        full = round(hit.match * _BAR_WIDTH)
        signs = ("#", "-") if console.options.ascii_only else ("█", "░")
        text.append(f" {signs[0] * full}{signs[1] * (_BAR_WIDTH - full)}")
    return text
