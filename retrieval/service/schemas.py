"""What requests and answers of the API are made of."""

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"] = Field("ok", description="always `ok`: a service that is not does not answer")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what is wrong, and what to do, in one line")
