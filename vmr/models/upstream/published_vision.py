"""The classifiers, and the encoders of masked pre-training, that VideoMamba's authors published, as data.

Imports no torch. `vmr.models.classification.released` loads them. Scores are percentages, with the views that the paper
(arXiv:2403.06977) states; vmr has not measured them. Where the model zoo links to a wrong file, the right one is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmr.models.hub import download_file
from vmr.targets import FrameRule

REPOSITORY = "OpenGVLab/VideoMamba"
"""Where the files are on the Hugging Face hub."""

SCORES_SOURCE = "OpenGVLab/VideoMamba at f3427e42, videomamba/{image_sm,video_sm}/MODEL_ZOO.md, and arXiv:2403.06977"

Score = tuple[float, float | None]
"""Top-1 and top-5 in percent; None where it was not published."""


@dataclass(frozen=True)
class TestSet:
    """What a published classifier was tested on, and how.

    Attributes:
        title: name of the data set.
        num_classes: C.
        views: segments of a video, and crops of each.
        frames: which frames of a video a clip takes.
    """

    title: str
    num_classes: int
    views: tuple[int, int]
    frames: FrameRule = "sparse"


TEST_SETS = {
    "in1k": TestSet("ImageNet-1K", 1000, (1, 1)),
    "k400": TestSet("Kinetics-400", 400, (4, 3)),
    "ssv2": TestSet("Something-Something V2", 174, (2, 3), "sthsth"),
    "breakfast": TestSet("Breakfast", 10, (4, 3)),
    "coin": TestSet("COIN", 180, (10, 3)),
}


@dataclass(frozen=True)
class PublishedVision:
    """A published file of a classifier or of an encoder.

    Attributes:
        name: what `load_model` takes.
        file: name of the file in the repository.
        size: the size of the network, a key of `vmr.models.videomamba.backbone.SIZES`.
        data: what it was trained and tested on, a key of TEST_SETS.
        num_frames: T, frames of a clip; 1 for images.
        image_size: side of the frames in pixels.
        masked: whether masked pre-training came first.
        has_head: whether it is a classifier; false for an encoder of masked pre-training.
        score: top-1 and top-5; None for an encoder.
        views: segments of a video, and crops of each, that the score was computed with.
        frames: which frames of a video a clip takes.
        notes: what to know about the score or the file.
        defect: what is wrong with the weights; said whenever they are loaded. None if nothing is known.
    """

    name: str
    file: str
    size: str
    data: str
    num_frames: int
    image_size: int
    masked: bool
    has_head: bool
    score: Score | None
    views: tuple[int, int]
    frames: FrameRule
    notes: tuple[str, ...] = ()
    defect: str | None = None

    @property
    def num_classes(self) -> int:
        """C; 0 for an encoder."""
        return TEST_SETS[self.data].num_classes if self.has_head else 0

    @property
    def url(self) -> str:
        """Address of the file, for downloading it by hand."""
        return f"https://huggingface.co/{REPOSITORY}/resolve/main/{self.file}"

    @property
    def clip(self) -> str:
        """Its input in words."""
        pixels = f"{self.image_size} x {self.image_size} pixels"
        return f"images of {pixels}" if self.num_frames == 1 else f"{self.num_frames} frames of {pixels}"

    @property
    def about(self) -> str:
        """One line on what it can and cannot do."""
        title = TEST_SETS[self.data].title
        who = f"VideoMamba-{_SHORT[self.size][0].title()}"
        if self.score is None:
            return f"{who} after masked pre-training on {title}: an encoder without a head, to start a training from"
        masked = " after masked pre-training" if self.masked else ""
        return f"{who}{masked}, {self.num_classes} classes of {title}; published top-1 {self.score[0]}"


_SHORT = {"tiny": ("ti", "t16"), "small": ("s", "s16"), "middle": ("m", "m16"), "base": ("b", "b16")}

# Frames and pixels of a clip -> scores of Ti, S and M; after it, of M with masked pre-training.
_Row = tuple[int, int, tuple[Score, ...]]
_IMAGES: tuple[_Row, ...] = (
    (1, 224, ((76.9, None), (81.2, None), (82.8, None))),
    (1, 448, ((79.3, None), (83.2, None), (83.8, None))),
    (1, 576, ((79.6, None), (83.5, None), (84.0, None))),
)
_VIDEOS: dict[str, tuple[_Row, ...]] = {
    "k400": (
        (8, 224, ((76.9, 92.9), (79.3, 94.2), (80.6, 94.6), (82.0, 95.4))),
        (16, 224, ((78.1, 93.5), (80.8, 94.8), (81.9, 95.4), (83.4, 95.9))),
        (32, 224, ((78.8, 93.9), (81.5, 95.2), (82.4, 95.7), (83.9, 96.2))),
        (64, 224, ((79.6, 94.2), (81.8, 95.3), (82.8, 96.0), (84.3, 96.6))),
        (64, 384, ((80.3, 94.8), (82.7, 95.6), (83.3, 96.1), (85.0, 96.9))),
    ),
    "ssv2": (
        (8, 224, ((65.1, 89.1), (66.6, 90.4), (67.3, 91.0), (70.2, 92.6))),
        (16, 224, ((66.0, 89.6), (67.7, 90.9), (68.3, 91.4), (71.0, 92.7))),
        (16, 288, ((66.2, 90.0), (68.1, 91.2), (68.4, 91.6), (71.4, 92.9))),
    ),
    "breakfast": (
        (32, 224, ((94.3, None), (95.3, None), (94.8, None), (97.9, None))),
        (64, 224, ((94.3, None), (97.4, None), (95.8, None), (96.9, None))),
    ),
    "coin": (
        (32, 224, ((86.2, None), (88.4, None), (88.3, None), (89.6, None))),
        (64, 224, ((87.0, None), (88.7, None), (89.5, None), (90.4, None))),
    ),
}
_NOTES_OF_DATA = {
    "ssv2": "the model zoo prints 4 segments for every score, the paper 4 for M and 2 for the others; upstream's rule "
    "of frames has 2",
    "breakfast": "the score counts the cameras that film one breakfast as one video; the author's list is needed",
}
_WRONG_LINK = "the model zoo links to another file under this name"
_OTHER_SIZE = "upstream's script of this training names the Small network"
_NO_TIMES = "its training began without positions in time: upstream's script states 64 frames for a file of 32"
_NOTES: dict[str, str] = {
    "videomamba-ti-in1k-448": _WRONG_LINK,
    "videomamba-m-k400-mask-f16": _WRONG_LINK,
    "videomamba-m-ssv2-mask-f16": _WRONG_LINK,
    "videomamba-ti-k400-f64-384": _OTHER_SIZE,
    "videomamba-ti-ssv2-f16-288": _OTHER_SIZE,
    "videomamba-s-ssv2-f16": "the paper prints 67.6",
    "videomamba-ti-breakfast-f64": _NO_TIMES,
    "videomamba-ti-coin-f64": _NO_TIMES,
    "videomamba-m-coin-mask-f64": "upstream's script tests 4 segments, not 10",
    "videomamba-m-ssv2-mask-f16-288": "trained on frames and with flips as for Kinetics, by mistake of its script",
}
_DEFECTS = {
    "videomamba-m-breakfast-mask-f64": "the published file holds positions in time of 32 frames, not 64: they are "
    "interpolated",
}
_FRAMES: dict[str, FrameRule] = {"videomamba-m-ssv2-mask-f16-288": "sparse"}
_VIEWS = {"videomamba-m-coin-mask-f64": (4, 3)}


def _published() -> Iterator[PublishedVision]:
    for _, pixels, scores in _IMAGES:
        steps = {224: "224", 448: "224to448", 576: "224to448to576"}[pixels]
        for size, score in zip(_SHORT, scores, strict=False):
            yield _made(size, "in1k", 1, pixels, f"in1k_res{steps}", score)
    yield _made("base", "in1k", 1, 224, "in1k_res224", (82.7, None))
    for data, rows in _VIDEOS.items():
        for num_frames, pixels, scores in rows:
            steps = "224" if pixels == 224 else f"224to{pixels}"
            for size, score in zip(_SHORT, scores[:3], strict=False):
                yield _made(size, data, num_frames, pixels, f"{data}_f{num_frames}_res{steps}", score)
            file = f"{data}_mask_ft_f{num_frames}_res{steps}"
            yield _made("middle", data, num_frames, pixels, file, scores[3], masked=True)
    for data in ("k400", "ssv2"):
        yield _made("middle", data, 8, 224, f"{data}_mask_pt_f8_res224", None, masked=True)


def _made(
    size: str, data: str, num_frames: int, pixels: int, file: str, score: Score | None, *, masked: bool = False
) -> PublishedVision:
    parts = ["videomamba", _SHORT[size][0], data]
    parts += ["mask"] if masked else []
    parts += ["pt"] if score is None else []
    parts += [f"f{num_frames}"] if num_frames > 1 and score is not None else []
    parts += [str(pixels)] if pixels != 224 else []
    name = "-".join(parts)
    notes = [_NOTES_OF_DATA[data]] if data in _NOTES_OF_DATA and score is not None else []
    notes += [_NOTES[name]] if name in _NOTES else []
    return PublishedVision(
        name=name,
        file=f"videomamba_{_SHORT[size][1]}_{file}.pth",
        size=size,
        data=data,
        num_frames=num_frames,
        image_size=pixels,
        masked=masked,
        has_head=score is not None,
        score=score,
        views=_VIEWS.get(name, TEST_SETS[data].views),
        frames=_FRAMES.get(name, TEST_SETS[data].frames),
        notes=tuple(notes),
        defect=_DEFECTS.get(name),
    )


PUBLISHED_VISION = {published.name: published for published in _published()}
"""Name that `load_model` takes -> the file."""


def local_file(name: str | Path) -> Path:
    """Get a published file from the hub's cache, or from the hub.

    Args:
        name: a key of `PUBLISHED_VISION`; anything else is taken for the path of a file or folder.

    Returns:
        The local file, or that path.

    Raises:
        ModelError: the file cannot be downloaded.
    """
    published = PUBLISHED_VISION.get(str(name))
    return Path(name) if published is None else download_file(REPOSITORY, published.file)
