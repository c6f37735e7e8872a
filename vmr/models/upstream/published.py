"""The scores that VideoMamba's authors published for their retrieval models, as data. Imports no torch.

They are percentages, zero-shot and re-ranked: the matching head (VTM) scored the 128 best candidates of each query
again. Scores of the embeddings alone, as an index uses them, are lower.
"""

from dataclasses import dataclass

Recalls = tuple[float, float, float]

SCORES_SOURCE = "OpenGVLab/VideoMamba, videomamba/video_mm/MODEL_ZOO.md: zero-shot, re-ranked by VTM over the top 128"
PAIRS = ("5M", "17M", "25M")
"""How many video-text pairs each of the published models was trained on."""

RELEASED_MODELS = {f"videomamba-m-{pairs.lower()}": pairs for pairs in PAIRS}
"""Name that `load_model` takes -> its entry of PAIRS; `vmr.models.upstream.released` knows where the files are."""

# Data set and direction, then R@1, R@5 and R@10 of the models trained on 5M, 17M and 25M pairs.
_PUBLISHED: tuple[tuple[str, str, Recalls, Recalls, Recalls], ...] = (
    ("MSRVTT", "text_to_video", (32.0, 53.1, 63.6), (34.7, 58.9, 68.0), (35.6, 58.1, 69.5)),
    ("MSRVTT", "video_to_text", (28.2, 47.6, 56.5), (29.5, 49.9, 60.1), (29.1, 51.6, 62.2)),
    ("DiDeMo", "text_to_video", (36.6, 61.7, 70.3), (42.0, 67.3, 76.8), (43.1, 68.1, 77.7)),
    ("DiDeMo", "video_to_text", (38.3, 64.7, 73.3), (42.3, 68.2, 76.9), (43.8, 69.7, 77.8)),
    ("ActivityNet", "text_to_video", (35.9, 61.1, 72.3), (40.1, 65.7, 76.1), (41.0, 67.5, 77.8)),
    ("ActivityNet", "video_to_text", (32.8, 58.8, 69.9), (34.2, 61.8, 73.2), (37.1, 65.0, 75.1)),
    ("LSMDC", "text_to_video", (18.0, 36.1, 43.4), (18.4, 35.3, 43.0), (20.4, 37.1, 45.7)),
    ("LSMDC", "video_to_text", (15.9, 31.0, 39.2), (16.5, 32.1, 40.0), (17.9, 34.6, 42.1)),
    ("MSVD", "text_to_video", (38.0, 68.6, 79.0), (40.3, 70.0, 79.7), (42.0, 71.6, 81.2)),
    ("MSVD", "video_to_text", (57.5, 79.9, 85.4), (61.8, 81.0, 87.0), (62.7, 82.8, 87.6)),
)


@dataclass(frozen=True)
class PublishedScore:
    """The score of one model on one data set in one direction.

    Attributes:
        dataset: such as `MSRVTT`.
        direction: `text_to_video` or `video_to_text`.
        recalls: R@1, R@5 and R@10, in percent.
    """

    dataset: str
    direction: str
    recalls: Recalls


def about_released(pairs: str) -> str:
    """Say in one line what a published model can and cannot do.

    Args:
        pairs: how many pairs it was trained on, one of PAIRS.

    Returns:
        The line.
    """
    return f"VideoMamba-M trained on {pairs} pairs; its published scores are re-ranked, embeddings alone score less"


def published_scores(pairs: str) -> tuple[PublishedScore, ...]:
    """List the published scores of one model.

    Args:
        pairs: how many pairs it was trained on, one of PAIRS.

    Returns:
        A score for every data set and direction.

    Raises:
        ValueError: `pairs` is none of PAIRS.
    """
    column = PAIRS.index(pairs)
    return tuple(PublishedScore(row[0], row[1], (row[2], row[3], row[4])[column]) for row in _PUBLISHED)
