"""The checkpoints that VideoMamba's authors published, as data: where they are, their training data and their scores.

`vmr.models.upstream.published` says how the published scores were computed.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vmr.errors import ModelError
from vmr.files import sha256_of
from vmr.models.hub import download_file
from vmr.models.upstream.published import (
    RELEASED_MODELS,
    SCORES_SOURCE,
    PublishedScore,
    about_released,
    published_scores,
)
from vmr.models.video_text import VideoTextConfig
from vmr.models.videomamba.encoder import VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig

MIDDLE = VideoTextConfig(video=replace(VideoMambaConfig.of_size("middle"), student=StudentConfig(teacher_dim=512)))
"""VideoMamba-M for 8 frames of 224 pixels, and BERT base whose last 3 layers attend to the video."""


@dataclass(frozen=True)
class ReleasedModel:
    """A published checkpoint.

    Attributes:
        name: the name that `load_model` takes.
        repository: its repository on the Hugging Face hub.
        file: path of the file in that repository.
        trained_on: the data sets.
        about: one line on what the model can and cannot do.
        config: its sizes.
        scores: the scores that its authors published.
        scores_source: where they were published, and how they were computed.
        sha256: checksum of the file, in hex; None where it is not known.
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
        """Address of the file, for downloading it by hand."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"


def download(released: ReleasedModel) -> Path:
    """Get the checkpoint file from the hub's cache or from the hub.

    Args:
        released: which checkpoint.

    Returns:
        The local file.

    Raises:
        ModelError: the file cannot be downloaded, or its checksum is not that of the published file.
    """
    path = download_file(released.repository, released.file)
    if released.sha256 is not None and sha256_of(path) != released.sha256:
        raise ModelError(f"{path} is not the file that was published as {released.name}: delete it and load it again")
    return path


def check_sizes(released: ReleasedModel, config: VideoTextConfig) -> None:
    """Check that a file holds the model that was published.

    The number of frames and the image size, which the user can choose, are not compared, and neither are the parts that
    only training needs.

    Args:
        released: the published model.
        config: sizes that were inferred from the file.

    Raises:
        ModelError: a size differs; the message names it.
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


def _middle(name: str, pairs: str) -> ReleasedModel:
    """The model of VideoMamba-M and BERT base that was trained on `pairs` pairs."""
    return ReleasedModel(
        name=name,
        repository="OpenGVLab/VideoMamba",
        file=f"videomamba_m16_{pairs}_f8_res224.pth",
        trained_on=_TRAINED_ON[pairs],
        about=about_released(pairs),
        config=MIDDLE,
        scores=published_scores(pairs),
        scores_source=SCORES_SOURCE,
    )


_TRAINED_ON = {
    "5M": "CC3M + WebVid2M",
    "17M": "CC3M + CC12M + COCO + VG + SBU + WebVid2M",
    "25M": "CC3M + CC12M + COCO + VG + SBU + WebVid10M",
}

RELEASED = {name: _middle(name, pairs) for name, pairs in RELEASED_MODELS.items()}
"""Name -> checkpoint."""
