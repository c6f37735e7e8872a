"""The losses of classifiers and of self-distillation.

Shapes: B clips, C outputs of the head, N tokens, D channels of a teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vmr.targets import Target


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Turn classes into shares of all classes, which can be mixed.

    Args:
        labels: int64 (B,).
        num_classes: C.
        smoothing: in [0, 1), the share that all classes have in common: the own class gets 1 - smoothing + smoothing/C,
            and each other one smoothing/C.

    Returns:
        float32 (B, C); every row sums to 1.
    """
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross entropy with shares of several classes.

    Args:
        logits: (B, C).
        targets: (B, C), as from `soft_targets`.

    Returns:
        The mean over the batch, in float32 or wider.
    """
    return F.cross_entropy(_wide(logits), targets)


def target_loss(outputs: Tensor, targets: Tensor, target: Target) -> Tensor:
    """Compute the loss that fits what a classifier predicts.

    Args:
        outputs: (B, C).
        targets: (B, C): shares of classes (single), whether each class is there, in [0, 1] (multi), or numbers
            (regression).
        target: what the classifier predicts.

    Returns:
        The mean cross entropy, the mean binary cross entropy of the classes, or the mean squared error.
    """
    if target == "single":
        return soft_cross_entropy(outputs, targets)
    if target == "multi":
        return F.binary_cross_entropy_with_logits(_wide(outputs), targets)
    return F.mse_loss(_wide(outputs), targets)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the directions of features: twice the mean of 1 - cosine.

    Args:
        student: (B, N, D), unit vectors.
        teacher: (B, N, D), unit vectors.

    Returns:
        The mean over clips and tokens, in [0, 4].
    """
    return (2 - 2 * (student * teacher).sum(dim=-1)).mean()


def _wide(logits: Tensor) -> Tensor:
    """Logits in float32 at least: in half precision the sums over classes would be rough."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
