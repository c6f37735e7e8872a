"""VideoMamba as a classifier of videos (Kinetics, Something-Something) or images (ImageNet).

Shapes: B batch, T frames, H = W pixels, C width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import BackboneConfig, VideoMambaBackbone
from vmr.models.videomamba.mixer import RMSNorm
from vmr.models.videomamba.workspace import Workspace, workspace_for
from vmr.ops.backend import Backend


@dataclass(frozen=True)
class ClassifierConfig(BackboneConfig):
    """Sizes of a classifier: those of `BackboneConfig`, and the number of classes.

    Attributes:
        num_classes: 400 (Kinetics-400) and 174 (Something-Something V2) for the published video models, 1000 (ImageNet)
            for the image models.
    """

    num_classes: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 1:
            raise ModelError(f"num_classes is {self.num_classes}, but must be at least 1")


class VideoMambaClassifier(VideoMambaBackbone):
    """Predicts the class of a video or image from its CLS token.

    `vmr.models.upstream.vision.load_upstream` fills it with published weights.

    Attributes:
        config: its sizes.
        norm_f: the final norm.
        head: from the width to the classes.
    """

    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig, *, backend: Backend = "auto") -> None:
        """Make a classifier with fresh weights.

        Args:
            config: its sizes.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__(config, backend=backend)
        self.norm_f = RMSNorm(config.width, backend=backend)
        self.head = nn.Linear(config.width, config.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, video: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            video: floats (B, T, 3, H, W), normalised as the weights expect; T = 1 for images.

        Returns:
            Logits (B, num_classes).

        Raises:
            ModelError: the video does not have the size that this model takes.
        """
        logits: Tensor = self.head(self.embed(video))
        return logits

    def embed(self, video: Tensor) -> Tensor:
        """Compute what the head reads: the class token after the final norm.

        Args:
            video: floats (B, T, 3, H, W), as `forward` takes them.

        Returns:
            (B, C) in the dtype of the head's weights.

        Raises:
            ModelError: the video does not have the size that this model takes.
        """
        tokens = self.embed_tokens(video)  # (B, 1 + N, C)
        place = self.class_place(tokens.shape[1])
        if place:
            tokens = torch.cat([tokens[:, 1 : place + 1], tokens[:, :1], tokens[:, place + 1 :]], dim=1)
        hidden, residual, _ = self.run_layers(tokens, workspace_for(tokens, self.packed))
        stream: Tensor = residual[:, place] + hidden[:, place]  # (B, C): only the class token is read
        normed, _ = self.norm_f(stream, None, torch.float32, Workspace())
        read: Tensor = normed.to(self.head.weight.dtype)
        return read

    def class_place(self, num_tokens: int) -> int:
        """Tell where the class token stands when the layers run.

        Args:
            num_tokens: of a sequence, the class token included.

        Returns:
            Its place, from 0.
        """
        return 0
