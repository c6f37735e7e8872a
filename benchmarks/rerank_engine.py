"""A whole re-ranking: vmr's engine within a memory budget, against keys and values made again for every pair.

`python -m benchmarks.rerank --videos 200` runs it. The model has the sizes of VideoMamba-M and BERT base and fresh
weights; the videos' tokens are noise, as an evaluation reads them from its cache. The engine's time is all of
`rerank_videos`: reading the captions, matching, the log. The peer's is its matching alone, in upstream's batches of 32
pairs, on a few videos, and scaled to all pairs; it is timed before and after the engine, and the shorter time counts.
Each is a process of its own; the engine's peak memory is that of the whole process, from its start on.
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
from vmr.models.encoder import Preprocess
from vmr.models.families.video_text import UPSTREAM_MEAN, UPSTREAM_STD, VideoTextEncoder
from vmr.models.text.encoder import TextConfig
from vmr.models.text.tokenizer import CaptionTokenizer
from vmr.models.video_text import VideoTextConfig, VideoTextModel
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.retrieval.reranking.candidates import Candidates, Scores
from vmr.retrieval.reranking.engine import rerank_videos

UPSTREAM_BATCH = 32
SAMPLED_VIDEOS = 3  # by the peer


@dataclass(frozen=True)
class Workload:
    """num_tokens: of the longest caption; the shortest has half of them. num_frames: of 224 px."""

    num_videos: int
    num_texts: int
    num_tokens: int
    num_frames: int
    k: int
    num_threads: int


class Result(NamedTuple):
    """num_pairs and seconds, of a process; its peak in bytes; the logits of the sampled videos' candidates."""

    num_pairs: int
    seconds: float
    peak_bytes: int
    logits: Scores


class Task:
    """The model and its inputs, the same in every process."""

    def __init__(self, work: Workload) -> None:
        torch.set_num_threads(work.num_threads)
        torch.manual_seed(0)
        video = VideoMambaConfig.of_size("middle", num_frames=work.num_frames)
        preprocess = Preprocess(work.num_frames, video.image_size, "upstream", UPSTREAM_MEAN, UPSTREAM_STD)
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
        """(1, N, C)."""
        sizes = self.encoder.matching_sizes
        generator = torch.Generator().manual_seed(video)
        return torch.randn(1, sizes.num_video_tokens, sizes.video_width, generator=generator)


def engine(work: Workload, memory_bytes: int) -> Result:
    """All videos, by `rerank_videos`."""
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
    """A few videos, by upstream's way: every pair carries the whole video through the projections."""
    task = Task(work)
    read, model = task.encoder.read_texts(task.texts), task.encoder.model

    @torch.inference_mode()
    def match(tokens: Tensor, texts: Tensor) -> Tensor:
        some = read.select(texts)
        memory = model.remember(tokens.repeat(len(texts), 1, 1))
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
    """Measure, print, and write JSON where asked."""
    console = Console(highlight=False)
    before, ours, after = _apart(peer, work), _apart(engine, work, memory_bytes), _apart(peer, work)
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


def _apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function of this module, called in a fresh process."""
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
