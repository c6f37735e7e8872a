"""Rows of a data set of the Hugging Face hub, or of a folder in one of its formats: a clip and its captions each."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vmr.data.annotated_source import locate
from vmr.data.records import Media, import_extra
from vmr.data.spool import Spool
from vmr.data.train_source import Captioned
from vmr.errors import VmrError


class HubRow(NamedTuple):
    """captions: those that are not empty. path: of the clip's file, or what its bytes were called. content: its bytes.

    A row may lack its clip, having neither, and its captions.
    """

    captions: tuple[str, ...]
    path: str | None
    content: bytes | None


def load_rows(name: str, split: str, columns: tuple[str, str], *, stream: bool) -> Any:
    """The data set as `datasets` has it, with the columns of clips and captions only, and nothing in them decoded.

    stream: an IterableDataset, which is downloaded as it is read, rather than a Dataset, which is downloaded first.
    Raises MissingExtraError without `datasets`, VmrError for a data set, split or column that is not there.
    """
    datasets = import_extra("datasets")
    try:
        if any(Path(name, file).is_file() for file in ("dataset_info.json", "dataset_dict.json")):
            if stream:
                raise VmrError(f"{name}: was written by save_to_disk, and so needs no streaming: leave out stream")
            rows = datasets.load_from_disk(name)
            rows = rows[split] if isinstance(rows, datasets.DatasetDict) else rows
        else:
            rows = datasets.load_dataset(name, split=split, streaming=stream)
    except KeyError:
        raise VmrError(f"{name}: no split '{split}' (it has {', '.join(rows)})") from None
    except (OSError, ValueError, RuntimeError) as error:  # `datasets` derives its own from these
        raise VmrError(f"{name}: cannot load this data set: {' '.join(str(error).split())}") from None
    there = rows.column_names or list(next(iter(rows), {}))  # a stream may know them from its first row only
    missing = [column for column in columns if column not in there]
    if missing:
        raise VmrError(f"{name}: no column '{missing[0]}' (it has {', '.join(there)})")
    for kind in (datasets.Video, datasets.Image):
        if rows.features is not None and isinstance(rows.features[columns[0]], kind):
            rows = rows.cast_column(columns[0], kind(decode=False))
    return rows.select_columns(list(columns))


def read_row(row: dict[str, Any], columns: tuple[str, str]) -> HubRow:
    """What a row holds, whether its clip is a path, bytes, or a dict of both, and its caption a text or a list."""
    clip, captions = (row[column] for column in columns)
    captions = captions if isinstance(captions, list) else [captions]
    content, path = (clip.get("bytes"), clip.get("path")) if isinstance(clip, dict) else (clip, None)
    if isinstance(content, str):
        content, path = None, content
    return HubRow(tuple(text for text in captions if text and text.strip()), path, content)


class RowFiles:
    """Makes clips in rows files to decode: those below `root` that paths lead to, or temporary ones of bytes."""

    def __init__(self, root: str | Path, media: Media, keep: int) -> None:
        self._root, self._media = Path(root), media
        self._spool = Spool(keep)

    def captioned(self, row: HubRow, number: int, name: str, id: int) -> Captioned:
        """Row `number`. One that has no caption counts as a clip that cannot be decoded."""
        if not row.captions:
            return Captioned(f"{name} (no caption)", id, ("",), self._spool.put(number, "", lambda: None))
        if row.content is None and row.path:
            return Captioned(f"{name} ({row.path})", id, row.captions, locate(self._root, row.path, self._media))
        suffix = PurePosixPath(row.path or "").suffix
        return Captioned(name, id, row.captions, self._spool.put(number, suffix, lambda: row.content))
