"""VideoMamba beside attention of its size: clips per second and peak memory, at equal batch.

The paper's "6x faster, 40x less memory" compares with joint attention whose matrix is written to memory. Here the peers
are that, joint fused attention, and divided fused attention, which is what TimeSformer uses.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.timing import captured, median_ms, peak_mb
from benchmarks.peers import BASE, TINY, DividedVit, JointVit
from vmr.models.videomamba.backbone import Size
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.ops import available_backends

IMAGE_SIZE = 224
FRAMES = (8, 16, 32, 64)
BATCHES = (1, 8)
VIT = {"Ti": TINY, "M": BASE}
NAMES: dict[str, Size] = {"Ti": "tiny", "M": "middle"}
OURS = "VideoMamba"
PEER = "VideoMamba, mamba-ssm"


def measure(*, peers: bool) -> dict[str, Any]:
    """Measure our encoders, or the peers, at every length and batch.

    Args:
        peers: whether to measure the peers instead of ours.

    Returns:
        `rows`, one for each model, length and batch; `absent` says why one has no numbers.
    """
    rows = []
    for size, batch, num_frames in itertools.product(VIT, BATCHES, FRAMES):
        for name, make in _models(size, num_frames, peers=peers).items():
            row: dict[str, Any] = {"size": size, "model": name, "frames": num_frames, "batch": batch}
            try:
                row |= _measure_one(make, num_frames, batch)
            except torch.OutOfMemoryError:
                row["absent"] = "out of memory"
            except Exception as error:  # the other models continue
                row["absent"] = f"{type(error).__name__}: {error}"[:300]
            rows.append(row)
            torch.cuda.empty_cache()
    return {"rows": rows}


def _models(size: str, num_frames: int, *, peers: bool) -> dict[str, Callable[[], nn.Module]]:
    config = VideoMambaConfig.of_size(NAMES[size], num_frames=num_frames, image_size=IMAGE_SIZE)
    if not peers:
        return {OURS: lambda: VideoMamba(config, backend="triton").cast_products(torch.bfloat16)}
    models: dict[str, Callable[[], nn.Module]] = {
        "joint, fused attention": lambda: JointVit(num_frames, IMAGE_SIZE, VIT[size]).bfloat16(),
        "divided, fused attention": lambda: DividedVit(num_frames, IMAGE_SIZE, VIT[size]).bfloat16(),
        "joint, matrix written out": lambda: JointVit(num_frames, IMAGE_SIZE, VIT[size], materialised=True).bfloat16(),
    }
    if available_backends()["cuda"].startswith("available") and num_frames in (FRAMES[0], FRAMES[-1]):
        models[PEER] = lambda: VideoMamba(config, backend="cuda").cast_products(torch.bfloat16)
    return models


@torch.no_grad()
def _measure_one(make: Callable[[], nn.Module], num_frames: int, batch: int) -> dict[str, Any]:
    with torch.device("cuda"):
        model = make().eval()
    videos = [
        torch.randn(batch, num_frames, 3, IMAGE_SIZE, IMAGE_SIZE, device="cuda", dtype=torch.bfloat16)
        for _ in range(2)
    ]  # fmt: skip

    def encode(video: Tensor) -> object:
        return model(video)

    memory = peak_mb(lambda: encode(videos[0]))
    eager = median_ms([lambda v=v: encode(v) for v in videos], budget_ms=40, least=3)
    graph = median_ms(captured(lambda: encode(videos[0])), budget_ms=40, least=3)
    return {
        "eager_ms": eager, "graph_ms": graph, "clips_s": batch / min(eager, graph) * 1e3, "extra_memory_mb": memory,
        "weights_mb": sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6,
    }  # fmt: skip
