"""An uploaded video on its way to the disk: it has no name before it is whole."""

import errno
import itertools
import os
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from typing_extensions import Self

from vmr.data.media import has_video_suffix
from vmr.errors import VmrError
from vmr.files import OutputFile, flush, write_errors
from vmr.progress import printable

FIELD = "file"
"""The name of the part of a form that holds the video."""

_UNFINISHED = re.compile(r"\.upload-(\d+)-[0-9a-f]{16}\.tmp")
_MAX_NAME_BYTES = 200  # most file systems take 255, and a number may follow
_SHOWN = 60  # characters of a name in an error


class NewFile:
    """A file that is written under a hidden name; a context manager that removes it unless it got a name.

    Args:
        folder: where it will lie.

    Raises:
        VmrError: it cannot be written; every method may raise this.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".upload-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        with write_errors(folder):
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._out = OutputFile(self._descriptor, folder)
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._path.unlink()
        with suppress(VmrError):
            self._close()

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._out.write(data)

    def keep_as(self, name: str) -> Path:
        """Give the file its name, or one with a number if that is taken; nothing is replaced.

        Returns:
            Its path. It is on the disk.
        """
        with write_errors(self._folder):
            os.fsync(self._descriptor)
        self._close()
        with write_errors(self._folder):
            for path in (self._folder / one for one in _numbered(name)):
                with suppress(FileExistsError):
                    os.link(self._path, path)
                    break
            try:
                self._path.unlink()
                flush(self._folder)
            except OSError:
                path.unlink()
                raise
        return path

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            with write_errors(self._folder):
                os.close(self._descriptor)


async def receive(request: Request, folder: Path, max_bytes: int) -> Path:
    """Write the video of a form into a folder while it comes in. Nothing is left of one that does not come in whole.

    Args:
        request: a request of the kind multipart/form-data, whose body nobody has read.
        folder: the folder.
        max_bytes: how large the video may be.

    Returns:
        The path of the video.

    Raises:
        HTTPException: 413 if it is too large, 415 if its name is not that of a video, 422 if the form is not valid.
        VmrError: it cannot be written.
    """
    form, num_bytes = _Form(request.headers.get("content-type", "")), 0
    with await run_in_threadpool(NewFile, folder) as file:
        async for data in _body(request):
            for piece in form.pieces(data):
                num_bytes += len(piece)
                if num_bytes > max_bytes:
                    raise HTTPException(413, f"{FIELD}: is larger than {max_bytes >> 20} MiB: copy it to the server")
                await run_in_threadpool(file.write, piece)
        if not form.is_whole or form.name is None or not num_bytes:
            raise HTTPException(422, f"{FIELD}: is missing, empty or not whole: send one video as a part of this name")
        return await run_in_threadpool(file.keep_as, form.name)


def remove_unfinished(folder: Path) -> None:
    """Remove what services that were killed have received in part."""
    for path in folder.iterdir():
        match = _UNFINISHED.fullmatch(path.name)
        if match is not None and not _runs(int(match[1])):
            with suppress(OSError):
                path.unlink()


def safe_name(given: str) -> str:
    """Make a name for a file of what a client calls it.

    Raises:
        HTTPException: it is not the name of a video.
    """
    last = unicodedata.normalize("NFC", given).replace("\\", "/").rpartition("/")[2]
    plain = "".join(each if each.isprintable() else "_" for each in last).strip(" .")
    if not has_video_suffix(Path(plain)):
        shown = printable(given[:_SHOWN])
        raise HTTPException(415, f"{FIELD}: {shown or 'it'} is not named like a video: use a suffix such as .mp4")
    stem, suffix = os.path.splitext(plain)  # noqa: PTH122 - Path would take a stem of dots for a folder
    return stem.encode()[: _MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None


class _Form:
    """A form that comes in: one part with a file."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise HTTPException(415, "Content-Type: expected multipart/form-data with a boundary")
        self.name: str | None = None
        self.is_whole = False
        self._field, self._value = b"", b""
        self._disposition = b""
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def pieces(self, data: bytes) -> list[bytes]:
        """Take what has come, and return what of the file that is."""
        self._pieces = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise HTTPException(422, f"the form is not valid: {error}") from None
        return self._pieces

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        if options.get(b"name") != FIELD.encode() or b"filename" not in options or self.name is not None:
            raise HTTPException(422, f"the form must have one part, {FIELD}, with a filename")
        self.name = safe_name(options[b"filename"].decode(errors="replace"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self.is_whole = True


def _numbered(name: str) -> Iterator[str]:
    """Yield a name, and then others that are like it."""
    yield name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - as above
    for number in itertools.count(2):
        yield f"{stem} ({number}){suffix}"


def _runs(process: int) -> bool:
    """Whether another process has a number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True
