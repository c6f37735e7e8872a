"""`/login`: where a browser is given the cookie that stands for the token."""

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from vmr.retrieval.service.pages.rendering import render
from vmr.retrieval.service.service import Shared

router = APIRouter(tags=["page"])

_OURS = re.compile(r"/(?![/\\])[!-~]*")  # no other host, and none of the characters that browsers leave out


@router.get("/login")
async def login_page(service: Shared, wanted: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Ask for the token."""
    if service.token is None:
        return RedirectResponse("/", 303)
    return HTMLResponse(render("login.html.j2", wanted=_ours(wanted), is_wrong=False))


@router.post("/login")
async def log_in(
    request: Request,
    service: Shared,
    shown: Annotated[str, Form(alias="token")] = "",
    wanted: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Set the cookie if the token is right, and go to the page that was asked for."""
    token = service.token
    if token is None:
        return RedirectResponse("/", 303)
    if not token.is_right(shown.strip()):
        if shown.strip():
            await token.delay(request.scope)
        return HTMLResponse(render("login.html.j2", wanted=_ours(wanted), is_wrong=True), 401)
    response = RedirectResponse(_ours(wanted), 303)
    token.set_cookie(response, is_secure=request.url.scheme == "https")
    return response


def _ours(wanted: str) -> str:
    return wanted if _OURS.fullmatch(wanted) else "/"
