"""Training with an encoder's layers as CUDA graphs: their hundreds of kernels become one launch forward, one backward.

A layer is some ten small kernels forward and thirty backward. With a batch of masked clips a GPU is done with one
before Python can launch the next.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vmr.models.videomamba.workspace import Workspace

if TYPE_CHECKING:
    from vmr.models.videomamba.backbone import VideoMambaBackbone


class LayerGraphs:
    """`run_layers` with gradients, captured once for each shape of tokens.

    What a call returns is overwritten by the next call of that shape: go backward before going forward again. Not for
    layers that another package wraps or shards (FSDP).
    """

    def __init__(self, backbone: "VideoMambaBackbone") -> None:
        self._backbone = backbone
        self._graphs: dict[object, Callable[[Tensor], tuple[Tensor, ...]]] = {}

    def __call__(self, tokens: Tensor, wanted: Collection[int]) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """As `VideoMambaBackbone.run_layers`."""
        dtype = self._backbone.compute_dtype(tokens)
        key = tokens.shape, tokens.dtype, dtype, tuple(wanted), tokens.requires_grad, self._backbone.training
        if key not in self._graphs:
            self._graphs[key] = self._capture(tokens, dtype, wanted)
        hidden, residual, *streams = self._graphs[key](tokens)
        return hidden, residual, dict(zip(wanted, streams, strict=True))

    def __deepcopy__(self, memo: object) -> None:
        """None: a copy of the model has weights of its own, which no graph reads."""
        return

    def _capture(
        self, tokens: Tensor, dtype: torch.dtype, wanted: Collection[int]
    ) -> Callable[[Tensor], tuple[Tensor, ...]]:
        layers = _Layers(self._backbone, wanted)
        sample = tokens.detach().clone().requires_grad_(tokens.requires_grad)
        autocast = torch.is_autocast_enabled("cuda")
        # Without autocast's cache: a cast that it remembers would stand outside the graph.
        cast_anew = torch.autocast("cuda", dtype, enabled=autocast, cache_enabled=False)
        with torch.cuda.device(tokens.device), cast_anew:
            graphed = torch.cuda.make_graphed_callables(layers, (sample,))
        return cast(Callable[[Tensor], tuple[Tensor, ...]], graphed)


class _Layers(nn.Module):
    """tokens (B, L, C) -> the last output, the residual stream, and the streams that are wanted."""

    def __init__(self, backbone: "VideoMambaBackbone", wanted: Collection[int]) -> None:
        super().__init__()
        self.layers = backbone.layers
        self.train(backbone.training)
        self._backbone, self._wanted = [backbone], list(wanted)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        backbone = self._backbone[0]  # in a list, so that its other parameters are not this module's
        graphs, backbone.layer_graphs = backbone.layer_graphs, None
        try:
            hidden, residual, streams = backbone.run_layers(tokens, Workspace(), self._wanted)
        finally:
            backbone.layer_graphs = graphs
        return hidden, residual, *(streams[layer] for layer in self._wanted)
