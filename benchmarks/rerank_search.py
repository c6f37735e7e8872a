"""Time and memory of a re-ranked search, with tokens that the index keeps and with tokens that are made when needed.

    python -m benchmarks.rerank_search
    python -m benchmarks.rerank_search --videos 100 --seconds 20

A gallery of videos of 640 x 360 pixels, each with other colours, is indexed with `videomamba-nano-shapes`. Each search
runs in a process of its own, after one without re-ranking that loads the model. CPU time is that of the process and of
the decoding processes. How much float16 tokens would change the logits is measured with the same index.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import vmr
from benchmarks.common import environment
from vmr.memory import peak_bytes
from vmr.models.catalogue import load_model
from vmr.models.encoder import MatchingSizes
from vmr.retrieval.embedding.token_files import TOKENS, bytes_of_window
from vmr.retrieval.updating.spaces import VectorOptions

MODEL = "videomamba-nano-shapes"
QUERY = "a red square moves to the left and then up"
VIDEOMAMBA_M = MatchingSizes(8 * 14 * 14, 576, 768, 3072, 9, 3)  # 8 frames of 224 px
FPS, HEIGHT, WIDTH, GOP = 25, 360, 640, 12
WINDOWS_AN_HOUR = 3600 // 4


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=20, help="length of a video")
    parser.add_argument("--one", nargs=2, metavar=("INDEX", "N"), help="measure one search in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Path(options.one[0]), int(options.one[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder / "videos", options.videos, options.seconds)
        index = folder / "index"
        vmr.build_index(folder / "videos", index, MODEL, vectors=VectorOptions(keep_tokens=True)).close()
        shutil.copytree(index, folder / "plain", ignore=shutil.ignore_patterns(TOKENS))
        table = Table("tokens", "moments", "CPU s", "s", "peak, MB")
        for tokens, place in (("kept", index), ("made", folder / "plain")):
            for count in (20, 100):
                command = [sys.executable, "-m", "benchmarks.rerank_search", "--one", str(place), str(count)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                times = (f"{found[key]:.2f}" for key in ("cpu_s", "wall_s"))
                table.add_row(tokens, str(found["count"]), *times, f"{found['peak'] / 1e6:.0f}")
        console = Console()
        console.print(environment())
        console.print(table)
        console.print(f"tokens in float16: {half_precision(index)}")
    for model, sizes in ((MODEL, load_model(MODEL).matching_sizes), ("VideoMamba-M", VIDEOMAMBA_M)):
        window = bytes_of_window(sizes.num_video_tokens, sizes.video_width)
        console.print(f"{model}: {window / 1e3:.1f} kB a window, {window * WINDOWS_AN_HOUR / 1e6:.0f} MB an hour")


def make_videos(folder: Path, num_videos: int, seconds: int) -> None:
    """Write H.264 videos in which a square moves over stripes; the colours differ from video to video."""
    import av

    folder.mkdir()
    for number in range(num_videos):
        colours = np.random.default_rng(number).integers(0, 256, (2, 3), dtype=np.uint8)
        with av.open(str(folder / f"{number:04}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(GOP)})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            for frame in range(FPS * seconds):
                picture[:] = colours[0]
                picture[:, (np.arange(WIDTH) + frame) // 16 % 2 == 0] //= 2
                left = (7 * frame + 31 * number) % (WIDTH - 90)
                picture[120:210, left : left + 90] = colours[1]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def measure(folder: Path, count: int) -> dict[str, float]:
    """Search once without re-ranking and once with; return what the second search took."""
    index = vmr.open_index(folder)
    index.search(QUERY)
    before_s, start_s = cpu_s(), time.monotonic()
    found = index.search(QUERY, count, rerank=count, per_video=1, keep_duplicates=True)
    matched = sum(hit.rerank_score is not None for hit in found)
    wall_s = time.monotonic() - start_s
    return {"count": matched, "cpu_s": cpu_s() - before_s, "wall_s": wall_s, "peak": peak_bytes()}


def cpu_s() -> float:
    """The CPU time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def half_precision(folder: Path) -> str:
    """Say how much logits change if tokens are rounded to float16."""
    from vmr.retrieval.embedding.token_files import TokenFolder

    model, tokens = load_model(MODEL), TokenFolder(folder)
    texts = [QUERY, "a blue circle stays where it is", "two shapes meet", "a green triangle moves down"]
    differences = []
    for name in sorted(tokens.names())[:25]:
        kept = tokens.read(name, 0)
        assert kept is not None
        full = torch.from_numpy(kept[1])[None]
        differences.append((model.match(full, texts) - model.match(full.half().float(), texts)).abs().max().item())
    return f"logits change by {max(differences):.1e} at most"


if __name__ == "__main__":
    main()
