"""An index of many moments whose vectors are like those of its encoder, with a real file behind every video.

A window's vector is a mix of the vectors of three clips of the synthetic benchmark, which the encoder has embedded, and
of noise; windows of a video share a clip, and neighbours are alike. The files of the videos are links to some copies of
real footage.
"""

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.build.footage import Footage
from vmr.data.shapes.drawing import render
from vmr.data.shapes.split import TrainScenes
from vmr.data.shapes.world import KINDS, NUM_OBJECTS, RELATIONS, Scene, shape_object
from vmr.errors import VmrError
from vmr.models.catalogue import load_model
from vmr.models.encoder import Encoder
from vmr.retrieval.calibration.kept import keep_calibrated
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.storage.records import FileState, IndexSettings, NewVideo, Space
from vmr.retrieval.storage.writer import IndexWriter
from vmr.retrieval.texts import embed_texts
from vmr.retrieval.vectors.generations import bring_up_to_date

ENCODER = "videomamba-nano-shapes"
WINDOW_S, STRIDE_S = 8.0, 4.0
MEAN_WINDOWS = 10  # of a video
NEW_VIDEOS = 2000  # sentences that the writer may add a video for, one after the other
_CLIPS_SHARE = 0.1  # clips that are embedded, for each window
_CLIPS_AT_ONCE = 50
_VIDEOS_AT_ONCE = 256  # in a commit

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """An index to serve, and what the clients need to know.

    Attributes:
        folder: where everything lies.
    """

    folder: Path

    @property
    def index(self) -> Path:
        """The folder of the index."""
        return self.folder / "index"

    @property
    def videos(self) -> Path:
        """The folder of the videos."""
        return self.folder / "videos"

    @property
    def new_sentences(self) -> list[str]:
        """The sentences that nothing in the index is about until the writer adds a video for one."""
        return (self.folder / "new.txt").read_text(encoding="utf-8").splitlines()

    @property
    def new_vectors(self) -> Vectors:
        """Their vectors, float32 (NEW_VIDEOS, D)."""
        return np.load(self.folder / "new.npy")


def sentences(seed: int) -> Iterator[str]:
    """Yield different sentences about moving shapes in a random order, about 200,000 of them."""
    random = np.random.default_rng(seed)
    kinds = [(kind, relation) for kind in KINDS for relation in RELATIONS[kind]]
    for place in random.permutation(len(kinds) * NUM_OBJECTS**2).tolist():
        which, pair = divmod(place, NUM_OBJECTS**2)
        kind, relation = kinds[which]
        first, second = (shape_object(number, kind) for number in divmod(pair, NUM_OBJECTS))
        try:
            yield Scene(first, second, relation).captions[0]
        except VmrError:  # two that move the same way do not meet
            continue


def make_served(folder: Path, num_moments: int, num_files: int) -> Served:
    """Write an index and its videos, unless the folder holds them.

    Args:
        folder: is made.
        num_moments: about so many windows.
        num_files: how many files of footage there are, to which the videos are links.

    Returns:
        What was made.
    """
    served, done = Served(folder), folder / f"made-{num_moments}-{num_files}"
    if done.exists():
        return served
    shutil.rmtree(folder, ignore_errors=True)
    served.videos.mkdir(parents=True)
    encoder, random = load_model(ENCODER), np.random.default_rng(0)
    new = list(itertools.islice(sentences(seed=1), NEW_VIDEOS))
    (folder / "new.txt").write_text("\n".join(new), encoding="utf-8")
    np.save(folder / "new.npy", embed_texts(new, encoder))
    lengths = _lengths(num_moments, random)
    states = _link_files(served.videos, len(lengths) + NEW_VIDEOS, num_files)
    _fill(served, encoder, lengths, states, random)
    done.touch()
    return served


