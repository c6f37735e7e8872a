"""`vmr-eval`: score an encoder by retrieval."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt

from vmr.cli.common import refuse
from vmr.cli.eval.outputs import WAIT_AT_MOST, CacheOptions, OutputOptions, check_outputs, finish
from vmr.cli.output import print_report
from vmr.data.decoding.options import DecodeOptions
from vmr.errors import VmrError
from vmr.models.families.names import with_skip

if TYPE_CHECKING:
    from vmr.eval.task import EvalOptions


@dataclass(frozen=True)
class ScoreOptions:
    """Which scores to compute, and how.

    Attributes:
        rerank: how many candidates of each query to score again by matching, in an extra column; default, 128 for
            shapes if the encoder can match, else none
        normalise: add columns of DSL and QB-Norm scores, which use the other test queries
        index: an index of the videos that the same encoder built; its vectors are scored instead of new ones
        index_kind: approximate kind of index, a list of kinds [ivf_sq8, hnsw], or any factory string of FAISS; each
            gets an extra column, which shows how much recall it loses
        limit: score only this many videos, the first ones; the report is marked as partial
        memory: how much memory the process may take while it matches, such as 4GiB
    """

    rerank: NonNegativeInt | None = None
    normalise: bool = False
    index: str | None = None
    index_kind: list[str] | str = field(default_factory=list)
    limit: PositiveInt | None = None
    memory: str | None = None


def score(
    dataset: str,
    task: Literal["retrieval", "classify"] = "retrieval",
    video_dir: str | None = None,
    data_dir: str | None = None,
    encoder: str = "offline",
    skip: ClosedUnitInterval | None = None,
    estimate: bool = False,
    *,
    scores: ScoreOptions,
    outputs: OutputOptions,
    caching: CacheOptions,
    decode: DecodeOptions,
) -> None:
    """Score an encoder by retrieval, text to video and video to text. `vmr-eval compare A B` compares two reports.

    `vmr-eval --task classify` scores a classifier; add --help for its options.

    Args:
        dataset: an annotation file [{"video": ..., "caption": ...}, ...], a published data set such as msrvtt (vmr-data
            list lists them), a protocol file of your own (.yaml), or shapes, also shapes:order, shapes:passage,
            shapes:collision and shapes:twins (synthetic, rendered when first used)
        task: retrieval; or classify, which has other options
        video_dir: with an annotation file, the folder its video names are relative to; default, the file's own
        data_dir: with a published data set or protocol file, the folder of its videos and annotations, in any layout
        encoder: name or path of a model; vmr-info lists them
        skip: leave out patches that differ from earlier ones by no more than this; default, as the model was saved
        estimate: print the time, memory and disk that re-ranking would take by this command, and stop
    """
    from vmr.eval.classification.protocols.catalogue import PROTOCOLS
    from vmr.eval.protocols.catalogue import PROTOCOLS as RETRIEVAL_PROTOCOLS
    from vmr.eval.protocols.load import load_dataset

    check_outputs(outputs)
    encoder = encoder if skip is None else with_skip(encoder, skip)
    if estimate and scores.rerank == 0:
        raise VmrError("--rerank 0 re-ranks nothing, so there is nothing to estimate: leave out one of them")
    if dataset in PROTOCOLS and dataset not in RETRIEVAL_PROTOCOLS:
        raise VmrError(f"{dataset} is a data set with classes: give --task classify --model NAME")
    loaded = load_dataset(dataset, video_dir, data_dir)  # a misspelt name is reported before torch is imported
    import torch

    from vmr.cli.eval.estimate import print_estimate
    from vmr.eval.runner import evaluate
    from vmr.processes import joined
    from vmr.retrieval.feature_cache import FeatureCache

    options = _eval_options(scores, decode)
    if scores.index is not None and not scores.rerank and not loaded.data.needs_time:
        refuse(decode, "is of no use with --index: no video is decoded", ("num_workers", "timeout_s"))
    if estimate:
        print_estimate(loaded, encoder, options)
        return
    with joined(torch.device("cpu"), WAIT_AT_MOST) as processes:
        cache = None if caching.no_cache else FeatureCache(caching.cache)
        report = evaluate(
            loaded, encoder, options=options, index=scores.index, cache=cache, processes=processes, progress=True
        )
    finish(report, print_report, outputs, processes.is_main)


def _eval_options(scores: ScoreOptions, decode: DecodeOptions) -> "EvalOptions":
    from vmr.eval.task import EvalOptions
    from vmr.memory import parse_bytes

    kinds = [scores.index_kind] if isinstance(scores.index_kind, str) else scores.index_kind
    return EvalOptions(
        rerank_depth=scores.rerank,
        normalise=scores.normalise,
        index_kinds=tuple(kinds),
        limit=scores.limit,
        memory_bytes=None if scores.memory is None else parse_bytes(scores.memory),
        decode=decode,
    )
