"""Files by name: on this disk, or of the Hugging Face hub.

Files of the hub are fetched once, resumed where a download was cut off, and found in the cache ever after.
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
    """The file or folder that is meant; None for a repository of the hub.

    Raises ModelError where nothing is there and `source` cannot be a repository: a Path, absolute, starting with `.`
    or `~`, or ending in one of `suffixes`.
    """
    path = Path(os.path.expanduser(source))  # noqa: PTH111 (Path's raises for a user that there is not)
    if path.exists():
        return path
    is_path = isinstance(source, Path) or path.is_absolute() or str(source).startswith((".", "~"))
    if is_path or path.suffix in suffixes:
        raise ModelError(f"{path}: no such file or folder")
    return None


def download_file(repository: str, file: str) -> Path:
    """The local copy of `file` of the hub's `repository`, downloaded with a progress bar if it is not in the cache.

    HF_HOME and HF_HUB_OFFLINE mean what they mean to huggingface_hub. Raises ModelError, with the address, where there
    is no such file or the hub cannot be reached; and where the cache cannot be written.
    """
    from huggingface_hub import constants, hf_hub_download

    try:
        with _quiet_hub():
            return Path(hf_hub_download(repository, file))
    except Exception as error:  # from a misspelt name to a proxy that hangs up: one line either way
        reason = textwrap.shorten(str(error), 160, placeholder=" ...") or type(error).__name__
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise ModelError(
                f"{repository}/{file} cannot be kept in the hub's cache ({reason}): make room in "
                f"{constants.HF_HUB_CACHE}, or set HF_HOME to a folder that can be written"
            ) from error
        if constants.HF_HUB_OFFLINE and isinstance(error, FileNotFoundError):
            reason = "it is not in the cache, and HF_HUB_OFFLINE is set"
        raise ModelError(
            f"{repository}/{file} cannot be had from the hub ({reason}): download "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere and give the file's path"
        ) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """No lines about retries: what became of them is said once."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)
