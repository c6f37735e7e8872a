"""Results that others have published on a protocol, to be shown beside our scores. Imports no torch.

A row says how it was scored, because numbers of different kinds cannot be compared: re-ranking by matching and
normalising over the test queries both raise a score. Figures of VideoMamba, UMT and QB-Norm are from their authors'
repositories; those of CLIP4Clip, Frozen in Time and CAMoE are quoted from tables in other papers. UMT's figures on
MSVD are left out, because it is not clear which of the three versions of that data set they were measured on.
"""

from dataclasses import dataclass

from vmr.models.upstream.published import PAIRS, SCORES_SOURCE, published_scores

T2V, V2T = "text_to_video", "video_to_text"
ZERO_SHOT, FINE_TUNED = "zero-shot", "fine-tuned"


@dataclass(frozen=True)
class ReferenceRow:
    """A published result in one direction.

    Attributes:
        model: its name.
        direction: `text_to_video` or `video_to_text`.
        recalls: R@1, R@5 and R@10 in percent; None where it was not published.
        kind: how it was scored, named as the columns of a report, such as `embedding` or `vtm`.
        setting: `zero-shot` or `fine-tuned`.
        source: where it was published.
    """

    model: str
    direction: str
    recalls: tuple[float | None, float | None, float | None]
    kind: str
    setting: str
    source: str


def reference_rows(protocol: str) -> tuple[ReferenceRow, ...]:
    """Return the published results on a protocol; none if no results are known.

    Args:
        protocol: its name, such as `msrvtt`.
    """
    return (*_videomamba(protocol), *_umt(protocol), *_OTHERS.get(protocol, ()))


def _videomamba(protocol: str) -> tuple[ReferenceRow, ...]:
    return tuple(
        ReferenceRow(f"VideoMamba-M {pairs}", score.direction, score.recalls, "vtm", ZERO_SHOT, SCORES_SOURCE)
        for pairs in PAIRS
        for score in published_scores(pairs)
        if score.dataset.lower() == protocol
    )


_UMT_ZOO = "OpenGVLab/unmasked_teacher, MODEL_ZOO.md: re-ranked by VTM, top 128"

# Protocol, direction, then R@1, R@5 and R@10 of UMT-B/16 25M, UMT-L/16 17M and UMT-L/16 25M, zero-shot.
_UMT_MODELS = ("UMT-B/16 25M", "UMT-L/16 17M", "UMT-L/16 25M")
_UMT_ZERO_SHOT = (
    ("msrvtt", T2V, (35.2, 57.8, 66.0), (42.6, 64.4, 73.1), (40.7, 63.4, 71.8)),
    ("msrvtt", V2T, (30.3, 50.7, 61.4), (38.6, 59.8, 69.6), (37.1, 58.7, 68.9)),
    ("didemo", T2V, (41.2, 65.4, 74.9), (46.4, 70.0, 78.8), (48.6, 72.9, 79.0)),
    ("didemo", V2T, (40.8, 67.7, 76.7), (46.5, 72.2, 79.5), (49.9, 74.8, 81.4)),
    ("activitynet", T2V, (35.5, 60.6, 71.8), (42.8, 69.6, 79.8), (41.9, 68.9, 80.3)),
    ("activitynet", V2T, (32.8, 57.6, 69.2), (40.7, 67.6, 78.6), (39.4, 66.8, 78.3)),
    ("lsmdc", T2V, (19.1, 33.4, 42.2), (25.2, 43.0, 50.5), (24.9, 41.7, 51.8)),
    ("lsmdc", V2T, (15.7, 30.6, 37.4), (23.2, 37.7, 44.2), (21.9, 37.8, 45.7)),
)


def _umt(protocol: str) -> tuple[ReferenceRow, ...]:
    return tuple(
        ReferenceRow(model, direction, recalls, "vtm", ZERO_SHOT, _UMT_ZOO)
        for number, model in enumerate(_UMT_MODELS)
        for name, direction, *of_models in _UMT_ZERO_SHOT
        if name == protocol
        for recalls in (of_models[number],)
    )


_ISSUE_49 = "OpenGVLab/unmasked_teacher, issue 49"
_FROZEN = "Bain et al. 2021, arXiv:2104.00650"
_CLIP4CLIP = "Luo et al. 2021, arXiv:2104.08860; trained on the 9k list"
_CAMOE = "Cheng et al. 2021, arXiv:2109.04290; trained on the 9k list"
_QB_NORM = "Bogolin et al. 2022, github.com/ioanacroi/qb-norm"
_OVER_TRAINING = "embedding+qbnorm over training queries"

_OTHERS: dict[str, tuple[ReferenceRow, ...]] = {
    "msrvtt": (
        ReferenceRow("UMT-B/16 25M", T2V, (27.7, None, None), "embedding", ZERO_SHOT, _ISSUE_49),
        ReferenceRow("Frozen in Time", T2V, (18.7, 39.5, 51.6), "embedding", ZERO_SHOT, _FROZEN),
        ReferenceRow("Frozen in Time", T2V, (32.5, 61.5, 71.2), "embedding", FINE_TUNED, _FROZEN),
        ReferenceRow("CLIP4Clip seqTransf, ViT-B/32", T2V, (44.5, 71.4, 81.6), "embedding", FINE_TUNED, _CLIP4CLIP),
        ReferenceRow("CLIP4Clip seqTransf, ViT-B/32", V2T, (42.7, 70.9, 80.6), "embedding", FINE_TUNED, _CLIP4CLIP),
        ReferenceRow("CAMoE, ViT-B/32", T2V, (47.3, 74.2, 84.5), "embedding+dsl", FINE_TUNED, _CAMOE),
        ReferenceRow("CAMoE, ViT-B/32", V2T, (49.1, 74.3, 84.3), "embedding+dsl", FINE_TUNED, _CAMOE),
        ReferenceRow("UMT-B/16 25M", T2V, (51.0, 76.5, 84.2), "vtm", FINE_TUNED, _UMT_ZOO),
        ReferenceRow("UMT-B/16 25M", V2T, (49.0, 77.0, 84.7), "vtm", FINE_TUNED, _UMT_ZOO),
        ReferenceRow("UMT-L/16 25M", T2V, (58.8, 81.0, 87.1), "vtm", FINE_TUNED, _UMT_ZOO),
        ReferenceRow("UMT-L/16 25M", V2T, (58.6, 81.6, 86.5), "vtm", FINE_TUNED, _UMT_ZOO),
    ),
    "didemo": (
        ReferenceRow("CLIP4Clip, retrained", T2V, (43.0, 70.5, 80.0), "embedding", FINE_TUNED, _QB_NORM),
        ReferenceRow("CLIP4Clip, retrained", T2V, (43.5, 71.4, 80.9), _OVER_TRAINING, FINE_TUNED, _QB_NORM),
    ),
    "lsmdc": (
        ReferenceRow("CLIP4Clip, retrained", T2V, (21.3, 40.0, 49.5), "embedding", FINE_TUNED, _QB_NORM),
        ReferenceRow("CLIP4Clip, retrained", T2V, (22.3, 40.1, 49.5), _OVER_TRAINING, FINE_TUNED, _QB_NORM),
    ),
}
