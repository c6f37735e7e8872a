"""Estimates before a re-ranking starts: batches that fit into memory, pairs, FLOPs, seconds and bytes.

Sizes as in `vmr.models.encoder.MatchingSizes`: N video tokens of width C, text width W, F channels inside a layer. A
text has L tokens. A FLOP is an addition or a multiplication; only matrix products are counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.memory import format_bytes, resident_bytes
from vmr.models.encoder import Matcher, MatchingSizes

FLOAT_BYTES = 4
TEXTS_AT_ONCE = 64
TOKENS_AT_ONCE = 2048
"""The batch size without a memory limit: matrix products with more rows are not faster."""
SCRATCH_BYTES = 96 * 2**20
"""Memory that libraries take at their first use, and freed memory that the allocator keeps."""

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How texts are batched.

    Attributes:
        tokens_at_once: tokens of a batch, with padding; a longer text is a batch of its own.
        memory_bytes: the most memory that the process will use, without the memory for computing a video's tokens.
    """

    tokens_at_once: int
    memory_bytes: int


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of the cost of a re-ranking.

    Attributes:
        num_pairs: logits to compute.
        flops: for encoding the texts, for the keys and values of the videos, and for the pairs; encoding the videos is
            not counted.
        seconds: for these FLOPs on one process; None if the speed was not known.
        memory_bytes: memory of a process.
        disk_bytes: size of the temporary file of the texts' features, and of the log.
    """

    num_pairs: int
    flops: int
    seconds: float | None
    memory_bytes: int
    disk_bytes: int


def batches(lengths: Lengths, tokens_at_once: int) -> list[NDArray[np.int64]]:
    """Put texts into batches, the longest first.

    Args:
        lengths: int64 (M,), tokens of each text.
        tokens_at_once: tokens of a batch at most, with padding.

    Returns:
        Batches of positions in `lengths`, at most TEXTS_AT_ONCE in each.
    """
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
    """Choose the largest batch with which a process stays within its memory.

    Args:
        sizes: of the model.
        lengths: int64 (Q,), tokens of each text.
        num_videos: V.
        memory_bytes: how much memory the process may have; None for no limit.
        resident_bytes: memory that the process uses already, including the model.

    Raises:
        VmrError: even one text at a time does not fit; the message says how much is needed.
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
        f"re-ranking {len(lengths)} texts and {num_videos} videos does not fit into {format_bytes(memory_bytes or 0)}: "
        f"it needs at least {format_bytes(needed)}, of which {format_bytes(resident_bytes)} are in use already"
    )


def estimate(
    matcher: Matcher,
    texts: Sequence[str],
    num_videos: int,
    k: int,
    *,
    memory_bytes: int | None = None,
    flops_per_second: float | None = None,
) -> Estimate:
    """Estimate what re-ranking will take at most.

    The bound assumes that no pair is asked for by both directions, that every video gets the longest texts, and that
    the texts of a batch are of one length.

    Args:
        matcher: the model.
        texts: Q strings.
        num_videos: V.
        k: candidates of a query.
        memory_bytes: how much memory the process may have; None for no limit.
        flops_per_second: of this machine, see `measure_speed`; None if it is not known.

    Raises:
        VmrError: the re-ranking does not fit into memory_bytes.
    """
    sizes, lengths = matcher.matching_sizes, np.array(matcher.text_lengths(texts), np.int64)
    plan = make_plan(sizes, lengths, num_videos, memory_bytes, resident_bytes())
    of_text, of_video = min(k, num_videos), min(k, len(texts))
    num_pairs = min(len(texts) * num_videos, len(texts) * of_text + num_videos * of_video)
    costs = sorted((match_flops(sizes, int(length)) for length in lengths), reverse=True)
    pairs = min(sum(costs) * num_videos, sum(costs) * of_text + sum(costs[:of_video]) * num_videos)
    reading = sum(
        len(batch) * text_flops(sizes, int(lengths[batch].max())) for batch in batches(lengths, plan.tokens_at_once)
    )
    flops = reading + num_videos * projection_flops(sizes) + pairs
    return Estimate(
        num_pairs=num_pairs,
        flops=flops,
        seconds=None if flops_per_second is None else flops / flops_per_second,
        memory_bytes=plan.memory_bytes,
        disk_bytes=FLOAT_BYTES * (int(lengths.sum()) * sizes.text_width + num_pairs),
    )


def measure_speed(matcher: Matcher) -> float:
    """Measure the FLOPs a second of matching on this machine, with a video of noise and a batch of texts (seconds)."""
    sizes = matcher.matching_sizes
    text = "a person is playing the guitar and singing a song for a friend"
    length = matcher.text_lengths([text])[0]
    read = matcher.read_texts([text] * min(TEXTS_AT_ONCE, max(1, TOKENS_AT_ONCE // length)))
    tokens = torch.randn(1, sizes.num_video_tokens, sizes.video_width, generator=torch.Generator().manual_seed(0))
    matcher.match_batches(tokens, [read.select(torch.zeros(1, dtype=torch.int64, device=read.tokens.device))])
    start = time.perf_counter()
    matcher.match_batches(tokens, [read]).cpu()
    seconds = time.perf_counter() - start
    return (projection_flops(sizes) + len(read) * match_flops(sizes, length)) / seconds


def text_flops(sizes: MatchingSizes, length: int) -> int:
    """Return the FLOPs of the text layers for a text of L tokens.

    A token costs 8 W^2 for projections, 4 L W for attention scores and mixing, and 4 W F for the feed-forward part.
    """
    width = sizes.text_width
    return sizes.num_text_layers * length * (8 * width**2 + 4 * length * width + 4 * width * sizes.feed_forward)


def projection_flops(sizes: MatchingSizes) -> int:
    """Return the FLOPs of the keys and values of a video in every fusion layer: 4 C W a token."""
    return sizes.num_fusion_layers * sizes.num_video_tokens * 4 * sizes.video_width * sizes.text_width


def match_flops(sizes: MatchingSizes, length: int) -> int:
    """Return the FLOPs of a pair: a text layer and cross-attention, 4 W^2 + 4 N W a token, then the head."""
    width = sizes.text_width
    layer = 12 * width**2 + 4 * length * width + 4 * sizes.num_video_tokens * width + 4 * width * sizes.feed_forward
    return sizes.num_fusion_layers * length * layer + 4 * width


def _fixed_bytes(sizes: MatchingSizes, num_texts: int, num_videos: int) -> int:
    """Bytes that do not depend on the batch: a video's tokens, keys and values, a spare layer, score matrices."""
    tokens = 2 * sizes.num_video_tokens * sizes.video_width * FLOAT_BYTES
    memory = 2 * (sizes.num_fusion_layers + 1) * sizes.num_video_tokens * sizes.text_width * FLOAT_BYTES
    # two results of float32 and two of bool; the logits of both directions' pairs are no more than a third result
    matrices = num_texts * num_videos * (3 * FLOAT_BYTES + 2)
    return SCRATCH_BYTES + tokens + memory + matrices


def _bytes_of_token(sizes: MatchingSizes) -> int:
    """Bytes per token of a batch at the peak, which is inside a layer, around its activation."""
    return (2 * sizes.feed_forward + 8 * sizes.text_width) * FLOAT_BYTES
