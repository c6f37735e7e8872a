"""Reading a form with files within limits, while it comes in."""

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vmr.files import write_errors

_FILE = "file"  # the field of a form
_MAX_FIELDS = 32
_FIELD_BYTES = 16 * 1024
_NAME_CHARS = 80
SLOW_S = 600.0
"""Seconds in which an upload arrives."""

_PROCESSES = Path("/proc")  # on Linux

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # else each form that is not valid fills the log


@dataclass(frozen=True)
class ReceivedFile:
    """A file of a form. It is gone when the form is closed.

    Attributes:
        name: what the client calls it, without folders, printable, at most 80 characters.
            It is no path of this machine.
        file: what it holds; in memory or in a nameless temporary file.
    """

    name: str
    file: UploadFile


@dataclass(frozen=True)
class Form:
    """A form that was received.

    Attributes:
        fields: name -> text of each field that is no file.
        files: in the order of the form.
    """

    fields: dict[str, str]
    files: tuple[ReceivedFile, ...]

    @property
    def file(self) -> ReceivedFile:
        """The only file. Raises HTTPException with 422 if there is none."""
        if not self.files:
            raise HTTPException(422, f"{_FILE}: is missing: send a picture or a clip as a part of this name")
        return self.files[0]


@contextlib.asynccontextmanager
async def received(
    request: Request, max_bytes: int, hold: Callable[[int], None], max_files: int = 1
) -> AsyncIterator[Form]:
    """Read a form of the kind multipart/form-data; its files vanish with the context, also if the client has gone.

    Args:
        request: the request, whose body nobody has read.
        max_bytes: of all files together.
        hold: is told how many bytes have come, each time; it may raise an error.
        max_files: how many.

    Raises:
        HTTPException: 408 if it takes longer than `SLOW_S`; 413 if it is too large, and then the rest of it is not read; 415 if it is no such form; 422 if it
            is not valid, or says something twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "Content-Type: expected multipart/form-data with a file")
    limited = Request(request.scope, _limited(request, max_bytes + _MAX_FIELDS * _FIELD_BYTES, hold))
    async with contextlib.AsyncExitStack() as stack:
        try:
            reading = limited.form(max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_FIELD_BYTES)
            form = await asyncio.wait_for(stack.enter_async_context(reading), SLOW_S)
        except asyncio.TimeoutError:
            raise HTTPException(
                408, f"the upload took longer than {SLOW_S / 60:g} minutes: send a smaller file"
            ) from None
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise HTTPException(422, f"the form is not valid: {error.detail}") from None
        except FormParserError as error:  # of an older Starlette
            raise HTTPException(422, f"the form is not valid: {error}") from None
        except OSError as error:
            raise HTTPException(503, f"the upload cannot be stored: {error.strerror or error}") from error
        yield _checked(list(form.multi_items()))


def _limited(request: Request, max_bytes: int, hold: Callable[[int], None]) -> Any:
    """The channel of a request, which ends with an error when more bytes come than may."""
    left = max_bytes

    async def receive() -> MutableMapping[str, Any]:
        nonlocal left
        message = await request.receive()
        size = len(message.get("body", b""))
        hold(size)
        left -= size
        if left < 0:
            raise HTTPException(413, f"the upload is larger than {max_bytes >> 20} MiB: send a smaller file")
        return message

    return receive


def _checked(items: list[tuple[str, str | UploadFile]]) -> Form:
    fields: dict[str, str] = {}
    files = []
    for name, value in items:
        if isinstance(value, UploadFile):
            files.append(ReceivedFile(_printable(value.filename or ""), value))
            if not value.size:
                raise HTTPException(422, f"{files[-1].name}: is empty (0 bytes)")
        elif name == _FILE:
            raise HTTPException(422, f"{_FILE}: has no filename, so it is a text and no file")
        elif name in fields:
            raise HTTPException(422, f"{name:.60}: is given twice")
        else:
            fields[name] = value
    return Form(fields, tuple(files))


def _printable(name: str) -> str:
    """The name of a file as it can be shown: hostile clients send anything."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(each if each.isprintable() else " " for each in last).strip()
    if len(shown) > _NAME_CHARS:
        shown = f"{shown[: _NAME_CHARS - 1]}…"
    return shown or "upload"


@contextlib.asynccontextmanager
async def on_disk(received_file: ReceivedFile) -> AsyncIterator[Path]:
    """Give a path at which a decoding process can read the file, as long as the context lasts.

    Raises:
        VmrError: it cannot be written to the disk.
    """
    file: Any = received_file.file.file
    with contextlib.ExitStack() as stack:
        yield await run_in_threadpool(lambda: stack.enter_context(_rolled_over(file)))


@contextlib.contextmanager
def _rolled_over(file: "tempfile.SpooledTemporaryFile[bytes]") -> Iterator[Path]:
    with write_errors(Path(tempfile.gettempdir())):
        file.rollover()  # a small file was in memory until now
        file.flush()
    with path_of(file) as path:
        yield path


@contextlib.contextmanager
def path_of(file: "tempfile.SpooledTemporaryFile[bytes]") -> Iterator[Path]:
    """Give the path of a temporary file that has none, as long as the context lasts.

    On Linux it leads to the file itself, so that nothing is left if this process is killed. Elsewhere it is a copy's.

    Args:
        file: on the disk.
    """
    itself = _PROCESSES / str(os.getpid()) / "fd" / str(file.fileno())
    if itself.exists():
        yield itself
        return
    with write_errors(Path(tempfile.gettempdir())), tempfile.NamedTemporaryFile() as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)
