"""The bidirectional Mamba mixer of VideoMamba and the residual block around it.

Symbols, as in the Mamba paper (Gu & Dao 2023, section 3): B batch, L tokens, d_model width of the residual stream,
d_inner = expand * d_model, d_state states per channel (N), dt_rank rank of delta (R), d_conv taps of the short filter
(K).

Both directions share the input and output projections; each has its own filter, delta, A, B, C and D. Attribute names
are those in upstream's checkpoints, where the suffix `_b` marks the direction from the last token to the first.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vmr.models.videomamba.workspace import Workspace
from vmr.ops import ScanInputs, add_rms_norm, bidirectional_conv_silu, bidirectional_scan
from vmr.ops.backend import Backend

DtInit = Literal["intended", "upstream"]

NORM_EPS = 1e-5
DT_MIN, DT_MAX = 1e-3, 1e-1  # range of the initial step sizes (Mamba, section 3.6)


class Scan(NamedTuple):
    """The parameters of one direction.

    Attributes:
        conv: the short filter.
        x_proj: from the filtered tokens to delta, B and C.
        dt_proj: from the low rank of delta to every channel.
        A_log: (d_inner, d_state), log of the decay rates.
        D: (d_inner,), skip connection.
    """

    conv: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter


class BidirectionalMixer(nn.Module):
    """Mixes tokens by a selective scan in each direction (Li et al. 2024, "VideoMamba", section 3.2).

    The results of the two scans are summed, not averaged, and share the gate.
    """

    def __init__(
        self, d_model: int, *, d_state: int = 16, d_conv: int = 4, expand: int = 2, backend: Backend = "auto"
    ) -> None:
        """Make a mixer; its weights are not set before `reset_parameters`.

        Args:
            d_model: width of the residual stream.
            d_state: states per channel.
            d_conv: taps of the short filter.
            expand: d_inner / d_model.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__()
        d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.backend = backend
        rows = self.dt_rank + 2 * d_state
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        # The convolutions and dt_proj only hold parameters: vmr.ops applies them, fused with the next operation.
        self.conv1d = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner)
        self.conv1d_b = nn.Conv1d(d_inner, d_inner, d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rows, bias=False)
        self.x_proj_b = nn.Linear(d_inner, rows, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner)
        self.dt_proj_b = nn.Linear(self.dt_rank, d_inner)
        self.A_log = nn.Parameter(torch.empty(d_inner, d_state))
        self.A_b_log = nn.Parameter(torch.empty(d_inner, d_state))
        self.D = nn.Parameter(torch.empty(d_inner))
        self.D_b = nn.Parameter(torch.empty(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(self, hidden: Tensor, workspace: Workspace) -> Tensor:
        """Mix tokens.

        Args:
            hidden: (B, L, d_model).
            workspace: where results are put.

        Returns:
            (B, L, d_model); a buffer of `workspace` if `workspace` reuses buffers.
        """
        xz = workspace.linear("xz", hidden, self.in_proj.weight)
        x, z = xz.chunk(2, dim=-1)  # (B, L, d_inner) each
        u, u_b = bidirectional_conv_silu(
            x,
            (self.conv1d.weight.squeeze(1), self.conv1d.bias),
            (self.conv1d_b.weight.squeeze(1), self.conv1d_b.bias),
            out=workspace.pair("u", x),
            backend=self.backend,
        )
        forward = self._scan_inputs(u, workspace.linear("dt_B_C", u, self.x_proj.weight), workspace, backward=False)
        backward = self._scan_inputs(
            u_b, workspace.linear("dt_B_C_b", u_b, self.x_proj_b.weight), workspace, backward=True
        )
        with _without_autocast(hidden.device.type):  # the recurrence is always float32
            y = bidirectional_scan(forward, backward, z, out=workspace.like("y", x), backend=self.backend)
        return workspace.linear("hidden", y, self.out_proj.weight)

    def _scan_inputs(
        self, u: Tensor, projected: Tensor, workspace: Workspace, *, backward: bool
    ) -> ScanInputs:  # fmt: skip
        delta, B, C = projected.split_with_sizes([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt_proj = self.dt_proj_b if backward else self.dt_proj
        A_log = self.A_b_log if backward else self.A_log
        return ScanInputs(
            u=u,
            delta=delta,  # (B, L, dt_rank)
            A=workspace.decay_rates(A_log),
            B=B,
            C=C,
            D=self.D_b if backward else self.D,
            delta_bias=dt_proj.bias,
            delta_weight=dt_proj.weight,
        )

    @property
    def linears(self) -> list[nn.Linear]:
        """The matrix products."""
        return [self.in_proj, self.x_proj, self.x_proj_b, self.out_proj]

    @property
    def scans(self) -> list[Scan]:
        """The parameters of each direction."""
        return [
            Scan(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D),
            Scan(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b),
        ]

    @torch.no_grad()
    def reset_parameters(self, num_layers: int, dt_init: DtInit) -> None:
        """Set fresh weights.

        Upstream initialises its linear layers after Mamba has set the bias of `dt_proj`, and so overwrites it with
        zeros: all step sizes start near softplus(0) = 0.69. Mamba intends to draw step sizes from 0.001 to 0.1.

        Args:
            num_layers: of the model that the mixer belongs to.
            dt_init: `intended` draws step sizes as Mamba does; `upstream` starts as upstream's models did.
        """
        for linear in (self.in_proj, *(scan.x_proj for scan in self.scans)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        self.out_proj.weight /= math.sqrt(num_layers)  # one addition to the residual stream per layer
        for scan in self.scans:
            scan.conv.reset_parameters()
        for scan in self.scans:
            scan.A_log.copy_(torch.arange(1, self.d_state + 1).log().expand_as(scan.A_log))  # S4D-real
            scan.D.fill_(1.0)
        for dt_proj in [scan.dt_proj for scan in self.scans]:
            if dt_init == "upstream":
                nn.init.trunc_normal_(dt_proj.weight, std=0.02)
                nn.init.zeros_(dt_proj.bias)
            else:
                nn.init.uniform_(dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
                dt_proj.bias.copy_(_inverse_softplus(_log_uniform(dt_proj.bias, DT_MIN, DT_MAX)))


class RMSNorm(nn.Module):
    """Adds to the float32 residual stream and normalises the sum, in one pass over memory.

    Attributes:
        weight: (C,), multiplies the normalised sum.
        backend: implementation of the kernels.
    """

    def __init__(self, width: int, *, backend: Backend = "auto") -> None:
        """Make a norm with weights of 1.

        Args:
            width: C.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.backend = backend

    def forward(
        self, hidden: Tensor, residual: Tensor | None, dtype: torch.dtype, workspace: Workspace
    ) -> tuple[Tensor, Tensor]:
        """Add and normalise.

        Args:
            hidden: (B, L, C), what is added.
            residual: float32 (B, L, C), the stream; None for zeros.
            dtype: of the normalised sum.
            workspace: where the normalised sum is put. If it reuses buffers, `residual` is overwritten with the sum.

        Returns:
            The normalised sum in `dtype`, and the sum in float32, (B, L, C) each.
        """
        return add_rms_norm(
            hidden,
            residual,
            self.weight,
            NORM_EPS,
            dtype=dtype,
            inplace=workspace.reuses_buffers,
            out=workspace.like("normed", hidden, dtype),
            backend=self.backend,
        )


class Block(nn.Module):
    """One layer: residual += hidden; hidden = mixer(norm(residual)).

    A block adds the output of the previous block to the residual stream. Its drop path rate therefore applies to that
    output (as in upstream's code), and the first block has no such rate.
    """

    def __init__(
        self, width: int, drop_path_rate: float, mixer: BidirectionalMixer, *, backend: Backend = "auto"
    ) -> None:  # fmt: skip
        """Make a block.

        Args:
            width: C.
            drop_path_rate: rate in [0, 1) at which the output of the previous block is dropped in training.
            mixer: mixes the tokens.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__()
        self.mixer = mixer
        self.norm = RMSNorm(width, backend=backend)
        self.drop_path_rate = drop_path_rate

    def forward(
        self, hidden: Tensor, residual: Tensor | None, dtype: torch.dtype, workspace: Workspace
    ) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            hidden: (B, L, C), the output of the previous block, or the tokens.
            residual: float32 (B, L, C), the residual stream; None at the first block.
            dtype: of the matrix products.
            workspace: where results are put.

        Returns:
            The block's output and the residual stream, (B, L, C) each; the output is not added to the stream yet.
        """
        if residual is not None:
            hidden = drop_path(hidden, self.drop_path_rate, training=self.training)
        normed, residual = self.norm(hidden, residual, dtype, workspace)
        return self.mixer(normed, workspace), residual


def _without_autocast(device: str) -> AbstractContextManager[object]:
    """Switch autocast off where it is on; entering the context costs as much as a small operation."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def drop_path(hidden: Tensor, rate: float, *, training: bool) -> Tensor:
    """Set whole samples to zero at random and scale up the others: stochastic depth (Huang et al. 2016).

    Args:
        hidden: (B, L, C).
        rate: probability in [0, 1) of dropping a sample.
        training: if false, nothing changes.

    Returns:
        (B, L, C).
    """
    if rate == 0.0 or not training:
        return hidden
    kept = torch.rand(hidden.shape[0], 1, 1, device=hidden.device) >= rate
    return hidden * (kept / (1.0 - rate)).to(hidden.dtype)


def stochastic_depth_rates(rate: float, num_layers: int) -> list[float]:
    """Give the drop path rate of each layer's output, rising evenly from 0 for the first layer.

    Args:
        rate: of the last layer.
        num_layers: number of layers.

    Returns:
        A rate for each layer.
    """
    return [rate * layer / max(num_layers - 1, 1) for layer in range(num_layers)]


def _log_uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.exp(torch.empty_like(like).uniform_(math.log(low), math.log(high)))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
