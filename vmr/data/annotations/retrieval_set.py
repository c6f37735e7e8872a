"""Retrieval sets: the texts and videos of an evaluation, and which of them belong together."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vmr.data.annotations.locator import MediaFolder, require_data_folder
from vmr.data.annotations.rows import check_caption, read_json
from vmr.data.shapes.files import shapes_test_folder
from vmr.data.shapes.split import PARTS
from vmr.errors import AnnotationError

SHAPES = {"shapes" if part == "pairs" else f"shapes:{part}": part for part in PARTS}
"""Name -> test part of the synthetic benchmark."""


@dataclass(frozen=True)
class VideoItem:
    """One video of a retrieval set.

    Attributes:
        id: the data set's name for it.
        path: its file; None if it was not found.
    """

    id: str
    path: Path | None


@dataclass(frozen=True)
class Choice:
    """A question of a multiple-choice test: which of several texts is about a video?

    Attributes:
        video: the number of the video in the retrieval set.
        texts: the numbers of the texts to choose from.
        answer: the position of the right text in `texts`, from 0.
    """

    video: int
    texts: tuple[int, ...]
    answer: int


@dataclass(frozen=True)
class RetrievalSet:
    """The texts and videos of an evaluation: videos[video_of_text[i]] is the video of texts[i].

    Attributes:
        name: the name of the data set.
        texts: the captions, unchanged.
        video_of_text: for each text the number of its video. It is a tuple if several videos are right (a label that
            many clips share), or if none is right (a wrong choice of a question, which is in the gallery of texts
            but is no query).
        videos: the gallery.
        needs_time: whether its texts cannot be told apart by single frames; an evaluation then also shows the scores
            without motion.
        choices: the questions of a multiple-choice test; () for any other data set.

    Raises:
        AnnotationError: a number names no text or no video.
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
        """Return the numbers of the videos that texts[text] is about; none for the wrong choice of a question."""
        videos = self.video_of_text[text]
        return videos if isinstance(videos, tuple) else (videos,)

    def restricted_to(self, videos: Iterable[int]) -> "RetrievalSet":
        """Return the part of this set that belongs to some of its videos.

        A text about several videos stays if one of these videos stays. A text about no video stays, and so does every
        choice of a question that stays.

        Args:
            videos: the numbers of the videos to keep; they get new numbers.
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
    """Load a .json annotation file, or a part of the synthetic benchmark by its name.

    Published data sets are loaded by `vmr.eval.protocols.load`.

    Args:
        dataset: a file, see `load_annotations`, or a name in SHAPES. The parts of the synthetic benchmark are rendered
            on first use, see `vmr.data.shapes.files`.
        video_dir: the folder of a file's videos; by default the folder of the file. None for a name.
        data_dir: must be None; only published data sets have one.

    Raises:
        AnnotationError: the name is unknown, a folder was given that is not needed, or the file is refused.
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
    """Return the error for the name of a data set that is not one of `known`; it names the nearest one."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    suggestion = f"did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(known)
    return AnnotationError(f"unknown data set '{name}': {suggestion}known: {listed}, or a .json annotation file")


def load_annotations(file: str | Path, video_dir: str | Path) -> RetrievalSet:
    """Load a JSON list of rows `{"video": "a.mp4", "caption": "text" or ["text", ...]}`; other keys are ignored.

    Rows that name the same video become one video with several captions.

    Args:
        file: the list.
        video_dir: the folder of the videos. A "video" is a path relative to it, or absolute; if it has no video suffix,
            the usual suffixes are tried.

    Returns:
        The captions, unchanged, and the videos in order of appearance. A video that is not found has no path.

    Raises:
        AnnotationError: the file does not follow this format (the message names the file and the row, from 1), or none
            of the videos is found.
    """
    file, video_dir = Path(file), Path(video_dir)
    pairs: list[tuple[str, str]] = []
    for number, record in enumerate(read_json(file, whole_videos=True), start=1):
        for caption in record.captions:
            check_caption(caption, f"{file}: row {number}")
            pairs.append((record.path, caption))
    require_data_folder(video_dir)
    folder = MediaFolder(video_dir)
    path_of_video = {video: folder.find(video, "video") for video, _ in pairs}
    if not any(path_of_video.values()):
        raise AnnotationError(
            f"{file}: none of its {len(path_of_video)} videos is in {video_dir}, first: {pairs[0][0]}"
        )
    return _collect(file.stem, pairs, path_of_video)


def load_shapes(name: str) -> RetrievalSet:
    """Load a test part of the synthetic benchmark by its name in SHAPES; the first time, it is rendered in seconds."""
    folder = shapes_test_folder(SHAPES[name], progress=True)
    return replace(load_annotations(folder / "test.json", folder), name=name, needs_time=True)


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
