"""Training pairs from WebDataset's tar shards and from data sets of the Hugging Face hub.

Both are read at random, not streamed: a stream could be neither shuffled over all of it nor resumed at a place. A shard
is gone through once, and where its members lie is kept. A clip that is bytes in something larger is written to a
temporary file when its turn comes, so that it is decoded like any other: sought in, cropped, and given up on in time.
"""

from __future__ import annotations

import glob
import json
import re
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmr.data.annotated_source import locate
from vmr.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vmr.data.records import Media, Record, cached_table, import_extra
from vmr.data.train_source import Pair
from vmr.errors import AnnotationError, VmrError

_CAPTIONS = (".txt", ".caption", ".json")  # in this order, where a sample has several
_NAMED = 3  # of the samples that are left out


def find_shards(pattern: str | Path) -> list[Path]:
    """The tar files of a folder, or those that a pattern names: "*" and the like, "{0000..0099}" for numbers.

    Raises VmrError if there is none, or if one that is numbered is not there.
    """
    if Path(pattern).is_dir():
        shards = sorted(Path(pattern).glob("*.tar"))
    elif numbers := re.search(r"\{(\d+)\.\.(\d+)\}", str(pattern)):
        first, last = numbers.groups()
        before, after = str(pattern)[: numbers.start()], str(pattern)[numbers.end() :]
        shards = [Path(f"{before}{n:0{len(first)}}{after}") for n in range(int(first), int(last) + 1)]
    else:
        shards = [Path(name) for name in sorted(glob.glob(str(pattern)))]  # noqa: PTH207 - a pattern may be absolute
    missing = [shard for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise VmrError(f"{missing[0] if missing else pattern}: no such tar file")
    return shards


class TarSource:
    """Clips in WebDataset shards, one pair for each sample; a TrainSource.

    A sample is the files side by side in a shard whose names are the same up to the first dot: a video (or picture)
    and its caption as .txt, .caption, or a .json with "caption" (a text or a list). notes: how many samples lack one of
    the two. keep: how many clips may lie in temporary files; more than are read ahead of training.

    Raises AnnotationError for a shard that is no plain tar file, or when no sample is whole.
    """

    def __init__(self, shards: Sequence[Path], media: Media, name: str, keep: int = 2048) -> None:
        self.table = cached_table(
            shards, ["tar", media], lambda left_out: _samples(shards, media, left_out), by_contents=False
        )
        self.name = name
        self.media = media
        self.group = 1
        self.num_ids = self.table.num_videos
        left_out = ", ".join(self.table.left_out[:_NAMED])
        how_many = f"{name}: {self.table.num_left_out} samples have no {media} or no caption, such as {left_out}"
        self.notes = (how_many,) if left_out else ()
        self._spool = _Spool(keep)

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Sample `index` with one of its captions."""
        record = self.table[index]
        caption = record.captions[rng.integers(len(record.captions))]
        path = self._spool.put(index, PurePosixPath(record.id).suffix, lambda: _member(record))
        return Pair(f"{record.path}/{record.id}", self.table.video_number(index), caption, path)


def _samples(shards: Sequence[Path], media: Media, left_out: list[str]) -> Iterator[Record]:
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:
                files = (member for member in archive if member.isreg())
                for key, members in groupby(files, lambda member: _key(member.name)):
                    record = _sample(archive, shard, media, list(members))
                    if record is None:
                        left_out.append(f"{shard}/{key}")
                    else:
                        yield record
        except (tarfile.TarError, EOFError) as error:
            raise AnnotationError(f"{shard}: not a whole, uncompressed tar file ({error})") from None


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _sample(archive: tarfile.TarFile, shard: Path, media: Media, members: list[tarfile.TarInfo]) -> Record | None:
    """The record of one sample; None if it has no video or no caption."""
    suffixes = VIDEO_SUFFIXES if media == "video" else IMAGE_SUFFIXES
    clips = [member for member in members if PurePosixPath(member.name).suffix.lower() in suffixes]
    if len(clips) > 1:
        raise AnnotationError(
            f"{shard}: {clips[0].name} and {clips[1].name} are one sample: names must differ before their first dot"
        )
    captions = _captions(archive, shard, members)
    if not clips or not captions:
        return None
    clip = clips[0]
    return Record(str(shard.absolute()), clip.name, captions, media, offset=clip.offset_data, size=clip.size)


def _captions(archive: tarfile.TarFile, shard: Path, members: list[tarfile.TarInfo]) -> tuple[str, ...]:
    by_suffix = {PurePosixPath(member.name).suffix.lower(): member for member in members}
    for suffix in _CAPTIONS:
        if suffix in by_suffix:
            content = archive.extractfile(by_suffix[suffix])
            assert content is not None  # it is a regular file
            try:
                text = content.read().decode()
                values = _of_json(json.loads(text)) if suffix == ".json" else [text]
            except ValueError as error:
                raise AnnotationError(f"{shard}: {by_suffix[suffix].name} holds no caption: {error}") from None
            if captions := tuple(value.strip() for value in values if value.strip()):
                return captions
    return ()


def _of_json(about: Any) -> list[str]:
    value = about.get("caption") if isinstance(about, dict) else None
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str)]


def _member(record: Record) -> bytes | None:
    assert record.offset is not None and record.size is not None
    try:
        with Path(record.path).open("rb") as shard:
            shard.seek(record.offset)
            return shard.read(record.size)
    except OSError:
        return None  # a shard that has gone: no such file, says the decoder of each of its clips


class HubSource:
    """A data set as `datasets` loads it, from the hub or from a folder, one pair for each row; a TrainSource.

    name: a repository of the hub, a folder that `load_dataset` understands (parquet files, ...), or one that
    `save_to_disk` wrote. video_column: of type Video or Image, bytes, or paths relative to `root`; rows of equal paths
    are one video, and of the other types each row is one. caption_column: a text, or a list of texts to choose from.
    It is downloaded as a whole when first used, and then read from disk. keep: as for `TarSource`.

    Raises MissingExtraError without `datasets`, VmrError for a data set, split or column that is not there.
    """

    notes = ()

    def __init__(
        self,
        name: str,
        split: str,
        video_column: str,
        caption_column: str,
        media: Media = "video",
        *,
        root: str | Path = ".",
        keep: int = 2048,
    ) -> None:
        self.name = f"{name}:{split}"
        self.media = media
        self.group = 1
        self.root = Path(root)
        self._columns = (video_column, caption_column)
        self._rows = _load_rows(name, split, self._columns)
        self._ids = _numbers(self._rows, video_column)
        self.num_ids = int(self._ids.max()) + 1 if len(self._ids) else 0
        self._spool = _Spool(keep)

    def __len__(self) -> int:
        return len(self._rows)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Row `index` with one of its captions. A row that has none counts as a clip that cannot be decoded."""
        row, number = self._rows[index], int(self._ids[index])
        clip, captions = (row[column] for column in self._columns)
        captions = [text for text in (captions if isinstance(captions, list) else [captions]) if text and text.strip()]
        name = f"{self.name}:{index}"
        if not captions:
            name, clip, captions = f"{name} (no caption)", None, [""]
        caption = captions[rng.integers(len(captions))]
        content, path = (clip.get("bytes"), clip.get("path")) if isinstance(clip, dict) else (clip, None)
        if isinstance(content, str):
            content, path = None, content
        if content is None and path:
            return Pair(f"{name} ({path})", number, caption, locate(self.root, path, self.media))
        suffix = PurePosixPath(path or "").suffix
        return Pair(name, number, caption, self._spool.put(index, suffix, lambda: content))


def _load_rows(name: str, split: str, columns: tuple[str, str]) -> Any:
    """The data set, with only these columns, and nothing in them decoded."""
    datasets = import_extra("datasets")
    try:
        if any(Path(name, file).is_file() for file in ("dataset_info.json", "dataset_dict.json")):
            rows = datasets.load_from_disk(name)
            rows = rows[split] if isinstance(rows, datasets.DatasetDict) else rows
        else:
            rows = datasets.load_dataset(name, split=split)
    except KeyError:
        raise VmrError(f"{name}: no split '{split}' (it has {', '.join(rows)})") from None
    except (OSError, ValueError, RuntimeError) as error:  # `datasets` derives its own from these
        raise VmrError(f"{name}: cannot load this data set: {' '.join(str(error).split())}") from None
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise VmrError(f"{name}: no column '{missing[0]}' (it has {', '.join(rows.column_names)})")
    for kind in (datasets.Video, datasets.Image):
        if isinstance(rows.features[columns[0]], kind):
            rows = rows.cast_column(columns[0], kind(decode=False))
    return rows.select_columns(list(columns))


def _numbers(rows: Any, column: str) -> NDArray[np.int64]:
    """Equal for rows of equal paths, else different; (num_rows,)."""
    if rows.features[column].dtype != "string":
        return np.arange(len(rows), dtype=np.int64)
    paths = ["" if path is None else path for path in rows[column]]
    return np.unique(np.array(paths, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


class _Spool:
    """Temporary files for the clips that were asked for last."""

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise VmrError(f"keep must be at least 1, got {keep}")
        self._keep = keep
        self._folder = Path(tempfile.mkdtemp(prefix="vmr-clips-"))
        self._files: dict[int, Path] = {}  # in the order they were asked for
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def put(self, number: int, suffix: str, read: Callable[[], bytes | None]) -> Path:
        """The file of clip `number`, written if it is not there; a path without a file if `read` gives None."""
        path = self._files.pop(number, None)
        if path is None:
            path = self._folder / f"{number}{suffix}"
            content = read()
            if content is not None:
                path.write_bytes(content)
        self._files[number] = path
        if len(self._files) > self._keep:
            oldest = next(iter(self._files))
            self._files.pop(oldest).unlink(missing_ok=True)
        return path
