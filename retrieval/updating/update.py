"""Updating an index: `update_index` as make does, `add_videos`, `remove_videos`."""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from vmr.checks import check_path, check_paths, check_type
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.models.encoder import Encoder, check_encoder
from vmr.retrieval.calibration.kept import keep_calibrated
from vmr.retrieval.segments import SegmentOptions
from vmr.retrieval.storage.connection import is_finished
from vmr.retrieval.storage.reader import IndexReader
from vmr.retrieval.storage.records import IndexedFile, Video
from vmr.retrieval.storage.where import Where
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.updating.cutting import check_settings, options_of, settings_of
from vmr.retrieval.updating.done import Update
from vmr.retrieval.updating.folder import UpdatedFolder
from vmr.retrieval.updating.hooks import Hooks
from vmr.retrieval.updating.keeping import KeptTokens, remove_others
from vmr.retrieval.updating.listing import Listing, absolute, is_below, list_files
from vmr.retrieval.updating.plan import UpdateOptions, make_plan
from vmr.retrieval.updating.spaces import AnyEncoder, Spaces, VectorOptions
from vmr.retrieval.updating.work import Work
from vmr.retrieval.vectors.faiss_store import require_faiss
from vmr.retrieval.vectors.generations import make_files


def update_index(
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    encoder: AnyEncoder | Sequence[AnyEncoder] | None = None,
    segments: SegmentOptions = SegmentOptions(),
    *,
    vectors: VectorOptions = VectorOptions(),
    decode: DecodeOptions = DecodeOptions(),
    overwrite: bool = False,
    update: UpdateOptions = UpdateOptions(),
    hooks: Hooks = Hooks(),
) -> Update:
    """Bring an index up to date; see `vmr.build_index`, which also opens it, `SegmentOptions` and `hooks`."""
    require_faiss()  # wrong values are found before any work
    out = Path(check_path("out", out))
    encoders = encoders_of(encoder)
    check_type("segments", segments, SegmentOptions)
    check_type("decode", decode, DecodeOptions)
    check_type("vectors", vectors, VectorOptions)
    listing = list_files(videos, decode, hooks)
    with UpdatedFolder(out, settings_of(segments), overwrite) as folder:
        if not folder.is_fresh:
            with folder.reader.snapshot() as snapshot:
                check_settings(out, snapshot.settings, segments)
        return _update(
            folder,
            listing,
            encoders,
            segments,
            vectors=vectors,
            decode=decode,
            update=update,
            hooks=hooks,
        )


def load_encoders(
    index: Path | None,
    encoder: AnyEncoder | Sequence[AnyEncoder] | None = None,
    segments: SegmentOptions = SegmentOptions(),
    *,
    reader: str,
    progress: bool = False,
) -> list[Encoder]:
    """Load all models that an update of an index needs.

    Args:
        index: the folder of the index, which need not exist; None for a new one.
        encoder: the models that are named; None for those of the index, `offline` for a new one.
        segments: how videos are cut, and which frames are taken.
        reader: the library that decodes the videos.
        progress: show that a model is being loaded.

    Raises:
        VmrError: as for `vmr.build_index`.
    """
    known = []
    if index is not None and is_finished(index):
        with IndexReader(index) as opened, opened.snapshot() as snapshot:
            known = snapshot.spaces()
    spaces = Spaces(
        index or Path(), known, encoders_of(encoder), dtype=None, segments=segments, reader=reader, progress=progress
    )
    return [spaces.encoder(space.name) for space in spaces]


def files_to_embed(
    index: Path | None, videos: str | Path | Sequence[str | Path], update: UpdateOptions, decode: DecodeOptions
) -> tuple[list[str], int]:
    """Return the files that an update would embed, and how many files there are in all. Nothing is written.

    Args:
        index: the folder of the index, which need not exist; None for a new one.
        videos: folders and files, as for `vmr.build_index`.
        update: how files are compared with the index.
        decode: how files with unusual names are examined.
    """
    listing = list_files(videos, decode)
    if index is None or not is_finished(index):
        return list(listing.files), len(listing.files)
    with IndexReader(index) as opened, opened.snapshot() as snapshot:
        plan = make_plan(listing, list(snapshot.videos()), snapshot.failures(), update)
    return [job.file for job in plan.jobs], len(listing.files)


def add_videos(
    index: str | Path,
    paths: Sequence[str | Path],
    encoder: AnyEncoder | Sequence[AnyEncoder] | None = None,
    *,
    decode: DecodeOptions | None = None,
    update: UpdateOptions = UpdateOptions(),
    progress: bool = False,
    hooks: Hooks = Hooks(),
) -> Update:
    """Add videos to an index, in windows as it has them, or embed them again if they have changed.

    Args:
        index: the folder of the index.
        paths: files and folders. A file that the index knows and that is no longer there is removed from the index.
        encoder: the models of the index, if they cannot be loaded by their names.
        decode: how videos are decoded; None for the reader that the index was built with.
        update: how files are compared with the index.
        progress: show a progress bar.
        hooks: what to ask and to tell meanwhile.

    Returns:
        What was done.

    Raises:
        VmrError: as for `vmr.build_index`.
        IndexFileError: there is no index, or it was made in another way.
    """
    require_faiss()
    folder = Path(check_path("index", index))
    encoders, named = encoders_of(encoder), check_paths(paths)
    with UpdatedFolder(folder, None) as opened:
        with opened.reader.snapshot() as snapshot:
            settings, spaces = snapshot.settings, snapshot.spaces()
        if decode is None:
            decode = DecodeOptions(reader=spaces[0].frames["reader"]) if spaces else DecodeOptions()
        listing = list_files(named, decode, hooks)
        return _update(
            opened,
            listing,
            encoders,
            options_of(settings, spaces[0].frames if spaces else None),
            decode=decode,
            update=update,
            hooks=replace(hooks, progress=progress or hooks.progress),
        )


