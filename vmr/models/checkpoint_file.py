"""Read the tensors of a PyTorch checkpoint from an untrusted source, without running any code in it.

A checkpoint is a pickle, and a pickle can call any function. `torch.load(weights_only=True)` builds tensors and plain
containers only. Upstream's training files hold two more types (their config and their command-line arguments); for
these, harmless replacements are allowed by name. Everything else in a file is refused.
"""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vmr.errors import ModelError


class _InertRecord:
    """Replaces a pickled config: keeps its items, but none of its methods.

    Making one gives an OrderedDict, because that is the only type that torch's restricted unpickler fills with both
    items and attributes.
    """

    def __new__(cls, *_: object) -> "OrderedDict[str, Any]":  # type: ignore[misc]
        return OrderedDict()


_REPLACEMENTS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_InertRecord, "utils.easydict.EasyDict"),
    (_InertRecord, "argparse.Namespace"),
]
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)|function (<[^>]+>)")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file on the CPU.

    Tensors may be mapped from the file rather than read: use them before the file changes.

    Args:
        path: a file that `torch.save` wrote, or a `.safetensors` file.

    Returns:
        The content: tensors, numbers, strings, and containers of them.

    Raises:
        ModelError: the file is missing, truncated or not a checkpoint, or it asks for a type or function that is not
            allowed. No code of the file has run then.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_REPLACEMENTS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns before it refuses
            # Mapping leaves the optimiser's state on the disk. Files from before the zip format cannot be mapped.
            is_zip = zipfile.is_zipfile(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch raises anything from EOFError to UnicodeDecodeError on a damaged file
        raise ModelError(_one_line(path, error)) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not a dict of weights")
    return dict(content)


def find_state_dict(content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """Find the weights in the content of a checkpoint.

    They are under `model`, under `module`, or the content itself. If all keys start with `module.`, as distributed
    training saves them, this prefix is removed.

    Args:
        content: the content of a checkpoint.
        name: the name of the file, for error messages.

    Returns:
        Key -> weight.

    Raises:
        ModelError: there are no weights, or there are other things among them.
    """
    for key in ("model", "module"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    others = [str(key) for key in content if key not in tensors]
    if not tensors:
        raise ModelError(f"{name}: no weights under 'model', 'module' or at the top; found {_first_few(others)}")
    if others:
        raise ModelError(f"{name}: expected weights only, found other entries among them: {_first_few(others)}")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return tensors


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "nothing"


def _one_line(path: Path, error: Exception) -> str:
    refused = _REFUSED_GLOBAL.search(str(error))
    if refused:
        wanted = refused[1] or refused[2]
        return f"{path}: refused: it asks for {wanted}, and only tensors and plain values are read from a file"
    size_mb = path.stat().st_size / 1e6
    return f"{path}: not a readable checkpoint ({size_mb:.1f} MB on disk; is the download complete?)"
