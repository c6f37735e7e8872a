"""The parts of a protocol: the texts and videos that are scored, and the rules. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from vmr.data.annotations.formats import KINDS
from vmr.data.decoding.sampling import check_rule
from vmr.errors import VmrError

OWN_KINDS = ("choices", "labels")
"""Formats of annotation files that only protocols use; see `vmr.eval.protocols.reading`."""

CAPTIONS = ("all", "first", "shared")
"""Which captions of a video are queries; see `Protocol`."""

RULES = {
    "captions": "handed to the encoder letter by letter; it cleans and tokenizes them as in its training",
    "pictures": "resized, cropped and normalised as the encoder's own preprocessing says",
    "scores": "cosines, or means of frame cosines, not divided by a temperature; ties count against the query",
    "re-ranking": "the raw matching logit of the rerank_depth best of each query, in each direction; the rest below",
}
"""The rules that all protocols share. A change here changes every protocol and its hash."""

_DESCRIPTIVE = ("title", "where", "note", "source")  # fields whose wording changes no score


@dataclass(frozen=True)
class Source:
    """A file that a protocol's captions can be read from.

    Attributes:
        file: its name; it may be in any folder of the data set.
        kind: its format, one of `vmr.data.annotations.formats.KINDS` or OWN_KINDS.
        only: names of files that list the videos of the split, one of which is needed; () if `file` holds only the
            captions of these videos.
        num_videos: how many videos of the split it names; None if the number is uncertain.
        num_texts: how many texts it holds about them; None if the number is uncertain.
        videos_sha256: `ids_hash` of the videos in the official file; None if we did not have the file.
        texts_sha256: `pairs_hash` of the pairs in the official file; None if we did not have the file.

    Raises:
        VmrError: a value is not allowed.
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
    """A list of the videos that models are trained on before this evaluation. The evaluation does not need it.

    Attributes:
        name: its name in papers.
        file: the name of the list.
        num_videos: how many videos it names.
        videos_sha256: as in `Source`.

    Raises:
        VmrError: a value is not allowed.
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
    """The rules of an evaluation; scores by the same rules can be compared.

    Attributes:
        name: its name for `vmr-eval --dataset`.
        title: its name in papers.
        version: raised when the rules change.
        note: a description, and similar protocols that it is easily confused with.
        source: the source of these facts.
        sources: the files that the captions can be read from, the preferred one first; () if the user gives a file.
        where: where to get the files.
        captions: "all": each caption of a video is a query. "first": only the first caption of each video. "shared":
            equal captions are one query, and each video that has the caption is right.
        media: video or image, the kind of item that is retrieved.
        max_text_tokens: how many tokens of a caption are read, including special tokens; None for the encoder's own
            limit.
        sampling: which frames are taken, see `vmr.data.decoding.sampling.sample_indices`.
        num_frames: how many frames are taken; None for the encoder's own number.
        rerank_depth: how many candidates of each query are re-ranked, if an evaluation re-ranks.
        needs_time: whether the texts cannot be told apart by single frames.
        train_splits: lists of training videos.

    Raises:
        VmrError: a value is not allowed.
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
            "has files, but does not say where to get them": bool(self.sources) and not self.where,
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
        """The number of videos that the preferred file names; None where that is not known."""
        return self.sources[0].num_videos if self.sources else None

    @property
    def num_texts(self) -> int | None:
        """The number of texts that the preferred file holds; None where that is not known."""
        return self.sources[0].num_texts if self.sources else None

    @cached_property
    def hash(self) -> str:
        """16 hex digits that are equal for protocols with equal rules, including RULES; wording does not count."""
        fields = {name: value for name, value in asdict(self).items() if name not in _DESCRIPTIVE}
        return _sha256_of(fields | {"rules": RULES})[:16]


def ids_hash(ids: list[str]) -> str:
    """Return the SHA-256, in hex, of the sorted ids of videos."""
    return _sha256_of(sorted(ids))


def pairs_hash(pairs: list[tuple[str, str]]) -> str:
    """Return the SHA-256, in hex, of the sorted (id of a video, unchanged caption) pairs."""
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
