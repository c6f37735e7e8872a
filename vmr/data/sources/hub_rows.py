"""Rows of a data set of the Hugging Face hub, or of a folder in one of its formats: each is a clip and its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vmr.data.annotations.locator import MediaFolder
from vmr.data.extras import import_extra
from vmr.data.media import Media
from vmr.data.sources.source import CaptionedClip
from vmr.data.sources.spool import Spool
from vmr.errors import VmrError


class HubRow(NamedTuple):
    """The content of one row.

    Attributes:
        captions: the captions that are not empty; a row may have none.
        path: the path of the clip's file, or the name that its bytes had; None if the row has neither.
        content: the bytes of the clip; None where the row has none.
    """

    captions: tuple[str, ...]
    path: str | None
    content: bytes | None


@dataclass(frozen=True)
class HubData:
    """A data set, and the meaning of its columns.

    Attributes:
        name: a repository of the hub, a folder that `load_dataset` understands (parquet files, ...), or one that
            `save_to_disk` wrote.
        split: of the data set.
        video_column: a column of type Video or Image, of bytes, or of paths relative to `root`.
        caption_column: a column of texts, or of lists of texts to choose from.
        media: what the clips are.
        root: the folder of the clips where rows hold paths.
        subset: of a data set that has several configurations.
        revision: of a repository, a branch, tag or commit.
        labels: whether `caption_column` holds labels, which may also be numbers; they are read as texts.
    """

    name: str
    split: str = "train"
    video_column: str = "video"
    caption_column: str = "caption"
    media: Media = "video"
    root: str | Path = "."
    subset: str | None = None
    revision: str | None = None
    labels: bool = False

    @property
    def title(self) -> str:
        """Its name in logs."""
        return f"{self.name}:{self.split}"

    def load(self, *, stream: bool) -> Any:
        """Load the columns of clips and captions; nothing in them is decoded.

        Args:
            stream: whether to return an IterableDataset, which is downloaded while it is read, rather than a Dataset,
                which is downloaded first.

        Raises:
            MissingExtraError: `datasets` is not installed.
            VmrError: there is no such data set, split or column.
        """
        datasets = import_extra("datasets")
        try:
            if any(Path(self.name, file).is_file() for file in ("dataset_info.json", "dataset_dict.json")):
                if stream:
                    raise VmrError(f"{self.name}: was written by save_to_disk, so there is nothing to stream")
                rows = datasets.load_from_disk(self.name)
                if isinstance(rows, datasets.DatasetDict):
                    if self.split not in rows:
                        raise VmrError(f"{self.name}: no split '{self.split}' (it has {', '.join(rows)})")
                    rows = rows[self.split]
            else:
                rows = datasets.load_dataset(
                    self.name, self.subset, split=self.split, revision=self.revision, streaming=stream
                )
            there = rows.column_names or list(next(iter(rows), {}))  # a stream may know them from its first row only
        except (OSError, ValueError, RuntimeError, KeyError) as error:  # `datasets` derives its own from these
            raise VmrError(f"{self.name}: cannot load this data set: {' '.join(str(error).split())}") from None
        missing = [column for column in (self.video_column, self.caption_column) if column not in there]
        if missing:
            raise VmrError(f"{self.name}: no column '{missing[0]}' (it has {', '.join(there)})")
        for kind in (datasets.Video, datasets.Image):
            if rows.features is not None and isinstance(rows.features[self.video_column], kind):
                rows = rows.cast_column(self.video_column, kind(decode=False))
        return rows.select_columns([self.video_column, self.caption_column])

    def read(self, row: dict[str, Any]) -> HubRow:
        """Read a row.

        Args:
            row: its clip may be a path, bytes, or a dict of both, and its caption a text or a list of texts.

        Raises:
            VmrError: the row holds another type of value.
        """
        clip, captions = row[self.video_column], row[self.caption_column]
        captions = captions if isinstance(captions, list) else [captions]
        if self.labels:
            captions = [str(one) if type(one) in (int, float) else one for one in captions]
        content, path = (clip.get("bytes"), clip.get("path")) if isinstance(clip, dict) else (clip, None)
        if isinstance(content, str):
            content, path = None, content
        self._expect(self.caption_column, "a text or a list of texts", str, *captions)
        self._expect(self.video_column, "a path, bytes or a dict of both", bytes, content)
        self._expect(self.video_column, "a path, bytes or a dict of both", str, path)
        return HubRow(tuple(text for text in captions if text and text.strip()), path, content)

    def _expect(self, column: str, expected: str, kind: type, *values: object) -> None:
        for value in values:
            if value is not None and not isinstance(value, kind):
                raise VmrError(f"{self.title}: column '{column}' holds {type(value).__name__}, expected {expected}")


class RowFiles:
    """The files that are decoded for the clips of rows: files below `data.root`, or temporary files.

    Clips that are bytes, and clips whose paths are addresses such as "zip://a.mp4::b.zip", become temporary files.

    Args:
        data: the data set.
        keep: how many temporary files there may be, see `Spool`.
        folder: of the temporary files, see `Spool`.
    """

    def __init__(self, data: HubData, keep: int, folder: Path | None = None) -> None:
        self._data = data
        self._folder = MediaFolder(data.root)
        self._spool = Spool(keep, folder)

    def captioned(self, row: HubRow, number: int, name: str, id: int) -> CaptionedClip:
        """Return the file of a row with its captions.

        A row without a caption, and a row whose clip does not exist, gets a path of no file, so that it counts as a
        clip that cannot be decoded.

        Args:
            row: the row.
            number: different for each row of the data set.
            name: its name in a list of failures.
            id: the id of the video.

        Raises:
            VmrError: an address cannot be read, and the reason is not that the clip does not exist.
        """
        if row.path:
            name = f"{name} ({row.path})"
        if not row.captions:
            lacks = f"{name} (no {'label' if self._data.labels else 'caption'})"
            return CaptionedClip(lacks, id, ("",), self._spool.put(number, "", lambda: None))
        if row.content is None and row.path and "://" not in row.path:
            return CaptionedClip(name, id, row.captions, self._folder.locate(row.path, self._data.media))
        suffix = PurePosixPath((row.path or "").partition("::")[0]).suffix
        return CaptionedClip(name, id, row.captions, self._spool.put(number, suffix, lambda: _bytes_of(row)))


def _bytes_of(row: HubRow) -> bytes | None:
    """The bytes of the clip, read from its address if it has one; None if there is no clip."""
    if row.content is not None or not row.path:
        return row.content
    try:
        with import_extra("fsspec").open(row.path, "rb") as file:
            content: bytes = file.read()
            return content
    except (FileNotFoundError, KeyError):  # the latter from archives
        return None
    except Exception as error:  # errors of the package that reads this kind of address
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise VmrError(f"{row.path}: cannot be read ({message}); the same command goes on with the run") from error
