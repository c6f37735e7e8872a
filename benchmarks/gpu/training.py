"""A training step like UMT's: the student of VideoMamba-M sees a fifth of the patches of 8 frames, in bfloat16.

A step is the forward pass with UTA to given teacher features and VTC to given text vectors, the backward pass, and
fused AdamW, without the teacher's pass and the text encoder. It is measured with the layers as CUDA graphs and without.
The floor is the time of the scans' exponentials plus that of the matrix products.
"""

import itertools
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.scans import PATCHES, SIZES
from benchmarks.gpu.timing import WARM_UP
from vmr.losses import alignment_loss, contrastive_loss
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.ops import available_backends

NUM_FRAMES, MASKED, TEACHER_DIM, EMBED_DIM = 8, 0.8, 512, 512
STEPS = 12


def measure(machine: dict[str, Any]) -> dict[str, Any]:
    """Time our step, and the same model on mamba-ssm's scan if that is installed.

    Args:
        machine: the rates from `benchmarks.gpu.machine`.

    Returns:
        `rows`, one for each backend, with batch 32, or 16 if 32 does not fit.
    """
    rows = []
    for backend, graphs in (("triton", True), ("triton", False), ("cuda", False)):
        if not available_backends()[backend].startswith("available"):
            rows.append({"backend": backend, "graphs": graphs, "absent": available_backends()[backend]})
            continue
        for batch in (32, 16):
            try:
                rows.append({"backend": backend, "graphs": graphs, "batch": batch, **_floor(batch, machine)})
                rows[-1] |= _step(backend, batch, graphs=graphs)
                break
            except torch.OutOfMemoryError:
                rows[-1]["absent"] = "out of memory"
            except Exception as error:  # the other backends continue
                rows[-1]["absent"] = f"{type(error).__name__}: {error}"[:300]
                break
    return {"rows": rows}


def _step(backend: str, batch: int, *, graphs: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    config = VideoMambaConfig.of_size("middle", num_frames=NUM_FRAMES)
    config = VideoMambaConfig(**{**vars(config), "student": StudentConfig(teacher_dim=TEACHER_DIM)})
    with torch.device("cuda"):
        model = VideoMamba(config, backend=backend).train()  # type: ignore[arg-type]
        project = nn.Linear(config.width, EMBED_DIM)
    model.student_positions = model.student_positions.cuda()
    if graphs:
        model.graph_layers()
    optimizer = torch.optim.AdamW([*model.parameters(), *project.parameters()], lr=1e-4, fused=True)
    mask, kept = _mask(batch)
    video = torch.randn(batch, NUM_FRAMES, 3, 224, 224, device="cuda")
    teacher = torch.randn(1, batch, kept, TEACHER_DIM, device="cuda")
    texts, temperature = torch.randn(batch, EMBED_DIM, device="cuda"), torch.tensor(0.07, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    times = []
    losses = []
    for _ in range(WARM_UP + STEPS):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
        events[0].record()
        with torch.autocast("cuda", torch.bfloat16):
            features = model(video, mask)
            loss = alignment_loss(features.student, teacher)
            loss = loss + contrastive_loss(project(features.pooled.mean(1)), texts, temperature)
        events[1].record()
        loss.backward()
        events[2].record()
        optimizer.step()
        optimizer.zero_grad()
        events[3].record()
        torch.cuda.synchronize()
        times.append([a.elapsed_time(b) for a, b in itertools.pairwise(events)])
        losses.append(loss.item())
    forward, backward, update = torch.tensor(times[WARM_UP:]).median(dim=0).values.tolist()
    return {
        "tokens": kept, "forward_ms": forward, "backward_ms": backward, "optimizer_ms": update,
        "step_ms": forward + backward + update, "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9,
        "first_loss": losses[0], "last_loss": losses[-1],
    }  # fmt: skip


def _mask(batch: int) -> tuple[torch.Tensor, int]:
    """A mask of random patches of each frame, (B, 1 + N), True = dropped, and how many tokens are kept."""
    dropped = int(PATCHES * MASKED)
    order = torch.rand(batch, NUM_FRAMES, PATCHES, device="cuda").argsort(dim=-1)
    mask = torch.cat([torch.zeros(batch, 1, dtype=torch.bool, device="cuda"), (order < dropped).flatten(1)], dim=1)
    return mask, 1 + NUM_FRAMES * (PATCHES - dropped)


def _floor(batch: int, machine: dict[str, Any]) -> dict[str, float]:
    width, layers = SIZES["M"]
    tokens = 1 + NUM_FRAMES * (PATCHES - int(PATCHES * MASKED))
    exponentials = 2 * batch * tokens * 2 * width * 16 * 3 * layers  # both directions; forward, state again, tiles
    rank = -(-width // 16)
    weights = 6 * width**2 + 2 * 2 * width * (2 * rank + 32)  # in_proj, out_proj, x_proj and dt_proj of a layer
    products = 3 * 2 * batch * tokens * weights * layers
    scan_ms = exponentials / machine["exp_t_s"] / 1e9
    product_ms = products / machine["bf16_tflop_s"] / 1e9
    return {"floor_scan_ms": scan_ms, "floor_product_ms": product_ms, "floor_ms": scan_ms + product_ms}
