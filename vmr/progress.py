"""What a person sees while vmr works: on standard error, and only on a terminal, so that results can be piped."""

from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(shown: bool) -> Progress:
    """A bar that counts items and guesses the time left."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


def spinner(shown: bool, text: str) -> AbstractContextManager[object]:
    """A sign of life for work whose length is not known."""
    console = Console(stderr=True)
    return console.status(text) if shown and console.is_terminal else nullcontext()
