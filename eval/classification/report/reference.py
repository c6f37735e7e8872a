"""Results that others have published on a protocol of classification, shown beside ours. Imports no torch.

A row says with how many views and after which pre-training it was scored, because rows that differ in these cannot be
compared. Those of VideoMamba are of models that `vmr.load_model` loads by name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedAccuracy:
    """A published result.

    Attributes:
        model: its name.
        top1: top-1 in percent.
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
