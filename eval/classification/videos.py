"""The videos of an evaluation: which clips of a list belong together, and where their views come from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from vmr.data.labels.label_set import LabelledItem, LabelSet
from vmr.data.shapes.actions import ACTIONS, ACTIONS_VERSION, TEST_LAYOUTS, render_test_action
from vmr.data.shapes.drawing import ClipPixels
from vmr.errors import AnnotationError
from vmr.eval.classification.report.report import Join
from vmr.targets import Label

Draw = Callable[[int, int], ClipPixels]
"""draw(num_frames, size): uint8 (T, 3, S, S)."""


@dataclass(frozen=True)
class Clip:
    """A file, or a part of one, whose views are scored; or a clip that is drawn.

    Attributes:
        name: what failures call it.
        path: the file or folder of frames; "" where `draw` is given.
        span: the part of the file in seconds; None for all of it.
        draw: draws the clip, as its only view.
    """

    name: str
    path: str = ""
    span: tuple[float, float] | None = None
    draw: Draw | None = None


@dataclass(frozen=True)
class Video:
    """What is scored once.

    Attributes:
        name: its name in the report.
        label: of the data set, before its classes are matched with the classifier's.
        clips: whose views are averaged; for the join `basename` there is one.
    """

    name: str
    label: Label
    clips: tuple[Clip, ...]

    @property
    def missing(self) -> bool:
        """Whether its file is not there."""
        return not (self.clips[0].path or self.clips[0].draw)


def videos_of(data: LabelSet, join: Join) -> tuple[list[Video], list[str]]:
    """Put the items of a data set together to videos.

    Args:
        data: the data set.
        join: what counts as one video.

    Returns:
        The videos, also those whose files are missing, in the order of the list; and what is to be noted about them.

    Raises:
        AnnotationError: two items of one video have different labels, unless they were joined by the names of their
            files: then the label of the first one counts, and the notes say so.
    """
    grouped: dict[Hashable, list[LabelledItem]] = {}
    for item in _listed(data):
        grouped.setdefault(_key(item, join), []).append(item)
    videos, num_merged, num_unlike = [], 0, 0
    for items in grouped.values():
        first = items[0]
        unlike = next((item for item in items if item.label != first.label), None)
        if unlike is not None and join != "basename":
            raise AnnotationError(
                f"{data.name}: {first.id} is in the list with the labels {first.label} and {unlike.label}: keep one"
            )
        num_unlike += unlike is not None
        num_merged += len({item.path or item.id for item in items}) > 1
        counted = items[:1] if join == "basename" else items  # no other file takes the place of the first
        distinct = {(item.path, item.start_s, item.end_s): item for item in counted}  # a line that stands twice
        videos.append(Video(_name(first, join), first.label, tuple(_clip(item) for item in distinct.values())))
    notes = []
    if join == "basename":
        unlike_words = f", of which {num_unlike} stand for different labels" if num_unlike else ""
        num_clips = sum(map(len, grouped.values()))
        notes.append(
            f"joined by the names of the files: {num_clips} clips count as {len(videos)}; of each name the first "
            f"file counts, as in upstream's code ({num_merged} names stand for several files{unlike_words})"
        )
    return videos, notes


def action_videos() -> list[Video]:
    """Return the test clips of `shapes-actions`, which are drawn and need no files."""
    return [
        Video(name, number % len(ACTIONS), (Clip(name, draw=partial(render_test_action, number)),))
        for number in range(len(ACTIONS) * TEST_LAYOUTS)
        for name in (f"shapes-actions-{ACTIONS_VERSION}:{number}",)
    ]


def files_of(videos: Sequence[Video]) -> dict[str, Path]:
    """Return the first file of each video, for the pictures of a page."""
    return {video.name: Path(video.clips[0].path) for video in videos if video.clips[0].path}


def _listed(data: LabelSet) -> Iterator[LabelledItem]:
    """The items in the order of the list, with those whose files are missing: these have no path."""
    done = 0
    for file in data.missing:
        yield from data.items[done : file.place]
        done = file.place
        if not file.spans:
            yield LabelledItem("", file.label, file.id)
        yield from (LabelledItem("", file.label, file.id, start_s, end_s) for start_s, end_s in file.spans)
    yield from data.items[done:]


def _key(item: LabelledItem, join: Join) -> Hashable:
    if join == "basename":
        return _basename(item.id)
    path = item.path or item.id
    return (path, item.start_s, item.end_s) if join == "clip" else path


def _basename(id: str) -> str:
    return PurePosixPath(id).name.partition(".")[0]


def _name(item: LabelledItem, join: Join) -> str:
    if join == "basename":
        return _basename(item.id)
    return _clip_name(item) if join == "clip" else item.id


def _clip_name(item: LabelledItem) -> str:
    if item.start_s is None or item.end_s is None:
        return item.id
    return f"{item.id} {item.start_s:g}-{item.end_s:g} s"


def _clip(item: LabelledItem) -> Clip:
    span = None if item.start_s is None or item.end_s is None else (item.start_s, item.end_s)
    return Clip(_clip_name(item), item.path, span)
