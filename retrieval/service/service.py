"""What all routes share."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from vmr.retrieval.service.media.media import Media
from vmr.retrieval.service.options import ServiceOptions
from vmr.retrieval.service.processes import Processes
from vmr.retrieval.service.served_index import ServedIndex


@dataclass(frozen=True)
class Service:
    """The parts of a running service.

    Attributes:
        options: how the index is served.
        index: the index.
        processes: in which files are decoded.
        media: pictures, clips and playable parts of the videos.
    """

    options: ServiceOptions
    index: ServedIndex
    processes: Processes
    media: Media


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


Shared = Annotated[Service, Depends(_service)]
"""The type of a route's argument that is given the service."""
