"""Train with the layers of an encoder as CUDA graphs: one launch forward and one backward instead of hundreds.

A layer runs about ten small kernels forward and thirty backward. With a batch of masked clips, each ends before Python
can launch the next.
"""

from collections.abc import Callable, Collection
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vmr.models.videomamba.workspace import Workspace


class LayeredModel(Protocol):
    """What the graphs need of a model; `VideoMambaBackbone` has it."""

    layers: nn.ModuleList
    layer_graphs: "LayerGraphs | None"
    training: bool

    def compute_dtype(self, tokens: Tensor) -> torch.dtype:
        """Return the dtype of the matrix products."""

    def run_layers(
        self, tokens: Tensor, workspace: Workspace, wanted: Collection[int] = ()
    ) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Run all layers, see `VideoMambaBackbone.run_layers`."""


class LayerGraphs:
    """`VideoMambaBackbone.run_layers` with gradients, captured once for each shape of tokens.

    Each call overwrites the results of the last call with the same shape, so run the backward pass before the next
    forward pass. Do not use it with layers that another package wraps or shards, such as FSDP.
    """

    def __init__(self, backbone: LayeredModel) -> None:
        """Prepare graphs of a backbone's layers.

        Args:
            backbone: the model.
        """
        self._backbone = backbone
        self._graphs: dict[object, Callable[[Tensor], tuple[Tensor, ...]]] = {}

    def __call__(self, tokens: Tensor, wanted: Collection[int]) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Run the layers; see `VideoMambaBackbone.run_layers`.

        Args:
            tokens: (B, L, C), on a GPU.
            wanted: indices of layers after which the residual stream is wanted as well.

        Returns:
            The last layer's output, the residual stream, and index -> residual stream.
        """
        dtype = self._backbone.compute_dtype(tokens)
        key = tokens.shape, tokens.dtype, dtype, tuple(wanted), tokens.requires_grad, self._backbone.training
        if key not in self._graphs:
            self._graphs[key] = self._capture(tokens, dtype, wanted)
        hidden, residual, *streams = self._graphs[key](tokens)
        return hidden, residual, dict(zip(wanted, streams, strict=True))

    def __deepcopy__(self, memo: object) -> None:
        """Return None: a copy of the model has other weights, which these graphs do not read."""
        return

    def _capture(
        self, tokens: Tensor, dtype: torch.dtype, wanted: Collection[int]
    ) -> Callable[[Tensor], tuple[Tensor, ...]]:
        layers = _Layers(self._backbone, wanted)
        sample = tokens.detach().clone().requires_grad_(tokens.requires_grad)
        autocast = torch.is_autocast_enabled("cuda")
        # Autocast's cache must be off: a cast that comes from the cache would not be part of the graph.
        uncached_autocast = torch.autocast("cuda", dtype, enabled=autocast, cache_enabled=False)
        with torch.cuda.device(tokens.device), uncached_autocast:
            graphed = torch.cuda.make_graphed_callables(layers, (sample,))
        return cast(Callable[[Tensor], tuple[Tensor, ...]], graphed)


class _Layers(nn.Module):
    """A module of the layers alone: tokens (B, L, C) -> the last output, the residual stream, the wanted streams."""

    def __init__(self, backbone: LayeredModel, wanted: Collection[int]) -> None:
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
