"""The video tokens of embedded videos, kept on disk for matching.

Shapes: S segments of a video, N tokens of a segment, C their width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vmr.errors import VideoError
from vmr.retrieval.feature_cache import FeatureCache

if TYPE_CHECKING:
    from torch import Tensor

MakeTokens = Callable[[str], None]
"""make(path): embeds a video again and puts its tokens into the cache; raises VideoError if it cannot be read."""


class TokenStore:
    """The tokens of embedded videos. `embed_videos(tokens=True)` makes one.

    Args:
        cache: where the tokens lie.
        keys: path of a video -> its key in the cache.
        make: makes the tokens of a video again.
        temporary: the folder of the cache, if it is to be removed together with this object.
    """

    def __init__(
        self,
        cache: FeatureCache,
        keys: Mapping[str, str],
        make: MakeTokens,
        temporary: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self._cache, self._keys, self._make = cache, keys, make
        self._temporary = temporary  # removed when nobody refers to it any more

    def tokens(self, path: str | Path) -> Tensor:
        """Return the tokens of a video; those that have been removed or damaged are made again.

        Returns:
            float32 (S, N, C), S = 1 for a whole video; mapped from disk, except where some repeat.

        Raises:
            VideoError: the tokens must be made again, and the video cannot be read or has changed.
        """
        import torch

        key = self._keys.get(str(path))
        kept = None if key is None else self._cache.tokens(key)
        if key is not None and kept is None:
            self._cache.forget(key)
            self._make(str(path))
            kept = self._cache.tokens(key)
        if kept is None:
            raise VideoError(path, "has changed since it was embedded: do so again")
        return torch.from_numpy(kept)
