"""A whole re-ranking: vmr's engine within a memory budget, and a peer that computes keys and values for every pair.

`python -m benchmarks.rerank --videos 200` runs it. The model has the sizes of VideoMamba-M and BERT base and random
weights; the videos' tokens are noise, as an evaluation would read them from its cache. The engine's time is all of
`rerank_videos`: encoding the captions, matching, the log. The peer's time is its matching alone, in upstream's batches
of 32 pairs, on a few videos, and scaled to all pairs; it is measured before and after the engine, and the shorter time
counts. Each runs in its own process; the engine's peak memory is that of its whole process.
"""

import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.common import environment, peak_memory
from vmr.memory import format_bytes
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vmr.models.families.video_text import VideoTextEncoder
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.retrieval.reranking.candidates import Candidates, Scores
from vmr.retrieval.reranking.engine import rerank_videos

UPSTREAM_BATCH = 32
SAMPLED_VIDEOS = 3  # videos that the peer matches


@dataclass(frozen=True)
class Workload:
    """The size of a re-ranking.

    Attributes:
        num_videos: videos in the gallery.
        num_texts: captions.
        num_tokens: tokens of the longest caption; the shortest has half of them.
        num_frames: frames of a video, of 224 px.
        k: candidates of each query.
        num_threads: torch's threads.
    """

    num_videos: int
    num_texts: int
    num_tokens: int
    num_frames: int
    k: int
    num_threads: int


class Result(NamedTuple):
    """The measurement of one process.

    Attributes:
        num_pairs: pairs that it matched.
        seconds: the time it took.
        peak_bytes: the peak memory of the process.
        logits: of the candidates of the sampled videos.
    """

    num_pairs: int
    seconds: float
    peak_bytes: int
    logits: Scores


class Task:
    """The model and its inputs, the same in every process.

    Args:
        work: the size of the re-ranking.

    Attributes:
        encoder: the model, with random weights.
        texts: the captions, of random words.
        scores: float32 (texts, videos), random.
        candidates: the pairs to match.
        sample: the videos that the peer matches.
    """

    def __init__(self, work: Workload) -> None:
        torch.set_num_threads(work.num_threads)
        torch.manual_seed(0)
        video = VideoMambaConfig.of_size("middle", num_frames=work.num_frames)
        preprocess = Preprocess(work.num_frames, video.image_size, "upstream", IMAGENET_MEAN, IMAGENET_STD)
        tokenizer = CaptionTokenizer()
        model = VideoTextModel(VideoTextConfig(video, TextConfig()))
        self.encoder = VideoTextEncoder(model, tokenizer, preprocess, name="bench", about="fresh weights")
        draw, words = random.Random(0), [word for word in tokenizer.words if word.isascii() and word.isalpha()]
        half = work.num_tokens // 2
        self.texts = [
            " ".join(draw.choices(words, k=draw.randint(half, work.num_tokens) - 2)) for _ in range(work.num_texts)
        ]
        self.scores = np.random.default_rng(0).normal(size=(work.num_texts, work.num_videos)).astype(np.float32)
        self.candidates = Candidates(self.scores, work.k)
        self.sample = range(0, work.num_videos, max(1, work.num_videos // SAMPLED_VIDEOS))[:SAMPLED_VIDEOS]

    def tokens(self, video: int) -> Tensor:
        """Make the tokens of a video.

        Args:
            video: its number, which seeds the noise.

        Returns:
            (1, N, C).
        """
        sizes = self.encoder.matching_sizes
        generator = torch.Generator().manual_seed(video)
        return torch.randn(1, sizes.num_video_tokens, sizes.video_width, generator=generator)


def engine(work: Workload, memory_bytes: int) -> Result:
    """Re-rank all videos by `rerank_videos`.

    Args:
        work: the size of the re-ranking.
        memory_bytes: the engine's memory budget.

    Returns:
        The measurement.
    """
    task = Task(work)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = rerank_videos(
            task.encoder, task.tokens, task.texts, task.scores, work.k, memory_bytes=memory_bytes, work=Path(folder)
        )
        seconds = time.perf_counter() - start
    best = np.maximum(result.text_to_video, result.video_to_text.T)
    logits = np.concatenate([best[task.candidates.texts_of(video), video] for video in task.sample])
    return Result(task.candidates.num_pairs, seconds, peak_memory(), logits)


def peer(work: Workload) -> Result:
    """Match a few videos in upstream's way: the whole video is projected again for every pair.

    Args:
        work: the size of the re-ranking.

    Returns:
        The measurement.
    """
    task = Task(work)
    read, model = task.encoder.read_texts(task.texts), task.encoder.model

    @torch.inference_mode()
    def match(tokens: Tensor, texts: Tensor) -> Tensor:
        some = read.select(texts)
        memory = model.project_video(tokens.repeat(len(texts), 1, 1))
        return model.match(some.tokens, some.mask, memory)[:, 1]

    start = time.perf_counter()
    logits = [
        match(task.tokens(video), texts)
        for video in task.sample
        for texts in torch.from_numpy(task.candidates.texts_of(video)).split(UPSTREAM_BATCH)
    ]
    seconds = time.perf_counter() - start
    return Result(sum(map(len, logits)), seconds, peak_memory(), torch.cat(logits).numpy())


def report(work: Workload, memory_bytes: int, path: Path | None) -> None:
    """Measure both, print the comparison, and write the numbers to a file.

    Args:
        work: the size of the re-ranking.
        memory_bytes: the engine's memory budget.
        path: a JSON file, or None.
    """
    console = Console(highlight=False)
    before, ours, after = _in_process(peer, work), _in_process(engine, work, memory_bytes), _in_process(peer, work)
    theirs = min(before, after, key=lambda result: result.seconds)
    seconds = theirs.seconds * ours.num_pairs / theirs.num_pairs
    record = {
        "environment": environment(),
        "workload": asdict(work),
        "num_pairs": ours.num_pairs,
        "engine_seconds": ours.seconds,
        "peer_pairs": theirs.num_pairs,
        "peer_seconds": [before.seconds, after.seconds],
        "peer_seconds_scaled": seconds,
        "ratio": seconds / ours.seconds,
        "memory_bytes": memory_bytes,
        "engine_peak_bytes": ours.peak_bytes,
        "peer_peak_bytes": theirs.peak_bytes,
        "difference": float(np.linalg.norm(ours.logits - theirs.logits) / np.linalg.norm(theirs.logits)),
    }
    console.print(
        f"{work.num_videos} videos of {work.num_frames} frames, {work.num_texts} captions, k = {work.k}: "
        f"{ours.num_pairs} pairs, {work.num_threads} threads"
    )
    console.print(f"engine: {ours.seconds:.1f} s, all of it")
    console.print(f"keys and values for every pair: {seconds:.1f} s, scaled from {theirs.num_pairs} pairs")
    console.print(f"ratio {record['ratio']:.2f}, logits differ by a relative {record['difference']:.1e}")
    within = "within" if ours.peak_bytes <= memory_bytes else "NOT WITHIN"
    console.print(
        f"peak of the engine's process {format_bytes(ours.peak_bytes)}, {within} {format_bytes(memory_bytes)}"
    )
    if path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _in_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of this module, called in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    result: Result = ours.recv()
    process.join()
    return result


def _send(connection: Connection, function: Callable[..., Result], arguments: tuple[Any, ...]) -> None:
    connection.send(function(*arguments))
