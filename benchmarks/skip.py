"""What leaving out repeated patches does to accuracy and time: the synthetic benchmark at several thresholds.

    python -m benchmarks.skip
    python -m benchmarks.skip --encoder runs/mine/model --thresholds 0 0.02 0.1 --json skip.json --plot skip.svg

Threshold "off" leaves out nothing, and 0.000001 exact repetitions only. Accuracy is text to video R@1 by embedding and
after re-ranking 16 candidates. The time is that of one clip at a time, without decoding, the mean over some clips of
`shapes`; the thresholds take turns. Backgrounds of these clips repeat exactly, which those of real videos do not.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import vmr
from benchmarks.common import environment
from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import PARTS, held_out_scenes, held_out_seed
from vmr.models.families.video_text import VideoTextEncoder

EXACT = 1e-6  # less than any change of a pixel
NUM_TIMED = 100
DEPTH = 16
ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """The accuracy and time at one threshold.

    Attributes:
        threshold: of repetitions; 0 where nothing is left out.
        kept: the mean share of patches that are kept of the clips that are timed.
        ms: of a clip.
        embedding: part of the benchmark -> R@1 in percent, by embedding.
        matching: the same after re-ranking.
    """

    threshold: float
    kept: float
    ms: float
    embedding: dict[str, float]
    matching: dict[str, float]


def measure(name: str, thresholds: Sequence[float], parts: Sequence[str]) -> list[Row]:
    """Score and time a model.

    Args:
        name: of a video-text model.
        thresholds: of repetitions; 0 leaves out nothing.
        parts: of the benchmark.

    Returns:
        A row for each threshold.
    """
    encoders = [vmr.load_model(name, "cpu", skip=threshold) for threshold in thresholds]
    clips = [
        torch.from_numpy(render(scene, held_out_seed("pairs", number)))[None]
        for number, scene in enumerate(held_out_scenes("pairs")[:NUM_TIMED])
    ]
    times = _best_ms(encoders, clips)
    rows = []
    for threshold, encoder, ms in zip(thresholds, encoders, times, strict=True):
        kept = [encoder.changed_patches(clip).double().mean().item() for clip in clips] if threshold else [1.0]
        scores = {part: _score(part, encoder) for part in parts}
        embedding, matching = ({part: found[way] for part, found in scores.items()} for way in (0, 1))
        rows.append(Row(threshold, float(np.mean(kept)), ms, embedding, matching))
    return rows


def table(rows: Sequence[Row], name: str) -> Table:
    """Make the table: R@1 by embedding and after re-ranking, for each part."""
    out = Table(title=f"{name}: R@1 in % by embedding, after re-ranking", title_justify="left")
    for column in ("threshold", "kept", "ms a clip", *rows[0].embedding):
        out.add_column(column, justify="right")
    for row in rows:
        scores = [f"{row.embedding[part]:.1f}, {row.matching[part]:.1f}" for part in row.embedding]
        out.add_row(_named(row.threshold), f"{row.kept:.0%}", f"{row.ms:.1f}", *scores)
    return out


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draw accuracy against time, a line for each part of the benchmark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    ms = [row.ms for row in rows]
    for color, part in enumerate(rows[0].embedding):
        axes.plot(ms, [row.embedding[part] for row in rows], f"C{color}o-", label=part)
        axes.plot(ms, [row.matching[part] for row in rows], f"C{color}o--", alpha=0.6)
    for row in rows:
        axes.annotate(_named(row.threshold), (row.ms, 2), ha="center", fontsize="small")
    axes.set(xlabel="ms a clip", ylabel="R@1 in %; dashed: after re-ranking", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file)


def _named(threshold: float) -> str:
    return {0: "off", EXACT: "exact"}.get(threshold, f"{threshold:g}")


def _score(part: str, encoder: VideoTextEncoder) -> tuple[float, float]:
    dataset = "shapes" if part == "pairs" else f"shapes:{part}"
    report = vmr.evaluate(dataset, encoder, options=vmr.EvalOptions(rerank_depth=DEPTH))
    embedding, matching = (report.scores[way]["text_to_video/R@1"] for way in ("embedding", "vtm"))
    return embedding, matching


def _best_ms(encoders: Sequence[VideoTextEncoder], clips: Sequence[torch.Tensor]) -> list[float]:
    """Of each encoder, the milliseconds of a clip in its fastest round over all clips."""
    best = [float("inf")] * len(encoders)
    for _ in range(ROUNDS):
        for place, encoder in enumerate(encoders):
            encoder.video_features(clips[0])
            start_s = time.perf_counter()
            for clip in clips:
                encoder.video_features(clip)
            best[place] = min(best[place], (time.perf_counter() - start_s) / len(clips) * 1000)
    return best


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print the table.

    Args:
        argv: the command line; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="videomamba-nano-shapes")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0, EXACT, 0.02, 0.05])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plot", type=Path, help="draw accuracy against time here")
    args = parser.parse_args(argv)
    rows = measure(args.encoder, args.thresholds, args.parts)
    Console().print(table(rows, args.encoder))
    if args.json:
        record = {**environment(), "encoder": args.encoder, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
