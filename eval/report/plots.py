"""The plots of a report as SVG in the text colour of the page around them. Needs matplotlib; imports no torch."""

from collections.abc import Sequence

import numpy as np

from vmr.eval.report.report import DIRECTIONS, Report
from vmr.eval.report.svg import DASHES, INK, colour, inline, legend, panels

MAX_K = 1000

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
    by_direction = _ranks_by_direction(report)
    if not by_direction:
        return ""
    with panels(len(by_direction), "R@K") as (figure, axes):
        for ax, direction in zip(axes, by_direction, strict=True):
            num_gallery = report.num_videos if direction == "text_to_video" else report.num_texts
            ks = np.unique(np.geomspace(1, max(2, min(num_gallery, MAX_K)), 60).astype(int))
            for number, (kind, ranks) in enumerate(by_direction[direction].items()):
                recalls = 100 * np.searchsorted(np.sort(ranks), ks, side="right") / len(ranks)
                ax.plot(ks, recalls, label=kind, color=colour(number), linestyle=DASHES[number % len(DASHES)])
            if len(report.text_ids) == len(report.video_ids):
                ax.plot(ks, 100 * ks / num_gallery, label="chance", color=INK, linestyle=":", alpha=0.6, linewidth=1.2)
            ax.set(title=DIRECTIONS[direction], xscale="log", xlabel="K", ylim=(0, 101), ylabel="R@K, percent")
            ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= ks[-1]]
            ax.set_xticks(ticks, labels=map(str, ticks))
            ax.minorticks_off()
        legend(figure, axes)
        return inline(figure, "Recall at K over K, a line for each kind of score; the table below has the numbers")


def rank_histogram(report: Report) -> str:
    """Plot the share of queries by rank, a panel for each direction.

    Args:
        report: the report.

    Returns:
        One <svg> element; empty for a report without ranks.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    by_direction = _ranks_by_direction(report)
    if not by_direction:
        return ""
    with panels(len(by_direction), "ranks") as (figure, axes):
        for ax, direction in zip(axes, by_direction, strict=True):
            kinds = by_direction[direction]
            last = max(max(ranks) for ranks in kinds.values())
            edges = [edge for edge in _EDGES if edge <= last]
            width = 0.84 / len(kinds)
            for number, (kind, ranks) in enumerate(kinds.items()):
                shares = 100 * np.histogram(ranks, [*edges, np.inf])[0] / len(ranks)
                places = np.arange(len(edges)) + (number - (len(kinds) - 1) / 2) * width
                ax.bar(places, shares, width * 0.92, label=kind, color=colour(number))
            ax.set(title=DIRECTIONS[direction], xlabel="rank of the right answer", ylabel="queries, percent")
            ax.set_xticks(range(len(edges)), labels=_bin_names(edges), fontsize=8)
            ax.grid(visible=False, axis="x")
        legend(figure, axes)
        return inline(figure, "Share of queries by the rank of the right answer, bars for each kind of score")


def _ranks_by_direction(report: Report) -> dict[str, dict[str, tuple[int, ...]]]:
    """Direction -> column -> ranks, of those that have any."""
    ranks = {way: {kind: r[way] for kind, r in report.ranks.items() if r.get(way)} for way in DIRECTIONS}
    return {way: kinds for way, kinds in ranks.items() if kinds}


def _bin_names(edges: Sequence[int]) -> list[str]:
    ends = [*(edge - 1 for edge in edges[1:]), None]
    return [
        f"{start}+" if end is None else str(start) if end == start else f"{start}-{end}"
        for start, end in zip(edges, ends, strict=True)
    ]
