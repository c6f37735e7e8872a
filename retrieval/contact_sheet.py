"""A picture of search results, for people to judge: the middle frame of every hit under its query."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vmr.data.decoding.sampling import shown_at
from vmr.data.decoding.video import VideoReader
from vmr.errors import MissingExtraError, VideoError
from vmr.files import write_atomically
from vmr.progress import printable
from vmr.retrieval.results import Hit

THUMBNAIL_HEIGHT = 144
THUMBNAIL_WIDTH = 256
MARGIN = 12
LINE_HEIGHT = 22
MAX_COLUMNS = 6
MAX_TITLE_CHARACTERS = 1000
BACKGROUND, INK, PALE, EMPTY = (250, 250, 248), (24, 24, 24), (110, 110, 110), (222, 222, 218)


def save_contact_sheet(
    results: Sequence[tuple[str, Sequence[Hit]]], out: Path, label_of: Callable[[Hit], tuple[str, str]]
) -> None:
    """Draw the middle frame of every hit under its query, with two lines of text below it.

    A row has at most MAX_COLUMNS frames. Where a video can no longer be read, the tile is empty and says so.

    Args:
        results: queries with their hits, best first.
        out: the PNG to write.
        label_of: function from a hit to the two lines.

    Raises:
        MissingExtraError: pillow is not installed.
        VmrError: the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtraError("pillow", "index") from error

    columns = min(MAX_COLUMNS, max([1, *(len(hits) for _, hits in results)]))
    width, tile_height = THUMBNAIL_WIDTH + MARGIN, THUMBNAIL_HEIGHT + 2 * LINE_HEIGHT + MARGIN
    rows = [-(-len(hits) // columns) for _, hits in results]
    sheet_height = MARGIN + sum(LINE_HEIGHT + row * tile_height for row in rows)
    sheet = Image.new("RGB", (MARGIN + columns * width, sheet_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    top = MARGIN
    for (query, hits), num_rows in zip(results, rows, strict=True):
        title = printable(query)[:MAX_TITLE_CHARACTERS]
        draw.text((MARGIN, top), _fitting(title, sheet.width - 2 * MARGIN, font), fill=INK, font=font)
        top += LINE_HEIGHT
        for number, hit in enumerate(hits):
            left, above = MARGIN + number % columns * width, top + number // columns * tile_height
            sheet.paste(_tile(hit, font), (left, above))
            for line, text in enumerate(label_of(hit)):
                place = (left, above + THUMBNAIL_HEIGHT + 2 + line * LINE_HEIGHT)
                draw.text(place, _fitting(text, THUMBNAIL_WIDTH, font), fill=PALE, font=font)
        top += num_rows * tile_height
    write_atomically(out, lambda file: sheet.save(file, "PNG"))


def _fitting(text: str, width: int, font: Any) -> str:
    """The beginning of a text that is no wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    end = len(text)
    while end and font.getlength(f"{text[:end]}...") > width:
        end -= 1
    return f"{text[:end]}..."


def _tile(hit: Hit, font: Any) -> Any:
    """The frame in the middle of a hit; where there is none, a grey tile that says why."""
    from PIL import Image, ImageDraw

    tile = Image.new("RGB", (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT), BACKGROUND)
    try:
        frame = _middle_frame(hit)
    except VideoError:
        tile.paste(EMPTY, (0, 0, *tile.size))
        said = "cannot be read" if Path(hit.video).exists() else "missing"
        middle = (THUMBNAIL_WIDTH // 2, THUMBNAIL_HEIGHT // 2)
        ImageDraw.Draw(tile).text(middle, said, fill=PALE, font=font, anchor="mm")
        return tile
    picture = Image.fromarray(frame)
    tile.paste(picture, ((THUMBNAIL_WIDTH - picture.width) // 2, 0))
    return tile


def _middle_frame(hit: Hit) -> Any:
    """The frame in the middle of a hit, uint8 (H, W, 3), as large as fits a tile."""
    with VideoReader(hit.video) as reader:
        scale = min(THUMBNAIL_HEIGHT / reader.height, THUMBNAIL_WIDTH / reader.width)
        size = (max(1, round(reader.height * scale)), max(1, round(reader.width * scale)))
        index = shown_at(reader.timestamps_s, [(hit.start_s + hit.end_s) / 2])
        (frame,) = reader.frames_at(index.tolist(), size)  # (3, H, W)
    return frame.transpose(1, 2, 0)
