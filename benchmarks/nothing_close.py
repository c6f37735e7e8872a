"""How well it is told that nothing in an index is close to a query, and what a match says.

    python -m benchmarks.nothing_close --clips DIR
    python -m benchmarks.nothing_close --clips DIR --queries FILE --splits 50 --json nothing.json

DIR holds clips.jsonl, test.json (`[{"video", "caption"}]`) and the folder videos. The queries about nothing visible are
those of the tests, or those of --queries, one a line. Nothing is trained on captions or on these queries: they are
searched as a user would. Every split deals the sentences that come with vmr, the captions and the queries into halves:
one half of the sentences calibrates, and the best statistic is chosen on one half of the captions and queries and
measured on the other.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.common import environment
from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import held_out_scenes, held_out_seed
from vmr.models.catalogue import load_model
from vmr.models.encoder import Encoder
from vmr.retrieval.calibration.calibrate import Words, calibration_of, weigh_words
from vmr.retrieval.calibration.calibration import Calibration
from vmr.retrieval.calibration.sentences import other_sentences, visible_sentences
from vmr.retrieval.calibration.statistics import auc
from vmr.retrieval.embed import embed_videos
from vmr.retrieval.segments import window_segmenter
from vmr.retrieval.texts import embed_texts

QUERIES = Path(__file__).parents[1] / "tests" / "data" / "about_nothing_visible.txt"
SMALL = (1, 3, 10, 30)  # clips of small indexes
LOST = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.2)
DRAWS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """An index, and what is asked of it.

    Attributes:
        rows: vectors of the index, (R, D).
        clip_of_row: (R,), the number of the caption's clip; -1 for clips without one.
        captions: vectors of one caption for each clip, (C, D).
        nothing: vectors of queries about nothing visible, (Q, D).
        visible: vectors of the sentences about visible things, (V, D).
        others: vectors of the other sentences, (O, D).
        words: what all sentences say.
    """

    rows: Floats
    clip_of_row: NDArray[np.int64]
    captions: Floats
    nothing: Floats
    visible: Floats
    others: Floats
    words: Words

    def of_clips(self, clips: NDArray[np.int64]) -> "World":
        """Return an index of some clips only, with their captions."""
        kept = np.isin(self.clip_of_row, clips)
        places = {clip: place for place, clip in enumerate(clips.tolist())}
        rows = np.array([places[clip] for clip in self.clip_of_row[kept].tolist()])
        return replace(self, rows=self.rows[kept], clip_of_row=rows, captions=self.captions[clips])

    def calibrated(self, visible: Floats | None = None, others: Floats | None = None) -> Calibration:
        """Calibrate the index by these sentences, or by all."""
        visible, others = self.visible if visible is None else visible, self.others if others is None else others
        vectors, is_visible = labelled(visible, others)
        words = self.words if len(vectors) == len(self.words.left_out) else weigh_words(vectors, is_visible)
        return calibration_of(words, (vectors @ self.rows.T).max(1), is_visible, len(self.rows))

    def scores(self, *, absent: bool = False) -> Floats:
        """Return the scores of the captions with all rows, (C, R); -inf for a caption's own clip if it is absent."""
        scores = self.captions @ self.rows.T
        if absent:
            scores[np.arange(len(scores))[:, None] == self.clip_of_row] = -np.inf
        return scores


Statistic = Callable[[World, Calibration, Floats, Floats], Floats]
"""An index, its calibration, queries (Q, D) and their scores (Q, R) -> larger if something is close, (Q,)."""


