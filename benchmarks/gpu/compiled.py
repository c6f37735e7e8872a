"""`torch.compile(fullgraph=True)` and CUDA graphs of the model, compared with its eager pass."""

from typing import Any

import torch

from benchmarks.gpu.parity import relative_l2
from vmr.models.videomamba.cuda_graphs import CudaGraphs
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig


def measure() -> dict[str, Any]:
    """Measure relative errors of outputs and gradients.

    Returns:
        Name of the case -> error.
    """
    torch.manual_seed(0)
    config = VideoMambaConfig(width=64, num_layers=2, image_size=64, num_frames=4)
    model = VideoMamba(config, backend="triton").cuda()
    video = torch.randn(2, 4, 3, 64, 64, device="cuda")
    weights = torch.randn(2, 1, 64, device="cuda")  # not a sum of squares, which the last norm keeps constant

    def run(forward: Any) -> list[torch.Tensor]:
        model.zero_grad()
        pooled = forward(video).pooled
        (pooled * weights).sum().backward()
        return [pooled.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    eager, compiled = run(model), run(torch.compile(model, fullgraph=True))
    error = max(relative_l2(a, b) for a, b in zip(compiled, eager, strict=True))
    with torch.no_grad():
        graphs = CudaGraphs(lambda v: model(v).pooled, model)
        graphs(video)  # eager
        errors = {"graph": relative_l2(graphs(video), model(video).pooled)}
        errors["graph, other input"] = relative_l2(graphs(video * 2), model(video * 2).pooled)
        model.pool_norm.weight.mul_(3.0)  # a graph that was captured before must not be used for changed weights
        errors["graph, other weights"] = relative_l2(graphs(video), model(video).pooled)
    return {"compiled": error, **errors}
