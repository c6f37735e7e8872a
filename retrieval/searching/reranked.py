"""Scoring moments that were found again, by a model that matches a text and the tokens of a video.

The tokens of a moment are those of its best window. An index keeps them if it was asked to; else the window is decoded
and encoded again, from the same frames as when the index was built. Either way the logits are the same.

Shapes: M moments.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec, Span, VideoFacts
from vmr.data.decoding.worker_process import DecodeFailure
from vmr.errors import VmrError
from vmr.hashes import hash_file, remembered_hashes
from vmr.models.encoder import Encoder, Matcher
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.results import Failure, Hit
from vmr.retrieval.storage.records import FileState, IndexSettings, Space, Video

Logits = NDArray[np.float32]


class Moment(Protocol):
    """A moment that a search found, such as a `vmr.retrieval.searching.candidates.Candidate`."""

    @property
    def video(self) -> Video:
        """Its video."""

    @property
    def window_id(self) -> int:
        """Its best window."""

    @property
    def span(self) -> Span:
        """Start and end of this window, in seconds."""


@dataclass(frozen=True)
class Reranked:
    """The logits of moments.

    Attributes:
        logits: float32 (M,), higher is better; NaN for a moment that could not be matched.
        failures: the videos of those, by their paths, and why: each once.
    """

    logits: Logits
    failures: tuple[Failure, ...]

    def in_order(self, hits: Sequence[Hit]) -> tuple[list[Hit], tuple[str, ...]]:
        """Put the hits of moments into their new order.

        Args:
            hits: the best of them, (M,), and any number of others after them.

        Returns:
            The hits: those that were matched, the best first, with their logits; then those that were not, as given.
            And a line about those of the M that were not matched, if there are any.
        """
        order = np.argsort(np.where(np.isnan(self.logits), np.inf, -self.logits), kind="stable").tolist()
        scored = [
            hit if math.isnan(logit) else replace(hit, rerank_score=logit)
            for hit, logit in zip(hits, self.logits.tolist(), strict=False)
        ]
        return [*(scored[place] for place in order), *hits[len(order) :]], self._remarks()

    def _remarks(self) -> tuple[str, ...]:
        if not self.failures:
            return ()
        first = self.failures[0]
        return (
            f"not re-ranked: {np.isnan(self.logits).sum()} of {len(self.logits)} moments, which come after the others; "
            f"first: {first.video}: {first.reason}",
        )


def check_rerank(encoder: Encoder, is_text: bool) -> Matcher:
    """Check that what a search finds can be re-ranked.

    Args:
        encoder: the model that embeds the query.
        is_text: whether the query is a sentence.

    Returns:
        The encoder, which can match.

    Raises:
        VmrError: the query is no sentence, or the encoder cannot match.
    """
    if not is_text:
        raise VmrError("only what a sentence finds can be re-ranked: leave --rerank (rerank=) out")
    if not isinstance(encoder, Matcher):
        raise VmrError(
            f"{encoder.name} cannot compare a sentence and a video token by token: leave --rerank (rerank=) out, or "
            "search an index of a model that can, such as videomamba-nano-shapes"
        )
    return encoder


def rerank_moments(
    index: Path,
    settings: IndexSettings,
    space: Space,
    matcher: Matcher,
    query: str,
    moments: Sequence[Moment],
    *,
    decode: DecodeOptions | None = None,
) -> Reranked:
    """Score moments again by matching.

    No transaction need be open. A video that is missing, has changed or cannot be read costs its own moments only.

    Args:
        index: the folder of the index, which may keep tokens.
        settings: how its videos are cut into windows.
        space: the vector space of the encoder.
        matcher: the encoder.
        query: the sentence.
        moments: those that were found.
        decode: how to decode videos whose tokens are not kept; None for the reader that the index was built with.

    Raises:
        VmrError: there is no room for temporary files, or a logit is not finite.
    """
    from vmr.retrieval.embedding.token_files import TokenSpool
    from vmr.retrieval.reranking.engine import rerank_videos

    with closing(TokenSpool(Path(tempfile.gettempdir()))) as tokens:
        source = _Source(matcher, space, settings, decode or DecodeOptions(reader=space.frames["reader"]))
        ready = source.fill(tokens, index, moments)
        logits = np.full(len(moments), np.nan, np.float32)
        if ready:
            import torch

            scores = np.zeros((1, len(ready)), np.float32)  # all of them are candidates
            found = rerank_videos(
                matcher, lambda place: torch.from_numpy(tokens.read(place)[None]), [query], scores, len(ready)
            )
            logits[ready] = found.text_to_video[0]
    return Reranked(logits, tuple(Failure(file, reason) for file, reason in source.failures.items()))


class _Source:
    """Where the tokens of windows come from.

    Attributes:
        failures: path of a video -> why it cannot be read.
    """

    def __init__(self, matcher: Matcher, space: Space, settings: IndexSettings, decode: DecodeOptions) -> None:
        self._matcher, self._space, self._settings, self._decode = matcher, space, settings, decode
        self.failures: dict[str, str] = {}

    def fill(self, tokens: Any, index: Path, moments: Sequence[Moment]) -> list[int]:
        """Put the tokens of moments into a spool; return the places of the moments, in the order of the spool."""
        ready, lacking = [], []
        for place, moment in enumerate(moments):
            kept = self._kept(index, moment)
            if kept is None:
                lacking.append(place)
            else:
                tokens.append(kept[None])
                ready.append(place)
        return ready + self._make(tokens, moments, lacking)

    def _kept(self, index: Path, moment: Moment) -> NDArray[np.float32] | None:
        """The tokens that the index keeps of a window."""
        from vmr.retrieval.embedding.token_files import TokenFolder, file_name

        video, sizes = moment.video, self._matcher.matching_sizes
        name = file_name(video.content_hash, self._space.fingerprint, self._space.frames)
        kept = TokenFolder(index).read(name, moment.window_id - video.first_window) if video.content_hash else None
        if kept is None or kept[0] != moment.span or kept[1].shape != (sizes.num_video_tokens, sizes.video_width):
            return None
        return kept[1]

    def _make(self, tokens: Any, moments: Sequence[Moment], lacking: Sequence[int]) -> list[int]:
        """Put the tokens of windows into a spool that must be decoded; return the places of those that could be."""
        from vmr.retrieval.embed import embed_each

        places: dict[str, list[int]] = {}
        for place in sorted(lacking, key=lambda place: moments[place].span):
            places.setdefault(moments[place].video.file, []).append(place)
        with remembered_hashes() as hashes:
            for file, own in places.items():
                reason = _reason_against(moments[own[0]].video, hashes)
                if reason is not None:
                    self.failures[file] = reason
        files = {file: own for file, own in places.items() if file not in self.failures}
        spans = {file: list(dict.fromkeys(moments[place].span for place in own)) for file, own in files.items()}
        segmenter = None if self._settings.window_s is None else KnownWindows(self._settings.window_s, spans)
        made: list[int] = []
        if not files:
            return made
        for end in embed_each(
            files,
            [self._matcher],
            _frames(self._matcher, self._space.frames),
            segmenter,
            decode=self._decode,
            tokens_in=Path(tempfile.gettempdir()),
        ):
            if isinstance(end, DecodeFailure):
                self.failures[end.path] = end.reason
                continue
            (video,) = end
            assert video.tokens is not None
            with closing(video.tokens):
                for place in files[video.path]:
                    if moments[place].span in video.spans:
                        tokens.append(video.tokens.read(video.spans.index(moments[place].span))[None])
                        made.append(place)
                    else:
                        self.failures[video.path] = "is cut into other windows than when it was embedded"
        return made


@dataclass(frozen=True)
class KnownWindows:
    """Windows that an index lists; a `vmr.data.decoding.segments.Segmenter`.

    Attributes:
        window_s: length of a full window of the index, in seconds.
        spans_of: path of a video -> start and end of each window that is wanted, in seconds.
    """

    window_s: float
    spans_of: Mapping[str, Sequence[Span]]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the frames depend on."""
        return {"window_s": self.window_s}

    def spans(self, video: VideoFacts) -> Sequence[Span]:
        """Return the windows that are wanted of a video."""
        return self.spans_of[video.path]


def _reason_against(video: Video, hashes: Any) -> str | None:
    """Why the file of a video cannot be used; None if it is there and has not changed, as far as that is known."""
    state = FileState.of(video.file)
    if state is None:
        return "no such file"
    if not video.content_hash or (state.is_same(video.state) and video.state.is_settled):
        return None
    content = hash_file(video.file, hashes) if state.size == video.state.size else None
    if content is not None and bytes.fromhex(content.sha256) == video.content_hash:
        return None
    return "has changed since it was embedded: bring the index up to date with vmr-index build"


def _frames(matcher: Matcher, known: Mapping[str, Any]) -> FrameSpec:
    """Which frames a space was made from; an old index does not say everything."""
    return replace(frame_spec(matcher), **{name: value for name, value in known.items() if name != "reader"})
