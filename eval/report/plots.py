"""The plots of a report as SVG in the text colour of the page around them. Needs matplotlib; imports no torch."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import numpy as np

from vmr.errors import MissingExtraError
from vmr.eval.report.report import DIRECTIONS, Report

# Dark enough for a white page and light enough for a black one; dashes distinguish lines without colour.
COLOURS = ("#2f80c8", "#d9702a", "#2f9e62", "#b5549a", "#8468d0", "#94841f", "#d1495b", "#3f9a99")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
MAX_K = 1000

# A colour that is used for nothing else: in the SVG it is replaced by the colour of the page's text.
_INK = "#010203"
_EDGES = (1, 2, 6, 11, 21, 51, 101, 501)


def recall_curves(report: Report) -> str:
    """Plot R@K over K, a panel for each direction and a line for each column.

    If each query has one right answer, chance (K / number of gallery items) is drawn as a dotted line.

    Args:
        report: the report.

    Returns:
        One <svg> element; empty for a report without ranks.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels = _panels(report)
    if not panels:
        return ""
    with _figure(len(panels), "R@K") as (figure, axes, out):
        for ax, direction in zip(axes, panels, strict=True):
            num_gallery = report.num_videos if direction == "text_to_video" else report.num_texts
            ks = np.unique(np.geomspace(1, max(2, min(num_gallery, MAX_K)), 60).astype(int))
            for number, (kind, ranks) in enumerate(panels[direction].items()):
                recalls = 100 * np.searchsorted(np.sort(ranks), ks, side="right") / len(ranks)
                ax.plot(ks, recalls, label=kind, color=_colour(number), linestyle=DASHES[number % len(DASHES)])
            if len(report.text_ids) == len(report.video_ids):
                ax.plot(ks, 100 * ks / num_gallery, label="chance", color=_INK, linestyle=":", alpha=0.6, linewidth=1.2)
            ax.set(title=DIRECTIONS[direction], xscale="log", xlabel="K", ylim=(0, 101), ylabel="R@K, percent")
            ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= ks[-1]]
            ax.set_xticks(ticks, labels=map(str, ticks))
            ax.minorticks_off()
        _legend(figure, axes)
        figure.savefig(out, format="svg", metadata=_NO_METADATA)
        return _inline(
            out.getvalue(), "Recall at K over K, a line for each kind of score; the table below has the numbers"
        )


def rank_histogram(report: Report) -> str:
    """Plot the share of queries by rank, a panel for each direction.

    Args:
        report: the report.

    Returns:
        One <svg> element; empty for a report without ranks.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels = _panels(report)
    if not panels:
        return ""
    with _figure(len(panels), "ranks") as (figure, axes, out):
        for ax, direction in zip(axes, panels, strict=True):
            kinds = panels[direction]
            last = max(max(ranks) for ranks in kinds.values())
            edges = [edge for edge in _EDGES if edge <= last]
            width = 0.84 / len(kinds)
            for number, (kind, ranks) in enumerate(kinds.items()):
                shares = 100 * np.histogram(ranks, [*edges, np.inf])[0] / len(ranks)
                places = np.arange(len(edges)) + (number - (len(kinds) - 1) / 2) * width
                ax.bar(places, shares, width * 0.92, label=kind, color=_colour(number))
            ax.set(title=DIRECTIONS[direction], xlabel="rank of the right answer", ylabel="queries, percent")
            ax.set_xticks(range(len(edges)), labels=_bin_names(edges), fontsize=8)
            ax.grid(visible=False, axis="x")
        _legend(figure, axes)
        figure.savefig(out, format="svg", metadata=_NO_METADATA)
        return _inline(out.getvalue(), "Share of queries by the rank of the right answer, bars for each kind of score")


def _panels(report: Report) -> dict[str, dict[str, tuple[int, ...]]]:
    """Direction -> column -> ranks, of those that have any."""
    panels = {way: {kind: r[way] for kind, r in report.ranks.items() if r.get(way)} for way in DIRECTIONS}
    return {way: kinds for way, kinds in panels.items() if kinds}


def _bin_names(edges: Sequence[int]) -> list[str]:
    ends = [*(edge - 1 for edge in edges[1:]), None]
    return [
        f"{start}+" if end is None else str(start) if end == start else f"{start}-{end}"
        for start, end in zip(edges, ends, strict=True)
    ]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def _figure(num_panels: int, salt: str) -> Iterator[tuple[Any, list[Any], StringIO]]:
    """A figure of some panels in the colours of the page, and where to write it."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    style = {
        **dict.fromkeys(ink, _INK),
        "grid.color": _INK,
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
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
        "svg.hashsalt": salt,  # the same report gives the same file, and two plots of a page share no id
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.9 * num_panels, 3.7), layout="constrained")
        figure.patch.set_alpha(0)
        axes = list(figure.subplots(1, num_panels, squeeze=False)[0])
        for ax in axes:
            ax.patch.set_alpha(0)
        yield figure, axes, StringIO()


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))


def _inline(svg: str, label: str) -> str:
    """An SVG file as an element of a page: no prologue, no fixed size, an accessible name, the page's own ink."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(
        r"font-family: [^;\"]*|font: ([\d.]+)px [^;\"]*", lambda m: f"font-size: {m[1]}px" if m[1] else "", svg
    )
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
