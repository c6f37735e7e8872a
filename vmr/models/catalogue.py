"""The names under which models are known, and the one function that turns a name into an encoder."""

import difflib

import torch

from vmr.errors import ModelError
from vmr.models.encoder import Encoder

KNOWN = ("offline", "open_clip:MODEL/WEIGHTS")


def load_model(name: str = "offline", device: str = "auto") -> Encoder:
    """The encoder called `name`, ready to embed.

    name: `offline` (weights installed by pip) or `open_clip:MODEL/WEIGHTS`. device: `cpu`, `cuda`, `cuda:1`, or `auto`
    (CUDA where there is one). Raises ModelError for an unknown name (with a suggestion), an absent device, or weights
    that cannot be reached or do not fit; MissingExtraError where the family's packages are not installed.
    """
    chosen = _device(device)
    if name == "offline":
        from vmr.models.offline import OfflineEncoder

        return OfflineEncoder(chosen)
    if name.startswith("open_clip:"):
        from vmr.models.clip import OpenClipEncoder

        return OpenClipEncoder(name, device=chosen)
    close = difflib.get_close_matches(name.partition(":")[0], [known.partition(":")[0] for known in KNOWN], n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise ModelError(f"unknown model {name!r}{hint} (known: {', '.join(KNOWN)})")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {name!r} is not here: use cpu, cuda or auto") from error
    return device
