"""What a number was counted over, and how: one frozen record a protocol. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from vmr.data.annotations.formats import KINDS
from vmr.data.decoding.sampling import check_rule
from vmr.errors import VmrError

OWN_KINDS = ("choices", "labels")  # formats of tests that no training set has; see `vmr.eval.protocols.reading`
CAPTIONS = ("all", "first", "shared")

RULES = {
    "captions": "handed to the encoder letter by letter; it cleans and tokenizes them as in its training",
    "pictures": "resized, cropped and normalised as the encoder's own preprocessing says",
    "scores": "cosines, or means of frame cosines, not divided by a temperature; ties count against the query",
    "re-ranking": "the raw matching logit of the rerank_depth best of each query, in each direction; the rest below",
}
"""What all protocols have in common. A change here is a change of every protocol, and of its hash."""

_DESCRIPTIVE = ("title", "where", "note", "source")  # fields whose wording decides no number


@dataclass(frozen=True)
class Source:
    """A file that a protocol's captions can be read from. Raises VmrError for values that make no sense.

    file: its name, in whatever folder. kind: its format, one of `vmr.data.annotations.formats.KINDS` or OWN_KINDS.
    only: names of files that list the videos of the split, any of which is needed; () where the file holds no others.
    num_videos, num_texts: what it holds after that; None where that is not known for sure.
    videos_sha256, texts_sha256: of its videos' ids and of its pairs, as `ids_hash` and `pairs_hash` compute them from
    the official file; None where that was not at hand.
    """

    file: str
    kind: str
    only: tuple[str, ...] = ()
    num_videos: int | None = None
    num_texts: int | None = None
    videos_sha256: str | None = None
    texts_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, *OWN_KINDS):
            raise VmrError(f"{self.file}: no annotation format {self.kind!r}")
        _check_counts(self.file, self.num_videos, self.num_texts)
        _check_hashes(self.file, self.videos_sha256, self.texts_sha256)


@dataclass(frozen=True)
class TrainSplit:
    """A list of videos that the field trains on before this evaluation; the evaluation itself needs it not.

    name: what papers call it. file: that lists them. num_videos, videos_sha256: as in `Source`.
    """

    name: str
    file: str
    num_videos: int
    videos_sha256: str | None = None

    def __post_init__(self) -> None:
        _check_counts(self.name, self.num_videos)
        _check_hashes(self.name, self.videos_sha256)


@dataclass(frozen=True)
class Protocol:
    """An evaluation that two people can agree on. Raises VmrError for values that make no sense.

    name: what `vmr-eval --dataset` calls it. title: what papers call it. version: raised when its rules change.
    sources: the files it can be read from, the preferred first; () where the user brings the file.
    captions: "all" of a video, each a query of its own; the "first" of each alone; or "shared": equal captions are one
    query, and each video that has it is right.
    media: what is retrieved. max_text_tokens: how many tokens of a caption count, those at its ends included; None for
    the encoder's own limit. sampling: which frames, see `vmr.data.decoding.sampling.sample_indices`. num_frames: None
    for the encoder's own number. rerank_depth: candidates of a query that are matched again, where they are.
    needs_time: whether its texts cannot be told apart by single frames.
    where: to get the files from. note: what it is, and what it is easily confused with. source: of these facts.
    """

    name: str
    title: str
    version: int
    note: str
    source: str
    sources: tuple[Source, ...] = ()
    where: str = ""
    captions: Literal["all", "first", "shared"] = "all"
    media: Literal["video", "image"] = "video"
    max_text_tokens: int | None = None
    sampling: str = "middle"
    num_frames: int | None = None
    rerank_depth: int = 128
    needs_time: bool = False
    train_splits: tuple[TrainSplit, ...] = ()

    def __post_init__(self) -> None:
        check_rule(self.sampling)
        wrong = {
            "needs a title, a note and a source": not (self.title and self.note and self.source),
            "has files, but no word on where to get them": bool(self.sources) and not self.where,
            f"captions must be one of {', '.join(CAPTIONS)}": self.captions not in CAPTIONS,
            "media must be video or image": self.media not in ("video", "image"),
            "a picture has one frame": self.media == "image" and self.num_frames != 1,
            "version, num_frames and max_text_tokens count from 1": min(
                self.version,
                1 if self.num_frames is None else self.num_frames,
                1 if self.max_text_tokens is None else self.max_text_tokens,
            )
            < 1,
            "rerank_depth cannot be negative": self.rerank_depth < 0,
        }
        for reason, is_so in wrong.items():
            if is_so:
                raise VmrError(f"protocol {self.name}: {reason}")

    @property
    def num_videos(self) -> int | None:
        """How many videos the preferred file names; None where that is not known."""
        return self.sources[0].num_videos if self.sources else None

    @property
    def num_texts(self) -> int | None:
        """How many texts the preferred file holds; None where that is not known."""
        return self.sources[0].num_texts if self.sources else None

    @property
    def texts_sha256(self) -> str | None:
        """Of the pairs in the preferred file; None where that is not known."""
        return self.sources[0].texts_sha256 if self.sources else None

    @cached_property
    def hash(self) -> str:
        """16 hex digits that are equal for protocols of equal rules, RULES among them; wording does not count."""
        fields = {name: value for name, value in asdict(self).items() if name not in _DESCRIPTIVE}
        return _sha256_of(fields | {"rules": RULES})[:16]


def ids_hash(ids: list[str]) -> str:
    """SHA-256, in hex, of the sorted ids of videos."""
    return _sha256_of(sorted(ids))


def pairs_hash(pairs: list[tuple[str, str]]) -> str:
    """SHA-256, in hex, of the sorted (id of a video, caption) pairs, letter by letter."""
    return _sha256_of(sorted(pairs))


def _sha256_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _check_counts(where: str, *counts: int | None) -> None:
    if any(count is not None and count < 1 for count in counts):
        raise VmrError(f"{where}: counts are at least 1")


def _check_hashes(where: str, *hashes: str | None) -> None:
    for value in hashes:
        if value is not None and (len(value) != 64 or set(value) - set("0123456789abcdef")):
            raise VmrError(f"{where}: {value!r:.80} is no SHA-256 in hex")
