"""The answer to a search of the API: hits that a client can show, page by page."""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import VmrError
from vmr.progress import printable
from vmr.retrieval import results
from vmr.retrieval.searching.filters import parsed
from vmr.retrieval.service.cursors import SearchCursor, index_number
from vmr.retrieval.service.media.addresses import media_url, thumbnail_url
from vmr.retrieval.service.options import API
from vmr.retrieval.service.schemas import LARGEST_ID, Hit, IndexState, SearchRequest, SearchResponse
from vmr.retrieval.service.service import Service
from vmr.retrieval.service.text_hits import CANDIDATES, Fused, TextMoment, find_text_moments, fused, words_of
from vmr.retrieval.storage.conditions import source_names
from vmr.retrieval.storage.snapshot import Snapshot

_OF_A_PAGE = {"k", "cursor"}
_UPLOAD = "an upload"


async def answer(
    service: Service,
    request: SearchRequest,
    vector: NDArray[np.float32] | None = None,
    described: str | None = None,
) -> SearchResponse:
    """Search the index.

    Args:
        service: what serves it.
        request: what to search for.
        vector: of an upload to search by, (D,); None without one.
        described: the upload in words.

    Raises:
        VmrError: the request contradicts itself or asks for what the index cannot do; the message names the field.
    """
    started = time.perf_counter()
    depth = service.options.limits.depth
    search = _Search.of(request, vector, depth)
    found = await search.found(service)
    hits = found.places[: min(request.k, depth - len(search.page.shown))]
    goes_on, shown = len(found.places) > len(hits), search.page.shown | {one.moment_id for one in hits}
    following = SearchCursor(found.index, found.before, shown, search.page.vector)
    is_last = not goes_on or len(shown) >= depth
    remarks = [
        *found.remarks,
        *([f"a search shows at most {depth} hits; there are more"] if goes_on and is_last else []),
    ]
    return SearchResponse(
        hits=await _hits(service, hits, found.roots),
        query=described or found.query,
        nothing_close=found.nothing_close,
        took_ms=round(1000 * (time.perf_counter() - started), 3),
        remarks=[printable(remark) for remark in remarks],
        next_cursor=None if is_last else following.text(search.fields),
        index=IndexState(commit=found.commit),
    )


@dataclass(frozen=True)
class _Found:
    """What a search found that was not shown yet.

    Attributes:
        places: the best first.
        roots: the folders that were indexed, the longest path first.
        query: in words.
        nothing_close: see SearchResponse.
        remarks: see SearchResponse.
        index: see SearchCursor.
        before: see SearchCursor.
        commit: of the index.
    """

    places: list[Fused]
    roots: Sequence[str]
    query: str
    nothing_close: bool | None
    remarks: Sequence[str]
    index: int
    before: int
    commit: int


