"""The token that clients must show: in a header, or in a cookie that the page for logging in sets."""

import hashlib
import hmac
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vmr.retrieval.service.guard.problem import problem

OPEN = ("/api/v1/healthz", "/login")
"""The paths that need no token; neither does what is below `/static/`."""

_COOKIE_S = 30 * 24 * 3600


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
        self.cookie = f"vmr-{self._derived(b'name of the cookie')[:8]}"

    def is_right(self, shown: str) -> bool:
        """Compare with what a client shows, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(shown.encode(errors="replace"), self._token)

    def lets_pass(self, headers: Headers) -> bool:
        """Whether the headers of a request have the token or the cookie."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_right(shown.strip()):
            return True
        value = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return hmac.compare_digest(value.encode(errors="replace"), self._value)

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
        if scope["method"] == "GET" and "text/html" in headers.get("accept", "") and is_page(scope["path"]):
            query = scope["query_string"].decode("latin-1")
            wanted = quote(scope["path"]) + (f"?{query}" if query else "")
            return await RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)(scope, receive, send)
        is_wrong = "authorization" in headers
        said = "the token is wrong" if is_wrong else "a token is needed: send the header 'Authorization: Bearer TOKEN'"
        return await problem(401, said, {"WWW-Authenticate": "Bearer"})(scope, receive, send)


def is_open(path: str) -> bool:
    """Return whether a path needs no token."""
    return path in OPEN or path.startswith("/static/")


def is_page(path: str) -> bool:
    """Return whether a path is for people."""
    return not path.startswith("/api/")
