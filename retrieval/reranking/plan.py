"""What re-ranking will take, before it starts: batches that fit into memory, pairs, FLOPs, seconds and bytes.

Sizes as in `vmr.models.encoder.MatchingSizes`: N video tokens of width C, text width W, F channels inside a layer. A
text has L tokens. A FLOP is an addition or a multiplication; what is not a matrix product is left out.
"""

import math
import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.models.encoder import Matcher, MatchingSizes
from vmr.retrieval.reranking.candidates import Candidates, Scores

FLOAT_BYTES = 4
TEXTS_AT_ONCE = 64
TOKENS_AT_ONCE = 2048
"""Where memory is no question: matrix products of so many rows are as fast as any."""
SCRATCH_BYTES = 96 * 2**20
"""What libraries take on first use, and what the allocator keeps of what was freed."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How texts are batched.

    tokens_at_once: of a batch, padding included; a longer text is a batch of its own. memory_bytes: what the process
    will have resident at most, but for what finding the tokens of a video takes.
    """

    tokens_at_once: int
    memory_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a re-ranking takes.

    num_pairs: logits to compute; an upper bound where the scores were not known. flops: of reading the texts, of the
    videos' keys and values, and of the pairs; encoding videos is not among them. seconds: for these on one process,
    None where the speed was not known. memory_bytes: of a process. disk_bytes: of the temporary file of the texts'
    features, and of the log.
    """

    num_pairs: int
    flops: int
    seconds: float | None
    memory_bytes: int
    disk_bytes: int


def batches(lengths: Lengths, tokens_at_once: int) -> list[NDArray[np.int64]]:
    """Positions of texts, longest first, in batches of at most TEXTS_AT_ONCE and so many tokens with padding."""
    order = np.argsort(-lengths, kind="stable")
    found, start = [], 0
    while start < len(order):
        num_texts = min(TEXTS_AT_ONCE, max(1, tokens_at_once // int(lengths[order[start]])))
        found.append(order[start : start + num_texts])
        start += num_texts
    return found


def make_plan(
    sizes: MatchingSizes, lengths: Lengths, num_videos: int, memory_bytes: int | None, resident_bytes: int
) -> Plan:
    """The largest batch with which a process stays within memory_bytes; None is no limit.

    resident_bytes: what the process has by now, the model among it. Raises VmrError, saying the least that would do,
    where even one text at a time does not fit.
    """
    longest = int(lengths.max(initial=1))
    fixed = resident_bytes + _fixed_bytes(sizes, len(lengths), num_videos)
    choices = [TOKENS_AT_ONCE >> shift for shift in range(TOKENS_AT_ONCE.bit_length())]
    choices = [tokens for tokens in choices if tokens > longest] + [longest]
    for tokens in choices:
        needed = fixed + tokens * _bytes_of_token(sizes)
        if memory_bytes is None or needed <= memory_bytes:
            return Plan(tokens, needed)
    raise VmrError(
        f"re-ranking {len(lengths)} texts and {num_videos} videos does not fit into {size_text(memory_bytes or 0)}: "
        f"it needs at least {size_text(needed)}, of which {size_text(resident_bytes)} are in use already"
    )


def estimate(
    matcher: Matcher,
    texts: Sequence[str],
    num_videos: int,
    k: int,
    *,
    scores: Scores | None = None,
    memory_bytes: int | None = None,
    flops_per_second: float | None = None,
) -> Estimate:
    """What re-ranking with depth k will take.

    With scores (Q, V) pairs and FLOPs are exact, padding included. Without them they are upper bounds: no pair is asked
    for by both directions, every video has the longest texts, and the texts of a batch are of one length.
    flops_per_second: of this machine, see `measure_speed`. Raises VmrError where it cannot be done in memory_bytes.
    """
    sizes, lengths = matcher.matching_sizes, np.array(matcher.text_lengths(texts), np.int64)
    plan = make_plan(sizes, lengths, num_videos, memory_bytes, resident_bytes())
    if scores is not None:
        candidates = Candidates(scores, k)
        num_asked = [candidates.texts_of(video) for video in range(candidates.num_videos)]
        num_pairs = sum(map(len, num_asked))
        num_watched = sum(len(asked) > 0 for asked in num_asked)
        pairs = sum(_flops_of_pairs(sizes, lengths[asked], plan) for asked in num_asked)
    else:
        of_text, of_video = min(k, num_videos), min(k, len(texts))
        num_watched = num_videos
        num_pairs = min(len(texts) * num_videos, len(texts) * of_text + num_videos * of_video)
        costs = sorted((match_flops(sizes, int(length)) for length in lengths), reverse=True)
        pairs = min(sum(costs) * num_videos, sum(costs) * of_text + sum(costs[:of_video]) * num_videos)
    reading = sum(
        len(batch) * read_flops(sizes, int(lengths[batch].max())) for batch in batches(lengths, plan.tokens_at_once)
    )
    flops = reading + num_watched * remember_flops(sizes) + pairs
    return Estimate(
        num_pairs=num_pairs,
        flops=flops,
        seconds=None if flops_per_second is None else flops / flops_per_second,
        memory_bytes=plan.memory_bytes,
        disk_bytes=FLOAT_BYTES * (int(lengths.sum()) * sizes.text_width + num_pairs),
    )


def measure_speed(matcher: Matcher) -> float:
    """FLOPs a second of matching on this machine, by a video of noise and a batch of texts: seconds of work."""
    sizes = matcher.matching_sizes
    text = "a person is playing the guitar and singing a song for a friend"
    length = matcher.text_lengths([text])[0]
    read = matcher.read_texts([text] * min(TEXTS_AT_ONCE, max(1, TOKENS_AT_ONCE // length)))
    tokens = torch.randn(1, sizes.num_video_tokens, sizes.video_width, generator=torch.Generator().manual_seed(0))
    matcher.match_batches(tokens, [read.select(torch.zeros(1, dtype=torch.int64, device=read.tokens.device))])
    start = time.perf_counter()
    matcher.match_batches(tokens, [read]).cpu()
    seconds = time.perf_counter() - start
    return (remember_flops(sizes) + len(read) * match_flops(sizes, length)) / seconds


def read_flops(sizes: MatchingSizes, length: int) -> int:
    """Of the text layers for a text of L tokens: projections 8 W^2 a token, scores and mixing 4 L W, F 4 W F."""
    width = sizes.text_width
    return sizes.num_text_layers * length * (8 * width**2 + 4 * length * width + 4 * width * sizes.feed_forward)


def remember_flops(sizes: MatchingSizes) -> int:
    """Of the keys and values of a video in every fusion layer: 4 C W a token."""
    return sizes.num_fusion_layers * sizes.num_video_tokens * 4 * sizes.video_width * sizes.text_width


def match_flops(sizes: MatchingSizes, length: int) -> int:
    """Of a pair: a text layer, and looking at the video, 4 W^2 + 4 N W a token; then the head of two outputs."""
    width = sizes.text_width
    layer = 12 * width**2 + 4 * length * width + 4 * sizes.num_video_tokens * width + 4 * width * sizes.feed_forward
    return sizes.num_fusion_layers * length * layer + 4 * width


def parse_size(text: str) -> int:
    """Bytes of `4GiB`, `800 MB` or `1e9`. Raises VmrError for anything else."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]i?B)?\s*", text, re.IGNORECASE)
    try:
        assert match is not None
        return int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    except (AssertionError, ValueError, KeyError) as error:
        raise VmrError(f"{text!r} is no amount of memory: write it as 4GiB or 800MiB") from error


