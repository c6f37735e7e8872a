"""Run a network without torch: exported once to OpenVINO, kept in the cache folder, and run on the CPU from then on.

OpenVINO takes about a third of the time of torch's own operations, and a process that imports no torch starts in a
fraction of the time and memory. Results differ from torch's by rounding only: an export is used only if it agrees with
torch on the network's examples. Without OpenVINO, on a GPU, or where the two do not agree, torch runs the network.

Every input goes through the network by itself, on one thread, and several go through it side by side. So a result does
not depend on the other inputs, nor on the number of threads, to the last bit.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmr.cpus import let_threads_sleep, num_cpus
from vmr.errors import VmrError
from vmr.files import Put, cache_folder, sha256_of, write_folder_atomically
from vmr.locks import locked_file

if TYPE_CHECKING:
    from torch import nn

MOST_STREAMS = 16  # inputs side by side; each takes memory, and decoders cannot feed more
TOLERANCE = 1e-4  # largest difference from torch, relative to the largest value of a result

_GRAPH, _WEIGHTS, _HASHES = "graph.xml", "graph.bin", "sha256.json"

logger = logging.getLogger(__name__)
_core_lock = threading.Lock()

Run = Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]
"""N inputs, without a dimension for the batch -> N results, float32 (N, F)."""


@dataclass(frozen=True)
class Network:
    """A network of torch with one input and one output, and what is needed to export it.

    Attributes:
        name: of its folder in the cache. Another network, or another way to compute the same, has another name.
        fingerprint: of the encoder that it is a part of, and so of its weights.
        shape: of a batch of one input; -1 for a length that varies.
        load: imports torch and loads the network, float32 on the CPU, in evaluation mode.
        examples: makes batches of one input, for comparing both ways to run the network.
        gpu_batch: inputs that a GPU takes at once; 1 if their lengths vary.
    """

    name: str
    fingerprint: str
    shape: tuple[int, ...]
    load: Callable[[], nn.Module]
    examples: Callable[[], list[NDArray[Any]]]
    gpu_batch: int = 1


def runtime_version() -> str | None:
    """Return the version of OpenVINO; None if it is not installed or does not work here."""
    openvino = _openvino()
    return None if openvino is None else openvino.__version__.partition("-")[0]


def is_exported(network: Network) -> bool:
    """Tell whether a network can be run without torch, and without the files that `load` reads."""
    return runtime_version() is not None and (_folder(network) / _HASHES).is_file()


def open_network(network: Network, device: str) -> Run:
    """Make a network ready to run; the first time, it is exported, which takes some seconds.

    Args:
        network: the network.
        device: `cpu`, or a device of torch.

    Returns:
        What runs it. Any number of threads may call it at the same time.

    Raises:
        VmrError: whatever `network.load` raises.
    """
    if device == "cpu" and runtime_version() is not None:
        try:
            graph = kept_graph(_folder(network)) or _made_now(network)
            if graph is not None:
                return _Graph(graph)
        except VmrError:
            raise
        except Exception as error:  # OpenVINO raises many types, for a torch that it does not know or an odd CPU
            reason = " ".join(str(error).split())[:300]
            logger.warning("%s: OpenVINO cannot run it, so torch does, slower: %s", network.name, reason)
    return _Eager(network, device)


def run_in_batches(
    inputs: Sequence[NDArray[Any]], size: int, run: Callable[[NDArray[Any]], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Run batches of one size; the last is filled up with zeros.

    Libraries choose how they compute by the size of a batch, so equal inputs have equal results in every batch only if
    all batches have one size.

    Args:
        inputs: N arrays of one shape.
        size: inputs of a batch.
        run: computes the results of one batch, (size, ...) -> (size, F).

    Returns:
        N results, (F,) each.
    """
    results: list[NDArray[np.float32]] = []
    for start in range(0, len(inputs), size):
        some = inputs[start : start + size]
        batch = np.zeros((size, *np.shape(some[0])), some[0].dtype)
        batch[: len(some)] = some
        results += [*run(batch)[: len(some)]]
    return results


class _Graph:
    """A network that OpenVINO runs."""

    def __init__(self, model: Path | Any) -> None:
        """Take a model of OpenVINO, or the file of one."""
        openvino = _openvino()
        assert openvino is not None
        streams = min(num_cpus(), MOST_STREAMS)
        settings = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,  # one each
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # decoders need the same cores
        }
        compiled = _core().compile_model(model, "CPU", settings)
        # Requests without a callback in Python: its thread may still wait for the interpreter when that ends, which
        # aborts the process and loses what it has printed.
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        results: list[NDArray[np.float32]] = []
        running: deque[Any] = deque()  # the oldest request first
        with self._lock:
            for number, one in enumerate(inputs):
                request = self._requests[number % len(self._requests)]
                if len(running) == len(self._requests):
                    results.append(_result(running.popleft()))
                request.wait()  # it still runs if Ctrl-C ended the call before this one
                request.start_async({0: one[None]})
                running.append(request)
            results += map(_result, running)
        return np.stack(results)


def _result(request: Any) -> NDArray[np.float32]:
    """Wait for a request, and copy its result."""
    request.wait()
    result: NDArray[np.float32] = request.get_output_tensor(0).data[0].copy()
    return result


