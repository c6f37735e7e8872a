"""Which part of a picture each view shows.

Shapes: H x W pixels in, S is the side of a view. The picture is first scaled so that its short side is S, so that views
differ only along the long side. Sides and places are rounded as in OpenGVLab/VideoMamba at f3427e42.
"""

from __future__ import annotations

Box = tuple[int, int, int, int]
"""Top, left, height and width, in pixels of the scaled picture."""


def resized_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the size to which a picture is scaled: its short side is `size`, and the long side is rounded down.

    Args:
        height: H, at least 1.
        width: W, at least 1.
        size: S, at least 1; a smaller picture is enlarged.

    Returns:
        Height and width in pixels.
    """
    if height <= width:
        return size, size * width // height
    return size * height // width, size


def crop_boxes(height: int, width: int, size: int, num_crops: int) -> list[Box]:
    """Return the squares that test views show: crop k begins at int(k * (long - size) / 2) along the long side.

    Args:
        height: of the scaled picture, at least `size`.
        width: of the scaled picture, at least `size`.
        size: S.
        num_crops: 3, from the beginning to the end of the long side, or 1 in its middle.

    Returns:
        One box for each crop.
    """
    places = (1,) if num_crops == 1 else (0, 1, 2)
    return [(place * (height - size) // 2, place * (width - size) // 2, size, size) for place in places]


def center_box(height: int, width: int, size: int) -> Box:
    """Return the square in the middle that validation shows; it begins at half of what is left, rounded half to even.

    Args:
        height: of the scaled picture, at least `size`.
        width: of the scaled picture, at least `size`.
        size: S.
    """
    return round((height - size) / 2), round((width - size) / 2), size, size
