"""What requests and answers of the API are made of."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from vmr.retrieval.service.options import Limits
from vmr.retrieval.storage.records import VideoOrder

_LIMITS = Limits()
LARGEST_ID = 2**63 - 1
"""The largest number that an index can give to a video or a moment."""


def _no_truth(given: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(given, bool):
        raise ValueError("a number is needed")
    return given


Number = BeforeValidator(_no_truth)
Id = Annotated[int, Field(ge=0, le=LARGEST_ID), Number]
Query = Annotated[str, StringConstraints(min_length=1, max_length=_LIMITS.query_chars)]
Where = Annotated[str, StringConstraints(min_length=1, max_length=_LIMITS.where_chars)]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=_LIMITS.cursor_chars)]
Page = Annotated[int, Field(ge=1, le=_LIMITS.results), Number]
Source = Literal["picture", "text"]
Strength = Literal["strong", "good", "weak", "unlikely"]
"""How well a moment matches, in the words of vmr-search."""

WHERE = 'which videos to search, as `--where` of vmr-search: `folder = "cam07" and duration > 5 min`'
FOLDER = "the folder that was indexed, as `source` in `where` names it: its name, or its path if others have that name"
LIST_CURSOR = "`next_cursor` of the page before, with an otherwise equal request; absent for the first page"
CURSOR = f"{LIST_CURSOR}. That of a search by an upload holds what was uploaded: leave the file out"


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"] = Field("ok", description="always `ok`: a service that is not does not answer")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what is wrong, and what to do, in one line")


class IndexFacts(BaseModel):
    """What the index holds, and how that was made."""

    encoder: str = Field(description="the model that made the vectors, and makes those of queries")
    embed_dim: int = Field(description="dimensions of the vectors")
    spaces: list[str] = Field(description="all vector spaces; the service searches one of them")
    num_videos: int = Field(description="videos that can be found")
    num_moments: int = Field(description="moments of these videos")
    num_damaged: int = Field(description="videos that were read with damage")
    num_failures: int = Field(description="files that could not be read")
    segments: Literal["fixed", "shots"] = Field(description="whether moments have one length, or are shots")
    window_s: float | None = Field(description="seconds of a moment, or its most; null for whole videos")
    stride_s: float | None = Field(description="seconds from the start of a moment to that of the next")
    num_frames: int = Field(description="frames of a moment that the model sees")
    kind: str = Field(description="how vectors are searched: `exact`, or a kind of approximate search")
    nothing_close: str = Field(description="how far the model can tell that a query is about nothing in the index")
    created: str = Field(description="when the index was made, ISO 8601, UTC")
    commit: int = Field(description="number of the last change of the index that is seen")
    vmr_version: str = Field(description="the version of vmr that made the index")


class SearchOptions(BaseModel):
    """How to search."""

    model_config = ConfigDict(extra="forbid")

    where: Where | None = Field(None, description=WHERE)
    k: Page = Field(20, description="how many hits a page has at most")
    per_video: Annotated[int, Field(ge=1, le=LARGEST_ID), Number] | None = Field(
        None, description="at most so many hits of a video"
    )
    keep_duplicates: bool = Field(False, description="return moments that show the same as a better one as well")
    cursor: Cursor | None = Field(None, description=CURSOR)


class SearchRequest(SearchOptions):
    """What to search for, and how: a sentence, or a moment of the index."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "a man on a bicycle", "k": 5},
                {"like": 12, "where": "duration > 60", "per_video": 1},
            ]
        }
    )

    query: Query | None = Field(None, description="what the video should show, or its texts should say")
    like: Id | None = Field(None, description="in place of a query: `moment_id` of a hit, for more like it")
    min_match: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Number] | None = Field(
        None, description="leave out pictures with a lower `match`; needs a query and a calibrated index"
    )
    rerank: Page | None = Field(
        None,
        description="let the encoder compare the query with so many of the best moments token by token; needs a query "
        "and an encoder that can, and takes longer, for each page",
    )
    sources: Annotated[list[Source], Field(min_length=1, max_length=2)] | None = Field(
        None, description="what a query searches: pictures, the texts that the index holds, or both, as by default"
    )


class Hit(BaseModel):
    """A moment that answers a search."""

    moment_id: int = Field(description="number of its best window, valid while the video does not change")
    video_id: int = Field(description="number of the video")
    folder: str = Field(description=FOLDER)
    path: str = Field(description="path of the video, relative to this folder; printable")
    name: str = Field(description="name of the file; printable")
    start_s: float = Field(description="where the moment starts, in seconds from the video's start")
    end_s: float = Field(description="where it ends")
    score: float | None = Field(description="cosine similarity in [-1, 1]; null if only a text matches")
    match: float | None = Field(
        description="how well it matches, calibrated, in [0, 1]; null if that is not known, or only a text matches"
    )
    strength: Strength | None = Field(description="`match` in a word; null if there is none")
    source: Source = Field(description="whether its pictures were found, or only a text")
    text: str | None = Field(description="the text that matches, if one does")
    missing: bool = Field(description="whether the file is no longer at its path")
    duplicates: list[str] = Field(description="paths of other videos that show the same")
    rerank_score: float | None = Field(description="logit of the re-ranking; null if it was not re-ranked")
    thumbnail_url: str = Field(description="a picture of the moment")
    media_url: str = Field(description="the video, with the moment as a media fragment `#t=start,end`")
    video_url: str = Field(description="what is known of the video")


