"""Plots as SVG in the text colour of the page around them. Needs matplotlib; imports no torch."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from vmr.errors import MissingExtraError

# Dark enough for a white page and light enough for a black one; dashes distinguish lines without colour.
COLOURS = ("#2f80c8", "#d9702a", "#2f9e62", "#b5549a", "#8468d0", "#94841f", "#d1495b", "#3f9a99")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
INK = "#010203"
"""A colour that is used for nothing else: in the SVG it is replaced by the colour of the page's text."""


def colour(number: int) -> str:
    """Return the colour of the line or bars with this number, from 0."""
    return COLOURS[number % len(COLOURS)]


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def panels(num_panels: int, salt: str, size: tuple[float, float] = (4.9, 3.7)) -> Iterator[tuple[Any, list[Any]]]:
    """Make a figure of some panels, side by side, in the colours of the page. `inline` must be called within.

    Args:
        num_panels: how many.
        salt: makes the ids in the file different from those of other plots of a page.
        size: width and height of a panel, in inches.

    Yields:
        The figure, and its axes from left to right.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    style = {
        **dict.fromkeys(ink, INK),
        "grid.color": INK,
        "grid.alpha": 0.15,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "font.size": 9.5,
        "font.family": "sans-serif",
        "lines.linewidth": 2,
        "legend.frameon": False,
        "text.parse_math": False,  # a name may hold dollar signs
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
        "svg.hashsalt": salt,  # the same report gives the same file, and two plots of a page share no id
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(size[0] * num_panels, size[1]), layout="constrained")
        figure.patch.set_alpha(0)
        axes = list(figure.subplots(1, num_panels, squeeze=False)[0])
        for ax in axes:
            ax.patch.set_alpha(0)
        yield figure, axes


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """Draw one legend for all panels of a figure, below them.

    Args:
        figure: the figure.
        axes: its panels.
    """
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))


def inline(figure: Any, label: str) -> str:
    """Return a figure as an <svg> element of a page: without a fixed size, with the page's own ink.

    Args:
        figure: the figure.
        label: what it shows, for those who cannot see it.
    """
    out = StringIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(
        r"font-family: [^;\"]*|font: ([\d.]+)px [^;\"]*", lambda m: f"font-size: {m[1]}px" if m[1] else "", svg
    )
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
