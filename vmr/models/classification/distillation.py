"""Self-distillation: a VideoMamba learns the features of a smaller one that was trained before.

Large classifiers overfit; the features of a smaller one hold them back (Li et al. 2024, "VideoMamba", section 3.3).

Shapes: B videos, T frames, H = W pixels, N patch tokens, C width of the student, D width of the teacher.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.classification.config import NetworkConfig
from vmr.models.videomamba.classifier import VideoMambaClassifier
from vmr.models.videomamba.mixer import RMSNorm
from vmr.models.videomamba.workspace import Workspace, workspace_for
from vmr.ops.backend import Backend

HEAD = "distill_head."
"""Prefix of the weights that only distillation needs."""


class DistilledClassifier(VideoMambaClassifier):
    """A classifier with a second head, which predicts a teacher's features of all tokens.

    Attributes:
        teacher_width: D.
        distill_head: a norm, and a product from the width to that of the teacher.
    """

    def __init__(self, config: NetworkConfig, teacher_width: int, *, backend: Backend = "auto") -> None:
        """Make a classifier with fresh weights.

        Args:
            config: its sizes.
            teacher_width: D.
            backend: implementation of the kernels, as in `vmr.ops.backend`.

        Raises:
            ModelError: the network is of another kind than VideoMamba.
        """
        if config.kind != "videomamba":
            raise ModelError(f"self-distillation is for kind videomamba, not {config.kind}")
        super().__init__(config, backend=backend)
        self.teacher_width = teacher_width
        product = nn.Linear(config.width, teacher_width)
        nn.init.trunc_normal_(product.weight, std=0.02)  # as the first head
        nn.init.zeros_(product.bias)
        self.distill_head = nn.ModuleList([RMSNorm(config.width, backend=backend), product])

    def distilled(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Classify a batch, and predict the teacher's features.

        Args:
            video: floats (B, T, 3, H, W), as `forward` takes them.

        Returns:
            Logits (B, num_classes), and unit vectors float32 (B, 1 + N, D), CLS first.
        """
        tokens = normed_tokens(self, video)
        logits = self.head(tokens[:, 0].to(self.head.weight.dtype))
        norm, product = self.distill_head
        again, _ = norm(tokens, None, self.compute_dtype(tokens), Workspace())
        return logits, F.normalize(product(again).to(tokens.dtype), dim=-1)


def teacher_features(teacher: VideoMambaClassifier, video: Tensor) -> Tensor:
    """Compute what the student learns.

    Args:
        teacher: a trained classifier.
        video: floats (B, T, 3, H, W).

    Returns:
        Unit vectors (B, 1 + N, D), CLS first, in float32 or wider.
    """
    return F.normalize(normed_tokens(teacher, video), dim=-1)


def normed_tokens(network: VideoMambaClassifier, video: Tensor) -> Tensor:
    """Run a classifier up to its final norm.

    Args:
        network: the classifier.
        video: floats (B, T, 3, H, W).

    Returns:
        All tokens after the final norm, (B, 1 + N, width), CLS first; in the dtype of the residual stream.
    """
    tokens = network.embed_tokens(video)
    hidden, residual, _ = network.run_layers(tokens, workspace_for(tokens, network.packed))
    normed: Tensor = network.norm_f(hidden, residual, residual.dtype, Workspace())[0]
    return normed


def check_teacher(name: str, teacher: NetworkConfig, student: NetworkConfig) -> None:
    """Check that a teacher fits its student.

    Args:
        name: of the teacher, for error messages.
        teacher: sizes of the teacher.
        student: sizes of the student.

    Raises:
        ModelError: the teacher is of another kind than VideoMamba, or cuts clips into other tokens.
    """
    if teacher.kind != "videomamba":
        raise ModelError(f"{name}: the teacher must be a videomamba, but is a {teacher.kind}")
    for size in ("image_size", "patch_size", "num_frames", "tubelet_size"):
        theirs, own = getattr(teacher, size), getattr(student, size)
        if theirs != own:
            raise ModelError(f"{name}: the teacher's {size} is {theirs}, but model.network.{size} is {own}")


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the weights that only distillation needs.

    Args:
        weights: of a `DistilledClassifier`.

    Returns:
        Those of a `VideoMambaClassifier`.
    """
    return {name: tensor for name, tensor in weights.items() if not name.startswith(HEAD)}
