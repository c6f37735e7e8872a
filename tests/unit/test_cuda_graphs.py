"""CUDA graphs do nothing without a GPU. With a GPU they give the same values, also for other inputs and weights."""

import copy
import itertools

import pytest
import torch

from vmr.models.videomamba.cuda_graphs import MAX_GRAPHS, CudaGraphs
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.layer_graphs import _Layers
from vmr.models.videomamba.student import StudentConfig
from vmr.models.videomamba.workspace import Workspace

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def tiny_encoder(**options) -> VideoMamba:
    torch.manual_seed(0)
    return VideoMamba(VideoMambaConfig(width=32, num_layers=4, image_size=32, num_frames=2, **options)).eval()


def test_on_a_cpu_the_function_is_called_as_it_is():
    model, video = tiny_encoder(), torch.randn(1, 2, 3, 32, 32)
    graphs = CudaGraphs(model, model)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(graphs(video).pooled, model(video).pooled)
    assert not graphs._graphs


def test_every_change_of_the_weights_is_noticed():
    model = tiny_encoder()
    graphs = CudaGraphs(model, model)
    seen = [graphs._weights()]
    for change in (
        model.pool_norm.weight.data_ptr,  # changes nothing
        lambda: model.cast_products(torch.bfloat16),
        model.blocks[3].norm.double,
        lambda: model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True),
        lambda: model.blocks[2].mixer.D.detach().mul_(2.0),
    ):
        change()
        seen.append(graphs._weights())
    assert [a == b for a, b in itertools.pairwise(seen)] == [True, False, False, False, False]


def test_layers_to_be_captured_compute_what_the_model_does():
    model = tiny_encoder(student=StudentConfig(teacher_dim=8, num_taps=3))
    tokens = torch.randn(2, 9, 32)
    hidden, residual, streams = model.run_layers(tokens, Workspace(), [1, 2])
    captured = _Layers(model.graph_layers(), [1, 2])(tokens)
    assert all(torch.equal(a, b) for a, b in zip(captured, (hidden, residual, streams[1], streams[2]), strict=True))
    assert {*captured[0].shape} == {2, 9, 32}
    assert model.layer_graphs is not None
    assert copy.deepcopy(model).layer_graphs is None
    layers = [parameter for block in model.blocks for parameter in block.parameters()]
    assert [id(p) for p in _Layers(model, []).parameters()] == [id(p) for p in layers]


@needs_gpu
def test_replays_are_the_eager_pass_for_any_input_and_weights():
    model = tiny_encoder().cuda()
    graphs = CudaGraphs(model, model)
    with torch.no_grad():
        for count in (1, 2, 1, 1, 2, 2):
            video = torch.randn(count, 2, 3, 32, 32, device="cuda")
            assert torch.allclose(graphs(video).pooled, model(video).pooled, atol=1e-5)
        model.pool_norm.weight.mul_(3.0)
        assert torch.allclose(graphs(video).pooled, model(video).pooled, atol=1e-5)
        for count in range(1, MAX_GRAPHS + 3):
            graphs(torch.randn(count, 2, 3, 32, 32, device="cuda"))
    assert len(graphs._graphs) == MAX_GRAPHS


@needs_gpu
def test_graphed_layers_train_as_the_eager_ones_do():
    results = []
    for graphed in (False, True):
        model = tiny_encoder().cuda().train()
        if graphed:
            model.graph_layers()
        for seed in range(3):
            torch.manual_seed(seed)
            model.zero_grad()
            video, weights = torch.randn(2, 2, 3, 32, 32, device="cuda"), torch.randn(2, 1, 32, device="cuda")
            (model(video).pooled * weights).sum().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*results, strict=True))
