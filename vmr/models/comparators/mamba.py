"""Variants of VideoMamba: each frame by itself, the class token in the middle, and scans in one direction.

Shapes: B batch, T frames, L tokens, C width; in the mixer d_inner channels.
"""

import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.mixer import BidirectionalMixer, Scan
from vmr.models.videomamba.workspace import Workspace
from vmr.ops import causal_conv_silu, selective_scan
from vmr.ops.backend import Backend


class FramesVideoMamba(VideoMambaClassifier):
    """Reads each frame as an image, and averages the class tokens of the frames: it cannot see motion or order."""

    def __init__(self, config: ClassifierConfig, *, backend: Backend = "auto") -> None:
        """Make a classifier with fresh weights; see `VideoMambaClassifier`.

        Raises:
            ModelError: a token of these sizes takes several frames.
        """
        if config.tubelet_size != 1:
            raise ModelError(
                f"tubelet_size is {config.tubelet_size}, but a network that reads frames one by one needs 1"
            )
        super().__init__(config, backend=backend)
        del self.temporal_pos_embedding  # an image has no place in time

    def embed(self, video: Tensor) -> Tensor:
        """Average the class tokens of the frames; see `VideoMambaClassifier.embed`."""
        batch, frames = video.shape[:2]
        return super().embed(video.flatten(0, 1).unsqueeze(1)).view(batch, frames, -1).mean(dim=1)


class Vim(FramesVideoMamba):
    """Vision Mamba (Zhu et al. 2024): the class token stands in the middle of the patches; a clip is its frames.

    `pos_embed` has the row of the class token first, as in VideoMamba.
    """

    def class_place(self, num_tokens: int) -> int:
        """Return the place of the class token: the middle."""
        return (num_tokens - 1) // 2


class CausalVideoMamba(VideoMambaClassifier):
    """Scans from the first token to the last only. The class token stands last, the only place that sees all tokens."""

    def make_mixer(self, backend: Backend) -> BidirectionalMixer:
        """Make a mixer without the scan from the last token to the first."""
        return CausalMixer(self.config.width, backend=backend)

    def class_place(self, num_tokens: int) -> int:
        """Return the place of the class token: the end."""
        return num_tokens - 1


class CausalMixer(BidirectionalMixer):
    """The mixer of Mamba (Gu & Dao 2023): the forward half of VideoMamba's."""

    def __init__(self, d_model: int, *, backend: Backend = "auto") -> None:
        """Make a mixer; its weights are not set before `reset_parameters`.

        Args:
            d_model: width of the residual stream.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__(d_model, backend=backend)
        for name in ("conv1d_b", "x_proj_b", "dt_proj_b", "A_b_log", "D_b"):
            delattr(self, name)

    @property
    def linears(self) -> list[nn.Linear]:
        """The matrix products."""
        return [self.in_proj, self.x_proj, self.out_proj]

    @property
    def scans(self) -> list[Scan]:
        """The parameters of the one direction."""
        return [Scan(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)]

    def forward(self, hidden: Tensor, workspace: Workspace) -> Tensor:
        """Mix tokens; see `BidirectionalMixer.forward`."""
        x, z = workspace.linear("xz", hidden, self.in_proj.weight).chunk(2, dim=-1)  # (B, L, d_inner) each
        conv = self.conv1d.weight.squeeze(1), self.conv1d.bias
        u = causal_conv_silu(x, *conv, out=workspace.like("u", x), backend=self.backend)
        inputs = self._scan_inputs(u, workspace.linear("dt_B_C", u, self.x_proj.weight), workspace, backward=False)
        with torch.autocast(hidden.device.type, enabled=False):  # the recurrence is always float32
            y = selective_scan(
                inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C, inputs.D, z, inputs.delta_bias,
                delta_softplus=True, delta_weight=inputs.delta_weight, out=workspace.like("y", x), backend=self.backend,
            )  # fmt: skip
        return workspace.linear("hidden", y, self.out_proj.weight)
