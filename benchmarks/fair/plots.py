"""The plots of a comparison: accuracy over frames, and accuracy over CPU seconds."""

import io
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.fair.plan import FRAMES, KINDS, Folder
from benchmarks.fair.report import TITLES, values
from vmr.files import write_atomically

# Okabe and Ito's colours, which are told apart with any colour vision; in print the markers and dashes tell them apart.
_STYLES = {
    "videomamba": ("#0072B2", "o", "-"),
    "videomamba_causal": ("#56B4E9", "^", "--"),
    "videomamba_frames": ("#009E73", "s", ":"),
    "vim": ("#000000", "x", ":"),
    "vit": ("#D55E00", "D", "-"),
    "timesformer": ("#E69F00", "v", "--"),
    "vivit": ("#CC79A7", "P", "-."),
}
_CEILING_4 = 25.0  # percent; with 4 frames directions cannot be seen


def draw_plots(results: dict[str, Any], folder: Folder) -> list[Path]:
    """Write both plots as SVG into the folder of the comparison.

    Args:
        results: from `benchmarks.fair.results.collect`.
        folder: the comparison.

    Returns:
        The files.
    """
    plots = {"frames.svg": _over_frames, "cpu.svg": _over_cpu}
    for name, draw in plots.items():
        write_atomically(folder.out / name, draw(results))
    return [folder.out / name for name in plots]


def _over_frames(results: dict[str, Any]) -> bytes:
    figure, axes = _figure("frames of a clip (trained on 8)")
    for name in _names(results):
        numbers = [values(results, name, str(frames), "views", "top-1") for frames in FRAMES]
        _line(axes, name, list(FRAMES), numbers)
    axes.set_xticks(FRAMES, labels=map(str, FRAMES))
    axes.plot([FRAMES[0]], [_CEILING_4], marker="_", markersize=22, color="#000000", linestyle="none")
    axes.annotate("most that 4 frames allow", (FRAMES[0], _CEILING_4), (6, 4), textcoords="offset points", fontsize=8)
    return _svg(figure, axes)


def _over_cpu(results: dict[str, Any]) -> bytes:
    figure, axes = _figure("CPU milliseconds of a clip, one thread (4, 8, 16 and 32 frames)")
    for name in _names(results):
        clips = results["costs"][name]["clips"]
        numbers = [values(results, name, str(frames), "views", "top-1") for frames in FRAMES]
        _line(axes, name, [1e3 * clips[str(frames)]["cpu_seconds"] for frames in FRAMES], numbers)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    return _svg(figure, axes)


def _names(results: dict[str, Any]) -> list[str]:
    return [name for name in KINDS if name in results["costs"]]


def _figure(label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=label, ylabel="accuracy, percent", ylim=(0, 103))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.axhline(100 / 24, color="#000000", linewidth=0.8, linestyle=(0, (1, 3)), label="chance")
    return figure, axes


def _line(axes: Any, name: str, places: list[float], numbers: list[list[float]]) -> None:
    """The mean over seeds, with bars from the lowest to the highest."""
    colour, marker, dashes = _STYLES[name]
    means = [mean(each) for each in numbers]
    below = [middle - min(each) for middle, each in zip(means, numbers, strict=True)]
    above = [max(each) - middle for middle, each in zip(means, numbers, strict=True)]
    axes.errorbar(
        places, means, yerr=[below, above], label=TITLES[name], color=colour, marker=marker, linestyle=dashes, capsize=2
    )


def _svg(figure: Any, axes: Any) -> bytes:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
