"""Which names of the service a request may use.

A page of another site can let its own name stand for 127.0.0.1 (DNS rebinding), and the browser takes the service for a
part of that site. What gives it away is the name in the header `Host`.
"""

import re
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vmr.retrieval.service.guard.problem import problem, shown
from vmr.retrieval.service.options import ServiceOptions, is_loopback

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?")


class HostCheck:
    """Refuses requests to other hosts than the service.

    Loopback names, `host` and `allowed_hosts` are right. Where the service can be reached from other machines every IP
    address is: it may have many, and nobody can let an address stand for another one.

    Args:
        app: answers the others.
        options: how the index is served.
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions) -> None:
        self._app = app
        self._names = {name.lower() for name in (options.host, *options.allowed_hosts)}
        self._takes_addresses = not is_loopback(options.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse the request."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not self._is_ours(name_of(host)):
                said = f"the service is not called {shown(host)!r}: start it with --allowed-host if that is its name"
                return await problem(421, said)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        if name in self._names or is_loopback(name):
            return True
        try:
            return self._takes_addresses and bool(ip_address(name))
        except ValueError:
            return False


def name_of(host: str) -> str:
    """Return the name in a header `Host`, in small letters and without the port; empty if the header is malformed.

    Args:
        host: the header.
    """
    found = _HOST.fullmatch(host.lower())
    return found[1] or found[2] if found else ""
