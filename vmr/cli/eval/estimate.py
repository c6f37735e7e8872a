"""`vmr-eval --estimate`: estimate the cost of re-ranking a data set before it starts."""

from typing import TYPE_CHECKING

from vmr.cli.output import print_table
from vmr.errors import VmrError

if TYPE_CHECKING:
    from vmr.eval.protocols.load import Loaded
    from vmr.eval.task import EvalOptions


def print_estimate(loaded: "Loaded", encoder_name: str, options: "EvalOptions") -> None:
    """Print how many pairs, FLOPs, minutes, and bytes of memory and disk re-ranking would take.

    Args:
        loaded: the data set and its protocol.
        encoder_name: name or path of a model.
        options: the options of the evaluation.

    Raises:
        VmrError: the encoder cannot match, or the memory is too little.
    """
    from vmr.eval.task import load_encoder, prepare
    from vmr.memory import format_bytes
    from vmr.models.encoder import Matcher
    from vmr.retrieval.reranking.plan import estimate, measure_speed

    task = prepare(loaded, load_encoder(encoder_name, progress=True), options)
    data, encoder = task.data, task.encoder
    if not isinstance(encoder, Matcher):
        raise VmrError(f"{encoder.name} cannot match videos and texts token by token: there is nothing to estimate")
    depth = options.rerank_depth or loaded.protocol.rerank_depth
    found = estimate(
        encoder,
        data.texts,
        len(data.videos),
        depth,
        memory_bytes=options.memory_bytes,
        flops_per_second=measure_speed(encoder),
    )
    sizes = encoder.matching_sizes
    tokens_bytes = 4 * len(data.videos) * sizes.num_video_tokens * sizes.video_width
    tokens_size = f"{'at most ' if sizes.may_repeat else ''}{format_bytes(tokens_bytes)}"
    rows = [
        ("pairs, at most", f"{found.num_pairs:,}"),
        ("FLOPs, at most", f"{found.flops:.3g}"),
        ("time, at most", f"{(found.seconds or 0) / 60:.1f} min on this machine, one process, videos embedded already"),
        ("memory", f"{format_bytes(found.memory_bytes)} of the process in all"),
        ("disk", f"{tokens_size} for the videos' tokens, {format_bytes(found.disk_bytes)} for all else"),
    ]
    print_table(f"re-ranking {data.name}, the {depth} best of each query, {encoder.name}", ("", ""), rows)
