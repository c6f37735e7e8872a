"""Forward passes of small batches on a GPU as CUDA graphs: one launch in the place of hundreds.

A clip of eight frames is some ten kernels a layer, each done sooner than Python can launch the next. A graph is
captured the second time that a shape is seen, so that what comes once costs nothing, and replayed from then on.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

MAX_GRAPHS = 8  # each keeps the memory of one pass; the one that was used longest ago goes
MAX_VALUES = 64 * 3 * 224 * 224  # of a batch: a larger one keeps the GPU busy by itself

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    given: Tensor
    result: Any
    weights: object


class CudaGraphs(Generic[Result]):
    """A function of one tensor, replayed where that helps: on a GPU, without gradients, and not for large batches.

    The function may hand out any nesting of tuples of tensors. It must compute on the GPU alone: what it decides by
    looking at values is decided once, at capture.
    """

    def __init__(self, function: Callable[[Tensor], Result], *modules: nn.Module) -> None:
        """modules: own the weights that `function` reads; a graph made with weights that changed since is remade."""
        self._function = function
        self._parameters = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        self._captures = not any(p.is_inference() for p in self._parameters)  # else changes would go unnoticed
        self._graphs: OrderedDict[object, _Graph | None] = OrderedDict()

    def __call__(self, x: Tensor) -> Result:
        """x: what the function takes, (B, T, 3, H, W) for a video encoder -> what the function gives."""
        if not (x.is_cuda and self._captures) or torch.is_grad_enabled() or x.numel() > MAX_VALUES:
            return self._function(x)
        key = (x.shape, x.dtype, x.device)
        if key not in self._graphs:
            self._remember(key, None)
            return self._function(x)
        entry = self._graphs[key]
        if entry is None or entry.weights != self._weights():
            try:
                entry = self._capture(x)
            except RuntimeError as error:
                logger.warning(
                    "a CUDA graph could not be made, so that passes are launched kernel by kernel: %s", error
                )
                self._captures = False
                return self._function(x)
            self._remember(key, entry)
        self._graphs.move_to_end(key)
        entry.given.copy_(x)
        entry.graph.replay()
        result: Result = pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, entry.result)
        return result

    def _capture(self, x: Tensor) -> _Graph:
        with torch.inference_mode(False):  # a tensor of inference mode could not be written to outside of it
            given = torch.empty_like(x)
        given.copy_(x)
        self._function(given)  # whatever is made or compiled at first use, after the weights changed
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._function(given)
        return _Graph(graph, given, result, self._weights())

    def _remember(self, key: object, entry: _Graph | None) -> None:
        self._graphs[key] = entry
        while len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)

    def _weights(self) -> object:
        """What differs after the weights were changed in place, cast or moved; cheap enough for every call."""
        first = self._parameters[0]
        return sum(p._version for p in self._parameters), first.data_ptr(), first.dtype
