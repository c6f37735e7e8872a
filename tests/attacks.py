"""Requests as attackers send them: raw targets, raw headers, raw bytes; and every route and parameter there is."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import FastAPI

from tests.patience import PATIENCE_S
from vmr.retrieval.service.app import API, API_ROUTES, PAGE_ROUTES

TOKEN = "a-token-of-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Answer:
    """What the service answers: the status, the headers by their names in small letters, the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """Why it refuses: one line."""
        (detail,) = json.loads(self.body)["detail"].splitlines()
        return detail


class Attacker:
    """Sends requests to a service over one connection, without any of the care that clients take.

    Args:
        address: of the service.
    """

    def __init__(self, address: str) -> None:
        self.netloc = urlsplit(address).netloc
        self._connection = http.client.HTTPConnection(self.netloc, timeout=PATIENCE_S)

    def ask(self, method: str, target: str, headers: Mapping[str, str] = BEARER, body: bytes | None = None) -> Answer:
        """Send one request; the target and the headers as they are."""
        try:
            self._connection.request(method, target, body, dict(headers))
            answer = self._connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise

    def connected(self) -> socket.socket:
        """A connection of its own."""
        host, _, port = self.netloc.rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE_S)

    def send(self, sent: bytes) -> Answer:
        """Send bytes, and read until the connection ends."""
        with self.connected() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is refused before its end
                connection.sendall(sent)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def description() -> dict[str, Any]:
    """Every route in the form of OpenAPI, those of the page too: taken from the routers, so that none is forgotten."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for module in API_ROUTES:
        app.include_router(module.router, prefix=API)
    for module in PAGE_ROUTES:
        app.include_router(module.router)
    return app.openapi()


@dataclass(frozen=True)
class Operation:
    """A route for one method.

    Attributes:
        method: in capitals.
        path: with {names} of its parameters.
        parameters: as OpenAPI describes them.
        bodies: media type -> the fields of the body.
    """

    method: str
    path: str
    parameters: list[Any]
    bodies: dict[str, list[str]]

    def target(self, name: str = "", value: bytes = b"") -> str:
        """The path and query with a value for one parameter, and a harmless one for others that are needed."""
        path, query = self.path, []
        for each in self.parameters:
            given = value if each["name"] == name else b"1"
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", quote(given, safe=""))
            elif each["in"] == "query" and (each["name"] == name or each.get("required")):
                query.append(f"{each['name']}={quote(given, safe='')}")
        return path + ("?" + "&".join(query) if query else "")


def operations() -> Iterator[Operation]:
    """Every route with each of its methods."""
    whole = description()
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            bodies = {kind: _fields(whole, one["schema"]) for kind, one in content.items()}
            yield Operation(method.upper(), path, operation.get("parameters", []), bodies)


def _fields(whole: Any, schema: Any) -> list[str]:
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", []))


def form(fields: Mapping[str, bytes], filename: bytes = b"a.png", content: bytes = b"not a picture") -> bytes:
    """A form with a file, whose names and values are put into it as they are."""
    parts = [b'form-data; name="%s"\r\n\r\n%s' % (name.encode(), value) for name, value in fields.items()]
    parts.append(b'form-data; name="file"; filename="%s"\r\n\r\n%s' % (filename, content))
    start = f"--{BOUNDARY}".encode()
    return b"".join(b"%s\r\nContent-Disposition: %s\r\n" % (start, part) for part in parts) + start + b"--\r\n"
