"""What a network costs: its parameters, and the multiply-accumulates of one clip, counted completely.

Figures in papers are mostly those of fvcore, which does not see fused kernels: the ones printed for VideoMamba leave
out the scans, the convolutions and three of the five matrix products of a layer (8.6 G for VideoMamba-tiny at 8 frames
instead of 14.5).

Counted are matrix products, attention, convolutions, scans (9 for each state of a channel, as Mamba's authors count)
and norms (5 for each channel of a token, as fvcore counts). Activations, gates, softmax and additions are not.

Symbols: C width, D layers, L tokens of a sequence, n patch tokens of a clip, S time steps, N patches of a time step,
R rank of delta.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from vmr.errors import ModelError
from vmr.models.classification.config import Kind, NetworkConfig
from vmr.models.videomamba.backbone import BackboneConfig
from vmr.models.videomamba.encoder import VideoMambaConfig

NUM_STATES, CONV_TAPS, EXPANSION = 16, 4, 2  # of VideoMamba's mixers
SCAN_OPERATIONS = 9  # of a state at each token
NORM_OPERATIONS = 5  # of a channel at each token


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of one clip, by part.

    Attributes:
        patches: of the patch filter.
        products: of the layers' matrix products, without `selection`.
        selection: of the products from which a scan takes delta, B and C.
        attention: of queries with keys, and of weights with values.
        convolution: of the short filters.
        scan: of the recurrences.
        norms: of all norms.
        head: of the last layer.
    """

    patches: int = 0
    products: int = 0
    selection: int = 0
    attention: int = 0
    convolution: int = 0
    scan: int = 0
    norms: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())

    @property
    def as_printed(self) -> int:
        """Those that VideoMamba's paper counts: all but scans, convolutions and `selection`."""
        return self.total - self.scan - self.convolution - self.selection

    def __add__(self, other: "Operations") -> "Operations":
        """Add part by part."""
        mine, theirs = vars(self), vars(other)
        return Operations(**{part: mine[part] + theirs[part] for part in mine})

    def __mul__(self, times: int) -> "Operations":
        """Repeat all parts."""
        return Operations(**{part: number * times for part, number in vars(self).items()})


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: how many it has.
        operations: multiply-accumulates of one clip.
    """

    parameters: int
    operations: Operations


def cost_of(network: nn.Module, num_frames: int | None = None, image_size: int | None = None) -> Cost:
    """Tell what a network costs.

    Args:
        network: a network that `build_network` makes, or VideoMamba's encoder.
        num_frames: frames of the clip; default, those of the network.
        image_size: side of the frames in pixels; default, that of the network.

    Returns:
        Its parameters, and the operations of one clip.

    Raises:
        ModelError: the network has no known kind, or the sizes do not fit it.
    """
    config = getattr(network, "config", None)
    if not isinstance(config, BackboneConfig):
        raise ModelError(f"the operations of {type(network).__name__} are not known")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, count_operations(config, num_frames, image_size))


def count_operations(
    config: BackboneConfig, num_frames: int | None = None, image_size: int | None = None
) -> Operations:  # fmt: skip
    """Count the multiply-accumulates of one clip.

    Args:
        config: sizes of a network, or of VideoMamba's encoder.
        num_frames: frames of the clip; default, `config.num_frames`. 1 is an image.
        image_size: side of the frames in pixels; default, `config.image_size`.

    Returns:
        The operations.

    Raises:
        ModelError: the sizes do not fit the network.
    """
    frames, size = num_frames or config.num_frames, image_size or config.image_size
    if size % config.patch_size or (frames > 1 and frames % config.tubelet_size):
        raise ModelError(
            f"{frames} frames of {size} pixels do not fit patches of {config.patch_size} pixels "
            f"and {config.tubelet_size} frames"
        )
    steps, patches = max(frames // config.tubelet_size, 1), (size // config.patch_size) ** 2
    filter_size = 3 * config.tubelet_size * config.patch_size**2
    kind: Kind = config.kind if isinstance(config, NetworkConfig) else "videomamba"
    if isinstance(config, VideoMambaConfig) and not config.across_time:
        kind = "videomamba_frames"
    head = config.width * getattr(config, "num_classes", 0)
    return Operations(patches=filter_size * config.width * steps * patches, head=head) + _LAYERS[kind](
        config, steps, patches
    )


def _videomamba(config: BackboneConfig, steps: int, patches: int) -> Operations:
    return _scanned(config, 1 + steps * patches, directions=2)


def _videomamba_causal(config: BackboneConfig, steps: int, patches: int) -> Operations:
    return _scanned(config, 1 + steps * patches, directions=1)


def _videomamba_frames(config: BackboneConfig, steps: int, patches: int) -> Operations:
    return _scanned(config, 1 + patches, directions=2) * steps


def _vit(config: BackboneConfig, steps: int, patches: int) -> Operations:
    return _attended(config.width, config.num_layers, 1 + steps * patches)


def _timesformer(config: BackboneConfig, steps: int, patches: int) -> Operations:
    """Attention over time and its two projections; then attention over space, with a class token in each time step."""
    width, layers, tokens = config.width, config.num_layers, steps * patches
    space = _attended(width, layers, 1 + patches, mlp=False) * steps
    mlp = Operations(
        products=layers * 8 * width**2 * (1 + tokens),
        norms=NORM_OPERATIONS * width * (1 + tokens) * (1 + layers),
    )
    if steps == 1:  # an image passes the attention over space alone
        return space + mlp
    time = _attended(width, layers, steps, mlp=False) * patches
    return time + Operations(products=layers * width**2 * tokens) + space + mlp


def _vivit(config: BackboneConfig, steps: int, patches: int) -> Operations:
    assert isinstance(config, NetworkConfig)
    space = _attended(config.width, config.num_layers, 1 + patches) * steps
    return space + _attended(config.width, config.num_time_layers, 1 + steps)


_LAYERS: dict[Kind, Callable[[BackboneConfig, int, int], Operations]] = {
    "videomamba": _videomamba,
    "videomamba_frames": _videomamba_frames,
    "videomamba_causal": _videomamba_causal,
    "vit": _vit,
    "timesformer": _timesformer,
    "vivit": _vivit,
    "vim": _videomamba_frames,
}


def _scanned(config: BackboneConfig, tokens: int, *, directions: int) -> Operations:
    """Layers of Mamba over one sequence, and the last norm."""
    width, inner, rank = config.width, EXPANSION * config.width, math.ceil(config.width / 16)
    rows = config.num_layers * tokens
    return Operations(
        products=rows * (2 * inner * width + inner * width),  # in_proj, out_proj
        selection=rows * directions * (inner * (rank + 2 * NUM_STATES) + rank * inner),  # x_proj, dt_proj
        convolution=rows * directions * CONV_TAPS * inner,
        scan=rows * directions * SCAN_OPERATIONS * inner * NUM_STATES,
        norms=NORM_OPERATIONS * width * tokens * (1 + config.num_layers),
    )


def _attended(width: int, layers: int, tokens: int, *, mlp: bool = True) -> Operations:
    """Layers of a transformer over one sequence, and the last norm; `mlp` leaves out the MLP and the last norm."""
    norms = 2 * layers + 1 if mlp else layers
    return Operations(
        products=layers * (12 if mlp else 4) * width**2 * tokens,
        attention=layers * 2 * tokens**2 * width,
        norms=NORM_OPERATIONS * width * tokens * norms,
    )
