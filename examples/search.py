"""Index videos and search them by a sentence: the small model that comes with vmr, on clips that this script makes.

python examples/search.py
python examples/search.py FOLDER "a sentence"    # your own videos, with the encoder "offline"
"""

import sys
import tempfile
from pathlib import Path

import vmr
from vmr.data.shapes.files import make_shapes


def main(videos: Path, sentence: str, encoder: str, index_folder: Path) -> None:
    """Build an index of the videos, open it again as another program would, and print the best moments."""
    vmr.build_index(videos, index_folder, encoder, window_s=4)
    index = vmr.open_index(index_folder)
    print(f"{len(index)} windows of {len(index.videos)} videos, {len(index.failures)} left out")
    for hit in index.search(sentence, k=3):
        print(f"{hit.score:.2f}  {hit.start_s:.1f} to {hit.end_s:.1f} s  {hit.video}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "index")
        if len(sys.argv) == 3:
            main(Path(sys.argv[1]), sys.argv[2], "offline", out)
        else:
            shapes = Path(folder, "shapes")
            make_shapes(shapes, num_clips=40, split="test")
            sentence = "a red cross moves slowly left and a blue cross moves quickly left"
            main(shapes, sentence, "videomamba-nano-shapes", out)
