"""Re-ranking with a real model: in bounded memory, resumable, on any number of processes.

`vmr.retrieval.reranking.candidates` defines what it computes.

Shapes: Q texts, V videos, N video tokens, C their width.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vmr.errors import VmrError
from vmr.models.encoder import Matcher
from vmr.processes import ALONE, Processes
from vmr.progress import progress_bar
from vmr.retrieval.reranking.candidates import Candidates, Reranked, Scores, require_finite
from vmr.retrieval.reranking.log import RerankLog
from vmr.retrieval.reranking.plan import Lengths, batches, make_plan, resident_bytes
from vmr.retrieval.reranking.text_store import TextStore

TokensOf = Callable[[int], Tensor]
"""tokens(video): the number of a video -> (1, N, C), of `Matcher.video_tokens`."""
Parts = list[NDArray[np.int64]]


def rerank_videos(
    matcher: Matcher,
    tokens: TokensOf,
    texts: Sequence[str],
    scores: Scores,
    k: int,
    *,
    memory_bytes: int | None = None,
    work: Path | None = None,
    among: Processes = ALONE,
    progress: bool = False,
) -> Reranked:
    """What `rerank` says, with the logits of `matcher`.

    The keys and values of a video are made once, a text is read once; texts of a video are matched in batches of like
    lengths. Rank r of `world` processes does every world-th video that is left, from the r-th on; all have the result.
    It is the same to the last bit however often it was interrupted and on however many processes it was made, as long
    as each has as many threads and there is memory for the same batches.

    Args:
        matcher: the model.
        tokens: asked once for every video that is left. What it takes is not counted in memory_bytes.
        texts: Q.
        scores: (Q, V), by which candidates are chosen; -inf for a pair that was not found.
        k: candidates of a query.
        memory_bytes: what each process may have resident in all, by now and from now on; None is no limit.
        work: a folder for the log of what is done, by which an interrupted run goes on, and for the texts' features;
            None for no log.
        among: the processes that share the work; all must call with the same arguments.
        progress: show a bar.

    Raises:
        VmrError: texts and scores do not go together, k is below 1, memory_bytes is too little (the line says what
            would do), `work` cannot be written, a score is NaN, or a logit is not finite.
    """
    if scores.ndim != 2 or len(scores) != len(texts):
        raise VmrError(f"scores of shape {scores.shape} are not those of {len(texts)} texts")
    candidates = Candidates(scores, k)
    lengths = np.array(matcher.text_lengths(texts), np.int64)
    plan = make_plan(matcher.matching_sizes, lengths, scores.shape[1], memory_bytes, resident_bytes())
    with ExitStack() as stack:
        run = _run_key(matcher, texts, lengths, scores, k)
        begun = _begin(stack, work, run, plan.tokens_at_once, among, candidates)
        done, mine = begun.done, begun.pending[among.rank :: among.world]
        if mine:
            store = TextStore(matcher, texts, lengths, begun.tokens_at_once, work)
            stack.enter_context(closing(store))
            bar = stack.enter_context(progress_bar(progress and among.is_main))
            for video in bar.track(mine, description="matching"):
                asked = candidates.texts_of(video)
                parts = batches(lengths[asked], begun.tokens_at_once)
                logits = _match(matcher, tokens(video), store, asked, parts)
                done[video] = require_finite(logits, video)
                if begun.log is not None:
                    begun.log.append(video, done[video])
    for others in among.collect(done):
        done |= others
    return candidates.score(lambda video, _: done[video])


@dataclass(frozen=True)
class _Begun:
    """A run as a process finds it. done: what the log has, on rank 0 only. pending: videos, the same on all ranks."""

    log: RerankLog | None
    tokens_at_once: int
    done: dict[int, Scores]
    pending: list[int]


def _begin(
    stack: ExitStack, work: Path | None, run: str, tokens_at_once: int, among: Processes, candidates: Candidates
) -> _Begun:
    """Agrees with the other processes, and with the log, on what is left and in which batches it is done."""
    tokens_at_once = min(among.collect(tokens_at_once))
    log, done, pending = None, {}, []
    if among.is_main:
        if work is not None:
            log = RerankLog(work, run)
            stack.enter_context(closing(log))
            tokens_at_once = log.agree(tokens_at_once)
            done = log.read()
        num_asked = [len(candidates.texts_of(video)) for video in range(candidates.num_videos)]
        done = {video: logits for video, logits in done.items() if len(logits) == num_asked[video]}
        pending = [video for video, asked in enumerate(num_asked) if asked and video not in done]
    tokens_at_once, pending = among.share((tokens_at_once, pending))  # rank 0 has made the log by then
    if among.rank and work is not None:
        log = RerankLog(work, run)
        stack.enter_context(closing(log))
    return _Begun(log, tokens_at_once, done, pending)


def _run_key(matcher: Matcher, texts: Sequence[str], lengths: Lengths, scores: Scores, k: int) -> str:
    """A hash of all that decides the logits. The lengths tell how much of each text is read."""
    settings = {"fingerprint": matcher.fingerprint, "k": k, "shape": scores.shape, "lengths": lengths.tolist()}
    digest = hashlib.sha256(json.dumps({**settings, "texts": list(texts)}, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(scores, "<f4").data)
    return digest.hexdigest()


def _match(matcher: Matcher, tokens: Tensor, store: TextStore, asked: NDArray[np.int64], parts: Parts) -> Scores:
    """The logits of one video with the texts `asked`, whose positions are in `parts`, in the order of `asked`."""
    in_batches = matcher.match_batches(tokens, (store.batch(asked[part]) for part in parts)).float().cpu().numpy()
    logits = np.empty(len(asked), np.float32)
    logits[np.concatenate(parts)] = in_batches
    return logits
