"""Where a training run's pairs come from, as its config says it; see `vmr.train.config`."""

from dataclasses import dataclass, field
from typing import Literal

from vmr.data.media import Media
from vmr.data.shapes.split import Difference
from vmr.data.training.augment import FlipRule
from vmr.data.training.clips import ClipSpec, Crop
from vmr.errors import VmrError
from vmr.models.videomamba.encoder import VideoMambaConfig

SourceKind = Literal["annotations", "tar", "hub", "shapes"]


def need(holds: bool, message: str) -> None:
    """Raises VmrError with the message unless the condition holds."""
    if not holds:
        raise VmrError(message)


@dataclass(frozen=True)
class SourceConfig:
    """Where pairs of clips and captions come from.

    Attributes:
        kind: annotations (a file, and a folder of clips), tar (WebDataset shards), hub (a data set of Hugging Face, by
            name or in a folder), or shapes (drawn as they are needed).
        path: the annotation file, the shards (a folder, or a pattern such as "{0000..0099}.tar"), or the data set;
            relative to data.root.
        media: video or image.
        weight: how often a pair is taken from this source rather than another; they need not sum to 1.
        video_dir: the folder of the clips that annotations name, relative to data.root; default, the annotations' own.
        format: of annotations; auto looks at the file. See `vmr.data.annotations.formats`.
        only: a list of the videos to keep of annotations, relative to data.root.
        split: of a data set of the hub.
        subset: of a data set of the hub that has several configurations.
        revision: of a data set of the hub: a branch, tag or commit; default, its newest.
        video_column: of a data set of the hub.
        caption_column: of a data set of the hub.
        stream: read a data set of the hub as it is downloaded, for one that does not fit on the disk.
        shuffle_rows: of such a stream: so many rows that follow each other are shuffled. Clips that are no files of
            their own are kept in run.out meanwhile, of twice as many rows and of those decoded ahead.
        parts: the kinds of scenes of shapes: pairs, order, passage, collision.
        num_clips: an epoch of shapes.
        seed: of shapes.
        group: of shapes: so many clips of a batch show objects that differ in nothing but the difference.
        difference: of shapes: motion, or shape.
    """

    kind: SourceKind = "annotations"
    path: str | None = None
    media: Media = "video"
    weight: float = 1.0
    video_dir: str | None = None
    format: str = "auto"
    only: str | None = None
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    video_column: str = "video"
    caption_column: str = "caption"
    stream: bool = False
    shuffle_rows: int = 1000
    parts: tuple[str, ...] = ("pairs",)
    num_clips: int = 20_000
    seed: int = 0
    group: int = 1
    difference: Difference = "motion"

    def __post_init__(self) -> None:
        need(self.weight > 0, f"data.sources: weight is {self.weight}, but must be above 0")
        need(self.kind == "hub" or not self.stream, "data.sources: only data sets of the hub can be streams")
        need(self.shuffle_rows >= 1, f"data.sources: shuffle_rows is {self.shuffle_rows}, but must be at least 1")
        drawn = self.kind == "shapes"
        need(drawn == (self.path is None), "data.sources: shapes take no path, and every other kind needs one")


@dataclass(frozen=True)
class BatchSize:
    """Pairs in a batch of all processes together: of clips, or of images.

    Attributes:
        video: in a batch of clips.
        image: in a batch of images.
    """

    video: int = 32
    image: int = 32

    def __post_init__(self) -> None:
        need(min(self.video, self.image) >= 1, "batch_size must be at least 1")


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from. Frames and pixels of a clip are those of model.video.

    Attributes:
        sources: a mixture.
        root: the folder that paths in sources are relative to.
        batch_size: pairs in a batch of all processes together.
        max_text_tokens: where captions are cut.
        sampling: rand (a random frame of each of equal parts), rand_upstream (never a part's last), middle, or, over
            the first N seconds, rand_trimmedN or trimmedN.
        crop: random (half to all of the picture, as upstream trains), center, stretch or upstream.
        flip: mirror one clip in two: true, false, or unless_sided (not where the caption says left or right).
        rand_augment: RandAugment with upstream's settings; needs torchvision.
        frame_cache: a folder that keeps decoded frames, for small sets of files.
        reader: pyav, decord, torchcodec or torchcodec-cuda (on a GPU).
        num_workers: decoding processes; null for one a core, at most 8.
        timeout_s: seconds a file may go without delivering frames before it is given up.
        max_bad_share: the run stops when more clips than this share cannot be decoded.
        prefetch: batches that are decoded ahead.
    """

    sources: list[SourceConfig] = field(default_factory=list)
    root: str = "."
    batch_size: BatchSize = field(default_factory=BatchSize)
    max_text_tokens: int = 32
    sampling: str = "rand"
    crop: Crop = "random"
    flip: FlipRule = "unless_sided"
    rand_augment: bool = False
    frame_cache: str | None = None
    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0
    max_bad_share: float = 0.25
    prefetch: int = 2

    def __post_init__(self) -> None:
        need(self.max_text_tokens >= 2, "data.max_text_tokens must be at least 2: [CLS] and [SEP] take as many")

    def clip_spec(self, video: VideoMambaConfig) -> ClipSpec:
        """What the decoder delivers for a model."""
        return ClipSpec(
            num_frames=video.num_frames,
            size=video.image_size,
            sampling=self.sampling,
            crop=self.crop,
            flip=self.flip,
            reader=self.reader,
            cache_dir=self.frame_cache,
        )
