"""Videos that are made of real clips, one after the other, so that it is known where each begins and ends."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vmr.data.decoding.video import VideoReader

WIDTH, HEIGHT, FPS = 320, 240, 10
SHORTEST_S, LONGEST_S = 3.0, 24.0
NUM_PARTS = (4, 6)


@dataclass(frozen=True)
class Clip:
    """A real clip.

    Attributes:
        path: its file.
        duration_s: its length in seconds.
        caption: what it shows.
    """

    path: Path
    duration_s: float
    caption: str


@dataclass(frozen=True)
class Part:
    """A clip in a joined video.

    Attributes:
        caption: what it shows.
        start_s: where it begins in the joined video, in seconds.
        end_s: where it ends.
    """

    caption: str
    start_s: float
    end_s: float


def read_clips(folder: Path) -> list[Clip]:
    """Read the clips that have a caption of their own: of each the longest file that there is.

    Args:
        folder: holds `clips.jsonl`, and the clips in `videos` and, as they were found, in `originals`.
    """
    originals = {path.stem: path for path in (folder / "originals").iterdir()}
    clips = []
    for line in (folder / "clips.jsonl").read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["caption_source"] == "label" or row["dataset"] == "ucf101":
            continue  # signs of a language, and near-identical clips
        path = originals.get(row["id"], folder / row["video"])
        with VideoReader(path) as reader:
            duration_s = reader.duration_s
        if duration_s >= SHORTEST_S:
            clips.append(Clip(path, duration_s, row["written_caption"]))
    return clips


def write_joined(out: Path, clips: list[Clip], random: np.random.Generator) -> list[Part]:
    """Write a video of several clips; their lengths are spread evenly over the logarithm.

    Args:
        out: the file to write.
        clips: to choose from; none is taken twice.
        random: chooses.

    Returns:
        The parts, in order.
    """
    parts: list[Part] = []
    left = list(clips)
    with av.open(str(out), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        number = 0
        for _ in range(int(random.integers(NUM_PARTS[0], NUM_PARTS[1] + 1))):
            wanted_s = float(np.exp(random.uniform(np.log(SHORTEST_S), np.log(LONGEST_S))))
            long_enough = [clip for clip in left if clip.duration_s >= wanted_s] or left
            clip = long_enough[int(random.integers(len(long_enough)))]
            left.remove(clip)
            first = number
            for picture in _pictures(clip, round(min(wanted_s, clip.duration_s) * FPS)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
                number += 1
            parts.append(Part(clip.caption, first / FPS, number / FPS))
        container.mux(stream.encode(None))
    return parts


def _pictures(clip: Clip, n: int) -> list[NDArray[np.uint8]]:
    """The first n pictures of a clip, FPS a second, (H, W, 3)."""
    with VideoReader(clip.path) as reader:
        scale = max(HEIGHT / reader.height, WIDTH / reader.width)
        height, width = max(HEIGHT, round(reader.height * scale)), max(WIDTH, round(reader.width * scale))
        times = reader.timestamps_s[0] + np.arange(n) / FPS
        indices = np.searchsorted(reader.timestamps_s, times + 1e-6, side="right") - 1
        frames = reader.frames_at(indices.tolist(), (height, width))  # (n, 3, H, W)
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    cut = frames[:, :, top : top + HEIGHT, left : left + WIDTH]
    return [np.ascontiguousarray(picture.transpose(1, 2, 0)) for picture in cut]