class _Eager:
    """A network that torch runs."""

    def __init__(self, network: Network, device: str) -> None:
        import torch

        let_threads_sleep()
        with torch.inference_mode(False):  # although it may be loaded inside that mode
            self._module = network.load().to(device)
        self._device, self._batch = device, 1 if device == "cpu" else network.gpu_batch

    def __call__(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return np.stack(run_in_batches(inputs, self._batch, self._run))

    def _run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            result: NDArray[np.float32] = self._module(torch.from_numpy(batch).to(self._device)).cpu().numpy()
        return result


def _openvino() -> Any | None:
    """Import OpenVINO without its telemetry, which tells Google Analytics of every import unless a user refused.

    Returns:
        The package; None if it is not installed or does not work here.
    """
    if find_spec("openvino") is None:
        return None
    name = "openvino_telemetry"
    with ExitStack() as stack:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed, which OpenVINO allows
            stack.callback(sys.modules.pop, name, None)
        try:
            import openvino
        except (ImportError, OSError) as error:
            logger.warning("OpenVINO cannot be imported, so torch runs networks, slower: %s", error)
            return None
    return openvino


def _core() -> Any:
    """The only core of OpenVINO in this process.

    Each that is used gives the thread a stack for signals, and puts back the one before when it ends. If one of two
    ends before the other, that is memory which is gone, and the next signal, such as Ctrl-C, ends the process.
    """
    with _core_lock:
        return _make_core()


@functools.cache
def _make_core() -> Any:
    openvino = _openvino()
    assert openvino is not None
    return openvino.Core()


def _folder(network: Network) -> Path:
    return cache_folder() / "graphs" / f"{network.name}-{network.fingerprint}-openvino-{runtime_version()}"


def kept_graph(folder: Path) -> Path | None:
    """Return the graph that `keep_graph` wrote to a folder; None if there is none, or if it is damaged."""
    try:
        hashes = json.loads((folder / _HASHES).read_text())
        damaged = {name: sha256_of(folder / name) for name in (_GRAPH, _WEIGHTS)} != hashes
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        damaged = True
    if damaged:
        logger.warning("%s is damaged: vmr makes it again", folder)
        return None
    return folder / _GRAPH


def keep_graph(folder: Path, graph: bytes, weights: bytes) -> None:
    """Write a graph in OpenVINO's format to a folder, in the place of what it holds.

    Args:
        folder: the folder; other processes may be reading it.
        graph: the description of the graph, XML.
        weights: its constants.

    Raises:
        VmrError: the folder cannot be written.
    """

    def fill(put: Put) -> None:
        hashes = {_GRAPH: put(_GRAPH, graph), _WEIGHTS: put(_WEIGHTS, weights)}
        put(_HASHES, json.dumps(hashes).encode())

    write_folder_atomically(folder, fill, replace=True)


def _made_now(network: Network) -> Path | Any | None:
    """Export a network and keep it, while other processes wait; None if the export does not agree with torch."""
    folder = _folder(network)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(folder.parent / "export"))
        except VmrError as error:
            logger.warning("%s; %s is exported for this process alone", error, network.name)
            return _export(network)[0]
        graph = kept_graph(folder)  # made by the process that had the lock
        if graph is not None:
            return graph
        model, files = _export(network)
        if files is not None:
            try:
                keep_graph(folder, *files)
            except VmrError as error:
                logger.warning("%s; %s is exported for this process alone", error, network.name)
        return model


def _export(network: Network) -> tuple[Any | None, tuple[bytes, bytes] | None]:
    """Export a network.

    Returns:
        The model, and its files; None for both if it does not agree with torch, None for the files if there is no room.
    """
    import torch

    openvino = _openvino()
    assert openvino is not None
    logger.warning("%s is exported from torch to OpenVINO; this takes some seconds, once", network.name)
    module, examples = network.load(), network.examples()
    with torch.inference_mode(), _quiet():
        model = openvino.convert_model(
            module, example_input=torch.from_numpy(examples[0]), input=[openvino.PartialShape([*network.shape])]
        )
        expected = [module(torch.from_numpy(example))[0].numpy() for example in examples]
    files = _files_of(model)
    if files is not None:
        model = _core().read_model(*files)
    run = _Graph(model)
    found = [run([*example])[0] for example in examples]
    difference = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))
    if not difference <= TOLERANCE:
        logger.warning(
            "%s: OpenVINO's results differ from torch's by %.1e: torch runs it, slower", network.name, difference
        )
        return None, None
    return model, files


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's warnings about the traces that OpenVINO reads, and keep the log as it is, which OpenVINO changes."""
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _files_of(model: Any) -> tuple[bytes, bytes] | None:
    """The two files of a model, graph and weights; None if there is no room for them."""
    openvino = _openvino()
    assert openvino is not None
    try:
        with tempfile.TemporaryDirectory(prefix="vmr-export-") as temporary:
            graph = Path(temporary, _GRAPH)
            openvino.save_model(model, graph, compress_to_fp16=False)
            return graph.read_bytes(), graph.with_name(_WEIGHTS).read_bytes()
    except (OSError, RuntimeError) as error:
        logger.warning("the exported graph cannot be kept: %s", error)
        return None
