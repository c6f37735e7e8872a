"""What all routes share."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from vmr.retrieval.service.guard.tokens import Token
from vmr.retrieval.service.jobs.jobs import Jobs
from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.metrics import Metrics
from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.pages.facts import KnownFacts
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.served_index import ServedIndex
from vmr.retrieval.service.uploads.uploads import Uploads


@dataclass(frozen=True)
class Service:
    """The parts of a running service.

    Attributes:
        options: how the index is served.
        index: the index.
        processes: in which files are decoded.
        media: pictures, clips and playable parts of the videos.
        uploads: receives pictures and clips, and embeds them.
        metrics: numbers about all this.
        token: what clients must show; None for no check.
        jobs: add videos to the index; None if no folder is named from which they may.
        facts: what the page says about the index.
    """

    options: ServiceOptions
    index: ServedIndex
    processes: Processes
    media: Media
    uploads: Uploads
    metrics: Metrics
    token: Token | None
    jobs: Jobs | None
    facts: KnownFacts = field(default_factory=KnownFacts)


async def _service(request: Request) -> Service:  # a plain function would be called in another thread
    return cast("Service", request.app.state.service)


Shared = Annotated[Service, Depends(_service)]
"""The type of a route's argument that is given the service."""
