"""The answer to a request that is refused: a status, and one line that says what is wrong and what to do."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from vmr.progress import printable

_SHOWN = 60  # characters of what was sent that an answer repeats


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make an answer of the form that `vmr.retrieval.service.schemas.Problem` documents.

    Args:
        status: of HTTP.
        detail: what is wrong and what to do; it becomes one line without control characters.
        headers: more headers of the answer.
    """
    line = printable(" ".join(detail.splitlines())).encode(errors="backslashreplace").decode()
    return JSONResponse({"detail": line}, status, headers)


def shown(text: str) -> str:
    """Return what was sent as an answer repeats it: its beginning, in printable characters.

    Args:
        text: any text.
    """
    start = printable(text[:_SHOWN])
    return start if len(text) <= _SHOWN else f"{start}..."
