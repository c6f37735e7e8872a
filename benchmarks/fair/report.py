"""The results of a comparison as Markdown tables."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.fair.plan import ABLATIONS, FRAMES, KINDS

TITLES = {
    "videomamba": "VideoMamba",
    "videomamba_causal": "VideoMamba, causal",
    "videomamba_frames": "VideoMamba, frame by frame",
    "vim": "Vision Mamba, frame by frame",
    "vit": "ViT, joint attention",
    "timesformer": "TimeSformer, divided attention",
    "vivit": "ViViT, factorised encoder",
    "wide": "wider VideoMamba",
    "wide_distilled": "wider VideoMamba, self-distilled",
    "masked_tuned": "VideoMamba, masked pre-training first",
}
TRAINED_FRAMES = "8"


def markdown(results: dict[str, Any]) -> str:
    """Write the tables.

    Args:
        results: from `benchmarks.fair.results.collect`.

    Returns:
        Markdown, without a heading of its own.
    """
    machine, settings = results["environment"], results["settings"]
    lines = [
        f"`{results['command']}`, {machine['date']}, commit {machine['commit']}, {machine['processor']}, "
        f"torch {machine['torch']}, kernels {machine['kernel']}.",
        "",
        f"Accuracy in percent on {_num_clips(results)} test clips: mean over {settings['seeds']} seeds, and the lowest "
        f"and highest of them. Trained on clips of {TRAINED_FRAMES} frames; at other lengths positions in time are "
        f"interpolated. {_budget(settings)}",
        "",
    ]
    kinds = [name for name in KINDS if name in results["costs"]]
    others = [name for name in ABLATIONS if name in results["costs"]]
    lines += _accuracies(results, kinds)
    lines += ["", f"At {TRAINED_FRAMES} frames: two controls, and how often each part of the class is right.", ""]
    lines += _parts(results, [*kinds, *others])
    lines += ["", "Cost of classifying one clip, on one thread; operations are multiply-accumulates, all counted.", ""]
    lines += _costs(results, [*kinds, *(name for name in others if name == "wide")])
    if others:
        lines += ["", "Larger models, self-distillation and masked pre-training:", ""]
        lines += _accuracies(results, ["videomamba", *others] if "videomamba" in kinds else others)
        pairs = (("wide_distilled", "wide"), ("masked_tuned", "videomamba"))
        lines += ["", *(line for pair in pairs for line in _differences(results, *pair))]
    return "\n".join(lines) + "\n"


def values(results: dict[str, Any], name: str, frames: str, column: str, metric: str) -> list[float]:
    """Return one number of each seed.

    Args:
        results: all results.
        name: of the config.
        frames: frames of a clip.
        column: `views`, `static` or `shuffled`.
        metric: such as `top-1`.
    """
    return [run["scores"][frames][column][metric] for run in results["runs"][name].values()]


def _budget(settings: dict[str, Any]) -> str:
    if settings["steps"]:
        return f"Every run makes {settings['steps']} steps."
    return f"Every network makes as many steps as fit into {settings['minutes']:g} minutes on one core."


def _num_clips(results: dict[str, Any]) -> int:
    runs = next(runs for name, runs in results["runs"].items() if name in results["costs"])
    return int(runs["0"]["scores"][TRAINED_FRAMES]["num_clips"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows)]


def _spread(numbers: Sequence[float]) -> str:
    return f"{mean(numbers):.1f} ({min(numbers):.1f} to {max(numbers):.1f})"


def _accuracies(results: dict[str, Any], names: Sequence[str]) -> list[str]:
    rows = []
    for name in names:
        of_frames = [_spread(values(results, name, str(frames), "views", "top-1")) for frames in FRAMES]
        # The time of masked pre-training counts; that of a teacher does not, since it is a result of its own.
        parts = [results["runs"][part].values() for part in (("masked", name) if name == "masked_tuned" else (name,))]
        cpu_s = sum(mean(run["cpu_s"] for run in runs) for runs in parts)  # which other work beside does not change
        steps = " + ".join(f"{mean(run['steps'] for run in runs):.0f}" for runs in parts)
        parameters = f"{results['costs'][name]['parameters'] / 1e6:.3f} M"
        rows.append([TITLES[name], parameters, steps, f"{cpu_s:.0f}", *of_frames])
    header = ["network", "parameters", "steps", "training CPU s", *(f"{frames} frames" for frames in FRAMES)]
    return _table(header, rows)


def _parts(results: dict[str, Any], names: Sequence[str]) -> list[str]:
    rows = []
    for name in names:
        controls = (values(results, name, TRAINED_FRAMES, column, "top-1") for column in ("static", "shuffled"))
        parts = (values(results, name, TRAINED_FRAMES, "views", part) for part in ("order", "turn", "side"))
        rows.append([TITLES[name], *map(_spread, controls), *(f"{mean(part):.1f}" for part in parts)])
    rows.append(["chance", "4.2", "4.2", "16.7", "50.0", "50.0"])
    return _table(["network", "one frame repeated", "frames shuffled", "order", "turn", "side"], rows)


def _costs(results: dict[str, Any], names: Sequence[str]) -> list[str]:
    rows = []
    for name in names:
        clips = [results["costs"][name]["clips"][str(frames)] for frames in FRAMES]
        cells = [f"{1e3 * clip['cpu_seconds']:.2f}" for clip in clips]
        cells += [f"{clip['operations'] / 1e6:.0f}" for clip in (clips[0], clips[-1])]
        cells += [f"{clip['memory_bytes'] / 2**20:.1f}" for clip in (clips[0], clips[-1])]
        rows.append([TITLES[name], *cells])
    ends = (FRAMES[0], FRAMES[-1])
    header = ["network", *(f"ms, {frames} frames" for frames in FRAMES)]
    header += [f"M operations, {frames}" for frames in ends] + [f"MB, {frames}" for frames in ends]
    return _table(header, rows)


def _differences(results: dict[str, Any], changed: str, plain: str) -> list[str]:
    """A sentence on what a change does, seed by seed."""
    if changed not in results["costs"] or plain not in results["costs"]:
        return []
    pairs = zip(
        values(results, changed, TRAINED_FRAMES, "views", "top-1"),
        values(results, plain, TRAINED_FRAMES, "views", "top-1"),
        strict=True,
    )
    steps = [one - other for one, other in pairs]
    each = ", ".join(f"{step:+.1f}" for step in steps)
    return [
        f"- {TITLES[changed]}, minus {TITLES[plain]}, at {TRAINED_FRAMES} frames: {mean(steps):+.1f} points ({each})."
    ]
