"""Re-ranking with a real model: in bounded memory, resumable, on any number of processes.

`vmr.retrieval.reranking.candidates` defines which pairs are scored.

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
from vmr.memory import resident_bytes
from vmr.models.encoder import Matcher
from vmr.processes import ALONE, Processes
from vmr.progress import progress_bar
from vmr.retrieval.reranking.candidates import Candidates, Reranked, Scores, require_finite
from vmr.retrieval.reranking.log import RerankLog
from vmr.retrieval.reranking.plan import Lengths, batches, make_plan
from vmr.retrieval.reranking.text_store import TextStore

TokensOf = Callable[[int], Tensor]
"""tokens(video): takes the number of a video, returns its tokens (1, N, C), as `Matcher.video_tokens` does."""


def rerank_videos(
    matcher: Matcher,
    tokens: TokensOf,
    texts: Sequence[str],
    scores: Scores,
    k: int,
    *,
    memory_bytes: int | None = None,
    work: Path | None = None,
    processes: Processes = ALONE,
    progress: bool = False,
) -> Reranked:
    """Score the best candidates of every text and of every video again, by matching.

    The keys and values of a video are computed once, and each text is encoded once. The texts of a video are matched in
    batches of similar lengths. Rank r of `world` processes handles every world-th unfinished video, starting with the
    r-th; all of them get the result. It is identical to the last bit, however often the run was interrupted and however
    many processes shared it, if each has the same number of threads and memory for the same batches.

    Args:
        matcher: the model.
        tokens: called once for every unfinished video. The memory that it takes is not counted in memory_bytes.
        texts: Q strings.
        scores: (Q, V), by which candidates are chosen; -inf for a pair that a search did not find.
        k: candidates of a query.
        memory_bytes: how much memory each process may have in all; None for no limit.
        work: a folder for the log of finished videos, from which an interrupted run continues, and for the texts'
            features; None for no log.
        processes: those that share the work; all must call this with the same arguments.
        progress: show a progress bar.

    Returns:
        The new scores, see `vmr.retrieval.reranking.candidates`.

    Raises:
        VmrError: texts and scores do not belong together, k is below 1, memory_bytes is too little (the message says
            how much is needed), `work` cannot be written, a score is NaN, or a logit is not finite.
    """
    if scores.ndim != 2 or len(scores) != len(texts):
        raise VmrError(f"scores of shape {scores.shape} are not those of {len(texts)} texts")
    candidates = Candidates(scores, k)
    lengths = np.array(matcher.text_lengths(texts), np.int64)
    plan = make_plan(matcher.matching_sizes, lengths, scores.shape[1], memory_bytes, resident_bytes())
    with ExitStack() as stack:
        run = _run_key(matcher, texts, lengths, scores, k)
        state = _prepare(stack, work, run, plan.tokens_at_once, processes, candidates)
        done, mine = state.done, state.pending[processes.rank :: processes.world]
        if mine:
            store = stack.enter_context(closing(TextStore(matcher, texts, lengths, state.tokens_at_once, work)))
            bar = stack.enter_context(progress_bar(progress and processes.is_main))
            for video in bar.track(mine, description="matching"):
                asked = candidates.texts_of(video)
                parts = batches(lengths[asked], state.tokens_at_once)
                logits = _match(matcher, tokens(video), store, asked, parts)
                done[video] = require_finite(logits, video)
                if state.log is not None:
                    state.log.append(video, done[video])
    for others in processes.collect(done):
        done |= others
    return candidates.score(lambda video, _: done[video])


@dataclass(frozen=True)
class _RunState:
    """Which videos of a run are finished, and which are left.

    Attributes:
        log: the log of finished videos; None for no log.
        tokens_at_once: the tokens in a batch of texts, the same on all ranks.
        done: the logits of finished videos, on rank 0 only.
        pending: the videos that are left, the same on all ranks.
    """

    log: RerankLog | None
    tokens_at_once: int
    done: dict[int, Scores]
    pending: list[int]


def _prepare(
    stack: ExitStack, work: Path | None, run: str, tokens_at_once: int, processes: Processes, candidates: Candidates
) -> _RunState:
    """Agree with the other processes, and with the log, on what is left and on the size of batches."""
    tokens_at_once = min(processes.collect(tokens_at_once))
    log, done, pending = None, {}, []
    if processes.is_main:
        if work is not None:
            log = RerankLog(work, run)
            stack.enter_context(closing(log))
            tokens_at_once = log.fix_batch_size(tokens_at_once)
            done = log.read()
        num_asked = [len(candidates.texts_of(video)) for video in range(candidates.num_videos)]
        done = {video: logits for video, logits in done.items() if len(logits) == num_asked[video]}
        pending = [video for video, asked in enumerate(num_asked) if asked and video not in done]
    tokens_at_once, pending = processes.share((tokens_at_once, pending))  # rank 0 has made the log by then
    if processes.rank and work is not None:
        log = RerankLog(work, run)
        stack.enter_context(closing(log))
    return _RunState(log, tokens_at_once, done, pending)


def _run_key(matcher: Matcher, texts: Sequence[str], lengths: Lengths, scores: Scores, k: int) -> str:
    """Return a hash of everything that the logits depend on. `lengths` says how many tokens of each text are read."""
    settings = {"fingerprint": matcher.fingerprint, "k": k, "shape": scores.shape, "lengths": lengths.tolist()}
    digest = hashlib.sha256(json.dumps({**settings, "texts": list(texts)}, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(scores, "<f4").data)
    return digest.hexdigest()


def _match(
    matcher: Matcher, tokens: Tensor, store: TextStore, asked: NDArray[np.int64], parts: Sequence[NDArray[np.int64]]
) -> Scores:
    """Match one video with the texts `asked`, in batches of positions in `asked`; logits in the order of `asked`."""
    in_batches = matcher.match_batches(tokens, (store.batch(asked[part]) for part in parts)).float().cpu().numpy()
    logits = np.empty(len(asked), np.float32)
    logits[np.concatenate(parts)] = in_batches
    return logits
