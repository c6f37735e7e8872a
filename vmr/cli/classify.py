"""`vmr-classify`: say what videos and pictures show, as classes with probabilities."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveFloat, PositiveInt

from vmr.cli.common import run
from vmr.cli.output import clock, print_failures, print_remarks
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.progress import printable, progress_bar, spinner

if TYPE_CHECKING:
    from torch import Tensor

    from vmr.data.decoding.worker_process import DecodeFailure
    from vmr.data.remark import Remark
    from vmr.models.classification.family import VideoClassifier
    from vmr.retrieval.segments import FixedWindows

LEFT_OUT = 3
"""The exit status of `--fail-on-skip` if a file was left out."""

_FRAMES_AT_ONCE = 128  # that go through the network together; at least one clip


@dataclass(frozen=True)
class ClassifiedFile:
    """What a classifier says of one file.

    Attributes:
        path: the file.
        spans: start and end of each window in seconds; None for the whole file as one clip.
        logits: float32 (S, C) of the windows, or (1, C).
        remarks: what was noticed while it was decoded.
    """

    path: str
    spans: tuple[tuple[float, float], ...] | None
    logits: "Tensor"
    remarks: "tuple[Remark, ...]"


def classify(
    video: list[str],
    model: str,
    k: PositiveInt = 5,
    window: PositiveFloat | None = None,
    stride: PositiveFloat | None = None,
    labels: str | None = None,
    num_frames: PositiveInt | None = None,
    image_size: PositiveInt | None = None,
    device: str = "auto",
    json: bool = False,
    fail_on_skip: bool = False,
    *,
    decode: DecodeOptions,
) -> None:
    """Say what videos and pictures show, as classes with probabilities.

    Files that cannot be read are left out, named and counted. A folder of numbered pictures, such as img_00001.jpg, is
    a video; other pictures in a folder are passed over: name them, such as photos/*.jpg.

    Args:
        video: videos, pictures, and folders, which are searched for videos and for folders of numbered pictures
        model: name or path of a classifier; vmr-info lists the published ones
        k: how many classes to name, the likeliest first
        window: classify windows of so many seconds; default, each whole video as one clip
        stride: seconds from the start of one window to the start of the next; default, no overlap
        labels: a file with the names of the classes, one a line or as JSON, in place of the model's own
        num_frames: frames of a clip; default, the model's own
        image_size: side of the frames in pixels; default, the model's own
        device: `cpu`, `cuda`, or `auto`, which takes the GPU if there is one
        json: print a line of JSON for each file
        fail_on_skip: exit with status 3 if a file was left out
    """
    if stride is not None and window is None:
        raise VmrError("--stride is for windows: give --window too")
    from vmr.models.catalogue import load_classifier, shows_progress
    from vmr.retrieval.results import VideoRemark
    from vmr.retrieval.segments import FixedWindows

    windows = None if window is None else FixedWindows(window, stride)
    names = None if labels is None else _names(labels)
    paths, failures = _files(video, decode, may_be_frames=windows is None)
    with spinner(not shows_progress(model), "loading the model"):
        classifier = load_classifier(model, device, num_frames=num_frames, image_size=image_size)
    if names is not None:
        classifier = classifier.with_labels(names)
    num_read = 0
    with progress_bar(True) as bar:
        task = bar.add_task("classifying", total=len(paths))
        for done in _in_order(paths, _classified(paths, classifier, windows, decode)):
            bar.advance(task)
            if not isinstance(done, ClassifiedFile):
                failures.append(done)
                continue
            num_read += 1
            _print_json(done, classifier, k) if json else _print_classes(done, classifier, k)
            print_remarks([VideoRemark(done.path, remark.kind, remark.text) for remark in done.remarks])
    _end(num_read, failures, fail_on_skip)


def _end(num_read: int, failures: "Sequence[DecodeFailure]", fail_on_skip: bool) -> None:
    """Name and count what was left out. Raises VmrError if nothing could be read."""
    from vmr.retrieval.results import Failure

    print_failures([Failure(failure.path, failure.reason) for failure in failures])
    print(f"{num_read} files classified, {len(failures)} left out", file=sys.stderr)
    if not num_read:
        raise VmrError("no file can be read: see above")
    if failures and fail_on_skip:
        sys.exit(LEFT_OUT)


def _names(file: str) -> tuple[str, ...]:
    from vmr.data.labels.class_names import read_class_names

    return read_class_names(file)


def _files(
    given: Sequence[str], decode: DecodeOptions, *, may_be_frames: bool
) -> "tuple[list[str], list[DecodeFailure]]":
    """The files and folders of frames that are to be classified, and what of the folders cannot be.

    may_be_frames: whether folders of frames can be classified. A wrong path ends the command.
    """
    from vmr.data.decoding.worker_process import DecodeFailure
    from vmr.data.discovery.find import find_videos

    paths: dict[str, None] = {}
    failures: list[DecodeFailure] = []
    for path in given:
        if Path(path).is_dir():
            folders, pictures = _pictures(path)
            if pictures:
                print(printable(_passed_over(pictures)), file=sys.stderr)
            found = find_videos(path, decode, may_be_empty=bool(folders))
            failures += found.failures
            if not may_be_frames:
                reason = "a folder of pictures has no times, so that it cannot be cut into windows"
                failures += [DecodeFailure(folder, reason) for folder in folders]
                folders = []
            paths |= dict.fromkeys(sorted([*map(str, found), *folders]))
        elif Path(path).exists():
            paths[path] = None
        else:
            raise VmrError(f"{path}: no such file or folder")
    return list(paths), failures


def _pictures(folder: str) -> tuple[list[str], list[Path]]:
    """The folders of frames in a folder, or itself, and all other pictures in it."""
    from vmr.data.media import IMAGE_SUFFIXES, has_video_suffix
    from vmr.data.views.frame_folder import are_frames
    from vmr.files import walk_files

    folders: list[str] = []
    others: list[Path] = []
    for parent, files in groupby(walk_files(folder, pass_over=lambda path, error: None), lambda file: file.parent):
        media = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES or has_video_suffix(file)]
        if are_frames(file.name for file in media):
            folders.append(str(parent))
        else:
            others += [file for file in media if not has_video_suffix(file)]
    return folders, others


def _passed_over(pictures: Sequence[Path]) -> str:
    return f"passed over: {len(pictures)} pictures, such as {pictures[0]}: name pictures to classify them"


def _in_order(
    paths: Sequence[str], results: "Iterable[ClassifiedFile | DecodeFailure]"
) -> "Iterator[ClassifiedFile | DecodeFailure]":
    """Bring the results of files, which come in any order, into the order of the files."""
    waiting: dict[str, ClassifiedFile | DecodeFailure | None] = dict.fromkeys(paths)
    upcoming = iter(results)
    for path in paths:
        while waiting[path] is None:
            result = next(upcoming)
            waiting[result.path] = result
        ready = waiting.pop(path)
        assert ready is not None  # after the loop
        yield ready


def _classified(
    paths: Sequence[str], classifier: "VideoClassifier", windows: "FixedWindows | None", decode: DecodeOptions
) -> "Iterator[ClassifiedFile | DecodeFailure]":
    """Classify files, each as soon as it is decoded."""
    import torch

    from vmr.data.decoding.segments import FrameSpec
    from vmr.data.decoding.worker_process import DecodeFailure
    from vmr.data.views.decode import ViewItem, decode_views
    from vmr.retrieval.embed import embed_each
    from vmr.retrieval.frames import clip_spec

    spec = clip_spec(classifier)
    if windows is None:
        for item, views in decode_views(map(ViewItem, paths), spec, decode):
            if isinstance(views, DecodeFailure):
                yield views
            else:
                logits = classifier.logits(torch.from_numpy(views.pixels))
                yield ClassifiedFile(item.path, None, logits, views.remarks)
        return
    frames = FrameSpec(spec.num_frames, spec.size, spec.resize)
    for done in embed_each(paths, [LogitsAsVectors(classifier)], frames, windows, decode=decode):
        if isinstance(done, DecodeFailure):
            yield done
        else:
            (one,) = done
            yield ClassifiedFile(one.path, one.spans, torch.from_numpy(one.vectors), one.remarks)


class LogitsAsVectors:
    """A classifier in the place of an encoder, for the code that cuts, decodes and encodes the windows of videos.

    Args:
        classifier: its logits are the vectors.
    """

    def __init__(self, classifier: "VideoClassifier") -> None:
        from vmr.models.encoder import Preprocess

        clip = classifier.clip
        self.name, self.about, self.fingerprint = classifier.name, classifier.about, classifier.fingerprint
        self.embed_dim = len(classifier.labels)
        self.preprocess = Preprocess(clip.num_frames, clip.size, "crop", clip.mean, clip.std)
        self._classifier = classifier

    def encode_video(self, video: "Tensor") -> "Tensor":
        """Return the logits of clips, uint8 (B, T, 3, S, S) -> float32 (B, C)."""
        import torch

        at_once = max(1, _FRAMES_AT_ONCE // video.shape[1])
        return torch.cat([self._classifier.logits(clips) for clips in video.split(at_once)])

    def encode_text(self, texts: Sequence[str]) -> "Tensor":
        """Raise ModelError: a classifier reads no texts."""
        from vmr.errors import ModelError

        raise ModelError(f"{self.name} is a classifier, which reads no texts")


def _print_classes(done: ClassifiedFile, classifier: "VideoClassifier", k: int) -> None:
    """Print the name of the file; below it a line for each window, or for each class of the whole file."""
    print(printable(done.path))
    rows = [[f"{label} {value:.3f}".strip() for label, value in values] for values in _values(done, classifier, k)]
    if done.spans is None:
        lines = rows[0]
    else:
        times = (f"{clock(start_s, tenths=True)}-{clock(end_s, tenths=True)}" for start_s, end_s in done.spans)
        lines = [f"{time}  {'; '.join(row)}" for time, row in zip(times, rows, strict=True)]
    for line in lines:
        print(f"  {printable(line)}")


def _print_json(done: ClassifiedFile, classifier: "VideoClassifier", k: int) -> None:
    """Print a line: the file, and for each window its times, and its classes or its number."""
    windows: list[dict[str, Any]] = []
    for place, values in enumerate(_values(done, classifier, k)):
        times = {} if done.spans is None else dict(zip(("start_s", "end_s"), done.spans[place], strict=True))
        said: dict[str, Any] = {"value": values[0][1]}
        if classifier.target != "regression":
            said = {"classes": [{"label": label, "probability": probability} for label, probability in values]}
        windows.append(times | said)
    print(dumps({"file": done.path, "windows": windows}), flush=True)


def _values(done: ClassifiedFile, classifier: "VideoClassifier", k: int) -> list[list[tuple[str, float]]]:
    """For each window the classes with their probabilities; of a regression the number, without a name."""
    from vmr.models.classification.family import predictions

    if classifier.target == "regression":
        return [[("", value)] for value in done.logits[:, 0].tolist()]
    found = predictions(classifier.name, done.logits, classifier.labels, classifier.target, k)
    return [list(zip(one.labels, one.probabilities, strict=True)) for one in found]


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    run("vmr-classify", classify, ["video"], "vmr-classify holiday.mp4 --model videomamba-ti-k400-f8", argv)