def size_text(num_bytes: int) -> str:
    """Bytes as a person reads them: 1.5 GiB, 800 MiB; rounded up, so that what is asked for is enough."""
    if num_bytes >= 2**30:
        return f"{math.ceil(num_bytes / 2**30 * 100) / 100:.2f} GiB"
    return f"{math.ceil(num_bytes / 2**20)} MiB"


def resident_bytes() -> int:
    """What this process has in memory; where the system does not tell (not Linux), the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * resource.getpagesize()


def _flops_of_pairs(sizes: MatchingSizes, lengths: Lengths, plan: Plan) -> int:
    """Of one video's texts in their batches."""
    return sum(
        len(batch) * match_flops(sizes, int(lengths[batch].max())) for batch in batches(lengths, plan.tokens_at_once)
    )


def _fixed_bytes(sizes: MatchingSizes, num_texts: int, num_videos: int) -> int:
    """Whatever the batch: a video's tokens, keys and values, one layer more while they are made, and the matrices."""
    tokens = 2 * sizes.num_video_tokens * sizes.video_width * FLOAT_BYTES
    memory = 2 * (sizes.num_fusion_layers + 1) * sizes.num_video_tokens * sizes.text_width * FLOAT_BYTES
    # two results of float32 and two of bool; the logits of both directions' pairs are no more than a third result
    matrices = num_texts * num_videos * (3 * FLOAT_BYTES + 2)
    return SCRATCH_BYTES + tokens + memory + matrices


def _bytes_of_token(sizes: MatchingSizes) -> int:
    """What a token of a batch takes where most is alive: inside a layer, before and after its activation."""
    return (2 * sizes.feed_forward + 8 * sizes.text_width) * FLOAT_BYTES
