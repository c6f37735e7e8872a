"""Building an index, or bringing one up to date, and opening it."""

from collections.abc import Sequence
from pathlib import Path

from vmr.data.decoding.options import DecodeOptions
from vmr.retrieval.index import VideoIndex, open_index
from vmr.retrieval.segments import SegmentOptions, Segments, WhichFrames
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.plan import UpdateOptions
from vmr.retrieval.updating.spaces import AnyEncoder, VectorOptions
from vmr.retrieval.updating.update import encoders_of, update_index


def build_index(  # noqa: PLR0913 - the options of vmr-index build
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    encoder: AnyEncoder | Sequence[AnyEncoder] | None = None,
    *,
    window_s: float | None = 8.0,
    stride_s: float | None = None,
    segments: Segments = "fixed",
    whole_video: bool = False,
    frames: WhichFrames = "all",
    skip_still: float = 0.0,
    vectors: VectorOptions = VectorOptions(),
    decode: DecodeOptions = DecodeOptions(),
    overwrite: bool = False,
    update: UpdateOptions = UpdateOptions(),
    progress: bool = False,
) -> VideoIndex:
    """Bring an index up to date with videos: make it if there is none, else embed only what is new or has changed.

    Files that have not changed are not opened: their size, time and inode tell. Videos that were moved or renamed are
    recognised by their content. Videos below a folder in `videos` that are no longer there are taken out; those
    elsewhere stay. Each video is committed when it is embedded: after a kill the same call goes on. Videos that cannot
    be read are left out, and noted with the reason. They are tried again when they have changed.

    Args:
        videos: a folder, searched with its subfolders, or a list of folders and files.
        out: the folder of the index.
        encoder: the model, or its name or path, or several of them, each of which gives every window a vector. None
            for those of the index; `offline` for a new one.
        window_s: seconds that one row of the index covers; None makes each video one row.
        stride_s: seconds from the start of one window to the start of the next; None for half a window.
        segments: "fixed", "shots" or "whole"; this and the next three as in `vmr.retrieval.segments.SegmentOptions`.
        whole_video: give each video of several windows one row more, for the whole of it.
        frames: "all", or "keyframes" to take key frames only.
        skip_still: how little a frame may differ from the one before to be encoded again.
        vectors: how vectors are stored and searched.
        decode: how videos are decoded.
        overwrite: start anew: an index that `out` holds is replaced as soon as the first video is embedded.
        update: how files are compared with what the index holds.
        progress: show a progress bar.

    Returns:
        The index, open for searching.

    Raises:
        VmrError: there is no video, none of a new index can be read, a file cannot be written, or an argument has a
            wrong type or is out of range. What was committed before stays.
        IndexFileError: `out` holds other files or an index that was made in another way (without `overwrite`), or is
            being written by another process.
    """
    cut, hooks = SegmentOptions(segments, window_s, stride_s, whole_video, frames, skip_still), Hooks(progress=progress)
    update_index(
        videos, out, encoder, cut, vectors=vectors, decode=decode, overwrite=overwrite, update=update, hooks=hooks
    )
    return open_index(out, next(iter(encoders_of(encoder)), None))