class IndexState(BaseModel):
    """Which state of the index was searched."""

    commit: int = Field(description="number of a commit; the answer holds it and all before it")


class SearchResponse(BaseModel):
    """What a search found."""

    hits: list[Hit] = Field(description="the best first")
    query: str = Field(description="the query; or in words, what else was asked for")
    nothing_close: bool | None = Field(
        description="whether nothing in the index is about the query, as far as can be told; null if it cannot"
    )
    took_ms: float = Field(description="milliseconds that the search took")
    remarks: list[str] = Field(description="what else there is to say about the search, a line each")
    next_cursor: str | None = Field(description="for the next page; null if this is the last one")
    index: IndexState


class VideosRequest(BaseModel):
    """Which videos to list, and how."""

    model_config = ConfigDict(extra="forbid")

    where: Where | None = Field(None, description=WHERE.replace("to search", "to list"))
    sort: VideoOrder = Field("path", description="`date` is that of the file's last change; `added` to the index")
    order: Literal["ascending", "descending"] = "ascending"
    k: Page = Field(20, description="how many videos a page has at most")
    cursor: Cursor | None = Field(None, description=LIST_CURSOR)


class FailuresRequest(BaseModel):
    """Which page of failures to list."""

    model_config = ConfigDict(extra="forbid")

    k: Page = Field(20, description="how many files a page has at most")
    cursor: Cursor | None = Field(None, description=LIST_CURSOR)


class VideoSummary(BaseModel):
    """A video of the index."""

    video_id: int = Field(description="number of the video; it changes when the file does")
    folder: str = Field(description=FOLDER)
    path: str = Field(description="path, relative to this folder; printable")
    name: str = Field(description="name of the file; printable")
    duration_s: float = Field(description="seconds")
    width: int | None = Field(description="pixels of the upright picture; null if not known")
    height: int | None = Field(description="pixels of the upright picture; null if not known")
    size: int = Field(description="bytes")
    modified: str = Field(description="time of the file's last change, ISO 8601, UTC")
    num_moments: int = Field(description="windows of the video")
    missing: bool = Field(description="whether the file is no longer at its path")
    metadata: dict[str, Any] = Field(description="what the user noted about the video")
    thumbnail_url: str = Field(description="a picture of the video")
    media_url: str = Field(description="the video")
    video_url: str = Field(description="what else is known of the video")


class FailedVideo(BaseModel):
    """A file that could not be read and is not in the index."""

    folder: str = Field(description=FOLDER)
    path: str = Field(description="path, relative to this folder; printable")
    name: str = Field(description="name of the file; printable")
    reason: str = Field(description="why, in one line")


class VideoList(BaseModel):
    """A page of the videos of the index."""

    videos: list[VideoSummary]
    total: int = Field(description="how many videos the condition selects now")
    next_cursor: str | None = Field(description="for the next page; null if this is the last one")


class FailedList(BaseModel):
    """A page of the files that could not be read."""

    failures: list[FailedVideo] = Field(description="by path")
    total: int = Field(description="how many there are now")
    next_cursor: str | None = Field(description="for the next page; null if this is the last one")


class VideoRemark(BaseModel):
    """Something that was noticed while a video was read."""

    kind: str = Field(description="`damage`, or `times` that were mended")
    text: str = Field(description="a line that says it")


class VideoText(BaseModel):
    """A text of a video, such as a line of its subtitles."""

    start_s: float | None = Field(description="where it begins, in seconds; null for the whole video")
    end_s: float | None = Field(description="where it ends; null for the whole video")
    kind: str = Field(description="what it is, such as `subtitle`")
    text: str


class CurvePoint(NamedTuple):
    """How well a window of a video answers a query: start and end in seconds, score, match; an array in JSON."""

    start_s: float
    end_s: float
    score: float
    match: float | None


class Playback(BaseModel):
    """How a browser plays the video."""

    url: str = Field(description="path of the media")
    kind: Literal["file", "remuxed", "transcoded"] = Field(
        description="`file`: the file itself; `remuxed`: its pictures in a new container; `transcoded`: its pictures "
        "encoded again"
    )
    note: str | None = Field(description="a sentence for the viewer, if there is something to say")
    offset_s: float = Field(description="add this to a time of the video to get that of the media, in seconds")
    until_s: float | None = Field(
        description="the time of the video at which this media ends: to go on, ask again with it; null for the end"
    )
    media_type: str


class VideoDetails(VideoSummary):
    """What is known of a video."""

    remarks: list[VideoRemark]
    texts: list[VideoText] = Field(description="in the order in which they were given")
    failure: str | None = Field(description="why its file cannot be shown: gone, or changed; null if it can")
    playback_url: str = Field(description="says how a browser plays it; `?at_s=` with a time, in seconds")
    curve: list[CurvePoint] | None = Field(
        description="start and end in seconds, score, and match or null, of each window, in the order of time; null "
        "without a query"
    )