def best_score(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return the score of the best hit."""
    return scores.max(1)


def mean_of_best(world: World, calibration: Calibration, queries: Floats, scores: Floats, number: int = 5) -> Floats:
    """Return the mean score of the best hits."""
    return np.sort(scores, axis=1)[:, -number:].mean(1)


def margin(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return how much the best hit is better than the second."""
    ordered = np.sort(scores, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def deviations(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return by how many standard deviations the best hit is above the mean of all rows."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    return (scores.max(1) - np.nanmean(finite, axis=1)) / np.nanstd(finite, axis=1)


def above_neighbours(
    world: World, calibration: Calibration, queries: Floats, scores: Floats, number: int = 5
) -> Floats:
    """Return the best score less half of that which the sentences nearest to the query have on this index."""
    nearest = np.argsort(-(queries @ world.visible.T), axis=1)[:, :number]
    return scores.max(1) - 0.5 * (world.visible @ world.rows.T).max(1)[nearest].mean(1)


def above_rows(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return the best score in standard deviations of what generic sentences score with the same row."""
    generic = world.visible @ world.rows.T
    return ((scores - generic.mean(0)) / generic.std(0)).max(1)


def words(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return what the words of the query say, whatever the index holds."""
    return calibration.log_odds(queries)


def match(world: World, calibration: Calibration, queries: Floats, scores: Floats) -> Floats:
    """Return the match of the best hit, as vmr gives it."""
    return np.array(
        [float(calibration.match(score, query)) for score, query in zip(scores.max(1), queries, strict=True)]
    )


STATISTICS: dict[str, Statistic] = {
    "best score": best_score,
    "mean of the 5 best": mean_of_best,
    "margin to the second": margin,
    "deviations from all rows": deviations,
    "above 5 nearest sentences": above_neighbours,
    "deviations within a row": above_rows,
    "words alone": words,
    "match": match,
}


def main() -> None:
    """Measure everything, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--queries", type=Path, default=QUERIES)
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--shapes", type=int, default=400, help="clips of the synthetic benchmark")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console, record = Console(width=130), {"environment": environment(), "splits": given.splits}
    console.print(record["environment"])
    nothing = given.queries.read_text(encoding="utf-8").splitlines()
    offline = load_model("offline")
    worlds = clip_worlds(offline, given.clips, nothing)
    shapes = shapes_world(load_model("videomamba-nano-shapes"), given.shapes, nothing)
    record["indexes"] = indexes(console, worlds | {f"shapes, {given.shapes} clips": shapes})
    main_world = worlds["109 clips"]
    record["small"] = small(console, main_world)
    record["curve"] = curve(console, main_world)
    record["statistics"] = statistics(console, "offline, 109 clips", main_world, given.splits)
    record["statistics of shapes"] = statistics(console, f"shapes, {given.shapes} clips", shapes, given.splits)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1))


def clip_worlds(encoder: Encoder, folder: Path, nothing: Sequence[str]) -> dict[str, World]:
    """Make indexes of the clips: those with a caption for the test, and all; whole and in windows of 8 seconds."""
    listed = json.loads((folder / "test.json").read_text())
    number = {str(folder / "videos" / each["video"]): place for place, each in enumerate(listed)}
    every = [str(folder / "videos" / f"{json.loads(line)['id']}.mp4") for line in (folder / "clips.jsonl").open()]
    embed = partial(vectors_of_texts, encoder)
    texts = [embed([each["caption"] for each in listed]), embed(nothing), *sentences(encoder)]
    worlds = {}
    for window_s, suffix in ((None, ""), (8.0, ", windows of 8 s")):
        some = embed_videos(every, encoder, segmenter=window_segmenter(window_s)).videos
        rows = np.concatenate([video.vectors for video in some]).astype(np.float64)
        clips = np.repeat([number.get(video.path, -1) for video in some], [len(video.vectors) for video in some])
        worlds[f"109 clips{suffix}"] = World(rows[clips >= 0], clips[clips >= 0], *texts)
        worlds[f"{len(every)} clips{suffix}"] = World(rows, clips, *texts)
    return worlds


def shapes_world(encoder: Encoder, clips: int, nothing: Sequence[str]) -> World:
    """Make an index of the test clips of the synthetic benchmark, and of its model."""
    scenes = held_out_scenes("pairs")[:clips]
    frames = [torch.from_numpy(render(scene, held_out_seed("pairs", place))) for place, scene in enumerate(scenes)]
    batches = torch.stack(frames).split(16)
    rows = np.concatenate([encoder.encode_video(batch).numpy() for batch in batches]).astype(np.float64)
    captions = vectors_of_texts(encoder, [scene.captions[0] for scene in scenes])
    return World(rows, np.arange(clips), captions, vectors_of_texts(encoder, nothing), *sentences(encoder))


def vectors_of_texts(encoder: Encoder, texts: Sequence[str]) -> Floats:
    """Embed texts as float64."""
    return embed_texts(texts, encoder).astype(np.float64)


def sentences(encoder: Encoder) -> tuple[Floats, Floats, Words]:
    """Embed the sentences that come with vmr, of both kinds, and weigh their words."""
    kinds = vectors_of_texts(encoder, visible_sentences()), vectors_of_texts(encoder, other_sentences())
    return *kinds, weigh_words(*labelled(*kinds))


def labelled(visible: Floats, others: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return vectors of both kinds together, and which are of the first."""
    return np.concatenate([visible, others]), np.arange(len(visible) + len(others)) < len(visible)


def said(world: World, calibration: Calibration) -> tuple[Floats, Floats]:
    """Return for each caption, and for each query about nothing visible, whether it is said that nothing is close."""
    both = []
    for queries in (world.captions, world.nothing):
        best = match(world, calibration, queries, queries @ world.rows.T)
        both.append(np.array([calibration.nothing_close(each) for each in best], np.float64))
    return both[0], both[1]


def absent_auc(statistic: Statistic, world: World, calibration: Calibration, chosen: NDArray[np.int64]) -> float:
    """Return how well captions whose clip is there are told from the same ones with their clip taken out."""
    queries = world.captions[chosen]
    there, absent = (world.scores(absent=out)[chosen] for out in (False, True))
    return auc(statistic(world, calibration, queries, there), statistic(world, calibration, queries, absent))


def interval(values: Floats, measure: Callable[[NDArray[np.int64]], float], draws: int = 500) -> str:
    """Return a measure with its 95 % interval by the bootstrap over len(values) queries."""
    rng = np.random.default_rng(0)
    every = [measure(rng.integers(0, len(values), len(values))) for _ in range(draws)]
    low, high = np.quantile(every, (0.025, 0.975))
    return f"{measure(np.arange(len(values))):.3f} [{low:.3f}, {high:.3f}]"


def indexes(console: Console, worlds: dict[str, World]) -> list[list[str]]:
    """Print how often nothing is said to be close, and how well absent scenes are told, for each index."""
    table = [["index", "rows", "rule", "AUC of the self-test", "of captions", "of nonsense", "absent: match", "score"]]
    for name, world in worlds.items():
        calibration = world.calibrated()
        captions, nothing = said(world, calibration)
        row = [name, str(len(world.rows)), calibration.rule, f"{calibration.auc:.3f}"]
        row += [
            interval(values, lambda places, values=values: float(values[places].mean()))
            for values in (captions, nothing)
        ]
        for statistic in (match, best_score):
            pair = [statistic(world, calibration, world.captions, world.scores(absent=out)) for out in (False, True)]
            row.append(interval(captions, lambda places, pair=pair: auc(pair[0][places], pair[1][places])))
        table.append(row)
    show(console, "nothing_close, with 95 % intervals; AUC of absent scenes", table)
    return table


def small(console: Console, world: World) -> list[list[str]]:
    """Print the same for small indexes: means over draws of clips, and the worst draw."""
    table = [["clips", "of captions", "worst draw", "of nonsense", "worst draw", "other captions: match", "score"]]
    for clips in SMALL:
        rows = []
        for draw in range(DRAWS):
            chosen = np.random.default_rng(draw).choice(len(world.captions), clips, replace=False)
            part = world.of_clips(chosen)
            calibration = part.calibrated()
            captions, nothing = said(part, calibration)
            scores = world.captions @ part.rows.T
            is_there = np.isin(np.arange(len(world.captions)), chosen)
            found = [f(part, calibration, world.captions, scores) for f in (match, best_score)]
            rows.append([captions.mean(), nothing.mean(), *(auc(each[is_there], each[~is_there]) for each in found)])
        mean, most, least = np.mean(rows, axis=0), np.max(rows, axis=0), np.min(rows, axis=0)
        numbers = (mean[0], most[0], mean[1], least[1], mean[2], mean[3])
        table.append([str(clips), *(f"{number:.3f}" for number in numbers)])
    show(console, f"small indexes of {DRAWS} draws: nothing_close; AUC of captions of the index against others", table)
    return table


def curve(console: Console, world: World) -> list[list[str]]:
    """Print what other thresholds would give."""
    calibration = world.calibrated()
    generic = match(world, calibration, world.visible, world.visible @ world.rows.T)
    captions = match(world, calibration, world.captions, world.scores())
    nothing = match(world, calibration, world.nothing, world.nothing @ world.rows.T)
    table = [["generic visible sentences", "threshold", "captions", "nonsense"]]
    for lost in LOST:
        threshold = float(np.quantile(generic, lost))
        shares = ((captions < threshold).mean(), (nothing < threshold).mean())
        table.append([f"{lost:.1%}", f"{threshold:.4f}", *(f"{share:.1%}" for share in shares)])
    show(console, "the curve: shares for which nothing is said to be close, by the threshold", table)
    return table


def statistics(console: Console, name: str, world: World, splits: int) -> list[list[str]]:
    """Print how well each statistic tells, on halves that chose nothing, and which would have been chosen."""
    found: dict[str, list[list[float]]] = {each: [] for each in STATISTICS}
    lost_and_told = []
    for split in range(splits):
        rng = np.random.default_rng(split)
        halves = [np.array_split(rng.permutation(len(each)), 2) for each in (world.visible, world.others)]
        calibration = world.calibrated(world.visible[halves[0][0]], world.others[halves[1][0]])
        captions, nothing = (np.array_split(rng.permutation(len(each)), 2) for each in (world.captions, world.nothing))
        for each, statistic in STATISTICS.items():
            values = [
                statistic(world, calibration, world.captions, world.scores()),
                statistic(world, calibration, world.nothing, world.nothing @ world.rows.T),
            ]
            numbers = [auc(values[0][captions[half]], values[1][nothing[half]]) for half in (0, 1)]
            numbers += [absent_auc(statistic, world, calibration, captions[half]) for half in (0, 1)]
            found[each].append(numbers)
        on_captions, on_nothing = said(world, calibration)
        lost_and_told.append((on_captions[captions[1]].mean(), on_nothing[nothing[1]].mean()))
    all_numbers = np.array(list(found.values()))  # (statistics, splits, 4)
    best = [np.bincount(all_numbers[:, :, half].argmax(0), minlength=len(found)) for half in (0, 2)]
    table = [
        ["statistic", "captions against nonsense", "best on the other half", "absent scenes", "best on the other half"]
    ]
    for place, each in enumerate(found):
        row = [each]
        for half, wins in ((1, best[0]), (3, best[1])):
            low, high = np.quantile(all_numbers[place, :, half], (0.025, 0.975))
            row += [f"{all_numbers[place, :, half].mean():.4f} [{low:.3f}, {high:.3f}]", f"{wins[place]} of {splits}"]
        table.append(row)
    show(console, f"{name}: AUC on the halves that chose nothing, mean and range of 95 % of {splits} splits", table)
    shares = np.array(lost_and_told)
    console.print(
        f"nothing_close, calibrated by half of the sentences: {shares[:, 0].mean():.1%} of captions (worst "
        f"{shares[:, 0].max():.1%}), {shares[:, 1].mean():.1%} of nonsense (worst {shares[:, 1].min():.1%})"
    )
    return table


def show(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table, whose first row is its head."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