def remove_videos(index: str | Path, patterns: Sequence[str | Path] = (), where: str | None = None) -> Update:
    """Take videos out of an index; their files stay.

    Args:
        index: the folder of the index.
        patterns: paths of videos or of folders, or patterns such as `cam1/*.mp4` for paths as the index lists them,
            relative to its folders; `*` also matches slashes.
        where: an expression that selects videos, in place of patterns, see `vmr.retrieval.storage.where`.

    Returns:
        What was removed.

    Raises:
        VmrError: no video matches one of the patterns, or is selected; nothing is removed.
        IndexFileError: there is no index, or another process writes it.
    """
    folder = Path(check_path("index", index))
    wanted = [str(pattern) for pattern in check_paths(patterns)]
    if not wanted and where is None:
        raise VmrError("no pattern given: name at least one video, or select some with --where")
    if wanted and where is not None:
        raise VmrError("give patterns or --where, not both")
    condition = None if where is None else Where.parse(where)
    with IndexWriter(folder) as writer:
        with writer.reader.snapshot() as snapshot:
            videos = list(snapshot.videos(condition))
            failures = snapshot.failures()
        matching: dict[int, Video] = {} if condition is None else {video.id: video for video in videos}
        if condition is not None and not videos:
            raise VmrError(f"no video of {folder} is selected by {where}")
        for pattern in wanted:
            found = {video.id: video for video in videos if _matches(video, pattern)}
            if not found and not any(_matches(failure, pattern) for failure in failures):
                raise VmrError(f"{pattern}: no video of {folder} matches: vmr-index list {folder} shows them")
            matching |= found
        with writer.commit() as changes:
            for video in matching.values():
                changes.remove_video(video.id)
            for failure in failures:
                if any(_matches(failure, pattern) for pattern in wanted):
                    changes.remove_failure(failure.root, failure.path)
        make_files(writer)
        with writer.reader.snapshot() as snapshot:
            remove_others(folder, snapshot)
    return Update(removed=[video.file for video in matching.values()])


def _update(
    folder: UpdatedFolder,
    listing: Listing,
    encoders: Sequence[AnyEncoder],
    segments: SegmentOptions,
    *,
    vectors: VectorOptions = VectorOptions(),
    decode: DecodeOptions,
    update: UpdateOptions,
    hooks: Hooks,
) -> Update:
    known = []
    if not folder.is_fresh:
        with folder.reader.snapshot() as snapshot:
            known = snapshot.spaces()
    spaces = Spaces(
        folder.folder,
        known,
        encoders,
        dtype=vectors.dtype,
        segments=segments,
        reader=decode.reader,
        progress=hooks.progress,
    )
    for space in spaces:
        vectors.check(space.dim)
    tokens = KeptTokens(folder.folder, spaces, vectors.keep_tokens)
    work = Work(folder, listing, spaces, segments, update, decode, tokens=tokens, hooks=hooks)
    try:
        done = work.run()
        if vectors.kind is not None:
            _set_kind(folder.writer, vectors.kind)
        make_files(folder.writer)
        keep_calibrated(folder.writer, spaces.loaded())
        with folder.reader.snapshot() as snapshot:
            remove_others(folder.folder, snapshot)
    except KeyboardInterrupt:
        if folder.is_fresh:
            raise
        number = len(work.done.embedded)
        raise KeyboardInterrupt(
            f"{folder.folder}: stopped after {number} videos, which are in the index: the same command goes on"
        ) from None
    return done


def _set_kind(writer: IndexWriter, kind: str) -> None:
    """Note which kind of FAISS file all spaces are to have."""
    with writer.reader.snapshot() as snapshot:
        others = [space for space in snapshot.spaces() if space.kind != kind]
    if others:
        with writer.commit() as changes:
            for space in others:
                changes.set_space(space.id, kind=kind)


def encoders_of(given: AnyEncoder | Sequence[AnyEncoder] | None) -> list[AnyEncoder]:
    """Return the encoders that were given as a list; each is a name, a path or an encoder.

    Raises:
        ModelError: one of them is none of these.
    """
    encoders: list[AnyEncoder] = (
        [] if given is None else list(given) if isinstance(given, list | tuple) else [cast("AnyEncoder", given)]
    )
    for one in encoders:
        if not isinstance(one, str | Path):
            check_encoder(one)
    return encoders


def _matches(file: IndexedFile, pattern: str) -> bool:
    is_named = is_below(file.file, absolute(pattern)) or is_below(f"/{file.path}", f"/{pattern.strip('/')}")
    return is_named or any(fnmatchcase(path, pattern) for path in (file.path, file.file))
