"""Training pairs from WebDataset's tar shards, in any order: a table holds the position of each member in its shard."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from vmr.data.annotations.records import Record, cached_table
from vmr.data.media import SUFFIXES, Media
from vmr.data.sources.source import Pair
from vmr.data.sources.spool import Spool
from vmr.errors import AnnotationError, VmrError

What = Literal["caption", "label"]
"""What a sample says of its clip."""

_FIELDS: dict[What, tuple[str, ...]] = {  # the first of these comes first if a sample has several
    "caption": (".txt", ".caption", ".json"),
    "label": (".cls", ".json"),
}
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
        what: whether samples have captions or labels. A label is a .cls file, or "label" in a .json file: a name, a
            number, or a list of them.
        keep: how many clips may be in temporary files; more than the number of clips that are decoded ahead.
        folder: the folder of the temporary files, see `Spool`.

    Raises:
        AnnotationError: a shard is not an uncompressed tar file, or no sample is complete.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        media: Media,
        name: str,
        keep: int = 2048,
        folder: Path | None = None,
        what: What = "caption",
    ) -> None:
        kind = ["tar", media] if what == "caption" else ["tar", media, what]
        self.table = cached_table(
            shards, kind, lambda left_out: _samples(shards, media, what, left_out), by_contents=False
        )
        self.name = name
        self.media = media
        self.group = 1
        self.num_ids = self.table.num_videos
        parted_first = sorted(self.table.left_out, key=lambda one: not one.endswith(_PARTED))
        left_out = ", ".join(parted_first[:_NAMED])
        how_many = f"{name}: {self.table.num_left_out} samples have no {media} or no {what}, such as {left_out}"
        self.notes: tuple[str, ...] = (how_many,) if left_out else ()
        self._spool = Spool(keep, folder)

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int, rng: np.random.Generator) -> Pair:
        """Return sample `index` with one of its captions, which `rng` chooses."""
        captions, pair = self.texts_and_clip(index)
        return replace(pair, caption=captions[rng.integers(len(captions))])

    def texts_and_clip(self, index: int) -> tuple[tuple[str, ...], Pair]:
        """Return all captions or labels of sample `index`, and its clip without any."""
        record = self.table[index]
        path = self._spool.put(index, PurePosixPath(record.id).suffix, lambda: _member(record))
        return record.captions, Pair(f"{record.path}/{record.id}", self.table.video_number(index), path=path)


def _samples(shards: Sequence[Path], media: Media, what: What, left_out: list[str]) -> Iterator[Record]:
    is_empty, parted = True, ""
    for shard in shards:
        incomplete: set[str] = set()
        try:
            with tarfile.open(shard, "r:") as archive:
                files = (member for member in archive if member.isreg() and not _is_hidden(member.name))
                for key, members in groupby(files, lambda member: _key_and_field(member.name)[0]):
                    record = _sample(archive, shard, media, what, list(members))
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


def _sample(
    archive: tarfile.TarFile, shard: Path, media: Media, what: What, members: list[tarfile.TarInfo]
) -> Record | None:
    """The record of one sample; None if it lacks its clip, or its caption or label."""
    fields = {_key_and_field(member.name)[1]: member for member in members}
    clips = [member for field, member in fields.items() if _suffix(field) in SUFFIXES[media]]
    plain = [member for field, member in fields.items() if f".{field}" in SUFFIXES[media]]
    if len(clips) > 1 and len(plain) != 1:
        raise AnnotationError(
            f"{shard}: {clips[0].name} and {clips[1].name} are one sample: names must differ before their first dot"
        )
    texts = _texts(archive, shard, what, fields)
    if not clips or not texts:
        return None
    clip = (plain or clips)[0]
    return Record(str(shard.absolute()), clip.name, texts, media, offset=clip.offset_data, size=clip.size)


def _suffix(field: str) -> str:
    return "." + field.rpartition(".")[2]


def _texts(archive: tarfile.TarFile, shard: Path, what: What, fields: dict[str, tarfile.TarInfo]) -> tuple[str, ...]:
    """The captions or labels of one sample."""
    suffixes = _FIELDS[what]
    clip_suffixes = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}

    def rank(field: str) -> tuple[int, int]:
        about_clip = f".{field.partition('.')[0]}" in clip_suffixes
        return suffixes.index(_suffix(field)), 2 if about_clip else int("." in field)

    for field in sorted((field for field in fields if _suffix(field) in suffixes), key=rank):
        content = archive.extractfile(fields[field])
        assert content is not None  # it is a regular file
        try:
            text = content.read().decode("utf-8-sig")
            values = _of_json(json.loads(text), what) if _suffix(field) == ".json" else [text]
        except ValueError as error:
            raise AnnotationError(f"{shard}: {fields[field].name} holds no {what}: {error}") from None
        if texts := tuple(value.strip() for value in values if value.strip()):
            return texts
    return ()


def _of_json(about: Any, what: What) -> list[str]:
    value = about.get(what) if isinstance(about, dict) else None
    values = value if isinstance(value, list) else [value]
    kinds: tuple[type, ...] = (str,) if what == "caption" else (str, int, float)
    return [str(value) for value in values if isinstance(value, kinds) and not isinstance(value, bool)]


def _member(record: Record) -> bytes | None:
    assert record.offset is not None and record.size is not None
    try:
        with Path(record.path).open("rb") as shard:
            shard.seek(record.offset)
            return shard.read(record.size)
    except OSError:
        return None  # the shard was removed: decoding then reports each of its clips as "no such file"
