"""What the doctor finds: kinds of problems, single findings, and all findings on a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FILE_PROBLEMS = {
    "missing": "there is no such file",
    "unreadable": "the file cannot be decoded",
    "damaged": "parts of the file are missing or broken; training takes the rest",
    "too_short": "fewer frames than training takes; the last is repeated",
    "same_content": "the same bytes as another file: training takes them for different videos",
    "test_id": "a video of the test set, by its id",
    "test_content": "a video of the test set, by its bytes",
    "test_missing": "a video of the test set that is not there: its bytes were not compared",
}
"""The kinds of problems of files, and what they mean."""

CAPTION_PROBLEMS = FILE_PROBLEMS | {
    "same_id": "one id for several files",
    "repeated": "the same caption of the same video again",
    "empty_caption": "a caption without a word",
    "long_caption": "a caption with more tokens than the limit; the rest is cut off",
}
"""Likewise, of a set with captions."""

LABEL_PROBLEMS = FILE_PROBLEMS | {
    "other_label": "the same bytes as a file with another label",
    "no_clip": "a class without a clip",
    "test_class": "a class of the test set that is not learnt",
}
"""Likewise, of a set with labels."""

MAX_BAD_SHARE = 0.25
"""The share of missing and unreadable files above which training is spoilt: by default, `TrainLoader` stops there."""

_SPOILING = ("empty_caption", "test_id", "test_content")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of CAPTION_PROBLEMS or LABEL_PROBLEMS.
        name: the video or class, as the file of the set spells it.
        detail: one line.
    """

    kind: str
    name: str
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        counts: what was looked at, and how many: at least of `files`.
        findings: what is wrong.
        problems: the kinds of problems that were looked for, and what they mean.
    """

    counts: Mapping[str, int]
    findings: Sequence[Finding]
    problems: Mapping[str, str]

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind, a key of `problems`."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def spoiled_by(self) -> list[str]:
        """Why training on this set would be spoilt, one line each; empty if it would not.

        It is spoilt by a video of the test set, by a caption without a word (which teaches nothing, or which the table
        of records refuses), and by more than MAX_BAD_SHARE of the files missing or unreadable, which stops training.
        All other findings cost a little and are for a person to judge.
        """
        reasons = [f"{self.problems[kind]}: {len(found)}" for kind in _SPOILING if (found := self.of(kind))]
        num_bad, num_files = len(self.of("missing")) + len(self.of("unreadable")), self.counts["files"]
        if num_bad > MAX_BAD_SHARE * num_files:
            reasons.append(f"missing or unreadable: {num_bad} of {num_files} files")
        return reasons

    def as_dict(self) -> dict[str, Any]:
        """Return all findings as JSON types, for a report."""
        return {
            **{f"num_{name}": count for name, count in self.counts.items()},
            "spoiled_by": self.spoiled_by,
            "problems": {
                kind: {
                    "meaning": meaning,
                    "count": len(self.of(kind)),
                    "found": [{"name": finding.name, "detail": finding.detail} for finding in self.of(kind)],
                }
                for kind, meaning in self.problems.items()
            },
        }
