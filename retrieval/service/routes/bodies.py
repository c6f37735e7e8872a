"""Bodies of requests that may be JSON or a form with files, which the framework would read without limits."""

import re
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

M = TypeVar("M", bound=BaseModel)


def is_form(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/")


async def read_json(request: Request, kind: type[M], max_bytes: int | None = None) -> M:
    """Read a body of JSON.

    Args:
        request: the request.
        kind: what it is to be.
        max_bytes: how large it may be; None where the limit of the route is that of its JSON.

    Raises:
        RequestValidationError: it is none of this kind.
        HTTPException: it is too large.
    """
    body = b""
    async for data in request.stream():
        body += data
        if max_bytes is not None and len(body) > max_bytes:
            raise HTTPException(413, f"the body is larger than the {max_bytes} bytes that are read here")
    return valid(kind, body)


def valid(kind: type[M], given: bytes | dict[str, str]) -> M:
    """Make a request of JSON, or of the fields of a form.

    Raises:
        RequestValidationError: they are none of this kind.
    """
    try:
        return kind.model_validate_json(given) if isinstance(given, bytes) else kind.model_validate(given)
    except ValidationError as error:
        errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        if isinstance(given, bytes) and errors[0]["type"] == "json_invalid":
            errors = [_with_position(errors[0], given)]
        raise RequestValidationError(errors) from None


def _with_position(error: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Say where JSON is not valid as the framework says it: by the number of a character."""
    reason, line, column = re.findall(r"(.*) at line (\d+) column (\d+)", error["ctx"]["error"])[0]
    before = body.split(b"\n")[: int(line) - 1]
    return {**error, "loc": ("body", sum(len(each) + 1 for each in before) + int(column)), "ctx": {"error": reason}}


def described(kind: type[BaseModel], fields: type[BaseModel] | None, files: str) -> dict[str, Any]:
    """Describe both bodies of a route, for `openapi_extra`.

    Args:
        kind: the body of JSON.
        fields: the fields of the form besides `file`; None if there is no other.
        files: what `file` holds.
    """
    form: dict[str, Any] = {"type": "object", "properties": {}} if fields is None else fields.model_json_schema()
    file = {"type": "string", "format": "binary", "description": files}
    form |= {"properties": {"file": file, **form["properties"]}, "required": ["file"]}
    kinds = {"application/json": kind.model_json_schema(), "multipart/form-data": form}
    content = {name: {"schema": schema} for name, schema in kinds.items()}
    return {"requestBody": {"content": content, "required": True}}
