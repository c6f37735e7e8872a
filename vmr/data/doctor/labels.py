"""A training set with labels: what is wrong with its classes and its files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmr.data.decoding.options import DecodeOptions
from vmr.data.doctor.files import SetFile, check_files
from vmr.data.doctor.findings import LABEL_PROBLEMS, Diagnosis, Finding
from vmr.data.labels.label_set import LabelSet
from vmr.targets import Label


def diagnose_labels(
    labels: LabelSet,
    *,
    num_frames: int = 8,
    test: LabelSet | None = None,
    decode: DecodeOptions = DecodeOptions(),
    progress: bool = False,
) -> Diagnosis:
    """Look at every class and every file of a training set.

    Videos of the training and the test set are the same if they are one file, or have the same bytes: two folders may
    well use one name for different videos.

    Args:
        labels: the training set.
        num_frames: how many frames of a video training takes. Parts of videos are not looked at by themselves.
        test: the test set, whose videos must not be in the training set.
        decode: how videos are decoded.
        progress: whether to show a progress bar.

    Returns:
        What was found among `clips`, `files` and, unless a number is predicted, `classes`.
    """
    missing = [file.id for file in labels.missing]
    findings = [Finding("missing", name, "no such file") for name in missing]
    counts = {"clips": len(labels.items)}
    if labels.target != "regression":
        counts["classes"] = labels.num_outputs
        num_clips = Counter(number for item in labels.items for number in _numbers(item.label))
        empty = (number for number in range(labels.num_outputs) if not num_clips[number])
        findings += [Finding("no_clip", _name(number, labels), f"class {number}") for number in empty]
    files, tested = _files(labels), []
    if test is not None:
        tested = _files(test)
        findings += [Finding("test_missing", file.id, "no such file") for file in test.missing]
        findings += _strange_classes(labels, test)
    findings += check_files(files, tested, num_frames=num_frames, decode=decode, progress=progress)
    return Diagnosis(counts | {"files": len(files) + len(missing)}, findings, LABEL_PROBLEMS)


def _files(labels: LabelSet) -> list[SetFile]:
    """Each file once, with its label in words."""
    files: dict[str, SetFile] = {}
    for item in labels.items:
        if item.path not in files:
            label = _words(item.label, labels)
            files[item.path] = SetFile(item.id, os.path.realpath(item.path), Path(item.path), labels.media, label)
    return list(files.values())


def _numbers(label: Label) -> Sequence[int]:
    """The classes of a label."""
    return [label] if isinstance(label, int) else [number for number, share in enumerate(label) if share]


def _name(number: int, labels: LabelSet) -> str:
    return str(number) if labels.classes is None else labels.classes[number]


def _words(label: Label, labels: LabelSet) -> str:
    if labels.target == "regression":
        assert not isinstance(label, int)
        return f"{label[0]:g}"
    return ";".join(_name(number, labels) for number in _numbers(label)) or "of no class"


def _strange_classes(labels: LabelSet, test: LabelSet) -> Iterator[Finding]:
    """The classes of the test set that the training set lacks: by name if both have names, else by number."""
    if "regression" in (labels.target, test.target):
        return
    by_name = labels.classes is not None and test.classes is not None
    known = {_name(number, labels) if by_name else str(number) for number in range(labels.num_outputs)}
    for number in range(test.num_outputs):
        name = _name(number, test) if by_name else str(number)
        if name not in known:
            yield Finding("test_class", name, f"class {number} of {test.name}")
