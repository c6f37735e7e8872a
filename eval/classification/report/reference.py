"""Results that others have published on a protocol of classification, shown beside ours. Imports no torch.

A row says with how many views and after which pre-training it was scored, because rows that differ in these cannot be
compared. Those of VideoMamba are of models that `vmr.load_model` loads by name.
"""

from dataclasses import dataclass

from vmr.models.upstream.published_vision import PUBLISHED_VISION, SCORES_SOURCE


@dataclass(frozen=True)
class PublishedAccuracy:
    """A published result.

    Attributes:
        model: its name.
        top1: top-1 in percent; of a protocol that predicts a number, the mean squared error.
        top5: top-5 in percent; None where it was not published.
        views: frames and pixels, times segments and crops, as published.
        setting: what else differs from other rows: pre-training, and what is known to be wrong about the number.
        source: where it was published.
    """

    model: str
    top1: float
    top5: float | None
    views: str
    setting: str
    source: str


def published_accuracies(protocol: str) -> tuple[PublishedAccuracy, ...]:
    """Return the published results on a protocol; none if no results are known.

    Args:
        protocol: its name, such as `k400`.
    """
    data = _DATA.get(protocol)
    ours = tuple(
        PublishedAccuracy(
            model.name,
            *model.score,
            f"{model.num_frames} x {model.image_size}, {model.views[0]} x {model.views[1]}",
            "; ".join((_MASKED if model.masked else _FROM_IMAGES if model.num_frames > 1 else "none", *model.notes)),
            SCORES_SOURCE,
        )
        for model in PUBLISHED_VISION.values()
        if model.data == data and model.score is not None
    )
    return (*ours, *_OTHERS.get(protocol, ()))


_DATA = {"ssv2-frames": "ssv2", "imagenet": "in1k"} | {name: name for name in ("k400", "ssv2", "breakfast", "coin")}
"""Protocol -> what a published VideoMamba was tested on."""
_FROM_IMAGES, _MASKED = "ImageNet-1K", "masked pre-training with a CLIP teacher"
_PAPER = "quoted by Li et al. 2024 (VideoMamba, arXiv:2403.06977)"
_IN_1K, _IN_21K = _FROM_IMAGES, "ImageNet-21K"
_SELF = "masked pre-training on the same videos"
_CLIP_TEACHER = _MASKED

_OTHERS: dict[str, tuple[PublishedAccuracy, ...]] = {
    "k400": (
        PublishedAccuracy("TimeSformer-L", 80.7, None, "96 x 224, 1 x 3", _IN_21K, _PAPER),
        PublishedAccuracy("ViViT-L", 81.3, None, "16 x 224, 4 x 3", _IN_21K, _PAPER),
        PublishedAccuracy("STAM", 79.2, None, "64 x 224, 1 x 1", _IN_21K, _PAPER),
        PublishedAccuracy("Swin-T", 78.8, None, "32 x 224, 4 x 3", _IN_1K, _PAPER),
        PublishedAccuracy("Swin-B", 80.6, None, "32 x 224, 4 x 3", _IN_1K, _PAPER),
        PublishedAccuracy("Swin-B", 82.7, None, "32 x 224, 4 x 3", _IN_21K, _PAPER),
        PublishedAccuracy("VideoMAE-B", 81.5, None, "16 x 224, 5 x 3", _SELF, _PAPER),
        PublishedAccuracy("UMT-B", 85.7, None, "8 x 224, 5 x 3", _CLIP_TEACHER, _PAPER),
    ),
    "ssv2": (
        PublishedAccuracy("TimeSformer-HR", 62.5, None, "16 x 448, 1 x 3", _IN_21K, f"{_PAPER}, which prints 16 x 224"),
        PublishedAccuracy("ViViT-L", 65.4, None, "16 x 224, 4 x 3", f"{_IN_21K} and Kinetics-400", _PAPER),
        PublishedAccuracy("Swin-B", 69.6, None, "32 x 224, 1 x 3", "Kinetics-400", _PAPER),
        PublishedAccuracy("VideoMAE-B", 70.8, None, "16 x 224, 2 x 3", _SELF, _PAPER),
        PublishedAccuracy("UMT-B", 70.8, None, "8 x 224, 2 x 3", _CLIP_TEACHER, _PAPER),
    ),
    "breakfast": (
        PublishedAccuracy("Distant Supervision", 89.9, None, "-", f"{_IN_21K} and HowTo100M", _PAPER),
        PublishedAccuracy("ViS4mer (Swin-B)", 88.2, None, "-", "features of Kinetics-600", _PAPER),
        PublishedAccuracy("Turbo (VideoMAE-B)", 86.8, None, "-", "Kinetics-400", _PAPER),
        PublishedAccuracy("Turbo (VideoMAE-B)", 91.3, None, "-", "HTM-AA", _PAPER),
    ),
    "coin": (
        PublishedAccuracy("Distant Supervision", 90.0, None, "-", f"{_IN_21K} and HowTo100M", _PAPER),
        PublishedAccuracy("ViS4mer (Swin-B)", 88.4, None, "-", "features of Kinetics-600", _PAPER),
        PublishedAccuracy("Turbo (VideoMAE-B)", 82.3, None, "-", "Kinetics-400", _PAPER),
        PublishedAccuracy("Turbo (VideoMAE-B)", 87.5, None, "-", "HTM-AA", _PAPER),
    ),
    "imagenet": (
        PublishedAccuracy("DeiT-Ti", 72.2, None, "1 x 224, 1 x 1", "none", _PAPER),
        PublishedAccuracy("DeiT-S", 79.8, None, "1 x 224, 1 x 1", "none", _PAPER),
        PublishedAccuracy("DeiT-B", 81.8, None, "1 x 224, 1 x 1", "none", _PAPER),
        PublishedAccuracy("Vim-Ti", 76.1, None, "1 x 224, 1 x 1", "none", _PAPER),
        PublishedAccuracy("Vim-S", 80.5, None, "1 x 224, 1 x 1", "none", _PAPER),
    ),
    **{
        f"lvu-{task}": (
            PublishedAccuracy("ViS4mer", vis4mer, None, "-", "features of Kinetics-600", _PAPER),
            PublishedAccuracy("VideoMamba-Ti", videomamba, None, "32 x 224, 4 x 3", "Kinetics-400", _PAPER),
        )
        for task, vis4mer, videomamba in (
            ("relation", 57.14, 62.50),
            ("speak", 40.79, 40.43),
            ("scene", 67.44, 70.37),
            ("director", 62.61, 67.29),
            ("genre", 54.71, 65.24),
            ("writer", 48.80, 52.98),
            ("year", 44.75, 48.23),
            ("like", 0.26, 0.26),
            ("view", 3.63, 2.90),
        )
    },
}
"""Protocol -> results of others. TimeSformer-HR's figure of operations is that of 448 pixels, not of 224."""
