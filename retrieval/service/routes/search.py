"""`/search`."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from vmr.retrieval.service import schemas
from vmr.retrieval.service.schemas import SearchRequest, SearchResponse
from vmr.retrieval.service.searches import answer
from vmr.retrieval.service.service import Shared

router = APIRouter(tags=["search"])

_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": SearchRequest.model_json_schema()}}}
}


class SearchParameters(SearchRequest):
    """The same as a query string, where `query` is called `q`."""

    query: schemas.Query | None = Field(None, alias="q", description="what the video should show")


@router.get("/search")
async def search_by_address(service: Shared, parameters: Annotated[SearchParameters, Query()]) -> SearchResponse:
    """Find moments, for a browser and for curl."""
    return await answer(service, parameters)


@router.post("/search", openapi_extra=_BODY)
async def search(service: Shared, request: Request) -> SearchResponse:
    """Find moments."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "content-type must be application/json")
    try:
        asked = SearchRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from error
    return await answer(service, asked)
