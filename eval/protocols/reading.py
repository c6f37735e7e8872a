"""From the annotation file of a protocol to its texts, and the checks that they are the published ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vmr.data.annotations.formats import read_annotations
from vmr.data.annotations.json_list import json_items
from vmr.data.annotations.locator import MAX_DEPTH, DataFolder, media_id
from vmr.data.annotations.records import Record, id_of
from vmr.data.annotations.retrieval_set import Choice
from vmr.data.annotations.rows import check_caption, check_path, values_of
from vmr.errors import AnnotationError
from vmr.eval.protocols.protocol import Protocol, Source, ids_hash, pairs_hash


@dataclass(frozen=True)
class Found:
    """The files that a protocol will be read from.

    Attributes:
        source: which of the protocol's sources they are.
        file: the captions.
        only: the list of the split; None if the source needs none.
    """

    source: Source
    file: Path
    only: Path | None


def find_annotations(protocol: Protocol, folder: DataFolder) -> Found:
    """Find the first source of a protocol whose files are all in a folder.

    Args:
        protocol: the protocol.
        folder: where to look.

    Raises:
        AnnotationError: there is no such source; the message names the files that were searched.
    """
    lacking: list[str] = []
    for source in protocol.sources:
        file = folder.find([source.file])
        if file is None:
            continue
        only = folder.find(source.only, beside=file)
        if only is not None or not source.only:
            return Found(source, file, only)
        lacking.append(f"{file} is there, but no list of the split beside it ({' or '.join(source.only)})")
    folder.require_all_listed()
    names = ", ".join(source.file for source in protocol.sources)
    problem = lacking[0] if lacking else f"none of {names}"
    raise AnnotationError(f"{folder.path}: {problem} within {MAX_DEPTH} folder levels; {protocol.where}")


@dataclass
class Texts:
    """The texts of an evaluation, and the videos that they describe, before the files of the videos are searched.

    Attributes:
        names: of each video, as in the annotation file.
        ids: of each video, without folders and suffix.
        texts: the texts, unchanged.
        videos_of: the videos of each text, as in `RetrievalSet.video_of_text`.
        choices: the questions of a multiple-choice test.
    """

    names: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    videos_of: list[int | tuple[int, ...]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    _number_of: dict[str, int] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(id of a video, text) for each text and each video that it is about."""
        every = zip(self.texts, self.videos_of, strict=True)
        return [(self.ids[video], text) for text, videos in every for video in _as_tuple(videos)]

    def add_video(self, name: str) -> int:
        """Return the number of a video; add the video if its id is new."""
        number = self._number_of.setdefault(media_id(name), len(self.ids))
        if number == len(self.ids):
            self.names.append(name)
            self.ids.append(media_id(name))
        return number

    def add_text(self, text: str, videos: int | tuple[int, ...]) -> int:
        """Add a text about some videos, and return its number."""
        self.texts.append(text)
        self.videos_of.append(videos)
        return len(self.texts) - 1


def read_texts(protocol: Protocol, found: Found) -> Texts:
    """Read the texts of a protocol.

    Args:
        protocol: says which captions of a video count.
        found: the files to read.

    Returns:
        The unchanged texts in the order of the file.

    Raises:
        AnnotationError: a file does not follow its format, or a caption is blank. The message names the file.
    """
    if found.source.kind == "choices":
        return _read_choices(found.file)
    texts = Texts()
    number_of: dict[str, int] = {}  # the number of a caption that several videos share
    captioned: set[int] = set()
    for record in _records(found):
        video = texts.add_video(record.path)
        for caption in record.captions:
            check_caption(caption, f"{found.file}: {record.path}")
            if protocol.captions == "first" and video in captioned:
                break
            captioned.add(video)
            if protocol.captions != "shared":
                texts.add_text(caption, video)
            elif caption not in number_of:
                number_of[caption] = texts.add_text(caption, (video,))
            else:
                sharing = texts.videos_of[number_of[caption]]
                texts.videos_of[number_of[caption]] = tuple(dict.fromkeys((*_as_tuple(sharing), video)))
    return texts


def differences(protocol: Protocol, found: Found, texts: Texts) -> list[str]:
    """Compare texts with the published ones, by counts and then by hash.

    Args:
        protocol: the protocol.
        found: the files that the texts were read from.
        texts: the texts that were read.

    Returns:
        One line for each difference; none if the texts are the published ones.
    """
    source, counts = found.source, (len(texts.texts), len(texts.ids))
    expected = (source.num_texts, source.num_videos)
    if any(want is not None and have != want for have, want in zip(counts, expected, strict=True)):
        wanted = [f"{want} {what}" for want, what in zip(expected, ("captions", "videos"), strict=True) if want]
        return [
            f"{found.file}: {counts[0]} captions of {counts[1]} videos, but {protocol.title} has "
            f'{" of ".join(wanted)}; write a subset as a .json list of {{"video", "caption"}}'
        ]
    hashes = (
        ("videos", source.videos_sha256, ids_hash(texts.ids)),
        ("captions", source.texts_sha256, pairs_hash(texts.pairs)),
    )
    return [
        f"{found.file}: as many {what} as {protocol.title} has, but not the same ones (their SHA-256 begins "
        f"{is_now[:16]}, expected {published[:16]}): get the published file, or give your own as a .json list"
        for what, published, is_now in hashes
        if published is not None and is_now != published
    ]


def _records(found: Found) -> Iterator[Record]:
    if found.source.kind == "labels":
        return _read_labels(found.file)
    return read_annotations(found.file, found.source.kind, found.only)


def _read_labels(file: Path) -> Iterator[Record]:
    """Rows of {"video": path or [path, ...], "caption": label}: all videos that share a label are right."""
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        video, caption = values_of(row, ("video", "caption"), where)
        videos = video if isinstance(video, list) else [video]
        if not videos or not all(isinstance(name, str) and name.strip() for name in videos):
            raise AnnotationError(f'{where}: "video" is {video!r:.60}: expected a path or a list of paths')
        if not isinstance(caption, str):
            raise AnnotationError(f'{where}: "caption" is {caption!r:.60}: expected a text')
        for name in videos:
            yield Record(name, id_of(name), (caption,))


def _read_choices(file: Path) -> Texts:
    """Rows of {"video": path, "caption": [text, ...], "answer": the place of the right one, from 0}."""
    texts = Texts()
    for number, row in enumerate(json_items(file), start=1):
        where = f"{file}: row {number}"
        name, captions, answer = values_of(row, ("video", "caption", "answer"), where)
        check_path(name, "video", where)
        if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
            raise AnnotationError(f'{where}: "caption" is {captions!r:.60}: expected a list of texts')
        if type(answer) is not int or not 0 <= answer < len(captions):
            raise AnnotationError(
                f'{where}: "answer" is {answer!r:.60}: expected a place from 0 to {len(captions) - 1}'
            )
        video = texts.add_video(name)
        numbers = []
        for place, text in enumerate(captions):
            check_caption(text, where)
            numbers.append(texts.add_text(text, video if place == answer else ()))
        texts.choices.append(Choice(video, tuple(numbers), answer))
    return texts


def _as_tuple(videos: int | tuple[int, ...]) -> tuple[int, ...]:
    return videos if isinstance(videos, tuple) else (videos,)
