"""The losses, as functions of tensors: `retrieval` holds those of video-text training, `classification` the others.

They know no model, no config and no logger.
"""

from vmr.losses.classification import (
    distillation_loss,
    soft_cross_entropy,
    soft_targets,
    target_loss,
)
from vmr.losses.retrieval import (
    IGNORED,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    AlignmentKind,
    AlignmentNorm,
    Gather,
    Negatives,
    TokenDraws,
    alignment_loss,
    clamp_temperature,
    contrastive_loss,
    draw_tokens,
    mask_tokens,
    masked_lm_loss,
    match_targets,
    matching_loss,
    negative_weights,
    sample_negatives,
    similarity,
)

__all__ = [
    "IGNORED",
    "MAX_TEMPERATURE",
    "MIN_TEMPERATURE",
    "AlignmentKind",
    "AlignmentNorm",
    "Gather",
    "Negatives",
    "TokenDraws",
    "alignment_loss",
    "clamp_temperature",
    "contrastive_loss",
    "distillation_loss",
    "draw_tokens",
    "mask_tokens",
    "masked_lm_loss",
    "match_targets",
    "matching_loss",
    "negative_weights",
    "sample_negatives",
    "similarity",
    "soft_cross_entropy",
    "soft_targets",
    "target_loss",
]
