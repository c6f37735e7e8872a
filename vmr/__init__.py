"""vmr: video-text retrieval. Search your own videos by a sentence, and score retrieval models exactly.

import vmr

index = vmr.build_index("videos/", "index/")
for hit in index.search("two people riding bicycles"):
    print(hit.score, hit.video, hit.start_s, hit.end_s)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmr.errors import VmrError
from vmr.version import __version__

if TYPE_CHECKING:
    from vmr.data.decoding.video import VideoReader
    from vmr.models.catalogue import load_model
    from vmr.retrieval.embed import read_video
    from vmr.retrieval.index import build_index, open_index

__all__ = ["VideoReader", "VmrError", "__version__", "build_index", "load_model", "open_index", "read_video"]

_HOME = {
    "VideoReader": "vmr.data.decoding.video",
    "build_index": "vmr.retrieval.index",
    "load_model": "vmr.models.catalogue",
    "open_index": "vmr.retrieval.index",
    "read_video": "vmr.retrieval.embed",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import vmr` and every `--help` stay free of torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'vmr' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
