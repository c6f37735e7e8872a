"""The front door of an evaluation: from a name and a folder to texts, videos, and the protocol they are scored by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmr.data.annotations.locator import MAX_DEPTH, DataFolder
from vmr.data.annotations.retrieval_set import RetrievalSet, VideoItem, load_retrieval_set
from vmr.errors import AnnotationError
from vmr.eval.protocols.catalogue import FILE, SHAPES_PROTOCOLS, protocol
from vmr.eval.protocols.protocol import Protocol
from vmr.eval.protocols.reading import differences, find_annotations, read_texts


@dataclass(frozen=True)
class Loaded:
    """What is to be scored, and by which rules."""

    data: RetrievalSet
    protocol: Protocol


def load_dataset(
    dataset: str | Path, video_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> Loaded:
    """Load a published data set by the name of its protocol, a part of the synthetic benchmark, or a .json file.

    A published data set is read from `data_dir` and up to MAX_DEPTH levels of folders below it, so every usual layout
    will do; a .json file has its videos under `video_dir`, or beside it. A video whose file is not found has the path
    None.

    Raises AnnotationError when the name is unknown, a folder is missing or of no use, the annotation file is missing,
    damaged, or not the published one (by counts or by hash), or when not one of the videos is found.
    """
    name = str(dataset)
    if name.lower().endswith(".json"):
        return Loaded(load_retrieval_set(dataset, video_dir, data_dir), FILE)
    chosen = protocol(name)
    if name in SHAPES_PROTOCOLS:
        return Loaded(load_retrieval_set(name, video_dir, data_dir), chosen)
    if data_dir is None or video_dir is not None:
        raise AnnotationError(f"data set '{name}' needs data_dir alone, the folder of its videos and annotations")
    folder = DataFolder(data_dir)
    found = find_annotations(chosen, folder)
    texts = read_texts(chosen, found)
    if differs := differences(chosen, found, texts):
        raise AnnotationError(differs[0])
    files = folder.media_files(chosen.media)
    videos = tuple(VideoItem(id, files.find(name)) for id, name in zip(texts.ids, texts.names, strict=True))
    if not any(video.path for video in videos):
        raise AnnotationError(
            f"{data_dir}: none of the {len(videos)} {chosen.media}s of {chosen.title} within {MAX_DEPTH} folder "
            f"levels, first: {texts.ids[0]}; {chosen.where}"
        )
    return Loaded(
        RetrievalSet(name, tuple(texts.texts), tuple(texts.videos_of), videos, chosen.needs_time, tuple(texts.choices)),
        chosen,
    )
