"""The plot of a report on a classifier, as SVG. Needs matplotlib; imports no torch."""

import numpy as np

from vmr.eval.classification.report.report import ClassificationReport
from vmr.eval.classification.report.tables import confusion_matrix
from vmr.eval.report.svg import COLOURS, INK, inline, panels
from vmr.progress import printable

MOST_NAMED = 48  # classes whose names fit along an axis
MOST_COUNTED = 12  # classes whose counts fit into the cells
LONGEST_NAME = 28


def confusion_plot(report: ClassificationReport) -> str:
    """Plot the confusion matrix: rows are right classes, columns predicted ones, shares of a row as opacity.

    Args:
        report: the report, of one label for each video.

    Returns:
        One <svg> element.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    counts = confusion_matrix(report)
    num_classes = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(1.6 + 0.26 * num_classes, 4.2, 10.0))
    with panels(1, "confusion", (side + 1.0, side)) as (figure, (ax,)):
        picture = np.zeros((num_classes, num_classes, 4))
        picture[..., :3] = [int(COLOURS[0][place : place + 2], 16) / 255 for place in (1, 3, 5)]
        picture[..., 3] = shares
        ax.imshow(picture, interpolation="nearest", aspect="equal")
        ax.grid(visible=False)
        ax.set(xlabel="predicted", ylabel="right")
        if num_classes <= MOST_NAMED:
            names = [_short(name) for name in report.classes]
            ax.set_xticks(range(num_classes), labels=names, rotation=90, fontsize=8)
            ax.set_yticks(range(num_classes), labels=names, fontsize=8)
        if num_classes <= MOST_COUNTED:
            for row, column in zip(*np.nonzero(counts), strict=True):
                ax.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=INK)
        return inline(
            figure, "Confusion matrix: rows are right classes, columns predicted ones; the table below has the numbers"
        )


def _short(name: str) -> str:
    name = printable(name)  # matplotlib draws Unicode only
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
