"""Training pairs from WebDataset's tar shards, in any order: a table holds the position of each member in its shard."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vmr.data.annotations.records import Record, cached_table
from vmr.data.media import SUFFIXES, Media
from vmr.data.sources.source import Pair
from vmr.data.sources.spool import Spool
from vmr.errors import AnnotationError, VmrError

_CAPTIONS = (".txt", ".caption", ".json")  # the first of these comes first if a sample has several
_PARTED = " (its files are not next to each other)"
_NAMED = 3  # how many names of left-out samples are kept


def find_shards(pattern: str | Path) -> list[Path]:
    """Find tar files.

    Args:
        pattern: a folder, or a pattern with "*" and the like, or with "{0000..0099}" for numbers.

    Raises:
        VmrError: there is no such file, or one of the numbered files is missing.
    """
    if Path(pattern).is_dir():
        shards = sorted(shard for shard in Path(pattern).glob("*.tar") if not shard.name.startswith("."))
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

    A sample is the files next to each other in a shard whose names are equal up to the first dot, as in WebDataset; the
    rest of a name is the field. A sample holds a video (or picture) and its caption. Captions are .txt files, .caption
    files, or .json files with "caption" (a text or a list), in this order. Among several .json files, that with the
    plain field (s.json) comes first, then others (s.info.json), and those about the clip (s.mp4.json) come last; it is
    the same for .txt and .caption. The first that holds a caption is taken. A sample without a clip or a caption is
    left out; `notes` says how many are. Hidden members, such as those that macOS adds (._s.mp4, __MACOSX/), do not
    count.

    Args:
        shards: the tar files.
        media: what the clips are.
        name: what to call this source in logs.
        keep: how many clips may be in temporary files; more than the number of clips that are decoded ahead.
        folder: the folder of the temporary files, see `Spool`.

    Raises:
        AnnotationError: a shard is not an uncompressed tar file, or no sample is complete.
    """

    def __init__(
        self, shards: Sequence[Path], media: Media, name: str, keep: int = 2048, folder: Path | None = None
    ) -> None:
        self.table = cached_table(
            shards, ["tar", media], lambda left_out: _samples(shards, media, left_out), by_contents=False
        )
        self.name = name
        self.media = media
        self.group = 1
        self.num_ids = self.table.num_videos
        parted_first = sorted(self.table.left_out, key=lambda one: not one.endswith(_PARTED))
        left_out = ", ".join(parted_first[:_NAMED])
        how_many = f"{name}: {self.table.num_left_out} samples have no {media} or no caption, such as {left_out}"
        self.notes = (how_many,) if left_out else ()
        self._spool = Spool(keep, folder)

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return sample `index` with one of its captions, which `rng` chooses."""
        record = self.table[index]
        caption = record.captions[rng.integers(len(record.captions))]
        path = self._spool.put(index, PurePosixPath(record.id).suffix, lambda: _member(record))
        return Pair(f"{record.path}/{record.id}", self.table.video_number(index), caption, path)


def _samples(shards: Sequence[Path], media: Media, left_out: list[str]) -> Iterator[Record]:
    is_empty, parted = True, ""
    for shard in shards:
        incomplete: set[str] = set()
        try:
            with tarfile.open(shard, "r:") as archive:
                files = (member for member in archive if member.isreg() and not _is_hidden(member.name))
                for key, members in groupby(files, lambda member: _key_and_field(member.name)[0]):
                    record = _sample(archive, shard, media, list(members))
                    if record is None:
                        is_parted = key in incomplete
                        parted = parted or (f"{shard}: {key}" if is_parted else "")
                        incomplete.add(key)
                        left_out.append(f"{shard}/{key}{_PARTED if is_parted else ''}")
                    else:
                        is_empty = False
                        yield record
        except (tarfile.TarError, EOFError) as error:
            raise AnnotationError(f"{shard}: not a whole, uncompressed tar file ({error})") from None
    if is_empty and parted:
        raise AnnotationError(
            f"{parted}: the files of a sample are not next to each other: write the shard again, with sorted names "
            "(tar --sort=name)"
        )


def _is_hidden(name: str) -> bool:
    *folders, base = PurePosixPath(name).parts
    return base.startswith(".") or "__MACOSX" in folders


def _key_and_field(name: str) -> tuple[str, str]:
    """The key of a member's sample, and its field in lower case: "./x/s.info.json" -> ("x/s", "info.json")."""
    path = PurePosixPath(name)
    base, _, field = path.name.partition(".")
    return str(path.with_name(base)), field.lower()


def _sample(archive: tarfile.TarFile, shard: Path, media: Media, members: list[tarfile.TarInfo]) -> Record | None:
    """The record of one sample; None if it lacks its clip or its caption."""
    fields = {_key_and_field(member.name)[1]: member for member in members}
    clips = [member for field, member in fields.items() if _suffix(field) in SUFFIXES[media]]
    plain = [member for field, member in fields.items() if f".{field}" in SUFFIXES[media]]
    if len(clips) > 1 and len(plain) != 1:
        raise AnnotationError(
            f"{shard}: {clips[0].name} and {clips[1].name} are one sample: names must differ before their first dot"
        )
    captions = _captions(archive, shard, fields)
    if not clips or not captions:
        return None
    clip = (plain or clips)[0]
    return Record(str(shard.absolute()), clip.name, captions, media, offset=clip.offset_data, size=clip.size)


def _suffix(field: str) -> str:
    return "." + field.rpartition(".")[2]


def _captions(archive: tarfile.TarFile, shard: Path, fields: dict[str, tarfile.TarInfo]) -> tuple[str, ...]:
    clip_suffixes = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}

    def rank(field: str) -> tuple[int, int]:
        about_clip = f".{field.partition('.')[0]}" in clip_suffixes
        return _CAPTIONS.index(_suffix(field)), 2 if about_clip else int("." in field)

    for field in sorted((field for field in fields if _suffix(field) in _CAPTIONS), key=rank):
        content = archive.extractfile(fields[field])
        assert content is not None  # it is a regular file
        try:
            text = content.read().decode("utf-8-sig")
            values = _of_json(json.loads(text)) if _suffix(field) == ".json" else [text]
        except ValueError as error:
            raise AnnotationError(f"{shard}: {fields[field].name} holds no caption: {error}") from None
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
        return None  # the shard was removed: decoding then reports each of its clips as "no such file"
