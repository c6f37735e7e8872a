"""A whole encoder on the Triton kernels, in the interpreter: upstream's values, gradients, two processes."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.parity.adapter import Adapter
from tests.parity.fill import make_input, make_mask, small_encoder_weights
from tests.unit.scan_cases import relative_l2
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.ops.backend import Backend

SMALL = {"embed_dim": 64, "depth": 4, "img_size": 64, "num_frames": 4, "clip_output_dim": 32, "clip_return_layer": 3}
GOLDEN = Path(__file__).parents[1] / "parity" / "encoder_golden.npz"


def tiny_encoder(backend: Backend, **options) -> VideoMamba:
    """9 tokens of width 32 in 2 layers, always with the same weights."""
    torch.manual_seed(0)
    return VideoMamba(VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=2, **options), backend=backend)


def clips(count: int) -> tuple[Tensor, Tensor]:
    """Clips, and weights of the sum that is differentiated."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 3, 32, 32, generator=random), torch.randn(count, 1, 32, generator=random)


def gradients(model: torch.nn.Module, video: Tensor, weights: Tensor) -> dict[str, Tensor]:
    (model(video).pooled * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_upstreams_values():
    video, mask = make_input("small", (2, 3, 4, 64, 64)), make_mask("smallmask", 2, 4, 16, 0.8)
    student = Adapter("triton").encoder(SMALL, small_encoder_weights(3))(video, mask=mask)[2]
    assert relative_l2(student, torch.from_numpy(np.load(GOLDEN)["ret3x1.student"])) <= 3e-6


@pytest.mark.parametrize("checkpointed", [0, 2])
def test_gradients_are_those_of_the_reference(checkpointed):
    video, weights = clips(1)
    ours = gradients(tiny_encoder("triton", checkpointed_layers=checkpointed), video, weights)
    expected = gradients(tiny_encoder("reference"), video, weights)
    assert ours.keys() == expected.keys() and len(ours) > 40
    assert max(relative_l2(ours[name], expected[name]) for name in expected) <= 3e-5


def test_autocast_in_bfloat16():
    video, weights = clips(1)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(tiny_encoder("triton"), video, weights)
        expected = gradients(tiny_encoder("reference"), video, weights)
    assert max(relative_l2(ours[name], expected[name]) for name in expected) <= 0.1  # both round to 8 bits, otherwise


def in_a_process(rank: int, port: int, parallel: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model, (video, weights) = tiny_encoder("triton"), clips(2)
    if parallel == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        wrapped = fully_shard(model, mesh=mesh)
    else:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    found = gradients(wrapped, video[rank : rank + 1], weights[rank : rank + 1])
    whole = {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in found.items()}
    if rank == 0:
        torch.save({name.removeprefix("module."): g for name, g in whole.items()}, results)
    dist.destroy_process_group()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_average_the_gradients_of_one(tmp_path, parallel):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(in_a_process, (port, parallel, str(tmp_path / "found.pt")), nprocs=2)
    found = torch.load(tmp_path / "found.pt")
    video, weights = clips(2)
    expected = gradients(tiny_encoder("triton"), video, weights / 2)  # the mean over processes
    assert max(relative_l2(found[name], expected[name]) for name in expected) <= 1e-5
