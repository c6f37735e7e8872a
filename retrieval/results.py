"""What a search has found, what is said about the videos of an index, and about those that were left out."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from vmr.retrieval.storage.records import Video
    from vmr.retrieval.storage.snapshot import Snapshot

Strength = Literal["strong", "good", "weak", "unlikely"]

MATCHES: tuple[tuple[float, Strength], ...] = ((0.9, "strong"), (0.6, "good"), (0.25, "weak"), (0.0, "unlikely"))
"""The lowest match that a word stands for, and the word. docs/search.md says how often such moments are right."""


def match_in_words(match: float) -> Strength:
    """Return a word for a match.

    Args:
        match: calibrated, in [0, 1].
    """
    return next(word for lowest, word in MATCHES if match >= lowest)


@dataclass(frozen=True)
class Hit:
    """One moment that answers a query.

    Attributes:
        score: cosine similarity of the query and the moment's best window, in [-1, 1].
        video: absolute path of the video.
        start_s: where the moment starts, in seconds from the video's start.
        end_s: where it ends.
        moment_id: number of its best window, which stays the same while the video is in the index and has not changed.
        video_id: number of the video in the index.
        match: how well the moment matches, calibrated, in [0, 1]; it grows with the score. None if the space is not
            calibrated, or the query is no text.
        space: name of the vector space that was searched.
        rerank_score: the matcher's logit, higher is better, where re-ranking was asked for.
        missing: whether the file is no longer at its path.
        duplicates: paths of other videos with a moment that shows (nearly) the same and was collapsed into this one.
    """

    score: float
    video: str
    start_s: float
    end_s: float
    moment_id: int
    video_id: int
    match: float | None
    space: str
    rerank_score: float | None = None
    missing: bool = False
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a search saw of an index, which may be another one when the next search begins.

    Attributes:
        created: when the index was made: another index in its place has another time.
        commit: number of the last commit.
        next_moment_id: moments that were added later have no lower id. A later search with `before` set to it finds
            what was in the index at this time and still is.
        has_texts: whether the index holds texts of videos.
        roots: the folders of the videos, as absolute paths.
        videos: those of the hits, by their numbers.
    """

    created: str
    commit: int
    next_moment_id: int
    has_texts: bool
    roots: tuple[str, ...]
    videos: Mapping[int, "Video"] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: "Snapshot") -> "Seen":
        """Say what can be seen in a snapshot, but no videos."""
        created, commit, next_id = (snapshot.meta(key) for key in ("created", "commit", "next_window"))
        return cls(created, commit, next_id, snapshot.has_texts, tuple(snapshot.roots().values()))


@dataclass(frozen=True)
class SearchResult:
    """The moments that answer a query, best first. It is iterated, counted and indexed like a list of hits.

    Two results are equal whatever time they took.

    Attributes:
        hits: the moments.
        query: the sentence; or in words, what else was asked for.
        index: folder of the index.
        took_ms: milliseconds that the search took, with embedding the sentence.
        nothing_close: whether nothing in the index is about the query, as far as the encoder can tell; None if the
            space is not calibrated, or the query is no text.
        remarks: what else there is to say about the search, a line each.
        seen: what of the index the search saw.
    """

    hits: tuple[Hit, ...]
    query: str
    index: str
    took_ms: float = field(compare=False)
    nothing_close: bool | None
    remarks: tuple[str, ...] = ()
    seen: Seen = field(default=Seen("", 0, 0, False, ()), compare=False, repr=False)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, place: int | slice) -> Hit | tuple[Hit, ...]:
        """Return a hit by its place, or several as a tuple."""
        return self.hits[place]

    def __len__(self) -> int:
        """Return the number of hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterate over the hits, best first."""
        return iter(self.hits)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types, under the names of the attributes."""
        return {
            "query": self.query,
            "index": self.index,
            "took_ms": round(self.took_ms, 3),
            "nothing_close": self.nothing_close,
            "remarks": list(self.remarks),
            "hits": [asdict(hit) | {"duplicates": list(hit.duplicates)} for hit in self.hits],
        }


@dataclass(frozen=True)
class Failure:
    """A video that was asked for and is not in the index.

    Attributes:
        video: path of the video, relative to a folder of the index.
        reason: why, in one line.
    """

    video: str
    reason: str


@dataclass(frozen=True)
class VideoRemark:
    """Something to know about a video that was read, see `vmr.VideoReader.remarks`.

    Attributes:
        video: path of the video, relative to a folder of the index.
        kind: "damage" or "times".
        text: a line that says it.
    """

    video: str
    kind: Literal["damage", "times"]
    text: str
