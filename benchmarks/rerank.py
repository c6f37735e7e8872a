"""Matching many captions with one video: keys and values of the video computed once, or once for every caption.

    python -m benchmarks.rerank
    python -m benchmarks.rerank --captions 128 --frames 8 --json rerank.json
    python -m benchmarks.rerank --videos 200 --captions 200 --k 128 --memory 3GiB

With --videos a whole re-ranking is measured instead; see `benchmarks.rerank_engine`.

The model has the sizes of the released ones (VideoMamba-M's tokens, BERT base) and random weights. Its fusion layers
are timed, for captions that the text layers have already encoded. The peer does what upstream does: it projects the
whole video again for every pair, in batches of 32 pairs. Both are timed in turns, each in its own process, and their
logits are compared.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks import rerank_engine
from benchmarks.common import Measurement, Work, environment, measure_in_turns
from benchmarks.rerank_engine import UPSTREAM_BATCH, Workload
from vmr.memory import parse_bytes
from vmr.models.text.encoder import TextConfig
from vmr.models.text.fusion import FusionEncoder

OURS, PEER = "once a video", "once a pair"
VIDEO_WIDTH = 576  # VideoMamba-M
PATCHES = 14 * 14  # 224 px


class Matcher(nn.Module):
    """The part of a video-text model that re-ranks.

    Args:
        config: sizes of the text encoder, whose upper layers are the fusion layers.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.fusion = FusionEncoder(config, VIDEO_WIDTH)
        self.head = nn.Linear(config.width, 2)

    def once_a_video(self, video_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Tensor:
        """Match M captions with a video whose keys and values are computed once.

        Args:
            video_tokens: (1, N, C).
            text_tokens: (M, L, W).
            mask: int64 (M, L).

        Returns:
            Logits (M,).
        """
        memory = self.fusion.project_video(video_tokens)
        logits: Tensor = self.head(self.fusion(text_tokens, mask, memory)[:, 0])[:, 1]
        return logits

    def once_a_pair(self, video_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Tensor:
        """Match M captions with a video in upstream's way.

        Args:
            video_tokens: (1, N, C).
            text_tokens: (M, L, W).
            mask: int64 (M, L).

        Returns:
            Logits (M,).
        """
        logits = []
        for texts, masks in zip(text_tokens.split(UPSTREAM_BATCH), mask.split(UPSTREAM_BATCH), strict=True):
            memory = self.fusion.project_video(video_tokens.repeat(len(texts), 1, 1))
            logits.append(self.head(self.fusion(texts, masks, memory)[:, 0])[:, 1])
        return torch.cat(logits)


def prepare(peer: str, num_captions: int, num_tokens: int, num_frames: int) -> Work:
    """Make the work of one peer, on inputs that are the same for both.

    Args:
        peer: `OURS` or `PEER`.
        num_captions: captions to match.
        num_tokens: tokens of the longest caption; the shortest has half of them.
        num_frames: frames of the video.

    Returns:
        The function to time.
    """
    torch.manual_seed(0)
    config = TextConfig()
    matcher = Matcher(config).eval()
    video_tokens = torch.randn(1, num_frames * PATCHES, VIDEO_WIDTH)
    text_tokens = torch.randn(num_captions, num_tokens, config.width)
    lengths = torch.randint(num_tokens // 2, num_tokens + 1, (num_captions, 1))
    mask = (torch.arange(num_tokens) < lengths).long()
    match = matcher.once_a_video if peer == OURS else matcher.once_a_pair

    @torch.no_grad()
    def work() -> Tensor:
        return match(video_tokens, text_tokens, mask)

    return work


def difference(num_captions: int, num_tokens: int, num_frames: int) -> float:
    """Compare the logits of both peers.

    Args:
        num_captions: captions to match.
        num_tokens: tokens of the longest caption.
        num_frames: frames of the video.

    Returns:
        Their relative L2 distance.
    """
    ours, theirs = (prepare(peer, num_captions, num_tokens, num_frames)() for peer in (OURS, PEER))
    assert isinstance(ours, Tensor)
    assert isinstance(theirs, Tensor)
    return float((ours - theirs).norm() / theirs.norm())


def table(results: list[Measurement], title: str) -> Table:
    """Make the table of seconds, memory and ratios to ours.

    Args:
        results: ours first.
        title: of the table.

    Returns:
        The table.
    """
    out = Table(title=title, title_justify="left")
    for column in ("keys and values", "seconds", "x ours", "extra MB"):
        out.add_column(column)
    for result in results:
        ratio = result.best / results[0].best
        out.add_row(result.name, f"{result.best:.3f}", f"{ratio:.2f}", f"{result.extra_memory_mb:.0f}")
    return out


def main() -> None:
    """Run the benchmark, print the table, and write the numbers to the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=32, help="of the longest caption; the shortest has half of them")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all measurements together, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--videos", type=int, help="measure a whole re-ranking of this many videos")
    parser.add_argument("--k", type=int, default=128, help="candidates of a query, with --videos")
    parser.add_argument("--memory", default="3GiB", help="of the process that re-ranks, with --videos")
    options = parser.parse_args()
    if options.videos:
        work = Workload(options.videos, options.captions, options.tokens, options.frames, options.k, options.threads)
        rerank_engine.report(work, parse_bytes(options.memory), options.json)
        return
    sizes = (options.captions, options.tokens, options.frames)
    results = measure_in_turns(prepare, (OURS, PEER), sizes, seconds=options.seconds, threads=options.threads)
    title = f"{options.captions} captions, one video of {options.frames} frames of 224 px, {options.threads} threads"
    console = Console()
    console.print(table(results, title))
    error = difference(*sizes)
    console.print(f"logits differ by a relative {error:.1e}")
    if options.json:
        record = {"environment": environment(), "difference": error, "results": [asdict(one) for one in results]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
