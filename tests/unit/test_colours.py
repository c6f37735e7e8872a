"""Colours of videos that say how their colours are coded, against the formulas of the standards (BT.601, 709, 2020)."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from vmr import VideoReader

COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (255, 255, 255),
    (0, 0, 0),
    (128, 128, 128),
    (230, 120, 40),
]
PATCH = 32  # pixels
SHARES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # of red and blue in the luma
BT2020_NON_CONSTANT = 9  # AVCOL_SPC_BT2020_NCL
TAGS = {"bt601": Colorspace.SMPTE170M, "bt709": Colorspace.ITU709, "bt2020": BT2020_NON_CONSTANT}


def coded(standard: str, full_range: bool, bits: int) -> np.ndarray:
    """The patches as luma and two chroma planes of integers, (3, PATCH, PATCH * number of colours)."""
    red, blue = SHARES[standard]
    r, g, b = (np.array(COLOURS) / 255).T
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)]  # -0.5 to 0.5
    unit, largest = 1 << bits - 8, (1 << bits) - 1
    if full_range:
        planes = [largest * luma, *(largest * part + 128 * unit for part in chroma)]
    else:
        planes = [unit * (16 + 219 * luma), *(unit * (128 + 224 * part) for part in chroma)]
    row = np.clip(np.rint(planes), 0, largest).astype(np.uint16 if bits > 8 else np.uint8)
    return np.repeat(np.repeat(row, PATCH, axis=1)[:, None], PATCH, axis=1)


def write(path: Path, standard: str, full_range: bool, bits: int) -> None:
    with av.open(str(path), "w") as container:
        container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream = container.streams.video[0]
        stream.width, stream.height = PATCH * len(COLOURS), PATCH
        stream.pix_fmt = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
        stream.codec_context.colorspace = TAGS[standard]
        stream.codec_context.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
        for _ in range(3):
            frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt)
            for plane, values in zip(frame.planes, coded(standard, full_range, bits), strict=True):
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width * values.itemsize] = values.view(np.uint8)
                plane.update(rows.tobytes())
            frame.colorspace, frame.color_range = stream.codec_context.colorspace, stream.codec_context.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("standard", SHARES)
def test_colours_are_those_that_were_coded(tmp_path, standard, full_range, bits):
    write(tmp_path / "a.mp4", standard, full_range, bits)
    with VideoReader(tmp_path / "a.mp4") as video:
        (frame,) = video.frames_at([1])  # (3, H, W)
    shown = frame[:, PATCH // 2, PATCH // 2 :: PATCH].T.astype(int)
    assert np.abs(shown - COLOURS).max() <= 3, shown.tolist()  # of 255; BT.709 taken for BT.601 is 23 off
