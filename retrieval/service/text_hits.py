"""Searching the texts of videos beside their pictures, and putting both into one list."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vmr.retrieval import results
from vmr.retrieval.searching.moments import Spans, whole_rows
from vmr.retrieval.storage.records import Span, Text, Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.storage.where import Where

CANDIDATES = 100
"""So many pictures and so many texts, at least, are put into one list."""

_RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke, Buettcher 2009): a place n counts 1 / (60 + n)."""

_MAX_WORDS = 50
_MAX_TEXTS = 25_600  # that a search looks at, where many lie in one window
_WORD = re.compile(r"[^\W_]+")
# Words that say nothing about what is meant; a query of nothing else is taken as it is.
_PASSED_OVER = (
    "a an and are as at be by for from has have in into is it its of on or that the their there these they this to "
    "was were which who with"
)


@dataclass(frozen=True)
class TextMoment:
    """A text that answers a query.

    Attributes:
        video: the video that it belongs to.
        moment_id: the window that covers its middle best.
        span: where it begins and ends, in seconds.
        text: the text.
        missing: whether the file of the video is no longer at its path.
    """

    video: Video
    moment_id: int
    span: Span
    text: str
    missing: bool


@dataclass(frozen=True)
class Fused:
    """A place in the list: a picture, a text, or a picture with a text.

    Attributes:
        moment_id: the moment that it is about.
        video: its video.
        span: where it begins and ends, in seconds.
        missing: whether the file of the video is no longer at its path.
        picture: what a search of pictures found.
        text: what a search of texts found.
    """

    moment_id: int
    video: Video
    span: Span
    missing: bool
    picture: results.Hit | None
    text: str | None


def words_of(query: str) -> list[str]:
    """Return the words of a sentence that a text must hold to answer it; any sentence has some or none."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))
    return [word for word in words if word not in _PASSED_OVER.split()][:_MAX_WORDS] or words[:_MAX_WORDS]


def find_text_moments(
    snapshot: Snapshot, words: Sequence[str], k: int, where: Where | None = None, before: int | None = None
) -> list[TextMoment]:
    """Find texts, and where in their videos they are.

    Args:
        snapshot: of the index.
        words: all of them are in each text.
        k: how many moments are wanted; there may be more.
        where: selects videos; None for all.
        before: only videos whose windows have lower ids; None for all.

    Returns:
        The best first; of those that lie in one window, the best only.
    """
    if not words:
        return []
    moments: dict[int, TextMoment] = {}
    num_texts = max(k, CANDIDATES)
    while True:
        found = snapshot.find_texts(words, num_texts, where, before)
        videos = snapshot.videos_with({each.video_id for each in found}) if found else {}
        spans = {video.id: snapshot.spans(video) for video in videos.values()}
        for each in found:
            moment = _moment(videos[each.video_id], spans[each.video_id], each.text)
            moments.setdefault(moment.moment_id, moment)
        if len(moments) >= k or len(found) < num_texts or num_texts >= _MAX_TEXTS:
            return list(moments.values())
        num_texts *= 4


def fused(pictures: results.SearchResult, texts: Sequence[TextMoment]) -> list[Fused]:
    """Put pictures and texts into one list, by reciprocal rank fusion.

    A text whose middle lies in a moment that was found by its pictures belongs to that moment.

    Args:
        pictures: what a search of pictures found.
        texts: the best first.
    """
    places = {hit.moment_id: 1 / (_RANK_OFFSET + place) for place, hit in enumerate(pictures, start=1)}
    of_video: dict[int, list[results.Hit]] = {}
    for hit in pictures:
        of_video.setdefault(hit.video_id, []).append(hit)
    own: dict[int, str] = {}
    alone: list[tuple[float, Fused]] = []
    for place, text in enumerate(texts, start=1):
        worth = 1 / (_RANK_OFFSET + place)
        holding = next((hit for hit in of_video.get(text.video.id, ()) if _holds(hit, text)), None)
        if holding is None:
            alone.append((worth, Fused(text.moment_id, text.video, text.span, text.missing, None, text.text)))
        elif holding.moment_id not in own:
            own[holding.moment_id] = text.text
            places[holding.moment_id] += worth
    both = [
        (
            worth,
            Fused(each, pictures.seen.videos[hit.video_id], (hit.start_s, hit.end_s), hit.missing, hit, own.get(each)),
        )
        for (each, worth), hit in zip(places.items(), pictures, strict=True)
    ]
    return [one for _, one in sorted([*both, *alone], key=lambda each: -each[0])]


def _holds(hit: results.Hit, text: TextMoment) -> bool:
    return hit.moment_id == text.moment_id or hit.start_s <= sum(text.span) / 2 < hit.end_s


def _moment(video: Video, spans: Spans, text: Text) -> TextMoment:
    """A text and the window that covers it: of the whole video, or the one whose middle is nearest to that of the text.

    Times of texts are taken from files, which may say anything; here they lie in the video.
    """
    is_whole = whole_rows(spans)
    if text.start_s is None or text.end_s is None:
        start_s, end_s = 0.0, video.duration_s
        place = int(np.flatnonzero(is_whole)[0]) if is_whole.any() else 0
    else:
        start_s = min(max(text.start_s, 0.0), video.duration_s)
        end_s = min(max(text.end_s, start_s), video.duration_s)
        distances = np.abs(spans.mean(axis=1) - (start_s + end_s) / 2)
        place = int(np.argmin(np.where(is_whole, np.inf, distances)))
    missing = not os.path.exists(video.file)  # noqa: PTH110, in Python 3.11 Path.exists may raise
    return TextMoment(video, video.first_window + place, (start_s, end_s), text.text, missing)
