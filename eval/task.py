"""The task of an evaluation: the data, the rules, the encoder and the options, checked before anything runs."""

from dataclasses import dataclass, field
from pathlib import Path

from vmr.checks import check_type, whole_number
from vmr.data.annotations.retrieval_set import RetrievalSet
from vmr.data.decoding.options import DecodeOptions
from vmr.data.decoding.segments import FrameSpec
from vmr.errors import IndexFileError, VmrError
from vmr.eval.protocols.catalogue import FILE
from vmr.eval.protocols.load import Loaded, load_dataset
from vmr.eval.protocols.protocol import Protocol
from vmr.models.catalogue import load_encoder as load_by_name
from vmr.models.catalogue import shows_progress
from vmr.models.encoder import Encoder, Matcher, TextLimited, check_encoder
from vmr.progress import spinner
from vmr.retrieval.frames import frame_spec
from vmr.retrieval.index import VideoIndex
from vmr.retrieval.vectors.faiss_store import check_kind


@dataclass(frozen=True)
class EvalOptions:
    """The settings of an evaluation that the user chooses; the protocol decides all others.

    Attributes:
        rerank_depth: candidates of each query that are scored again by matching, in an extra column; 0 for no such
            column. With None, the default, the protocol's number if the data needs time and the encoder can match,
            else 0.
        normalise: add the columns of DSL and QB-Norm, which use the other test queries.
        index_kinds: kinds of approximate index (see `vmr.retrieval.gallery.FACTORIES`); each gets a column.
        limit: evaluate only this many videos of the data set, the first ones, for a smoke run; None for all.
        memory_bytes: memory that a process may take while it matches; None for no bound.
        decode: how videos are decoded.

    Raises:
        VmrError: a value has a wrong type or is out of range.
    """

    rerank_depth: int | None = None
    normalise: bool = False
    index_kinds: tuple[str, ...] = ()
    limit: int | None = None
    memory_bytes: int | None = None
    decode: DecodeOptions = field(default_factory=DecodeOptions)

    def __post_init__(self) -> None:
        for name, at_least in (("rerank_depth", 0), ("limit", 1), ("memory_bytes", 1)):
            value = getattr(self, name)
            if value is not None:
                whole_number(name, value, at_least)
        check_type("index_kinds", self.index_kinds, tuple, list)
        check_type("decode", self.decode, DecodeOptions)


@dataclass(frozen=True)
class Task:
    """One evaluation, ready to run.

    Attributes:
        dataset: the whole data set.
        data: the part of it that is evaluated: all of it, or the first `options.limit` videos.
        protocol: the rules.
        encoder: the encoder, which reads as many tokens of a caption as the protocol says.
        frames: which frames of a video are decoded.
        rerank_depth: candidates of each query that are scored again by matching; 0 for none.
        options: what the user chose.
    """

    dataset: RetrievalSet
    data: RetrievalSet
    protocol: Protocol
    encoder: Encoder
    frames: FrameSpec
    rerank_depth: int
    options: EvalOptions


def prepare(loaded: Loaded, encoder: Encoder, options: EvalOptions) -> Task:
    """Put together what an evaluation needs.

    Args:
        loaded: the data set and its protocol.
        encoder: the encoder to evaluate.
        options: what the user chose.

    Raises:
        VmrError: re-ranking was asked for, but the encoder cannot match; its memory is limited without it; or a
            kind of index is unknown.
        MissingExtraError: FAISS is not installed.
    """
    dataset, protocol = loaded.data, loaded.protocol
    rerank_depth = _rerank_depth(loaded, encoder, options)
    if options.memory_bytes is not None and not rerank_depth:
        raise VmrError("memory_bytes bounds re-ranking, but nothing is re-ranked: give rerank_depth, or leave it out")
    for kind in options.index_kinds:
        check_kind(kind, encoder.embed_dim)
    if isinstance(encoder, TextLimited) and protocol.max_text_tokens is not None:
        encoder = encoder.with_text_limit(protocol.max_text_tokens)
    data = dataset
    if options.limit is not None:
        data = dataset.restricted_to(range(min(options.limit, len(dataset.videos))))
    frames = frame_spec(encoder, sampling=protocol.sampling, num_frames=protocol.num_frames)
    return Task(dataset, data, protocol, encoder, frames, rerank_depth, options)


def load(
    dataset: str | Path | RetrievalSet | Loaded, video_dir: str | Path | None, data_dir: str | Path | None
) -> Loaded:
    """Load a data set by name or file; a loaded data set is returned unchanged.

    Args:
        dataset: as in `vmr.eval.runner.evaluate`; a `RetrievalSet` without a protocol is evaluated by the rules for a
            user's own file.
        video_dir: as in `vmr.eval.protocols.load.load_dataset`.
        data_dir: as in `vmr.eval.protocols.load.load_dataset`.

    Raises:
        VmrError: a folder is given for a data set that is loaded already.
        AnnotationError: the data set is unknown, or cannot be read.
    """
    if not isinstance(dataset, Loaded | RetrievalSet):
        return load_dataset(dataset, video_dir, data_dir)
    if video_dir is not None or data_dir is not None:
        raise VmrError("this data set is loaded already and knows its files: leave out video_dir and data_dir")
    return dataset if isinstance(dataset, Loaded) else Loaded(dataset, FILE)


def load_encoder(encoder: str | Path | Encoder, *, progress: bool = False) -> Encoder:
    """Load an encoder by name; a loaded encoder is returned unchanged.

    Args:
        encoder: the name or path of a model, or an encoder.
        progress: show on a terminal that it is being loaded.

    Raises:
        ModelError: the model is unknown, or its weights cannot be loaded.
    """
    if not isinstance(encoder, str | Path):
        check_encoder(encoder)
        return encoder
    with spinner(progress and not shows_progress(encoder), "loading the encoder"):
        return load_by_name(encoder)


def check_index(index: VideoIndex, task: Task) -> None:
    """Check that an index was built from the frames that the protocol asks for.

    Raises:
        IndexFileError: the index was built from other frames, or by another encoder.
        VmrError: other kinds of index were asked for as well.
    """
    index.check_encoder(task.encoder)
    if task.options.index_kinds:
        raise VmrError(
            "what another kind of index costs is measured on vectors, but these are in an index: "
            "leave out --index or --index-kind"
        )
    held, frames, reader = index.info, task.frames, task.options.decode.reader
    wanted = ("middle", held.num_frames, held.reader)  # an index always samples by this rule
    if (frames.sampling, frames.num_frames, reader) != wanted:
        raise IndexFileError(
            f"{index.folder} holds {held.num_frames} frames of each video by rule middle, read by {held.reader}, but "
            f"{task.protocol.name} is evaluated with {frames.num_frames} by rule {frames.sampling}, read by "
            f"{reader}: leave the index out, or give its --reader"
        )


def _rerank_depth(loaded: Loaded, encoder: Encoder, options: EvalOptions) -> int:
    can_match = isinstance(encoder, Matcher)
    if options.rerank_depth is None:
        return loaded.protocol.rerank_depth if loaded.data.needs_time and can_match else 0
    if options.rerank_depth and not can_match:
        raise VmrError(
            f"re-ranking was asked for, but {encoder.name} cannot match videos and texts token by token: "
            "leave re-ranking out"
        )
    return options.rerank_depth