def new_video(served: Served, number: int, space_id: int, vectors: Vectors, state: FileState) -> NewVideo:
    """Make a video of windows of equal length.

    Args:
        served: the index.
        number: of its file, see `file_of`.
        space_id: of the vectors.
        vectors: of its windows, float32 (n, D).
        state: of its file.
    """
    spans = tuple((i * STRIDE_S, i * STRIDE_S + WINDOW_S) for i in range(len(vectors)))
    content = hashlib.sha256(str(number).encode()).digest()
    vectors_of = {space_id: vectors}
    name = file_of(served, number).name
    return NewVideo(
        str(served.videos), name, content, state, spans[-1][1], (), spans, vectors_of, width=640, height=360
    )


def file_of(served: Served, number: int) -> Path:
    """The file of a video, or of one that the writer adds: these have the last numbers."""
    return served.videos / f"{number:06d}.mp4"


def _lengths(num_moments: int, random: np.random.Generator) -> list[int]:
    """Windows of each video: half of them have up to 7, and one in a hundred has more than 50."""
    lengths = np.maximum(1, np.round(random.lognormal(np.log(MEAN_WINDOWS) - 0.4, 0.9, num_moments // MEAN_WINDOWS)))
    scaled = np.maximum(1, np.round(lengths * (num_moments / lengths.sum()))).astype(int)
    scaled[-1] = max(1, scaled[-1] + num_moments - scaled.sum())
    return [int(length) for length in scaled]


def _link_files(videos: Path, count: int, num_files: int) -> list[FileState]:
    """Make so many names for copies of footage; return their states."""
    footage = Footage(640, 360, gop=50, seconds=300).file()
    copies = []
    for number in range(num_files):
        copies.append(videos.parent / f"footage-{number:02d}.mp4")
        shutil.copyfile(footage, copies[-1])
    states = []
    for number in range(count):
        path = videos / f"{number:06d}.mp4"
        os.link(copies[number % num_files], path)
        status = path.stat()
        states.append(FileState(status.st_size, status.st_mtime_ns, status.st_ino, 2**62))
    return states


def _fill(
    served: Served, encoder: Encoder, lengths: list[int], states: list[FileState], random: np.random.Generator
) -> None:
    clips = _embedded_clips(encoder, max(100, round(_CLIPS_SHARE * sum(lengths))))
    frames = asdict(frame_spec(encoder)) | {"reader": "pyav"}
    space = Space(0, ENCODER, ENCODER, encoder.fingerprint, encoder.embed_dim, "float16", frames)
    numbers = list(range(len(lengths)))
    with IndexWriter(served.index, IndexSettings(WINDOW_S, STRIDE_S)) as writer:
        with writer.commit() as changes:
            space_id = changes.add_space(space)
        for start in range(0, len(numbers), _VIDEOS_AT_ONCE):
            with writer.commit() as changes:
                for number in numbers[start : start + _VIDEOS_AT_ONCE]:
                    vectors = _windows(clips, lengths[number], random)
                    changes.put_video(new_video(served, number, space_id, vectors, states[number]))
        bring_up_to_date(writer, space_id)
        keep_calibrated(writer, {ENCODER: encoder})


def _embedded_clips(encoder: Encoder, count: int) -> Vectors:
    """Vectors of clips of the synthetic benchmark, float32 (count, D)."""
    scenes, parts = TrainScenes(("pairs", "order", "collision", "passage"), count), []
    for start in range(0, count, _CLIPS_AT_ONCE):
        some = range(start, min(start + _CLIPS_AT_ONCE, count))
        frames = np.stack([render(scenes[number], scenes.render_seed(number)) for number in some])
        parts.append(encoder.encode_video(torch.from_numpy(frames)).numpy())
    return np.concatenate(parts)


def _windows(clips: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """Vectors of the windows of a video, float32 (count, D)."""
    shared, others = clips[random.integers(len(clips))], clips[random.integers(len(clips), size=count + 1)]
    mixed = 0.4 * shared + 0.5 * others[:-1] + 0.35 * others[1:]  # each clip reaches over two windows
    mixed += random.normal(0, 0.3 / np.sqrt(clips.shape[1]), mixed.shape)  # no two windows are the same
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)
