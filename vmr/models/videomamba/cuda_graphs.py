"""Forward passes of small batches on a GPU as CUDA graphs: one launch instead of hundreds.

For a clip of eight frames a layer runs about ten kernels, and each ends before Python can launch the next. A graph is
captured at the second call with a shape, so that a shape that occurs once costs nothing, and is replayed at later
calls.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

MAX_GRAPHS = 8  # each keeps the memory of one pass; the least recently used one is deleted
MAX_VALUES = 64 * 3 * 224 * 224  # pixels in a batch; a larger batch keeps the GPU busy without a graph

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class _Graph(NamedTuple):
    """A captured pass: its input and output buffers, and the state of the weights that it was captured with."""

    graph: torch.cuda.CUDAGraph
    given: Tensor
    result: Any
    weights: object


class CudaGraphs(Generic[Result]):
    """A function of one tensor, replayed as a CUDA graph on a GPU, without gradients, for batches that are not large.

    The function may return any nesting of tuples of tensors. It must compute on the GPU alone. If it branches on values
    of tensors, the branch taken at capture is always replayed. Safe to call from several threads.
    """

    def __init__(self, function: Callable[[Tensor], Result], *modules: nn.Module) -> None:
        """Wrap a function.

        Args:
            function: the function to replay.
            modules: the modules whose weights `function` reads; a graph is captured again after they have changed.
        """
        self._function = function
        parts = [part for module in modules for part in module.modules()]
        self._weight_places = [
            (held, name) for part in parts for held in (part._parameters, part._buffers) for name in held
        ]
        # torch does not count changes of tensors that were made in inference mode, so that they would not be noticed.
        self._captures = not any(t.is_inference() for t in self._weight_tensors())
        self._seen: set[object] = set()
        self._graphs: OrderedDict[object, _Graph] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Result:
        """Call the function, or replay its graph.

        Args:
            x: the argument of the function; (B, T, 3, H, W) for a video encoder.

        Returns:
            The result of the function, in new tensors.
        """
        if not (x.is_cuda and self._captures) or torch.is_grad_enabled() or x.numel() > MAX_VALUES:
            return self._function(x)
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (x.shape, x.dtype, x.device, autocast)
        with self._lock, torch.cuda.device(x.device):  # a graph is captured on the current device
            if key not in self._seen:
                self._seen.add(key)
                return self._function(x)
            graph = self._up_to_date(key, x)
            if graph is None:
                return self._function(x)
            graph.given.copy_(x)
            graph.graph.replay()
            result: Result = pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, graph.result)
            return result

    def _up_to_date(self, key: object, x: Tensor) -> _Graph | None:
        """Return the graph for this shape and the current weights; None if it cannot be captured."""
        graph, weights = self._graphs.pop(key, None), self._weights()
        if graph is None or graph.weights != weights:
            try:
                graph = self._capture(x, weights)
            except torch.OutOfMemoryError:
                return None
            except RuntimeError as error:
                logger.warning(
                    "a CUDA graph could not be captured, so kernels are launched one by one, which is slower: %s", error
                )
                self._captures = False
                return None
        self._graphs[key] = graph
        while len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return graph

    def _capture(self, x: Tensor, weights: object) -> _Graph:
        with torch.inference_mode(False):  # a tensor made in inference mode cannot be written to in other modes
            given = torch.empty_like(x)
        given.copy_(x)
        self._function(given)  # before the capture, so that nothing is compiled or cached for the first time in it
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._function(given)
        return _Graph(graph, given, result, weights)

    def _weight_tensors(self) -> list[Tensor]:
        """The current weights: a module may have been given other tensors."""
        found = (held.get(name) for held, name in self._weight_places)
        return [tensor for tensor in found if tensor is not None]

    def _weights(self) -> object:
        """A value that differs after weights were changed, cast, moved or replaced; takes a tenth of a millisecond."""
        return [(tensor._version, tensor.data_ptr()) for tensor in self._weight_tensors()]
