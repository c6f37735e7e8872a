"""The tokens that an index keeps for re-ranking, while it is updated.

They lie in the folder `tokens` of the index. Where this folder is, each update keeps the tokens of what it embeds.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from vmr.errors import VmrError
from vmr.models.encoder import Encoder, Matcher
from vmr.retrieval.embedding.pipeline import EmbeddedVideo
from vmr.retrieval.embedding.token_files import TokenFolder, bytes_of_window, file_name
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.records import Video
from vmr.retrieval.storage.snapshot import Snapshot
from vmr.retrieval.updating.cutting import settings_of
from vmr.retrieval.updating.spaces import Spaces


class KeptTokens:
    """The tokens of an index that is being updated.

    Args:
        index: the folder of the index, locked.
        spaces: its spaces.
        is_asked: whether all videos are to have tokens, also those that the index holds already.

    Raises:
        VmrError: tokens are asked for, and no encoder has any.
    """

    def __init__(self, index: Path, spaces: Spaces, is_asked: bool) -> None:
        self._index, self._spaces, self._is_asked = index, spaces, is_asked
        self._folder = TokenFolder(index)
        names = [space.name for space in spaces]
        if is_asked and not any(self._is_matcher(name) for name in names):
            raise VmrError(
                f"keep_tokens is for models that compare a sentence and a video token by token, not for "
                f"{' and '.join(names)}: leave it out, or add such a model"
            )

    @property
    def is_asked(self) -> bool:
        """Whether all videos are to have tokens."""
        return self._is_asked

    @property
    def spool_in(self) -> Path | None:
        """Where tokens lie while a video is embedded; None if the index keeps none."""
        return self._index if self._is_asked or self._folder.folder.is_dir() else None

    def put(self, content_hash: bytes, names: Sequence[str], videos: Sequence[EmbeddedVideo]) -> None:
        """Keep the tokens of a video, as some spaces have embedded it.

        Raises:
            VmrError: they cannot be written.
        """
        spaces = {space.name: space for space in self._spaces}
        for name, video in zip(names, videos, strict=True):
            if video.tokens is not None:
                with closing(video.tokens):
                    file = file_name(content_hash, spaces[name].fingerprint, spaces[name].frames)
                    self._folder.put(file, video.spans, video.tokens)

    def lacks(self, name: str, video: Video) -> bool:
        """Whether tokens of a video are asked for, and a space whose model has tokens keeps none of it."""
        if not self._is_asked or not self._is_matcher(name):
            return False
        (space,) = (space for space in self._spaces if space.name == name)
        file = file_name(video.content_hash, space.fingerprint, space.frames)
        return not self._folder.holds(file, video.num_windows)

    def _is_matcher(self, name: str) -> bool:
        return isinstance(self._spaces.encoder(name), Matcher)


def tokens_of_window(encoder: Encoder) -> int:
    """Return how many bytes the tokens of a window take on the disk at most; 0 for an encoder that has none."""
    if not isinstance(encoder, Matcher):
        return 0
    return bytes_of_window(encoder.matching_sizes.num_video_tokens, encoder.matching_sizes.video_width)


def sizes_in_words(encoders: Sequence[Encoder], segments: SegmentOptions) -> str:
    """Say how much room tokens take, if some windows are cut so; an empty text for encoders that have none."""
    a_window = sum(map(tokens_of_window, encoders))
    stride_s = settings_of(segments).stride_s
    an_hour = "" if stride_s is None else f", {a_window * 3600 / stride_s / 1e6:,.0f} MB an hour of video"
    may_repeat = any(isinstance(encoder, Matcher) and encoder.matching_sizes.may_repeat for encoder in encoders)
    at_most = "at most " if may_repeat else ""
    return f"tokens take {at_most}{a_window / 1e3:,.0f} kB a window{an_hour}" if a_window else ""


def remove_others(index: Path, snapshot: Snapshot, *, and_damaged: bool = False) -> None:
    """Remove tokens that belong to no video of an index, and what a process that was killed has left.

    Args:
        index: the folder of the index, locked.
        snapshot: what it holds.
        and_damaged: also read all tokens, and remove those that are damaged.

    Raises:
        VmrError: a file cannot be removed.
    """
    folder = TokenFolder(index)
    if folder.folder.is_dir():
        folder.remove_all_but(needed_files(snapshot).keys() - (damaged_files(index, snapshot) if and_damaged else ()))


def damaged_files(index: Path, snapshot: Snapshot) -> list[str]:
    """Read all tokens that an index keeps of its videos, and return the names of the files that are damaged."""
    folder = TokenFolder(index)
    needed = needed_files(snapshot) if folder.names() else {}
    return [name for name in sorted(folder.names() & needed.keys()) if not folder.is_sound(name, needed[name])]


def needed_files(snapshot: Snapshot) -> dict[str, int]:
    """Return the names of all files of tokens that an index may have, and how many windows each holds."""
    spaces = snapshot.spaces()
    return {
        file_name(video.content_hash, space.fingerprint, space.frames): video.num_windows
        for video in snapshot.videos()
        for space in spaces
        if video.content_hash
    }
