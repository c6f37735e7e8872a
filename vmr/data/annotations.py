"""Annotation files: from whatever a data set ships to one `RetrievalSet` of texts, videos and who belongs to whom."""

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vmr.data.files import VIDEO_SUFFIXES, is_unicode, is_video, require_folder, walk_files
from vmr.data.shapes import shapes_test_folder
from vmr.data.shapes_split import PARTS
from vmr.errors import AnnotationError, VmrError

MSRVTT_TEST_FILES = ("MSRVTT_JSFUSION_test.csv", "msrvtt_ret_test1k.json", "test1k.json")
MSRVTT_MAX_DEPTH = 3  # levels of folders below data_dir that are searched


@dataclass(frozen=True)
class VideoItem:
    """One video of a retrieval set. `path` is None when its file was not found."""

    id: str
    path: Path | None


@dataclass(frozen=True)
class RetrievalSet:
    """What an evaluation needs, whatever file it came from: videos[video_of_text[i]] is the video of texts[i].

    needs_time: whether its texts cannot be told apart by single frames, so that an evaluation shows what it scores
    without motion as well.
    """

    name: str
    texts: tuple[str, ...]
    video_of_text: tuple[int, ...]
    videos: tuple[VideoItem, ...]
    needs_time: bool = False


def load_retrieval_set(
    dataset: str | Path, video_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> RetrievalSet:
    """Load a data set by its name in DATASETS, from `data_dir`, or from a .json annotation file.

    The videos of an annotation file are looked up under `video_dir`, or beside the file when that is not given. The
    parts of the synthetic benchmark, SHAPES, are rendered on first use and need no folder: see `vmr.data.shapes`.
    Raises AnnotationError when the name is unknown, a folder is missing or of no use, or the loader refuses what it
    finds.
    """
    if str(dataset).lower().endswith(".json"):
        if data_dir is not None:
            raise AnnotationError(
                f"{dataset} is an annotation file: say where its videos are by video_dir, not data_dir"
            )
        return load_annotations(dataset, Path(dataset).parent if video_dir is None else video_dir)
    name = str(dataset)
    if name in SHAPES:
        if video_dir is not None or data_dir is not None:
            raise AnnotationError(f"data set '{name}' renders its own videos: give neither video_dir nor data_dir")
        return load_shapes(name)
    if name not in DATASETS:
        known = [*DATASETS, *SHAPES]
        close = difflib.get_close_matches(name.lower(), known, n=1)
        suggestion = f"did you mean '{close[0]}'? " if close else ""
        raise AnnotationError(
            f"unknown data set '{name}': {suggestion}known: {', '.join(known)}, or a .json annotation file"
        )
    if data_dir is None or video_dir is not None:
        raise AnnotationError(f"data set '{name}' needs data_dir alone, the folder of its videos and annotations")
    return DATASETS[name](Path(data_dir))


def load_annotations(file: str | Path, video_dir: str | Path) -> RetrievalSet:
    """Load a JSON list of rows `{"video": "a.mp4", "caption": "text" or ["text", ...]}`; other keys are ignored.

    "video" is a path relative to `video_dir`, or an absolute one; without a video suffix the usual suffixes are tried.
    Rows that name the same video become one video with several captions. Captions are kept letter by letter.

    Raises AnnotationError, naming the file and the row (from 1), for anything that does not follow this format, and
    when not one of the videos is found.
    """
    file, video_dir = Path(file), Path(video_dir)
    rows = _read_json_rows(file)
    _require_data_folder(video_dir)
    pairs = [
        (video, caption)
        for number, row in enumerate(rows, start=1)
        for video, captions in [_parse_row(row, f"{file}: row {number}")]
        for caption in captions
    ]
    path_of_video = {video: _look_up(video_dir, video) for video, _ in pairs}
    if not any(path_of_video.values()):
        raise AnnotationError(
            f"{file}: none of its {len(path_of_video)} videos is in {video_dir}, first: {pairs[0][0]}"
        )
    return _collect(file.stem, pairs, path_of_video)


def load_msrvtt_1ka(data_dir: str | Path) -> RetrievalSet:
    """Load MSRVTT 1k-A, the test split of JSFusion (Yu et al. 2018): 1000 videos with one caption each.

    Looks for one of MSRVTT_TEST_FILES and for `video9770.mp4` and its like (any usual suffix) in `data_dir` and up to
    three folder levels below it, so every usual layout will do. A video that is there more than once is taken from the
    folder nearest to `data_dir`, and from a re-encoded copy (a folder named compress...) only if there is no other.

    Raises AnnotationError when the annotation file or all videos are missing, or when the file does not hold 1000
    captions of 1000 videos: a subset belongs in a .json file for `load_annotations`.
    """
    data_dir = Path(data_dir)
    _require_data_folder(data_dir)
    files = sorted(walk_files(data_dir, max_depth=MSRVTT_MAX_DEPTH), key=lambda path: (len(path.parts), path))
    annotations = [path for name in MSRVTT_TEST_FILES for path in files if path.name == name]
    if not annotations:
        raise AnnotationError(
            f"{data_dir}: none of {', '.join(MSRVTT_TEST_FILES)} within {MSRVTT_MAX_DEPTH} folder levels"
        )
    file = annotations[0]
    pairs = [(_video_stem(video), caption) for video, caption in _read_msrvtt(file)]
    num_videos = len({video for video, _ in pairs})
    if (len(pairs), num_videos) != (1000, 1000):
        raise AnnotationError(
            f"{file}: {len(pairs)} captions of {num_videos} videos, but MSRVTT 1k-A has 1000 of 1000; "
            'write a subset as a .json list of {"video", "caption"}'
        )
    originals_first = sorted(files, key=lambda path: any(part.startswith("compress") for part in path.parts))
    found: dict[str, Path] = {}
    for path in originals_first:
        if is_video(path):
            found.setdefault(path.stem, path)
    if not any(video in found for video, _ in pairs):
        raise AnnotationError(
            f"{data_dir}: no MSRVTT test video ({pairs[0][0]}.mp4, ...) within {MSRVTT_MAX_DEPTH} folder levels"
        )
    return _collect("msrvtt-1ka", pairs, {video: found.get(video) for video, _ in pairs})


def load_shapes(name: str) -> RetrievalSet:
    """Load a test part of the synthetic benchmark by its name in SHAPES; the first time, it is rendered in seconds."""
    folder = shapes_test_folder(SHAPES[name], progress=True)
    return replace(load_annotations(folder / "test.json", folder), name=name, needs_time=True)


DATASETS: dict[str, Callable[[Path], RetrievalSet]] = {"msrvtt": load_msrvtt_1ka}
SHAPES = {"shapes" if part == "pairs" else f"shapes:{part}": part for part in PARTS}


def _collect(name: str, pairs: Iterable[tuple[str, str]], path_of_video: dict[str, Path | None]) -> RetrievalSet:
    """Number the videos in order of appearance; two spellings that lead to the same file are one video."""
    number_of: dict[str | Path, int] = {}
    videos: list[VideoItem] = []
    texts: list[str] = []
    video_of_text: list[int] = []
    for video, text in pairs:
        path = path_of_video[video]
        number = number_of.setdefault(path or video, len(videos))
        if number == len(videos):
            videos.append(VideoItem(video, path))
        texts.append(text)
        video_of_text.append(number)
    return RetrievalSet(name, tuple(texts), tuple(video_of_text), tuple(videos))


def _look_up(video_dir: Path, video: str) -> Path | None:
    named = video_dir / video  # an absolute `video` replaces video_dir
    if named.is_file():
        return named
    if is_video(named):
        return None
    # Not with_suffix: ids such as "clip.12_30" contain dots that are no suffix.
    guesses = (named.with_name(named.name + suffix) for suffix in VIDEO_SUFFIXES)
    return next((guess for guess in guesses if guess.is_file()), None)


def _parse_row(row: Any, where: str) -> tuple[str, list[str]]:
    """Return the video and the captions of one JSON row; `where` starts the error message."""
    if not isinstance(row, dict):
        raise AnnotationError(f'{where} is {row!r:.60}: expected an object with "video" and "caption"')
    for key in ("video", "caption"):
        if key not in row:
            raise AnnotationError(f'{where} has no "{key}" (its keys: {", ".join(row) or "none"})')
    video, caption = row["video"], row["caption"]
    if not isinstance(video, str) or not video.strip():
        raise AnnotationError(f'{where}: "video" is {video!r:.60}: expected a path')
    captions = caption if isinstance(caption, list) else [caption]
    if not captions:
        raise AnnotationError(f'{where}: "caption" is an empty list: give at least one caption or remove the row')
    for text in captions:
        if not isinstance(text, str):
            raise AnnotationError(f'{where}: "caption" is {caption!r:.60}: expected a string or a list of strings')
        if not text.strip():
            raise AnnotationError(f'{where}: "caption" is blank: write one or remove the row')
        if not is_unicode(text):
            raise AnnotationError(f'{where}: "caption" is {text!r:.60}: it holds half a surrogate pair')
    return str(PurePosixPath(video)), captions  # "./a.mp4" and "a.mp4" are the same path


def _read_json_rows(file: Path) -> list[Any]:
    try:
        rows = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{file}: line {error.lineno} is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise AnnotationError(f"{file}: not a list of rows: {error}") from None
    if not isinstance(rows, list):
        raise AnnotationError(f'{file}: holds a {type(rows).__name__}: expected a list of {{"video", "caption"}} rows')
    if not rows:
        raise AnnotationError(f"{file}: an empty list: there is nothing to retrieve")
    return rows


def _read_msrvtt(file: Path) -> list[tuple[str, str]]:
    """Read (video, caption) from the csv or the json form of the test split."""
    if file.suffix == ".json":
        rows = [_parse_row(row, f"{file}: row {number}") for number, row in enumerate(_read_json_rows(file), start=1)]
        return [(video, caption) for video, captions in rows for caption in captions]
    reader = csv.DictReader(io.StringIO(_read_text(file), newline=""))
    for column in ("video_id", "sentence"):
        if column not in (reader.fieldnames or ()):
            raise AnnotationError(
                f"{file}: no column '{column}' in its first line; expected key,vid_key,video_id,sentence"
            )
    pairs = []
    for row in reader:
        video, sentence = row["video_id"], row["sentence"]
        if not video or not sentence or not sentence.strip() or None in row:
            raise AnnotationError(
                f"{file}: line {reader.line_num} does not hold one value per column; quote a sentence with commas"
            )
        pairs.append((video, sentence))
    return pairs


def _video_stem(video: str) -> str:
    """Reduce "all/video9770.mp4" and "video9770" to the id they share."""
    path = PurePosixPath(video)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # some published files start with a byte order mark
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise AnnotationError(f"{file}: cannot read this annotation file: {error.strerror}") from None


def _require_data_folder(folder: Path) -> None:
    try:
        require_folder(folder)
    except VmrError as error:
        raise AnnotationError(str(error)) from None