@dataclass(frozen=True)
class _Search:
    """A request that was checked.

    Attributes:
        request: the request.
        query: a sentence, the number of a moment, or a vector (D,).
        words: that a text must hold; none if no texts are searched.
        page: how far the search was shown.
        fields: of the request, which its cursors belong to.
    """

    request: SearchRequest
    query: str | int | NDArray[np.float32]
    words: Sequence[str]
    page: SearchCursor
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, request: SearchRequest, vector: NDArray[np.float32] | None, depth: int) -> "_Search":
        """Check a request, see `answer`; at most `depth` hits may have been shown."""
        fields = request.model_dump(exclude=_OF_A_PAGE)
        page = SearchCursor(0, LARGEST_ID, frozenset(), vector)
        if request.cursor is not None:
            page = SearchCursor.read(request.cursor, fields)
            if len(page.shown) >= depth:
                raise VmrError(f"cursor lies behind the last page: a search shows at most {depth} hits")
        given = [each for each in (request.query, request.like, page.vector) if each is not None]
        if len(given) != 1:
            raise VmrError("a search needs one of these: query, like, or an upload")
        sources = request.sources or ["picture", "text"]
        if request.query is None and "picture" not in sources:
            raise VmrError("sources: texts are searched by a query in words: give query, or leave sources out")
        words = words_of(request.query) if request.query is not None and "text" in sources else []
        return cls(request, given[0], words, page, fields)

    async def found(self, service: Service) -> _Found:
        """Search pictures, and texts where there are some."""
        wanted = len(self.page.shown) + self.request.k + 1
        pictures, texts = await self._pictures(service, wanted), []
        seen, index = pictures.seen, index_number(pictures.seen.created)
        if self.request.cursor is not None and index != self.page.index:
            raise VmrError("cursor is of an index that another has taken the place of: search again, without it")
        if self.words and seen.has_texts:
            texts = await service.index.read(lambda snapshot: self._texts(snapshot, wanted))
            if texts and wanted < CANDIDATES:
                pictures = await self._pictures(service, CANDIDATES)
        places = [one for one in fused(pictures, texts) if one.moment_id not in self.page.shown]
        return _Found(
            places=places if self.request.per_video is None else self._few_of_each(places, self.request.per_video),
            roots=sorted(seen.roots, key=len, reverse=True),
            query=_UPLOAD if self.page.vector is not None else pictures.query,
            nothing_close=False if texts else pictures.nothing_close,
            remarks=pictures.remarks,
            index=index,
            before=min(self.page.before, seen.next_moment_id),
            commit=seen.commit,
        )

    async def _pictures(self, service: Service, k: int) -> results.SearchResult:
        """Search pictures; nothing is found if only texts are wanted."""
        if self.request.sources == ["text"]:
            seen = await service.index.read(results.Seen.of)
            return results.SearchResult((), str(self.query), str(service.index.folder), 0.0, None, (), seen)
        return await service.index.search(
            self.query,
            k,
            where=self.request.where,
            per_video=self.request.per_video,
            min_match=self.request.min_match,
            rerank=self.request.rerank,
            keep_duplicates=self.request.keep_duplicates,
            before=self.page.before,
        )

    def _texts(self, snapshot: Snapshot, k: int) -> list[TextMoment]:
        return find_text_moments(snapshot, self.words, k, parsed(self.request.where), self.page.before)

    def _few_of_each(self, places: Sequence[Fused], most: int) -> list[Fused]:
        """Leave out more hits of a video than are wanted; those that were shown count."""
        shown, kept = sorted(self.page.shown), []
        counts: dict[int, int] = {}
        for one in places:
            first, end = one.video.first_window, one.video.first_window + one.video.num_windows
            before = bisect_left(shown, end) - bisect_left(shown, first)
            counts[one.video.id] = counts.get(one.video.id, before) + 1
            if counts[one.video.id] <= most:
                kept.append(one)
        return kept


async def _hits(service: Service, places: Sequence[Fused], roots: Sequence[str]) -> list[Hit]:
    """Describe what was found for a client."""
    videos = {one.video.id: one.video for one in places if not one.missing}
    offsets_s = dict(zip(videos, await service.media.timeline_offset_s(list(videos.values())), strict=True))
    folders = source_names({*roots, *(one.video.root for one in places)})  # texts may be of a later commit
    return [_hit(one, offsets_s.get(one.video.id, 0.0), roots, folder=folders[one.video.root]) for one in places]


def _hit(place: Fused, offset_s: float, roots: Sequence[str], folder: str) -> Hit:
    video, picture = place.video, place.picture
    path, match = printable(video.path), None if picture is None else picture.match
    return Hit(
        moment_id=place.moment_id,
        video_id=video.id,
        folder=printable(folder),
        path=path,
        name=path.rpartition("/")[2],
        start_s=place.span[0],
        end_s=place.span[1],
        score=None if picture is None else picture.score,
        match=match,
        strength=None if match is None else results.match_in_words(match),
        source="text" if picture is None else "picture",
        text=place.text,
        missing=place.missing,
        duplicates=[] if picture is None else [_relative(path, roots) for path in picture.duplicates],
        rerank_score=None if picture is None else picture.rerank_score,
        thumbnail_url=thumbnail_url(video, place.moment_id),
        media_url=media_url(video, *place.span, offset_s),
        video_url=f"{API}/videos/{video.id}",
    )


def _relative(file: str, roots: Sequence[str]) -> str:
    """A path, relative to the folder that was indexed: the innermost one, if these lie in each other."""
    prefixes = (f"{root.rstrip('/')}/" for root in roots)
    return printable(file[next((len(prefix) for prefix in prefixes if file.startswith(prefix)), 0) :])
