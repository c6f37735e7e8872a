"""What requests and answers of the API are made of."""

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"] = Field("ok", description="always `ok`: a service that is not does not answer")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what is wrong, and what to do, in one line")


class PlaybackAnswer(BaseModel):
    """What a browser is to play."""

    url: str = Field(description="path below the address of the service; it supports ranges")
    kind: Literal["file", "remuxed", "transcoded"] = Field(
        description="`file`: the file itself; `remuxed`: the same pictures in a new container; `transcoded`: pictures "
        "that were encoded again"
    )
    note: str | None = Field(description="one sentence for the viewer")
    offset_s: float = Field(description="the player's `currentTime` is a time of the video, in seconds, plus this")
    until_s: float | None = Field(
        description="the time of the video at which this ends: to go on, ask again with it; null at the video's end"
    )
    media_type: str
