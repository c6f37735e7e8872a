"""The token that clients must show: in a header, or in a cookie that the page for logging in sets."""

import asyncio
import hashlib
import hmac
import logging
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vmr.retrieval.service.guard.problem import problem
from vmr.retrieval.service.options import API

OPEN = (f"{API}/healthz", "/login")
"""The paths that need no token; neither does what is below `/static/`."""

_COOKIE_S = 30 * 24 * 3600
_PREFIX = "vmr-"  # of the names of cookies
_WAIT_S = 0.5
_MOST_WAITING = 16

_log = logging.getLogger(__name__)


class Token:
    """A token, and the cookie that stands for it, from which the token cannot be told.

    Args:
        token: what clients must show.

    Attributes:
        cookie: name of the cookie; other tokens have other names, so that services on one machine do not share it.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._value = self._derived(b"value of the cookie").encode()
        self.cookie = f"{_PREFIX}{self._derived(b'name of the cookie')[:8]}"
        self._num_waiting = 0

    def is_right(self, shown: str) -> bool:
        """Compare with what a client shows, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(shown.encode(errors="replace"), self._token)

    def lets_pass(self, headers: Headers) -> bool:
        """Whether the headers of a request have the token or the cookie."""
        if self.is_right(_bearer(headers)):
            return True
        value = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return hmac.compare_digest(value.encode(errors="replace"), self._value)

    async def delay(self, scope: Scope) -> None:
        """Let whoever has shown a wrong token, or a cookie of another one, wait: so nobody tries many of them.

        Args:
            scope: of the request.

        Raises:
            HTTPException: 429 if too many wait already.
        """
        if self._num_waiting >= _MOST_WAITING:
            raise HTTPException(429, "too many wrong tokens: try again in a second", {"Retry-After": "1"})
        _log.warning("a wrong token, or an old cookie, from %s", (scope.get("client") or ("an unknown address",))[0])
        self._num_waiting += 1
        try:
            await asyncio.sleep(_WAIT_S)
        finally:
            self._num_waiting -= 1

    def set_cookie(self, response: Response, is_secure: bool) -> None:
        """Let an answer set the cookie.

        Args:
            response: the answer.
            is_secure: whether the client has come by https, and has to send the cookie by that alone.
        """
        response.set_cookie(
            self.cookie, self._value.decode(), _COOKIE_S, httponly=True, samesite="strict", secure=is_secure
        )

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self._token, b"vmr-serve: " + purpose, hashlib.sha256).hexdigest()


class TokenCheck:
    """Refuses requests without the token; a browser that asks for a page is sent to the one for logging in.

    Args:
        app: answers the others.
        token: the token.
    """

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse the request."""
        if scope["type"] != "http" or is_open(scope["path"]) or self._token.lets_pass(Headers(scope=scope)):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        is_wrong = bool(_bearer(headers))
        if is_wrong or any(name.startswith(_PREFIX) for name in cookie_parser(headers.get("cookie", ""))):
            try:
                await self._token.delay(scope)
            except HTTPException as error:
                return await problem(error.status_code, error.detail, error.headers)(scope, receive, send)
        if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", "") and is_page(scope["path"]):
            query = scope["query_string"].decode("latin-1")
            wanted = quote(scope["path"]) + (f"?{query}" if query else "")
            return await RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)(scope, receive, send)
        said = "the token is wrong" if is_wrong else "a token is needed: send the header 'Authorization: Bearer TOKEN'"
        return await problem(401, said, {"WWW-Authenticate": "Bearer"})(scope, receive, send)


def _bearer(headers: Headers) -> str:
    """The token of a header; empty if there is none."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else ""


def is_open(path: str) -> bool:
    """Return whether a path needs no token."""
    return path in OPEN or path.startswith("/static/")


def is_page(path: str) -> bool:
    """Return whether a path is for people."""
    return not path.startswith("/api/")
