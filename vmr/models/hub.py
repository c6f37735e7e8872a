"""Find files by name, on this disk or on the Hugging Face hub.

Files of the hub are downloaded once; an interrupted download is resumed, and later calls use the hub's cache.
"""

import errno
import logging
import os
import textwrap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from vmr.errors import ModelError

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def local_path(source: str | Path, suffixes: Collection[str] = ()) -> Path | None:
    """Tell whether a name means a file or folder on this disk or a repository of the hub.

    Args:
        source: a path or the name of a repository; `~` is expanded.
        suffixes: suffixes, such as `.txt`, that only files have.

    Returns:
        The existing file or folder; None where `source` can only be a repository.

    Raises:
        ModelError: no such file exists, and `source` cannot be a repository because it is a Path, is absolute, starts
            with `.` or `~`, or ends in one of `suffixes`.
    """
    path = Path(os.path.expanduser(source))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    if path.exists():
        return path
    is_path = isinstance(source, Path) or path.is_absolute() or str(source).startswith((".", "~"))
    if is_path or path.suffix in suffixes:
        raise ModelError(f"{path}: no such file or folder")
    return None


def download_file(repository: str, file: str) -> Path:
    """Get a file of the hub, from the cache or by downloading it with a progress bar.

    The environment variables of huggingface_hub, such as HF_HOME and HF_HUB_OFFLINE, are respected.

    Args:
        repository: such as `bert-base-uncased`.
        file: path within the repository.

    Returns:
        The local copy, in the hub's cache.

    Raises:
        ModelError: there is no such file, the hub cannot be reached, or the cache cannot be written; the message says
            where to download the file by hand.
    """
    from huggingface_hub import constants, hf_hub_download

    try:
        with _quiet_hub():
            return Path(hf_hub_download(repository, file))
    except Exception as error:  # many types, from a misspelt name to a broken connection; all become one line
        reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise ModelError(
                f"{repository}/{file} cannot be written to the hub's cache ({reason}): make room in "
                f"{constants.HF_HUB_CACHE}, or set HF_HOME to a folder that can be written"
            ) from error
        if constants.HF_HUB_OFFLINE and isinstance(error, FileNotFoundError):
            reason = "it is not in the cache, and HF_HUB_OFFLINE is set"
        raise ModelError(
            f"{repository}/{file} cannot be downloaded from the hub ({reason}): download "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere and give the file's path"
        ) from error


def is_downloaded(repository: str, file: str) -> bool:
    """Tell whether a file of the hub is in the cache, without asking the hub.

    Args:
        repository: such as `bert-base-uncased`.
        file: path within the repository.
    """
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence huggingface_hub's own lines about retries: the final error is reported once."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)
