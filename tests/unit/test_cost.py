"""What networks cost: against published figures, against torch's count of the real modules, and measured here."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vmr.errors import ModelError
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.cost import cost_of, count_operations
from vmr.models.classification.matching import count_parameters, matched
from vmr.models.classification.measuring import measure
from vmr.models.classification.networks import KINDS, build_network
from vmr.models.videomamba.encoder import VideoMambaConfig

pytest.importorskip("timm")

TINY, SMALL, MIDDLE = (192, 24), (384, 24), (576, 32)
DEIT_TINY, VIT_BASE, VIT_LARGE = (192, 12), (768, 12), (1024, 24)


def sizes(kind: str, size: tuple[int, int], frames: int, pixels: int, **more: int) -> NetworkConfig:
    return NetworkConfig(kind=kind, width=size[0], num_layers=size[1], num_frames=frames, image_size=pixels, **more)


@pytest.mark.parametrize(
    ("size", "frames", "pixels", "classes", "printed"),
    [
        (TINY, 1, 224, 1000, 1.08), (TINY, 1, 448, 1000, 4.30), (TINY, 1, 576, 1000, 7.11),
        (TINY, 8, 224, 400, 8.6), (TINY, 16, 224, 400, 17), (TINY, 32, 224, 400, 34), (TINY, 64, 224, 400, 69),
        (TINY, 64, 384, 400, 202), (SMALL, 8, 224, 400, 34), (SMALL, 64, 224, 400, 271), (MIDDLE, 8, 224, 400, 101),
        (MIDDLE, 64, 224, 400, 806), (MIDDLE, 64, 384, 400, 2368),
    ],
)  # fmt: skip
def test_videomambas_paper_prints_a_part_of_the_operations(size, frames, pixels, classes, printed):
    operations = count_operations(sizes("videomamba", size, frames, pixels, num_classes=classes))
    assert round(operations.as_printed / 1e9, 2 if printed < 8 else 1 if printed < 10 else 0) == printed
    assert operations.total > 1.25 * operations.as_printed


@pytest.mark.parametrize(
    ("kind", "size", "frames", "pixels", "tubelet", "published"),
    [
        ("videomamba", TINY, 8, 224, 1, 14.5), ("videomamba", MIDDLE, 8, 224, 1, 130),
        ("videomamba", MIDDLE, 64, 384, 1, 3050),
        ("vit", DEIT_TINY, 8, 224, 1, 19.9), ("vit", DEIT_TINY, 64, 224, 1, 794), ("vit", VIT_BASE, 8, 224, 1, 180),
        ("vit", VIT_LARGE, 32, 320, 2, 3992), ("vit", VIT_BASE, 32, 224, 2, 455.2),
        ("timesformer", VIT_BASE, 8, 224, 1, 196), ("timesformer", VIT_BASE, 16, 448, 1, 1703),
        ("timesformer", VIT_BASE, 96, 224, 1, 2380),
        ("vivit", VIT_BASE, 32, 224, 2, 284.4),
    ],
)  # fmt: skip
def test_complete_counts_are_the_published_ones(kind, size, frames, pixels, tubelet, published):
    """The papers differ in whether they count norms and softmax, which is up to 1 %."""
    operations = count_operations(sizes(kind, size, frames, pixels, tubelet_size=tubelet))
    assert operations.total / 1e9 == pytest.approx(published, rel=0.01)
    assert (operations.as_printed < operations.total) == (kind == "videomamba")


@pytest.mark.parametrize(
    ("kind", "size", "frames", "tubelet", "classes", "millions"),
    [
        ("videomamba", TINY, 8, 1, 400, 7.0), ("videomamba", MIDDLE, 8, 1, 400, 73.9),
        ("vit", DEIT_TINY, 1, 1, 1000, 5.7), ("timesformer", VIT_BASE, 8, 1, 400, 121.6),
        ("vivit", VIT_BASE, 32, 2, 400, 115.1),
    ],
)  # fmt: skip
def test_parameters_are_the_published_ones(kind, size, frames, tubelet, classes, millions):
    counted = count_parameters(sizes(kind, size, frames, 224, tubelet_size=tubelet, num_classes=classes))
    assert round(counted / 1e6, 1) == millions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 4])
def test_operations_are_those_that_torch_counts(kind: str, frames: int):
    config = NetworkConfig(
        kind=kind, width=32, num_layers=2, image_size=32, num_frames=4, num_classes=5, num_time_layers=3
    )  # fmt: skip
    network = build_network(config).eval()
    for block in getattr(network, "blocks", ()):  # Mamba's definition in plain PyTorch, which torch can count
        block.mixer.backend = "reference"
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, frames, 3, 32, 32))
    counted: dict[str, int] = {str(op): number // 2 for op, number in counter.get_flop_counts()["Global"].items()}
    cost = cost_of(network, frames)
    operations = cost.operations
    assert cost.parameters == count_parameters(config)
    products = operations.patches + operations.products + operations.selection + operations.head
    assert counted.get("aten.mm", 0) + counted["aten.addmm"] == products
    assert counted.get("aten.convolution", 0) == operations.convolution
    # Of the nine operations of a scan, one is the product of C and the state.
    assert counted.get("aten.bmm", 0) == operations.attention + operations.scan // 9
    assert count_operations(config, frames) == operations


def test_operations_follow_length_and_size():
    config = NetworkConfig(width=32, num_layers=2, image_size=32, num_frames=4)
    assert count_operations(config, 8, 64) == count_operations(
        NetworkConfig(width=32, num_layers=2, image_size=64, num_frames=8)
    )
    with pytest.raises(ModelError, match="3 frames of 32 pixels do not fit"):
        count_operations(NetworkConfig(tubelet_size=2), 3, 32)
    with pytest.raises(ModelError, match="operations of Linear are not known"):
        cost_of(torch.nn.Linear(1, 1))
    encoder = VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4)
    assert count_operations(encoder).total == count_operations(config).total - 32 * 400
    frames = VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=4, across_time=False)
    assert count_operations(frames).scan == 4 * count_operations(encoder, 1).scan


@pytest.mark.parametrize("kind", KINDS)
def test_matched_sizes_have_as_many_parameters(kind: str):
    given = NetworkConfig(width=64, num_layers=4, image_size=64, num_classes=24, drop_path=0.1)
    found = matched(given, kind)
    assert abs(count_parameters(found) / count_parameters(given) - 1) <= 0.03
    assert found.kind == kind and 43 <= found.width <= 96
    assert (found.num_classes, found.image_size, found.num_frames, found.drop_path) == (24, 64, 8, 0.1)


def test_measured_in_a_process_of_its_own():
    config = NetworkConfig(width=64, num_layers=1, image_size=64, num_classes=5)
    measured = measure(config, num_frames=16, runs=1)
    inner = 16 * 16 * 128 * 4  # bytes of one tensor of the mixer
    assert measured.memory_bytes > 4 * inner
    assert 0 < measured.cpu_seconds < 10
    with pytest.raises(ModelError, match="tubelet_size is 2"):
        measure(NetworkConfig(kind="vim", tubelet_size=2))
