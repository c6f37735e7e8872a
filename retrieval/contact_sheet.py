"""A picture of search results, for people to judge: one row per query, one frame per hit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmr.data.decoding.sampling import window_indices
from vmr.data.decoding.video import VideoReader
from vmr.errors import MissingExtraError
from vmr.files import write_atomically
from vmr.retrieval.results import Hit

THUMBNAIL_HEIGHT = 144
THUMBNAIL_WIDTH = 256
MARGIN = 12
LINE_HEIGHT = 22
BACKGROUND, INK, PALE = (250, 250, 248), (24, 24, 24), (110, 110, 110)


def save_contact_sheet(results: Sequence[tuple[str, Sequence[Hit]]], out: Path) -> None:
    """Draw the middle frame of every hit under its query, with score, times and file name.

    Args:
        results: queries with their hits, best first.
        out: the PNG to write.

    Raises:
        MissingExtraError: pillow is not installed.
        VideoError: the video of a hit can no longer be read.
        VmrError: the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtraError("pillow", "index") from error

    columns = max((len(hits) for _, hits in results), default=0)
    row_height = 2 * LINE_HEIGHT + THUMBNAIL_HEIGHT + 2 * MARGIN
    width = MARGIN + max(columns, 1) * (THUMBNAIL_WIDTH + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + row_height * len(results)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for row, (query, hits) in enumerate(results):
        top = MARGIN + row * row_height
        draw.text((MARGIN, top), query, fill=INK, font=font)
        for column, hit in enumerate(hits):
            left = MARGIN + column * (THUMBNAIL_WIDTH + MARGIN)
            frame = _middle_frame(Image, hit)
            sheet.paste(frame, (left + (THUMBNAIL_WIDTH - frame.width) // 2, top + LINE_HEIGHT))
            label = f"{hit.score:.2f}  {hit.start_s:.1f}-{hit.end_s:.1f} s  {Path(hit.video).stem}"
            draw.text((left, top + LINE_HEIGHT + THUMBNAIL_HEIGHT + 2), label[:34], fill=PALE, font=font)
    write_atomically(out, lambda file: sheet.save(file, "PNG"))


def _middle_frame(image_module: Any, hit: Hit) -> Any:
    """Return the frame in the middle of the hit's window, as large as fits a thumbnail."""
    with VideoReader(hit.video) as reader:
        scale = min(THUMBNAIL_HEIGHT / reader.height, THUMBNAIL_WIDTH / reader.width)
        size = (max(1, round(reader.height * scale)), max(1, round(reader.width * scale)))
        index = window_indices(reader.timestamps_s, 1, hit.start_s, hit.end_s)
        (frame,) = reader.frames_at(index.tolist(), size)  # (3, H, W)
    return image_module.fromarray(frame.transpose(1, 2, 0))
