"""Errors of requests as answers: a status, and one line that says what is wrong and what to do."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmr.errors import IndexFileError, VmrError
from vmr.retrieval.service.errors import NotFound
from vmr.retrieval.service.guard.problem import problem, shown
from vmr.retrieval.service.media.cache import StorageError
from vmr.retrieval.service.media.sources import ChangedError, GoneError
from vmr.retrieval.service.processes import BusyError, TimeLimitError
from vmr.retrieval.service.schemas import Problem

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request is refused; `detail` says why"},
    "5XX": {"model": Problem, "description": "The service cannot answer now; `detail` says why"},
}
"""What every route may answer instead, for the description of the API."""

STATUSES: dict[type[VmrError], int] = {
    BusyError: 503,
    ChangedError: 409,
    GoneError: 410,
    IndexFileError: 503,
    NotFound: 404,
    StorageError: 507,
    TimeLimitError: 504,
}
"""Class of an error -> the status of its answer; 400 for other errors that a user can repair."""

_log = logging.getLogger(__name__)


def answer_errors(app: Starlette) -> None:
    """Let an application answer errors with a `Problem`.

    Args:
        app: the application.
    """
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(VmrError, _repairable)
    app.add_exception_handler(TimeoutError, _too_slow)


def status_of(error: Exception) -> int:
    """Return the status of the answer to a request that meets an error: one that a user can repair, or a time limit."""
    if isinstance(error, TimeoutError):
        return 504
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 400)


def _refused(request: Request, error: Any) -> Response:
    if error.status_code == HTTPStatus.NO_CONTENT:
        return Response(status_code=204)
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:  # of the framework, which says no more than the status
        path = shown(request.url.path)
        detail = {
            404: f"{path}: there is no such page or route; see /docs",
            405: f"{path} does not take {shown(request.method)}; see /docs",
        }.get(error.status_code, detail)
    return problem(error.status_code, detail, error.headers)


def _invalid(request: Request, error: Any) -> JSONResponse:
    first, *others = error.errors()
    name = ".".join(map(str, first["loc"][1:]))  # the first part is where it stands: body, query, path, header, cookie
    if first["type"] == "json_invalid":
        said = f"the body is not JSON: {first['ctx']['error']} at character {name}"
    else:
        given = first.get("input")
        repeated = f", not {shown(repr(given))}" if isinstance(given, str | int | float | bool) else ""
        said = f"{shown(name) or 'the body'}: {first['msg'].removeprefix('Value error, ')}{repeated}"
    return problem(422, said + (f" (and {len(others)} more)" if others else ""))


def _repairable(request: Request, error: Any) -> JSONResponse:
    return problem(status_of(error), str(error))


def _too_slow(request: Request, error: Any) -> JSONResponse:
    return problem(status_of(error), str(error) or "this took too long: try again, or ask for less")


class LastResort:
    """Answers 500 to an error of ours, and logs it: what is wrong stays in the log.

    Args:
        app: answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or say that it failed."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:  # while its request was read
            return
        except asyncio.CancelledError:  # the service ends, and has waited for answers as long as it does
            if scope["type"] == "http" and not has_begun:
                await problem(503, "the service ends: try again when it runs again")(scope, receive, send)
            raise
        except Exception:
            _log.exception("%s %s failed", scope.get("method"), shown(scope.get("path", "")))
            if scope["type"] != "http" or has_begun:
                raise
            await problem(500, "the service failed: its log says why")(scope, receive, send)
