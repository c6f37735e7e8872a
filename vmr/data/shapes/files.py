"""The synthetic benchmark as files: lossless videos of moving shapes, and annotation files as JSON lists."""

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vmr.data.shapes.drawing import ClipPixels, render
from vmr.data.shapes.split import PARTS, TEST_CLIPS, TrainScenes, held_out_scenes, held_out_seed, kind_of
from vmr.data.shapes.world import NUM_FRAMES, SIZE, VERSION, Scene
from vmr.errors import VmrError
from vmr.files import Put, cache_folder, write_folder_atomically
from vmr.progress import progress_bar

FPS = 8

ShapesSplit = Literal["both", "train", "test"]


@dataclass(frozen=True)
class ShapesSummary:
    """The files that `make_shapes` wrote.

    Attributes:
        out_dir: the folder.
        num_train: the number of clips in train.json, 0 where there is none.
        num_test: the number of clips in test.json, 0 where there is none.
    """

    out_dir: Path
    num_train: int
    num_test: int


@dataclass(frozen=True)
class _Clip:
    """A clip to write: its path in the folder, its caption, its part of the benchmark, and how to draw it."""

    video: str
    caption: str
    part: str
    scene: Scene
    seed: tuple[int, ...]


def make_shapes(
    out_dir: str | Path,
    parts: Sequence[str] = ("pairs",),
    num_clips: int = 200,
    seed: int = 0,
    split: ShapesSplit = "both",
    progress: bool = False,
) -> ShapesSummary:
    """Write clips of the benchmark to a folder: 64 x 64 px, 8 frames, lossless H.264, with their captions.

    train.json and test.json are lists of {"video": "train/00000.mp4", "caption": "...", "part": "..."} with paths
    relative to the folder; meta.json says how the clips were made. The videos decode to exactly the pixels that
    `render` draws. The same arguments give the same bytes with the same versions of numpy and PyAV.

    Args:
        out_dir: the folder, which must be absent or empty. It appears only when it is complete.
        parts: some of PARTS. The training clips belong to these parts in turn ("twins" count as "pairs").
        num_clips: the number of training clips, and the largest number of test clips of each part; the first are taken.
        seed: of the training clips. The test clips are the same for everybody.
        split: which files to write: train, test or both.
        progress: whether to show a progress bar.

    Raises:
        VmrError: the folder exists and is not an empty folder, or it cannot be written, a part is unknown, or a number
            is out of range.
    """
    out_dir = Path(out_dir).resolve()
    _require_absent_or_empty(out_dir)
    for part in parts:
        if part not in PARTS:
            raise VmrError(f"shapes has no part '{part}': one of {', '.join(PARTS)}")
    scenes = TrainScenes(tuple(dict.fromkeys(map(kind_of, parts))), num_clips, seed)
    clips = {"train": _train_clips(scenes)} if split != "test" else {}
    if split != "train":
        clips["test"] = [clip for part in dict.fromkeys(parts) for clip in _test_clips(part)[:num_clips]]
    meta = {"name": "shapes", "version": VERSION, "seed": seed, "parts": list(parts)}
    meta |= {"size_px": SIZE, "num_frames": NUM_FRAMES, "fps": FPS}
    meta |= {f"num_{name}": len(chosen) for name, chosen in clips.items()}

    write_folder_atomically(out_dir, lambda put: _write(put, clips, meta, progress))
    return ShapesSummary(out_dir, len(clips.get("train", ())), len(clips.get("test", ())))


def shapes_test_folder(part: str = "pairs", progress: bool = False) -> Path:
    """Return the folder of a whole test part, with its test.json; it is rendered on first use and then kept.

    The folder lies below $VMR_CACHE, or ~/.cache/vmr where that is not set, under the version of the benchmark. A
    folder that lacks a file is rendered again.

    Args:
        part: one of PARTS.
        progress: whether to show a progress bar while the part is rendered.

    Raises:
        VmrError: the cache folder cannot be written.
    """
    folder = cache_folder() / f"shapes-v{VERSION}" / part
    if _is_complete(folder, part):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        make_shapes(folder, (part,), TEST_CLIPS[part], split="test", progress=progress)
    except VmrError as error:
        if not _is_complete(folder, part):  # otherwise another process was faster
            raise VmrError(f"{error}; set VMR_CACHE to a folder that can be written") from error
    return folder


def _is_complete(folder: Path, part: str) -> bool:
    try:
        rows = json.loads((folder / "test.json").read_text(encoding="utf-8"))
        sizes = [(folder / row["video"]).stat().st_size for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return len(sizes) == TEST_CLIPS[part] and all(sizes)


def _train_clips(scenes: TrainScenes) -> list[_Clip]:
    clips = []
    for index in range(len(scenes)):
        caption = scenes.caption(index, np.random.default_rng((VERSION, scenes.seed, index)))
        video = f"train/{index:05}.mp4"
        clips.append(_Clip(video, caption, scenes.part(index), scenes[index], scenes.render_seed(index)))
    return clips


def _test_clips(part: str) -> list[_Clip]:
    return [
        _Clip(f"test/{part}-{number:04}.mp4", scene.captions[0], part, scene, held_out_seed(part, number))
        for number, scene in enumerate(held_out_scenes(part))
    ]


def _require_absent_or_empty(out_dir: Path) -> None:
    if out_dir.exists() and not out_dir.is_dir():
        raise VmrError(f"{out_dir}: is a file; name a new folder for the data set")
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise VmrError(f"{out_dir}: not empty; name a new folder, or remove what is in this one")


def _write(put: Put, clips: dict[str, list[_Clip]], meta: dict[str, Any], progress: bool) -> None:
    """Write all files of the data set."""
    with progress_bar(progress) as bar:
        for clip in bar.track([clip for chosen in clips.values() for clip in chosen], description="drawing"):
            put(clip.video, _encode(render(clip.scene, clip.seed)))
    rows = {
        name: [{"video": clip.video, "caption": clip.caption, "part": clip.part} for clip in chosen]
        for name, chosen in clips.items()
    }
    for name, content in {**rows, "meta": meta}.items():
        put(f"{name}.json", f"{json.dumps(content, indent=1)}\n".encode())


def _encode(frames: ClipPixels) -> memoryview:
    """Encode (T, 3, H, W) frames without loss: H.264 of RGB at quantiser 0, in mp4. Returns the bytes of the file."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.add_stream("libx264rgb", rate=FPS, options={"qp": "0", "preset": "ultrafast"})
        stream = container.streams.video[0]
        stream.width, stream.height, stream.pix_fmt = frames.shape[3], frames.shape[2], "rgb24"
        stream.codec_context.thread_count = 1  # the number of threads changes the bytes
        for frame in frames.transpose(0, 2, 3, 1):  # (H, W, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getbuffer()
