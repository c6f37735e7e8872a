"""Loading a data set for an evaluation: from a name and a folder to texts, videos, and the protocol with the rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmr.checks import check_path
from vmr.data.annotations.locator import MAX_DEPTH, DataFolder
from vmr.data.annotations.retrieval_set import RetrievalSet, VideoItem, load_retrieval_set
from vmr.errors import AnnotationError
from vmr.eval.protocols.catalogue import FILE, SHAPES_PROTOCOLS, load_protocol
from vmr.eval.protocols.protocol import Protocol
from vmr.eval.protocols.reading import differences, find_annotations, read_texts


@dataclass(frozen=True)
class Loaded:
    """A data set, and the rules to score it by.

    Attributes:
        data: texts and videos.
        protocol: the rules.
    """

    data: RetrievalSet
    protocol: Protocol


def load_dataset(
    dataset: str | Path, video_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> Loaded:
    """Load a data set for an evaluation.

    Args:
        dataset: the name of a protocol, a protocol file of one's own (.yaml), a part of the synthetic benchmark, or an
            annotation file (.json).
        video_dir: with an annotation file, the folder of its videos; by default the folder of the file.
        data_dir: with a protocol, the folder of its videos and annotations. They are searched in this folder and up to
            MAX_DEPTH levels of folders below it, so that every usual layout works.

    Returns:
        The data set and its protocol. A video whose file is not found has no path.

    Raises:
        AnnotationError: the name is unknown, a folder is missing or not needed, the annotation file is missing,
            damaged, or not the published one (by counts or by hash), or none of the videos is found.
        VmrError: a protocol file is not valid.
    """
    name = str(check_path("dataset", dataset))
    for folder_name, folder_given in (("video_dir", video_dir), ("data_dir", data_dir)):
        if folder_given is not None:
            check_path(folder_name, folder_given)
    if name.lower().endswith(".json"):
        return Loaded(load_retrieval_set(dataset, video_dir, data_dir), FILE)
    chosen = load_protocol(dataset)
    if chosen.name in SHAPES_PROTOCOLS:
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
    if not all(video.path for video in videos):
        folder.require_all_listed()
    if not any(video.path for video in videos):
        raise AnnotationError(
            f"{data_dir}: none of the {len(videos)} {chosen.media}s of {chosen.title} within {MAX_DEPTH} folder "
            f"levels, first: {texts.ids[0]}; {chosen.where}"
        )
    data = RetrievalSet(
        chosen.name, tuple(texts.texts), tuple(texts.videos_of), videos, chosen.needs_time, tuple(texts.choices)
    )
    return Loaded(data, chosen)
