"""The sections of a training config that belong to one task each; see `vmr.train.config`."""

import math
from dataclasses import dataclass, field

import numpy as np

from vmr.errors import ModelError
from vmr.losses import AlignmentKind, AlignmentNorm, Gather
from vmr.models.masks import MaskKind, check_kind


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss in their sum; 0 leaves the loss out.

    Attributes:
        contrastive: weight of VTC.
        matching: weight of VTM.
        masked_lm: weight of MLM.
        alignment: weight of UTA, which needs a teacher and masks.
    """

    contrastive: float = 1.0
    matching: float = 1.0
    masked_lm: float = 1.0
    alignment: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.contrastive, self.matching, self.masked_lm, self.alignment)
        if min(weights) < 0 or not any(weights):
            raise ModelError(f"objective: weights of the losses are {weights}: none may be below 0, nor all of them 0")


@dataclass(frozen=True)
class MaskConfig:
    """Which patches are hidden from the student; see `vmr.models.masks`.

    Attributes:
        kind: how the hidden patches are chosen: attention, tube, random (in each frame), clip_random (in the whole
            clip), frame_row (whole rows of each frame), clip_row (whole rows of the clip), changed (what repeats
            earlier patches; only in video-text training, of clips) or none.
        ratio: share of the patches that is hidden, in [0, 1); of no use to changed and none.
        threshold: of changed, the least and the greatest threshold of what is a repetition, 0.002 and 0.3 by default;
            each batch has one, drawn evenly by its logarithm. See `vmr.models.videomamba.repeats`.
        keep_all: of changed, share of the batches in which nothing is hidden; 0.25 by default.
    """

    kind: MaskKind = "attention"
    ratio: float = 0.8
    threshold: tuple[float, float] | None = None
    keep_all: float | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if not 0 <= self.ratio < 1:
            raise ModelError(f"mask ratio is {self.ratio}, but must be in [0, 1)")
        if self.kind != "changed" and (self.threshold is not None or self.keep_all is not None):
            raise ModelError(f"mask threshold and keep_all are for kind changed, not {self.kind}: leave them out")
        if self.threshold is not None:
            low, high = self.threshold
            object.__setattr__(self, "threshold", (low, high))  # JSON turns tuples into lists
            if not 0 < low <= high <= 1:
                raise ModelError(
                    f"mask threshold is {low:g}, {high:g}, but must be in (0, 1], the smaller number first"
                )
        if self.keep_all is not None and not 0 <= self.keep_all <= 1:
            raise ModelError(f"mask keep_all is {self.keep_all:g}, but must be in [0, 1]")

    def draw_threshold(self, rng: np.random.Generator) -> float | None:
        """Draw the threshold of a batch, for the kind changed.

        Args:
            rng: the same in all processes.

        Returns:
            The threshold; None if nothing of this batch is hidden.
        """
        low, high = self.threshold or (0.002, 0.3)
        keeps_all = rng.random() < (0.25 if self.keep_all is None else self.keep_all)
        threshold = math.exp(rng.uniform(math.log(low), math.log(high)))
        return None if keeps_all else threshold


@dataclass(frozen=True)
class ObjectiveConfig:
    """The losses and how they are computed. The defaults are those of upstream's masked pre-training.

    Attributes:
        weights: the weight of each loss.
        video_mask: which patches of clips are hidden.
        image_mask: which patches of images are hidden: a smaller share than of clips, whose frames are similar.
        random_negatives: share of VTM's negatives, in [0, 1], that are drawn at random in place of by their similarity.
        word_mask_probability: share of the words that MLM hides and predicts, in [0, 1).
        alignment_norm: whether UTA compares unit vectors (l2) or unscaled features (none).
        alignment_kind: the distance that UTA minimises: l2 (needs alignment_norm l2), mse or smooth_l1.
        gather: gradients of VTC across processes: exact, or upstream's.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    video_mask: MaskConfig = field(default_factory=MaskConfig)
    image_mask: MaskConfig = field(default_factory=lambda: MaskConfig(ratio=0.5))
    random_negatives: float = 0.0
    word_mask_probability: float = 0.5
    alignment_norm: AlignmentNorm = "l2"
    alignment_kind: AlignmentKind = "l2"
    gather: Gather = "exact"

    def __post_init__(self) -> None:
        kinds = (self.video_mask.kind, self.image_mask.kind)
        if self.image_mask.kind == "changed":
            raise ModelError(
                "objective: mask kind changed is for clips, whose frames may repeat: give image_mask another kind"
            )
        if self.weights.alignment and ("none" in kinds or "changed" in kinds):
            raise ModelError(
                "objective: alignment needs masks of another kind than none and changed (ratio may be 0): set one, or "
                "weights.alignment to 0"
            )
        if self.alignment_kind == "l2" and self.alignment_norm == "none":
            raise ModelError("objective: alignment_kind l2 compares unit vectors: set alignment_norm to l2")
        if not 0 <= self.random_negatives <= 1:
            raise ModelError(f"objective: random_negatives is {self.random_negatives}, but must be in [0, 1]")
        if not 0 <= self.word_mask_probability < 1:
            raise ModelError(f"objective: word_mask_probability is {self.word_mask_probability}, but must be in [0, 1)")


