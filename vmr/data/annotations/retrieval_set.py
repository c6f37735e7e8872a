"""Annotation files: from whatever a data set ships to one `RetrievalSet` of texts, videos and who belongs to whom."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.media import VIDEO_SUFFIXES, is_video
from vmr.data.shapes.files import shapes_test_folder
from vmr.data.shapes.split import PARTS
from vmr.errors import AnnotationError, VmrError
from vmr.files import is_unicode, require_folder


@dataclass(frozen=True)
class VideoItem:
    """One video of a retrieval set. `path` is None when its file was not found."""

    id: str
    path: Path | None


@dataclass(frozen=True)
class Choice:
    """A question of a multiple-choice test: which of texts[i] for i in `texts` is about videos[video].

    answer: the place of the right one in `texts`, from 0.
    """

    video: int
    texts: tuple[int, ...]
    answer: int


@dataclass(frozen=True)
class RetrievalSet:
    """What an evaluation needs, whatever file it came from: videos[video_of_text[i]] is the video of texts[i].

    video_of_text: a tuple where several videos are right (a label that many clips share), or none is (the wrong choice
    of a question, which is in the gallery of texts and asks for nothing).
    needs_time: whether its texts cannot be told apart by single frames, so that an evaluation shows what it scores
    without motion as well.
    choices: the questions of a multiple-choice test; () for any other.

    Raises AnnotationError where a number names no text or no video.
    """

    name: str
    texts: tuple[str, ...]
    video_of_text: tuple[int | tuple[int, ...], ...]
    videos: tuple[VideoItem, ...]
    needs_time: bool = False
    choices: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.video_of_text):
            raise AnnotationError(f"{self.name}: {len(self.texts)} texts, but the videos of {len(self.video_of_text)}")
        named = {video for text in range(len(self.texts)) for video in self.videos_of(text)}
        named |= {choice.video for choice in self.choices}
        if not all(0 <= video < len(self.videos) for video in named):
            raise AnnotationError(f"{self.name}: a text or question is about none of its {len(self.videos)} videos")
        for choice in self.choices:
            if not (
                all(0 <= text < len(self.texts) for text in choice.texts) and 0 <= choice.answer < len(choice.texts)
            ):
                raise AnnotationError(f"{self.name}: {choice} has choices or an answer that are not there")

    def videos_of(self, text: int) -> tuple[int, ...]:
        """The numbers of the videos that texts[text] is about; none for the wrong choice of a question."""
        videos = self.video_of_text[text]
        return videos if isinstance(videos, tuple) else (videos,)

    def restricted_to(self, videos: Iterable[int]) -> "RetrievalSet":
        """What is left with these videos alone, which are numbered anew, and the texts and questions about them.

        A text of several videos stays while one of them does; one that is about none stays, and so does every choice
        of a question that stays.
        """
        kept = sorted(set(videos))
        new_video = {video: number for number, video in enumerate(kept)}
        offered = {text for choice in self.choices if choice.video in new_video for text in choice.texts}
        texts = [
            text
            for text in range(len(self.texts))
            if text in offered or not self.videos_of(text) or any(video in new_video for video in self.videos_of(text))
        ]
        new_text = {text: number for number, text in enumerate(texts)}

        def renumbered(entry: int | tuple[int, ...]) -> int | tuple[int, ...]:
            if isinstance(entry, tuple):
                return tuple(new_video[video] for video in entry if video in new_video)
            return new_video.get(entry, ())

        return replace(
            self,
            texts=tuple(self.texts[text] for text in texts),
            video_of_text=tuple(renumbered(self.video_of_text[text]) for text in texts),
            videos=tuple(self.videos[video] for video in kept),
            choices=tuple(
                Choice(new_video[choice.video], tuple(new_text[text] for text in choice.texts), choice.answer)
                for choice in self.choices
                if choice.video in new_video
            ),
        )


def load_retrieval_set(
    dataset: str | Path, video_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> RetrievalSet:
    """Load a .json annotation file, or a part of the synthetic benchmark by its name in SHAPES.

    The videos of an annotation file are looked up under `video_dir`, or beside the file when that is not given. The
    parts of the synthetic benchmark are rendered on first use and need no folder: see `vmr.data.shapes.files`.
    Published data sets, which need `data_dir`, are loaded by `vmr.eval.protocols.load`. Raises AnnotationError when the name is
    unknown, a folder is of no use, or the loader refuses what it finds.
    """
    if str(dataset).lower().endswith(".json"):
        if data_dir is not None:
            raise AnnotationError(
                f"{dataset} is an annotation file: say where its videos are by video_dir, not data_dir"
            )
        return load_annotations(dataset, Path(dataset).parent if video_dir is None else video_dir)
    name = str(dataset)
    if name not in SHAPES:
        raise unknown_dataset(name, SHAPES)
    if video_dir is not None or data_dir is not None:
        raise AnnotationError(f"data set '{name}' renders its own videos: give neither video_dir nor data_dir")
    return load_shapes(name)


def unknown_dataset(name: str, known: Iterable[str]) -> AnnotationError:
    """The error for a name that is not one of `known`; it names the nearest one."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    suggestion = f"did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(known)
    return AnnotationError(f"unknown data set '{name}': {suggestion}known: {listed}, or a .json annotation file")


