"""The parts of a protocol of classification. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import get_args

from vmr.checks import whole_number
from vmr.data.labels.places import parse_split
from vmr.data.media import Media
from vmr.data.views.spec import ViewSpec
from vmr.errors import VmrError
from vmr.targets import FrameRule, Target

RULES = {
    "size of a view": "the classifier's own number of frames and pixels a side",
    "score": "the mean over the views of the softmax of their logits, each in float32; a regression averages numbers",
    "ties": "count against the video: a class that scores as much as the right one is ranked before it",
    "top-5": "not counted where there are five classes or fewer",
    "join": "the views of a video are those of one path, with its folders",
}
"""The rules that all protocols share. A change here changes every protocol and its hash."""

_DESCRIPTIVE = ("title", "where", "note", "source")  # fields whose wording changes no score


@dataclass(frozen=True)
class ClassificationProtocol:
    """The rules of an evaluation; scores by the same rules can be compared.

    Attributes:
        name: its name for `vmr-eval --task classify --dataset`.
        title: its name in papers.
        version: raised when the rules change.
        note: a description, and similar protocols that it is easily confused with.
        source: the source of these facts.
        where: where to get the files.
        format: how the list is written, one of the formats of `vmr.data.labels`; "auto" to find out.
        split: which list or subfolder of the data set is scored: train, val or test, or test2 for the second of
            several; None if there is only one.
        target: what is predicted.
        media: video or image.
        num_classes: how many classes there are; None if the data says.
        num_videos: how many videos the published list has; None if that is uncertain.
        frames: which frames a view takes for a classifier without a rule of its own, see `vmr.data.views`; None for
            `sparse`. A report says which rule was followed.
        num_segments: choices of frames of a video.
        num_crops: places in the picture, 1 or 3.
        overlap: only the classes that a second data set has too are scored, and only they compete. This is its name:
            the names of its classes are read from the file `NAME_classes.txt`.
        needs_time: whether the classes cannot be told apart by single frames, so that controls are scored too.

    Raises:
        VmrError: a value is not allowed.
    """

    name: str
    title: str
    version: int
    note: str
    source: str
    where: str = ""
    format: str = "auto"
    split: str | None = None
    target: Target = "single"
    media: Media = "video"
    num_classes: int | None = None
    num_videos: int | None = None
    frames: FrameRule | None = None
    num_segments: int = 1
    num_crops: int = 1
    overlap: str | None = None
    needs_time: bool = False

    def __post_init__(self) -> None:
        try:
            for name in ("version", "num_classes", "num_videos"):
                if getattr(self, name) is not None:
                    whole_number(name, getattr(self, name))
            parse_split(self.split)
            self.view_spec(1, 1, self.frames or "sparse")
        except VmrError as error:
            raise VmrError(f"protocol {self.name}: {error}") from None
        wrong = {
            "needs a title, a note and a source": not (self.title and self.note and self.source),
            f"target must be one of {', '.join(get_args(Target))}": self.target not in get_args(Target),
            "media must be video or image": self.media not in get_args(Media),
            "a picture has one segment": self.media == "image" and self.num_segments != 1,
            "only one label for each video can be restricted to an overlap": self.overlap is not None
            and self.target != "single",
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(f"protocol {self.name}: {reason}")

    def frames_for(self, own: FrameRule | None) -> FrameRule:
        """Return the rule by which a classifier is shown frames.

        Args:
            own: the classifier's rule; None if it has none. The rules for videos and folders of frames of
                Something-Something are one rule, of which the protocol says the form.
        """
        same = own is None or {own, self.frames} == {"sthsth", "sthsth_frames"}
        return (self.frames if same else own) or "sparse"

    def view_spec(self, num_frames: int, size: int, frames: FrameRule) -> ViewSpec:
        """Return the views of a video for a classifier.

        Args:
            num_frames: the classifier's.
            size: the classifier's, in pixels.
            frames: the rule.

        Raises:
            VmrError: these views cannot be.
        """
        return ViewSpec(
            num_frames,
            size,
            frames,
            num_segments=self.num_segments,
            num_crops=self.num_crops,
            resize="image" if self.media == "image" else "video",
        )

    @cached_property
    def hash(self) -> str:
        """16 hex digits that are equal for protocols with equal rules, including RULES; wording does not count."""
        fields = {name: value for name, value in asdict(self).items() if name not in _DESCRIPTIVE}
        return hashlib.sha256(json.dumps(fields | {"rules": RULES}, sort_keys=True).encode()).hexdigest()[:16]
