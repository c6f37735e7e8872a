"""The pixels of the synthetic benchmark: scenes of moving shapes drawn as clips."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.sampling import middle_indices
from vmr.data.shapes.world import COLORS, NUM_FRAMES, SIZE, Floats, Scene, draw_layout

ClipPixels = NDArray[np.uint8]
"""RGB in [0, 255], (T, 3, H, W)."""


def render(scene: Scene, seed: Sequence[int], num_frames: int = NUM_FRAMES, size: int = SIZE) -> ClipPixels:
    """Draw a scene; the same seed gives the same clip.

    Args:
        scene: what to draw.
        seed: for `numpy.random.default_rng`; everything that the captions do not say is drawn from it.
        num_frames: T. The frames are those that the "middle" rule takes from the clip of 8 frames: with T below 8 some
            of these frames, with T above 8 all of them, followed by copies of the last.
        size: S, in px. Another size than 64 shows the same scene larger or smaller.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).

    Raises:
        VmrError: the objects do not fit into the picture.
    """
    layout = draw_layout(scene, np.random.default_rng(seed))
    looks = [(thing.color, thing.shape) for thing in (scene.first, scene.second)]
    centers = layout.centers[:, middle_indices(num_frames, NUM_FRAMES)]
    return paint(layout.background.clip(0).astype(np.uint8), looks, layout.radii, centers, size)


def paint(
    background: NDArray[np.uint8],
    looks: Sequence[tuple[str, str]],
    radii: Sequence[float],
    centers: Floats,
    size: int = SIZE,
) -> ClipPixels:
    """Draw shapes on a background.

    Args:
        background: (3, 64, 64).
        looks: the colour and the shape of each of N things; later ones cover earlier ones.
        radii: of each, in px of the picture of 64 px.
        centers: of each in each frame, as (x, y) in such px; (N, T, 2).
        size: S, the side of the clip in px.

    Returns:
        uint8 RGB in [0, 255], (T, 3, S, S).
    """
    places = (np.arange(size) + 0.5) * SIZE / size - 0.5  # of pixel centres, in px of the picture of 64 px
    if size != SIZE:
        nearest = np.round(places).astype(int)
        background = background[:, nearest[:, None], nearest]
    frames = np.empty((centers.shape[1], 3, size, size), np.uint8)
    frames[:] = background
    for (color, shape), radius, of_thing in zip(looks, radii, centers, strict=True):
        inside = cover(shape, radius, of_thing, places)
        for channel, value in enumerate(COLORS[color]):
            np.copyto(frames[:, channel], np.uint8(value), where=inside)
    return frames


def cover(shape: str, radius: float, centers: Floats, places: Floats) -> NDArray[np.bool_]:
    """Tell which pixels a shape covers.

    Args:
        shape: one of `vmr.data.shapes.world.SHAPES`.
        radius: in px.
        centers: the centre in each frame, as (x, y) in px; (T, 2).
        places: where the rows and columns of pixels are, in px; (S,).

    Returns:
        (T, S, S).
    """
    offsets = places.astype(np.float32) - centers.astype(np.float32)[:, :, None]  # (T, 2, S)
    x, y = offsets[:, 0, None, :], offsets[:, 1, :, None]
    across, along = abs(x), abs(y)
    if shape == "circle":
        inside = x * x + y * y <= radius * radius
    elif shape == "square":
        inside = (across <= 0.9 * radius) & (along <= 0.9 * radius)
    elif shape == "triangle":  # its tip is on top
        inside = (y <= 0.8 * radius) & (y >= 2 * across - 1.2 * radius)
    else:  # a cross
        thin = 0.35 * radius
        inside = ((across <= thin) & (along <= radius)) | ((along <= thin) & (across <= radius))
    return np.asarray(inside, np.bool_)