def load_annotations(file: str | Path, video_dir: str | Path) -> RetrievalSet:
    """Load a JSON list of rows `{"video": "a.mp4", "caption": "text" or ["text", ...]}`; other keys are ignored.

    "video" is a path relative to `video_dir`, or an absolute one; without a video suffix the usual suffixes are tried.
    Rows that name the same video become one video with several captions. Captions are kept letter by letter.

    Raises AnnotationError, naming the file and the row (from 1), for anything that does not follow this format, and
    when not one of the videos is found.
    """
    file, video_dir = Path(file), Path(video_dir)
    rows = _read_json_rows(file)
    _require_data_folder(video_dir)
    pairs = [
        (video, caption)
        for number, row in enumerate(rows, start=1)
        for video, captions in [_parse_row(row, f"{file}: row {number}")]
        for caption in captions
    ]
    path_of_video = {video: _look_up(video_dir, video) for video, _ in pairs}
    if not any(path_of_video.values()):
        raise AnnotationError(
            f"{file}: none of its {len(path_of_video)} videos is in {video_dir}, first: {pairs[0][0]}"
        )
    return _collect(file.stem, pairs, path_of_video)


def load_shapes(name: str) -> RetrievalSet:
    """Load a test part of the synthetic benchmark by its name in SHAPES; the first time, it is rendered in seconds."""
    folder = shapes_test_folder(SHAPES[name], progress=True)
    return replace(load_annotations(folder / "test.json", folder), name=name, needs_time=True)


SHAPES = {"shapes" if part == "pairs" else f"shapes:{part}": part for part in PARTS}


def _collect(name: str, pairs: Iterable[tuple[str, str]], path_of_video: dict[str, Path | None]) -> RetrievalSet:
    """Number the videos in order of appearance; two spellings that lead to the same file are one video."""
    number_of: dict[str | Path, int] = {}
    videos: list[VideoItem] = []
    texts: list[str] = []
    video_of_text: list[int] = []
    for video, text in pairs:
        path = path_of_video[video]
        number = number_of.setdefault(path or video, len(videos))
        if number == len(videos):
            videos.append(VideoItem(video, path))
        texts.append(text)
        video_of_text.append(number)
    return RetrievalSet(name, tuple(texts), tuple(video_of_text), tuple(videos))


def _look_up(video_dir: Path, video: str) -> Path | None:
    named = video_dir / video  # an absolute `video` replaces video_dir
    if named.is_file():
        return named
    if is_video(named):
        return None
    # Not with_suffix: ids such as "clip.12_30" contain dots that are no suffix.
    guesses = (named.with_name(named.name + suffix) for suffix in VIDEO_SUFFIXES)
    return next((guess for guess in guesses if guess.is_file()), None)


def _parse_row(row: Any, where: str) -> tuple[str, list[str]]:
    """Return the video and the captions of one JSON row; `where` starts the error message."""
    if not isinstance(row, dict):
        raise AnnotationError(f'{where} is {row!r:.60}: expected an object with "video" and "caption"')
    for key in ("video", "caption"):
        if key not in row:
            raise AnnotationError(f'{where} has no "{key}" (its keys: {", ".join(row) or "none"})')
    video, caption = row["video"], row["caption"]
    if not isinstance(video, str) or not video.strip():
        raise AnnotationError(f'{where}: "video" is {video!r:.60}: expected a path')
    captions = caption if isinstance(caption, list) else [caption]
    if not captions:
        raise AnnotationError(f'{where}: "caption" is an empty list: give at least one caption or remove the row')
    for text in captions:
        if not isinstance(text, str):
            raise AnnotationError(f'{where}: "caption" is {caption!r:.60}: expected a string or a list of strings')
        if not text.strip():
            raise AnnotationError(f'{where}: "caption" is blank: write one or remove the row')
        if not is_unicode(text):
            raise AnnotationError(f'{where}: "caption" is {text!r:.60}: it holds half a surrogate pair')
    return str(PurePosixPath(video)), captions  # "./a.mp4" and "a.mp4" are the same path


def _read_json_rows(file: Path) -> list[Any]:
    try:
        rows = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{file}: line {error.lineno} is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise AnnotationError(f"{file}: not a list of rows: {error}") from None
    if not isinstance(rows, list):
        raise AnnotationError(f'{file}: holds a {type(rows).__name__}: expected a list of {{"video", "caption"}} rows')
    if not rows:
        raise AnnotationError(f"{file}: an empty list: there is nothing to retrieve")
    return rows


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # some published files start with a byte order mark
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise AnnotationError(f"{file}: cannot read this annotation file: {error.strerror}") from None


def _require_data_folder(folder: Path) -> None:
    try:
        require_folder(folder)
    except VmrError as error:
        raise AnnotationError(str(error)) from None
