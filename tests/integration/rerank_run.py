"""A program that re-ranks random videos, slowly if asked to, and saves the scores.

python -m tests.integration.rerank_run WORK RESULT SECONDS
"""

import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from tests.models import make_encoder, make_video, tiny_model
from vmr.processes import joined
from vmr.retrieval.reranking.engine import rerank_videos

NUM_VIDEOS, NUM_TEXTS = 12, 40


def rerank(work: Path, result: Path, seconds: float = 0.0) -> None:
    """Re-rank, alone or among the processes of torchrun; each says which videos it was asked for.

    Args:
        work: the folder of the log.
        result: `RESULT.RANK` gets the number of each video, `RESULT.RANK.npz` the scores.
        seconds: that a video takes.
    """
    matcher = make_encoder(tiny_model())
    videos = matcher.video_tokens(make_video(NUM_VIDEOS))
    texts = [f"caption {'very ' * (index % 5)}number {index}" for index in range(NUM_TEXTS)]
    scores = np.random.default_rng(0).normal(size=(NUM_TEXTS, NUM_VIDEOS)).astype(np.float32)

    with joined(torch.device("cpu"), timedelta(minutes=4)) as among:

        def tokens(video: int) -> torch.Tensor:
            with Path(f"{result}.{among.rank}").open("a") as file:
                print(video, file=file)
            time.sleep(seconds)
            return videos[video : video + 1]

        out = rerank_videos(matcher, tokens, texts, scores, 3, work=work, processes=among)
        np.savez(f"{result}.{among.rank}.npz", *out)


if __name__ == "__main__":
    rerank(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
