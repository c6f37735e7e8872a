"""Requests that browsers send for pages of other sites.

Any page may let a browser send a form, or load a picture, from 127.0.0.1. Browsers say so in `Sec-Fetch-Site` or
`Origin`; other programs send neither, and act for nobody else.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vmr.retrieval.service.guard.problem import problem
from vmr.retrieval.service.options import ServiceOptions

_HARMLESS = {"GET", "HEAD", "OPTIONS"}


class SiteCheck:
    """Refuses requests from pages of other sites, but for links to the page and for the origins that `cors` names.

    Args:
        app: answers the others.
        options: how the index is served.
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions) -> None:
        self._app, self._origins = app, set(options.cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse the request."""
        if scope["type"] == "http" and not self._may_pass(scope["method"], Headers(scope=scope)):
            said = "a page of another site may not do this: start the service with --cors if it is yours"
            return await problem(403, said)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _may_pass(self, method: str, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins or site in ("same-origin", "none"):
            return True
        if site is not None:
            return method in _HARMLESS and _is_link(headers)
        return method in _HARMLESS or origin is None or urlsplit(origin).netloc == headers.get("host")


def _is_link(headers: Headers) -> bool:
    """Whether a browser opens the answer as a page of its own, which the page that links to it cannot read."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
