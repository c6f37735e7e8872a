"""`/docs`: the API for people who write programs."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from vmr.retrieval.service.pages.reference import operations_of
from vmr.retrieval.service.pages.rendering import render

router = APIRouter(tags=["page"])


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Describe every route, from the same description that programs read."""
    description = request.app.openapi()
    return HTMLResponse(
        render("api.html.j2", version=description["info"]["version"], groups=operations_of(description))
    )
