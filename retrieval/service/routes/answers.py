"""Files as answers: preconditions, byte ranges, and when a browser may keep them (RFC 9110 and 9111)."""

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from vmr.retrieval.service.media.opened import Opened, RangeError, wanted_range

KEEP = "private, max-age=31536000, immutable"
"""Cache-Control of what never changes at its address."""

ASK_AGAIN = "private, no-cache"
"""Cache-Control of what a browser keeps, but asks about each time."""


def file_answer(request: Request, file: Opened, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    """Answer a GET or HEAD with a file, or a part of it; the file is closed when it has been sent.

    Starlette's `FileResponse` opens a path again, by which time it may be another file. It also answers 400 to units
    that it does not know, and knows no If-None-Match.

    Args:
        request: the request.
        file: the file.
        headers: further headers.
    """
    known = {
        "ETag": file.etag,
        "Last-Modified": formatdate(file.mtime_s, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": ASK_AGAIN,
        **headers,
    }
    if _is_known(request, file):
        file.close()
        return Response(status_code=304, headers=known)
    try:
        part = wanted_range(_range_header(request, file), file.size)
    except RangeError:
        file.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{file.size}", **known})
    start, stop = part or (0, file.size)
    known["Content-Length"] = str(stop - start)
    if part is not None:
        known["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=known, media_type=file.media_type)
    return StreamingResponse(file.pieces(start, stop), status, known, file.media_type)


def bytes_answer(request: Request, content: bytes, etag: str, media_type: str, cache_control: str) -> Response:
    """Answer a GET or HEAD with bytes that the client may have already.

    Args:
        request: the request.
        content: the bytes.
        etag: differs from that of every other content, with its quotes.
        media_type: of the content.
        cache_control: when a browser may keep it.
    """
    headers = {"ETag": etag, "Cache-Control": cache_control}
    if _has_tag(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


def disposition(kind: Literal["inline", "attachment"], stem: str, suffix: str) -> str:
    """Say in a Content-Disposition under which name a browser saves an answer.

    Args:
        kind: whether it is shown, or saved at once.
        stem: the name without its suffix; any text. It becomes one that is safe in every system and header.
        suffix: of the name, likewise.
    """
    stem, suffix = (re.sub(r'[\x00-\x1f\x7f"*/:<>?\\|]', "_", text).strip(" ") for text in (stem, suffix))
    name = stem.strip(".")[-150:] + suffix[:20]
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def _has_tag(request: Request, etag: str) -> bool:
    """Whether the client says that it has the content with this tag."""
    tags = request.headers.get("if-none-match", "")
    return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]


def _is_known(request: Request, file: Opened) -> bool:
    """Whether the client has this content already."""
    if "if-none-match" in request.headers:
        return _has_tag(request, file.etag)
    if (since := request.headers.get("if-modified-since")) is not None:
        try:
            return int(file.mtime_s) <= parsedate_to_datetime(since).timestamp()
        except (ValueError, OverflowError):
            return False
    return False


def _range_header(request: Request, file: Opened) -> str | None:
    """The Range header, unless it is meant for another content than the file has now."""
    condition = request.headers.get("if-range")
    if condition is None or condition.strip() == file.etag:
        return request.headers.get("range")
    return None  # a date is no strong sign: the file may change twice in a second
