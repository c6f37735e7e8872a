"""`/search`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from vmr.retrieval.service import schemas
from vmr.retrieval.service.guard.requests import takes_up_to
from vmr.retrieval.service.routes.bodies import described, is_form, read_json, valid
from vmr.retrieval.service.routes.connected import while_connected
from vmr.retrieval.service.schemas import SearchOptions, SearchRequest, SearchResponse
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.service import Shared

router = APIRouter(tags=["search"])


class SearchParameters(SearchRequest):
    """The same in an address, where the query has a short name."""

    query: schemas.Query | None = Field(None, alias="q", description="what the video should show, or its texts say")


@router.get("/search")
async def search_by_address(
    request: Request, service: Shared, parameters: Annotated[SearchParameters, Query()]
) -> SearchResponse:
    """Find moments, for a browser and for curl."""
    return await while_connected(request, answer(service, parameters))


@router.post("/search", openapi_extra=described(SearchRequest, SearchOptions, "a picture, or a short clip"))
@takes_up_to("upload_bytes")
async def search(request: Request, service: Shared) -> SearchResponse:
    """Find moments that show what a sentence says, or others like a moment; with a form, others like a file."""
    if not is_form(request):
        return await while_connected(request, answer(service, await read_json(request, SearchRequest)))
    async with service.uploads.received(request) as form:
        asked = SearchRequest(**valid(SearchOptions, form.fields).model_dump())
        vector, words = await service.uploads.vector_of(form.file)
    return await while_connected(request, answer(service, asked, vector, words))
