"""The data part of a training config; see `vmr.train.config`."""

from dataclasses import dataclass, field

from vmr.data.decoding.options import DecodeOptions
from vmr.data.training.augment import FlipRule, Interpolation
from vmr.data.training.clips import ClipSpec, Crop
from vmr.models.videomamba.backbone import BackboneConfig
from vmr.train.source_config import SourceConfig, require


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
        require(min(self.video, self.image) >= 1, "batch_size must be at least 1")


@dataclass(frozen=True)
class DataConfig:
    """The training data. The frames and pixels of a clip are set in model.video or model.network.

    Attributes:
        sources: a list of sources, which are mixed. Each has a kind - annotations, labelled, folder, tar, hub, shapes
            or shapes_actions - and the keys of this kind. --data.sources.help KIND lists them, where KIND is
            AnnotatedSourceConfig, LabelledSourceConfig, FolderSourceConfig, TarSourceConfig, HubSourceConfig,
            ShapesSourceConfig or ShapesActionsSourceConfig.
        root: the folder that paths in sources are relative to.
        batch_size: pairs in a batch of all processes together.
        max_text_tokens: where captions are cut.
        sampling: rand (a random frame of each of equal parts), rand_upstream (the same, but never the last frame of a
            part), middle, or, over the first N seconds, rand_trimmedN or trimmedN; or as upstream trains classes:
            sparse (Kinetics, Breakfast, COIN, LVU), segments (Something-Something, masked pre-training). A classifier
            in use takes the rule of Something-Something after segments, and that of Kinetics after all others.
        crop: random (a part of the picture, see crop_scale), multi_scale (as upstream's masked pre-training), center,
            stretch or upstream.
        crop_scale: the least and the greatest share of the picture that a random crop shows; upstream has 0.5 and 1 for
            retrieval, 0.08 and 1 for classes.
        interpolation: how a random or multi_scale crop is scaled. As upstream: bicubic for retrieval, bilinear for
            classes of videos, antialiased_bicubic for images, antialiased_bilinear for masked pre-training.
        flip: mirror every second clip at random: true, false, or unless_sided (not if the caption, or the name of the
            class, says left or right). Upstream trains Something-Something with false.
        rand_augment: true (RandAugment as upstream trains retrieval, after the crop; needs torchvision), or a string of
            timm, such as rand-m7-n4-mstd0.5-inc1, as it trains classes: on videos before the crop, on images after
            it; needs timm.
        num_augmented: how many clips are made of each decoded clip, all in the same batch; upstream has 2 for classes.
            A batch then has this many times batch_size clips.
        repeats: how often each clip comes, one after the other, before the next one of an epoch; upstream has 3 for
            images.
        frame_cache: a folder that keeps decoded frames, for small sets of files.
        reader: pyav, decord, torchcodec or torchcodec-cuda (on a GPU).
        num_workers: decoding processes; null for one per core, at most 8; 0 decodes in a thread of training.
        timeout_s: after this many seconds without a new frame, a file counts as unreadable.
        max_bad_share: the run stops if a greater share of the clips cannot be decoded.
        prefetch: how many batches are decoded in advance.
    """

    sources: list[SourceConfig] = field(default_factory=list)
    root: str = "."
    batch_size: BatchSize = field(default_factory=BatchSize)
    max_text_tokens: int = 32
    sampling: str = "rand"
    crop: Crop = "random"
    flip: FlipRule = "unless_sided"
    crop_scale: tuple[float, float] = (0.5, 1.0)
    interpolation: Interpolation = "bicubic"
    rand_augment: bool | str = False
    num_augmented: int = 1
    repeats: int = 1
    frame_cache: str | None = None
    reader: str = "pyav"
    num_workers: int | None = None
    timeout_s: float = 120.0
    max_bad_share: float = 0.25
    prefetch: int = 2

    def __post_init__(self) -> None:
        require(self.max_text_tokens >= 2, "data.max_text_tokens must be at least 2: [CLS] and [SEP] take as many")

    @property
    def decode(self) -> DecodeOptions:
        """How videos are decoded."""
        return DecodeOptions(self.reader, self.num_workers or None, self.timeout_s)

    def clip_spec(self, video: BackboneConfig) -> ClipSpec:
        """Return the frames and pixels that the decoder delivers for a model."""
        return ClipSpec(
            num_frames=video.num_frames,
            size=video.image_size,
            sampling=self.sampling,
            crop=self.crop,
            flip=self.flip,
            crop_scale=self.crop_scale,
            interpolation=self.interpolation,
            rand_augment=self.rand_augment if isinstance(self.rand_augment, str) else None,
            num_augmented=self.num_augmented,
            repeats=self.repeats,
            cache_dir=self.frame_cache,
        )
