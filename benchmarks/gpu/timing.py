"""Times by CUDA events, peak memory and CUDA graphs, for the steps of the device check."""

import statistics
from collections.abc import Callable, Sequence

import torch

Work = Callable[[], object]

WARM_UP = 3


def median_ms(works: Work | Sequence[Work], *, budget_ms: float = 100.0, least: int = 5) -> float:
    """Measure the median time of a function.

    Args:
        works: one function, or several that do the same on other tensors and are called in turns, so that no cache
        holds
            their inputs.
        budget_ms: time to spend on timed runs, roughly.
        least: the least number of timed runs.

    Returns:
        Milliseconds of one call.
    """
    turns = [works] if callable(works) else list(works)
    for index in range(max(WARM_UP, len(turns))):
        turns[index % len(turns)]()
    torch.cuda.synchronize()
    first = _timed(turns[0])
    count = max(least, min(200, int(budget_ms / max(first, 1e-3))))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    for index, (start, end) in enumerate(events):
        start.record()
        turns[index % len(turns)]()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events)


def captured(work: Work) -> Work:
    """Capture a function as a CUDA graph, which launches all its kernels at once.

    Args:
        work: the function.

    Returns:
        A function that replays the graph.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def peak_mb(work: Work) -> float:
    """Measure how far a function raises the memory in use.

    Args:
        work: the function.

    Returns:
        The peak during the call minus the memory in use before, in MB.
    """
    work()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _timed(work: Work) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)
