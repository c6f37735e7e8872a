"""`/docs`: the API for people who write programs."""

from fastapi import APIRouter, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from vmr.retrieval.service.pages.reference import operations_of
from vmr.retrieval.service.pages.rendering import render

router = APIRouter(tags=["page"])


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Describe every route, from the same description that programs read. It is made once: that takes a moment."""
    kept = request.app.state
    if not hasattr(kept, "docs"):
        kept.docs = await run_in_threadpool(_rendered, request.app)
    return HTMLResponse(kept.docs)


def _rendered(app: FastAPI) -> str:
    description = app.openapi()
    return render("api.html.j2", version=description["info"]["version"], groups=operations_of(description))
