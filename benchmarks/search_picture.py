"""Draws docs/search.png: sentences, and the clips of the synthetic benchmark that a model finds for them.

python -m benchmarks.search_picture
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vmr
from vmr.data.shapes.files import shapes_test_folder

QUERIES = (
    "a yellow cross moves quickly right and a green cross moves slowly down",
    "a blue square moves slowly up and a green triangle moves quickly up",
    "a purple circle moves slowly right and a red cross moves quickly right",
)
SIDE, GAP, LINE = 88, 18, 22  # pixels
SHOWN = (0, 3, 5, 7)  # of the 8 frames of a clip
INK, PALE, PAPER = (24, 24, 24), (110, 110, 110), (250, 250, 248)


def main() -> None:
    """Index the 1000 clips that are for testing, search, and draw the best three of each sentence."""
    clips = shapes_test_folder()
    with TemporaryDirectory() as folder:
        index = vmr.build_index(clips, Path(folder, "index"), "videomamba-nano-shapes", window_s=None)
        results = [(query, index.search(query, k=3)) for query in QUERIES]
    strip = len(SHOWN) * (SIDE + 2)
    row_height = 2 * LINE + SIDE + GAP
    sheet = Image.new("RGB", (3 * (strip + GAP) + GAP, row_height * len(results) + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for row, (query, hits) in enumerate(results):
        top = GAP + row * row_height
        draw.text((GAP, top), query, fill=INK, font=font)
        for column, hit in enumerate(hits):
            left = GAP + column * (strip + GAP)
            with vmr.VideoReader(hit.video) as video:
                frames = video.frames_at(SHOWN, (SIDE, SIDE))  # (4, 3, H, W)
            for place, frame in enumerate(frames.transpose(0, 2, 3, 1)):  # (H, W, 3)
                sheet.paste(Image.fromarray(np.ascontiguousarray(frame)), (left + place * (SIDE + 2), top + LINE))
            label = f"{hit.score:.2f}  {Path(hit.video).name}"
            draw.text((left, top + LINE + SIDE + 2), label, fill=PALE, font=font)
    sheet.quantize(256).save(Path(__file__).parent.parent / "docs" / "search.png")


if __name__ == "__main__":
    main()