@dataclass(frozen=True)
class MaskedConfig:
    """Masked pre-training of the video encoder alone. The defaults are upstream's.

    Attributes:
        video_mask: which patches of clips are hidden.
        image_mask: which patches of images are hidden.
        alignment_norm: as in the objective of video-text training.
        alignment_kind: as in the objective of video-text training.
    """

    video_mask: MaskConfig = field(default_factory=MaskConfig)
    image_mask: MaskConfig = field(default_factory=lambda: MaskConfig(ratio=0.5))
    alignment_norm: AlignmentNorm = "l2"
    alignment_kind: AlignmentKind = "l2"

    def __post_init__(self) -> None:
        for kind in ("none", "changed"):
            if kind in (self.video_mask.kind, self.image_mask.kind):
                raise ModelError(f"masked: mask kind {kind} leaves nothing to learn: use another (ratio may be 0)")
        if self.alignment_kind == "l2" and self.alignment_norm == "none":
            raise ModelError("masked: alignment_kind l2 compares unit vectors: set alignment_norm to l2")


@dataclass(frozen=True)
class DistillationConfig:
    """A smaller trained VideoMamba, whose features of all tokens the network learns as well.

    Attributes:
        teacher: a folder saved by vmr, a checkpoint file of upstream's, or the name of a released classifier.
        weight: weight of the loss.
        stop_after: learn the classes alone after this step of the run; null to learn from the teacher to the end.
    """

    teacher: str
    weight: float = 1.0
    stop_after: int | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ModelError(f"classification.distillation: weight is {self.weight}, but must be above 0")
        if self.stop_after is not None and self.stop_after < 0:
            raise ModelError(f"classification.distillation: stop_after is {self.stop_after}, but must be at least 0")


@dataclass(frozen=True)
class ClassificationConfig:
    """The losses of a classifier. What it predicts (one class, several, or a number) is that of the sources' labels.

    Attributes:
        smoothing: the share of each label that is spread over all classes, in [0, 1). Used for single labels only; the
            log says so where the labels are others.
        mixup: pixels and labels of two clips are mixed, with shares from Beta(mixup, mixup); 0 for no mixup.
        cutmix: a box of one clip is put into another, of a size from Beta(cutmix, cutmix); 0 for no cutmix.
        switch: the probability of cutmix instead of mixup, if both are above 0.
        erasing: the probability that a rectangle of a clip becomes noise; see `vmr.train.tasks.erasing`.
        distillation: learn from a teacher as well; null for no teacher.
    """

    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    erasing: float = 0.25
    distillation: DistillationConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ModelError(f"classification: smoothing is {self.smoothing}, but must be in [0, 1)")
        for name in ("switch", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ModelError(f"classification: {name} is {getattr(self, name)}, but must be in [0, 1]")
        if min(self.mixup, self.cutmix) < 0:
            raise ModelError("classification: mixup and cutmix must be at least 0")
