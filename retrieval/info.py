"""The description of an index: what it holds, and how that was made."""

from dataclasses import dataclass
from pathlib import Path

from vmr.retrieval.calibration.kept import kept_calibration
from vmr.retrieval.embedding.token_files import TokenFolder
from vmr.retrieval.storage.records import Space
from vmr.retrieval.storage.snapshot import Snapshot


@dataclass(frozen=True)
class IndexInfo:
    """What an index holds besides its rows, as seen from one of its vector spaces.

    Attributes:
        encoder: name or path of the model that made the vectors.
        fingerprint: of that model, see `vmr.Encoder`.
        embed_dim: dimensions of the vectors.
        dtype: how they are stored: "float16" or "float32".
        num_frames: frames of a window.
        reader: the library that decoded the videos, see `vmr.VideoReader`.
        segments: "fixed" or "shots", see `vmr.retrieval.storage.records.IndexSettings`.
        window_s: seconds that one window covers, or at most covers; None for whole videos.
        stride_s: seconds from the start of one window to the start of the next.
        whole_video: whether each video of several windows has one more, which covers all of it.
        keyframes: whether only key frames were decoded.
        skip_still: how different a frame must be from the one before to be encoded; 0 if all are encoded.
        roots: the folders of the videos, as absolute paths.
        spaces: the names of all vector spaces.
        num_videos: videos with at least one window.
        num_windows: windows of these videos.
        num_damaged: videos that were read with damage.
        num_failures: files that could not be read.
        other_files: kind -> how many files of the folders are no videos, see `vmr.FoundVideos`.
        created: when the index was made, in ISO 8601, UTC.
        vmr_version: which version of vmr made it.
        kind: the kind of FAISS file that vectors are searched in; "exact" while all of them are in memory.
        nothing_close: how far this encoder can tell on this index that a query is about nothing in it, in one line.
        num_tokens: videos whose tokens are kept for re-ranking, counted once for each encoder.
        tokens_bytes: size of these tokens on the disk.
    """

    encoder: str
    fingerprint: str
    embed_dim: int
    dtype: str
    num_frames: int
    reader: str
    segments: str
    window_s: float | None
    stride_s: float | None
    whole_video: bool
    keyframes: bool
    skip_still: float
    roots: tuple[str, ...]
    spaces: tuple[str, ...]
    num_videos: int
    num_windows: int
    num_damaged: int
    num_failures: int
    other_files: dict[str, int]
    created: str
    vmr_version: str
    kind: str
    nothing_close: str
    num_tokens: int
    tokens_bytes: int


def describe(snapshot: Snapshot, space: Space, folder: Path) -> IndexInfo:
    """Describe an index.

    Args:
        snapshot: what it holds.
        space: one of its spaces.
        folder: the folder of the index.
    """
    settings, tokens = snapshot.settings, TokenFolder(folder)
    generations = snapshot.generations(space.id)
    calibration = kept_calibration(space, snapshot.num_windows(space.id))
    return IndexInfo(
        encoder=space.encoder,
        fingerprint=space.fingerprint,
        embed_dim=space.dim,
        dtype=space.dtype,
        num_frames=space.frames["num_frames"],
        reader=space.frames["reader"],
        segments=settings.segments,
        window_s=settings.window_s,
        stride_s=settings.stride_s,
        whole_video=settings.whole_video,
        keyframes=space.frames.get("keyframes", False),
        skip_still=space.frames.get("skip_still", 0.0),
        roots=tuple(sorted(snapshot.roots().values())),
        spaces=tuple(each.name for each in snapshot.spaces()),
        num_videos=snapshot.num_videos(),
        num_windows=snapshot.num_windows(),
        num_damaged=snapshot.num_damaged(),
        num_failures=snapshot.num_failures(),
        other_files=snapshot.other_files(),
        created=snapshot.meta("created"),
        vmr_version=snapshot.meta("vmr_version"),
        kind=generations[0].kind if generations else "exact",
        nothing_close="not measured yet" if calibration is None else calibration.summary(),
        num_tokens=len(tokens.names()),
        tokens_bytes=tokens.num_bytes(),
    )
