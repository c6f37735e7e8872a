"""Sizes of a comparator that has as many parameters as a given VideoMamba."""

from dataclasses import replace

import torch

from vmr.errors import ModelError
from vmr.models.classification.config import Kind, NetworkConfig
from vmr.models.classification.networks import build_network

TOLERANCE = 0.03  # of the parameters
STRETCH = 1.5  # by which a width may grow or shrink
STEPS = (16, 8, 4, 2)  # of widths, the roundest first
SPATIAL_TO_TIME = 3  # ViViT's encoders have 12 and 4 layers


def matched(config: NetworkConfig, kind: Kind) -> NetworkConfig:
    """Find the sizes at which a kind of network has as many parameters as a given one, within 3 %.

    The width is the given one or a multiple of 16, or of less where none fits, within a factor of 1.5 and as near as
    possible; the number of layers follows from it. All else (input, classes, stochastic depth) is as given.

    Args:
        config: of the given network.
        kind: of the wanted one.

    Returns:
        Its sizes.

    Raises:
        ModelError: no width within this factor fits.
        MissingExtraError: the kind is a transformer, and timm is not installed.
    """
    wanted = count_parameters(config)
    for step in STEPS:
        multiples = range(step, int(STRETCH * config.width) + 1, step)
        widths = {config.width, *(width for width in multiples if width * STRETCH >= config.width)}
        for width in sorted(widths, key=lambda width: (abs(width - config.width), -width)):
            sized = replace(config, kind=kind, width=width, num_heads=0, checkpointed_layers=0)
            sized = _deepened(sized, wanted)
            if abs(count_parameters(sized) - wanted) <= TOLERANCE * wanted:
                return replace(sized, checkpointed_layers=min(config.checkpointed_layers, sized.num_layers))
    raise ModelError(f"no {kind} has {wanted:,} parameters within {TOLERANCE:.0%}: give the sizes yourself")


def count_parameters(config: NetworkConfig) -> int:
    """Count the parameters of a network without making its weights.

    Args:
        config: kind and sizes.

    Returns:
        How many it has.
    """
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_network(config).parameters())


def _deepened(config: NetworkConfig, wanted: int) -> NetworkConfig:
    """The number of layers whose parameters are nearest to the wanted number; each layer has equally many."""
    first, second = (count_parameters(_with_layers(config, SPATIAL_TO_TIME * blocks)) for blocks in (1, 2))
    of_three = second - first
    layers = SPATIAL_TO_TIME * (wanted - first + of_three) / of_three
    nearest = max(round(layers), 1)
    around = [_with_layers(config, number) for number in (nearest - 1, nearest, nearest + 1) if number > 0]
    return min(around, key=lambda sizes: abs(count_parameters(sizes) - wanted))


def _with_layers(config: NetworkConfig, num_layers: int) -> NetworkConfig:
    return replace(config, num_layers=num_layers, num_time_layers=max(round(num_layers / SPATIAL_TO_TIME), 1))
