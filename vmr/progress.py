"""Progress for people: written to standard error, and only if that is a terminal, so that results can be piped."""

from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(shown: bool) -> Progress:
    """Make a bar that counts items and estimates the time left.

    Args:
        shown: False for a bar that is never drawn.

    Returns:
        The bar; a context manager.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


def spinner(shown: bool, text: str) -> AbstractContextManager[object]:
    """Make a spinner for work whose length is not known.

    Args:
        shown: False for nothing at all.
        text: what is being done.

    Returns:
        A context manager; the spinner turns inside it.
    """
    console = Console(stderr=True)
    return console.status(text) if shown and console.is_terminal else nullcontext()
