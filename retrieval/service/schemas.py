"""What requests and answers of the API are made of."""

from typing import Literal

from pydantic import BaseModel, Field


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
