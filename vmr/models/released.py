"""The checkpoints that VideoMamba's authors published, as data: where they are, what they learnt from, what they score.

Published scores are percentages, zero-shot, and re-ranked: the matching head (VTM) has re-scored the 128 best of each
query. Scores of the embeddings alone, which is what an index ranks by, are lower.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vmr.errors import ModelError
from vmr.models.hub import download_file
from vmr.models.student import StudentConfig
from vmr.models.video_encoder import VideoMambaConfig
from vmr.models.video_text_config import VideoTextConfig

Recalls = tuple[float, float, float]

SCORES_SOURCE = "OpenGVLab/VideoMamba, videomamba/video_mm/MODEL_ZOO.md: zero-shot, re-ranked by VTM over the top 128"

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

MIDDLE = VideoTextConfig(video=replace(VideoMambaConfig.of_size("middle"), student=StudentConfig(teacher_dim=512)))
"""VideoMamba-M for 8 frames of 224 pixels, and BERT base whose last 3 layers look at the video."""


@dataclass(frozen=True)
class PublishedScore:
    """R@1, R@5 and R@10 in percent, in one direction (`text_to_video` or `video_to_text`) on one data set."""

    dataset: str
    direction: str
    recalls: Recalls


@dataclass(frozen=True)
class ReleasedModel:
    """A published checkpoint.

    Attributes:
        name: what `load_model` calls it.
        repository: of the Hugging Face hub.
        file: in that repository.
        trained_on: the data sets.
        about: one line on what it can and cannot do.
        config: its sizes.
        scores: what its authors published.
        scores_source: where, and how they are counted.
        sha256: of the file, in hex; None where it is not known.
    """

    name: str
    repository: str
    file: str
    trained_on: str
    about: str
    config: VideoTextConfig
    scores: tuple[PublishedScore, ...]
    scores_source: str
    sha256: str | None = None

    @property
    def url(self) -> str:
        """Where the file can be downloaded by hand."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"


def download(released: ReleasedModel) -> Path:
    """The checkpoint file, from the hub's cache or the hub itself.

    Raises ModelError where it is in neither, or is not the file that was published.
    """
    path = download_file(released.repository, released.file)
    if released.sha256 is not None and _sha256_of(path) != released.sha256:
        raise ModelError(f"{path} is not the file that was published as {released.name}: delete it and load it again")
    return path


def check_sizes(released: ReleasedModel, config: VideoTextConfig) -> None:
    """Raise ModelError unless `config` is that of the released model.

    Frames and pixels, which can be chosen, are not compared, and neither are the parts that only training needs.
    """

    def fixed(config: VideoTextConfig) -> dict[str, int]:
        video, text = config.video, config.text
        return {
            "video.width": video.width,
            "video.num_layers": video.num_layers,
            "video.patch_size": video.patch_size,
            "video.tubelet_size": video.tubelet_size,
            **{f"text.{name}": value for name, value in asdict(text).items() if name != "dropout"},
            "embed_dim": config.embed_dim,
        }

    published = fixed(released.config)
    for name, value in fixed(config).items():
        if value != published[name]:
            raise ModelError(
                f"{released.name}: {name} is {value} in the file, but {published[name]} in what was published: delete "
                f"{released.file} from the hub's cache and load it again"
            )


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _middle(pairs: str, trained_on: str, column: int) -> ReleasedModel:
    """VideoMamba-M and BERT base, trained on so many pairs; `column` of the table is its own."""
    return ReleasedModel(
        name=f"videomamba-m-{pairs.lower()}",
        repository="OpenGVLab/VideoMamba",
        file=f"videomamba_m16_{pairs}_f8_res224.pth",
        trained_on=trained_on,
        about=f"VideoMamba-M trained on {pairs} pairs; its published scores are re-ranked, embeddings alone score less",
        config=MIDDLE,
        scores=tuple(PublishedScore(row[0], row[1], (row[2], row[3], row[4])[column]) for row in _PUBLISHED),
        scores_source=SCORES_SOURCE,
    )


RELEASED = {
    released.name: released
    for released in (
        _middle("5M", "CC3M + WebVid2M", 0),
        _middle("17M", "CC3M + CC12M + COCO + VG + SBU + WebVid2M", 1),
        _middle("25M", "CC3M + CC12M + COCO + VG + SBU + WebVid10M", 2),
    )
}
"""Name -> checkpoint."""
