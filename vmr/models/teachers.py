"""Frozen image networks whose features of patches the video encoder learns to predict.

Li et al. 2023, "Unmasked Teacher: Towards Training-Efficient Video Foundation Models".

Shapes: B videos, T frames, S pixels a side, G x G = N patches in a frame, C network width, D teacher width, K features.

    video uint8 (B, T, 3, H, W) -> normalize -> (B, T, 3, S, S) -> features (K, B, 1 + T*N, D), attention (B*T, N)

A teacher sees each frame alone. Its CLS vectors are averaged over the frames of a video and stand first.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from vmr.errors import ModelError
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD, RGB
from vmr.models.open_clip_weights import PREFIX as OPEN_CLIP
from vmr.models.open_clip_weights import import_open_clip, load_open_clip, open_clip_preprocess
from vmr.models.pip_weights import load_efficientnet_lite0
from vmr.models.videomamba.encoder import VideoMambaConfig

Pixels = Literal["clip", "imagenet"]

EFFICIENTNET = "efficientnet"
# Pixels of a batch on a CPU, as many as in 64 frames of 64 px: 512 such frames do not fit into the processor's cache,
# and each frame then takes 2.5 times as long.
PIXELS_AT_ONCE = 1 << 18
EFFICIENTNET_STRIDE = 16  # pixels from one patch to the next, as in a student with patches of 16 px


class TeacherOutput(NamedTuple):
    """What a teacher computes from a batch of videos.

    Attributes:
        features: (K, B, 1 + T*N, D), from the first layer to the last; CLS first, then the patches, frame after frame.
        attention: (B*T, N), at least 0: how important each patch is in its frame.
    """

    features: Tensor
    attention: Tensor


class Teacher(nn.Module, ABC):
    """A frozen network, always in evaluation mode, whose forward pass records no gradients.

    A subclass implements `encode_frames`.

    Attributes:
        network: the image network.
        dim: D, width of the features.
        grid_size: G, patches along a side.
        num_features: K, layers whose features are returned: the last K.
        image_size: S, side of the frames that it takes, in pixels.
        mean: subtracted from the RGB channels, for pixels in [0, 1].
        std: divides the RGB channels after that.
    """

    def __init__(
        self, network: nn.Module, *, dim: int, grid_size: int, num_features: int, image_size: int, mean: RGB, std: RGB
    ) -> None:
        """Freeze a network.

        Args:
            network: the image network.
            dim: D, width of the features.
            grid_size: G, patches along a side.
            num_features: K, layers whose features are returned.
            image_size: S, side of the frames that it takes, in pixels.
            mean: subtracted from the RGB channels, for pixels in [0, 1].
            std: divides the RGB channels after that.
        """
        super().__init__()
        self.network = network.requires_grad_(False)
        self.dim = dim
        self.grid_size = grid_size
        self.num_features = num_features
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, also when a model that holds the teacher is set to training.

        Args:
            mode: ignored.

        Returns:
            The teacher.
        """
        return super().train(False)

    def normalize(self, video: Tensor) -> Tensor:
        """Normalise the pixels of a video and resize it as the network expects.

        Frames of another size are resized as upstream does: bicubic, corners not aligned, no antialiasing.

        Args:
            video: uint8 in [0, 255], (B, T, 3, H, W).

        Returns:
            float32 (B, T, 3, S, S).

        Raises:
            ModelError: the dtype or the shape is wrong.
        """
        if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[2] != 3:
            raise ModelError(f"teacher: expected video uint8 (B, T, 3, H, W), got {video.dtype} {tuple(video.shape)}")
        mean = torch.tensor(self.mean, device=video.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=video.device).view(3, 1, 1)
        pixels = (video.float() / 255 - mean) / std
        size = (self.image_size, self.image_size)
        if pixels.shape[3:] == size:
            return pixels
        frames = F.interpolate(pixels.flatten(0, 1), size=size, mode="bicubic", align_corners=False)
        return frames.view(*video.shape[:3], *size)

    @torch.no_grad()
    def forward(self, video: Tensor) -> TeacherOutput:
        """Compute features and attention of every frame on its own.

        Args:
            video: floats (B, T, 3, S, S), as returned by `normalize`.

        Returns:
            Features and attention.

        Raises:
            ModelError: the video has another shape.
        """
        features, attention = self.encode_frames(self._frames(video))
        return TeacherOutput(join_frames(features, len(video)), attention)

    @abstractmethod
    def encode_frames(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on single frames.

        Args:
            frames: floats (B*T, 3, S, S), normalised.

        Returns:
            Features (K, B*T, 1 + N, D) with CLS first, and attention (B*T, N), at least 0.
        """

    def _frames(self, video: Tensor) -> Tensor:
        if video.ndim != 5 or video.shape[2:] != (3, self.image_size, self.image_size):
            raise ModelError(
                f"teacher: expected video (B, T, 3, {self.image_size}, {self.image_size}), got {tuple(video.shape)}: "
                "pass it through normalize"
            )
        return video.flatten(0, 1).to(next(self.parameters()).dtype)


class ClipTeacher(Teacher):
    """The image tower of CLIP, used as upstream uses it.

    A feature is the output of one of the last blocks times the projection into CLIP's space, without the final norm.
    Attention is the CLS row of the last block's attention, averaged over heads, without the column of CLS itself. The
    remaining values are not rescaled to sum to 1.
    """

    def __init__(self, visual: nn.Module, *, num_features: int = 1, mean: RGB, std: RGB) -> None:
        """Use a loaded image tower.

        Args:
            visual: open_clip's `VisionTransformer`.
            num_features: K.
            mean: subtracted from the RGB channels, for pixels in [0, 1].
            std: divides the RGB channels after that.

        Raises:
            ModelError: `visual` is another kind of network, has an attention or a pooling other than CLIP's, takes
                images that are not square, or has fewer than `num_features` blocks.
        """
        _check_vit(visual, num_features)
        vit: Any = visual
        super().__init__(
            vit,
            dim=vit.proj.shape[1],
            grid_size=vit.grid_size[0],
            num_features=num_features,
            image_size=vit.image_size[0],
            mean=mean,
            std=std,
        )

    def encode_frames(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the tower on single frames; see `Teacher.encode_frames`."""
        vit: Any = self.network
        x = vit.conv1(frames).flatten(2).transpose(1, 2)  # (B*T, N, C)
        cls_token = vit.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = vit.ln_pre(torch.cat([cls_token, x], dim=1) + vit.positional_embedding.to(x.dtype))  # (B*T, 1 + N, C)
        blocks = list(vit.transformer.resblocks)
        for block in blocks[: -self.num_features]:
            x = block(x)
        features, last_input = [], x
        for block in blocks[-self.num_features :]:
            last_input, x = x, block(x)
            features.append(x @ vit.proj)
        return torch.stack(features), _cls_attention(blocks[-1], last_input)


class EfficientNetTeacher(Teacher):
    """EfficientNet-Lite0 of the pip package, for machines without CLIP: 112 channels, a patch every 16 pixels.

    The network has no CLS token and no attention. The mean of a frame's patches serves as CLS. A saliency without
    parameters serves as attention: the L2 distance of a patch's features from the frame's mean, divided by the sum of
    these distances over the frame. So patches that differ from the rest of the picture are kept more often.
    """

    def __init__(self, grid_size: int = 14) -> None:
        """Load the network.

        Args:
            grid_size: patches along a side; frames are resized to 16 times as many pixels.

        Raises:
            MissingExtraError: timm or the package of weights is not installed.
            ModelError: the weights do not fit the network.
        """
        classifier: Any = load_efficientnet_lite0()
        stage = next(info for info in classifier.feature_info if info["reduction"] == EFFICIENTNET_STRIDE)
        super().__init__(
            nn.Sequential(classifier.conv_stem, classifier.bn1, *classifier.blocks[: stage["stage"]]).to(
                memory_format=torch.channels_last
            ),
            dim=stage["num_chs"],
            grid_size=grid_size,
            num_features=1,
            image_size=grid_size * EFFICIENTNET_STRIDE,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )

    def encode_frames(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on single frames; K is 1, D is 112, and the rows of the attention sum to 1."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        at_once = PIXELS_AT_ONCE // self.image_size**2 if frames.device.type == "cpu" else len(frames)
        maps = torch.cat([self.network(part) for part in frames.split(max(at_once, 1))])  # (B*T, 112, G, G)
        patches = maps.flatten(2).transpose(1, 2)  # (B*T, N, 112)
        mean = patches.mean(dim=1, keepdim=True)  # (B*T, 1, 112)
        distance = (patches - mean).float().norm(dim=-1) + 1e-6  # (B*T, N); at least one patch of a frame is above 0
        return torch.cat([mean, patches], dim=1).unsqueeze(0), distance / distance.sum(dim=-1, keepdim=True)


def load_teacher(name: str, grid_size: int, *, num_features: int = 1, pixels: Pixels = "clip") -> Teacher:
    """Load a teacher by name, on the CPU.

    Args:
        name: `efficientnet`, or `open_clip:MODEL/WEIGHTS` as `vmr.load_model` takes it.
        grid_size: patches along a side of the student's frames.
        num_features: K, the layers that the student is compared with; `efficientnet` has one.
        pixels: how pixels are normalised for open_clip's towers: `clip` as the towers were trained, `imagenet` as in
            upstream.

    Returns:
        The teacher.

    Raises:
        ModelError: the name is unknown, its weights cannot be reached, or it has another grid or too few layers.
        MissingExtraError: the packages of the teacher's extra are not installed.
    """
    teacher: Teacher
    if name == EFFICIENTNET:
        if num_features != 1:
            raise ModelError(f"teacher {name}: gives features of 1 layer, not {num_features}: set num_taps to 1")
        teacher = EfficientNetTeacher(grid_size)
    elif name.startswith(OPEN_CLIP):
        model, _ = load_open_clip(name)
        preprocess = open_clip_preprocess(model, name, num_frames=1)  # a teacher sees each frame alone
        mean, std = preprocess.mean, preprocess.std
        if pixels == "imagenet":
            mean, std = IMAGENET_MEAN, IMAGENET_STD
        teacher = ClipTeacher(model.visual, num_features=num_features, mean=mean, std=std)
    else:
        raise ModelError(f"unknown teacher {name!r}: use {EFFICIENTNET} or {OPEN_CLIP}MODEL/WEIGHTS")
    _check_grid(teacher, grid_size)
    return teacher


def check_teacher(teacher: Teacher, config: VideoMambaConfig) -> None:
    """Check that the student outputs of an encoder can be compared with the teacher's features.

    Args:
        teacher: the teacher.
        config: sizes of the video encoder.

    Raises:
        ModelError: the encoder has no student outputs, or their grid, width or number is not the teacher's.
    """
    if config.student is None:
        raise ModelError("student: the encoder has no student outputs, which a teacher needs; give it a StudentConfig")
    _check_grid(teacher, config.grid_size)
    if config.student.teacher_dim != teacher.dim:
        raise ModelError(f"student: teacher_dim is {config.student.teacher_dim}; this teacher has {teacher.dim}")
    if config.student.num_taps != teacher.num_features:
        raise ModelError(f"student: num_taps is {config.student.num_taps}; this teacher has {teacher.num_features}")


def join_frames(features: Tensor, batch: int) -> Tensor:
    """Join the features of the frames of each video; CLS is averaged over the frames and stands first.

    Args:
        features: (K, B*T, 1 + N, D).
        batch: B.

    Returns:
        (K, B, 1 + T*N, D).
    """
    frames = features.unflatten(1, (batch, -1))  # (K, B, T, 1 + N, D)
    cls_token = frames[:, :, :, :1].mean(dim=2)  # (K, B, 1, D)
    return torch.cat([cls_token, frames[:, :, :, 1:].flatten(2, 3)], dim=2)


def _check_grid(teacher: Teacher, grid_size: int) -> None:
    if teacher.grid_size != grid_size:
        raise ModelError(
            f"teacher: its grid is {teacher.grid_size} x {teacher.grid_size} patches at {teacher.image_size} px, the "
            f"student's {grid_size} x {grid_size}: change the student's image_size or patch_size, or the teacher"
        )


def _cls_attention(block: Any, x: Tensor) -> Tensor:
    """The attention of CLS in a block whose input is x (B*T, 1 + N, C), averaged over heads -> (B*T, N)."""
    normed = block.ln_1(x)
    weights: Tensor = block.attn(normed[:, :1], normed, normed, need_weights=True)[1]  # (B*T, 1, 1 + N)
    return weights[:, 0, 1:]


def _check_vit(visual: Any, num_features: int) -> None:
    kind = type(visual).__name__
    if not isinstance(visual, import_open_clip().transformer.VisionTransformer):
        raise ModelError(f"teacher: its image tower is a {kind}, not open_clip's own ViT: use ViT-B-16 or the like")
    block = visual.transformer.resblocks[-1]
    plain = isinstance(getattr(block, "attn", None), nn.MultiheadAttention) and block.attn.batch_first
    # In a tower with another pooling, neither the CLS token nor the projection of single tokens was trained.
    if not plain or getattr(visual, "attn_pool", None) is not None or visual.pool_type != "tok":
        raise ModelError("teacher: this ViT has another attention or pooling than CLIP's: use ViT-B-16 or the like")
    if visual.grid_size[0] != visual.grid_size[1]:
        raise ModelError(f"teacher: its image tower takes images of {visual.image_size}, which are not square")
    if not 1 <= num_features <= len(visual.transformer.resblocks):
        raise ModelError(f"teacher: num_features is {num_features}; it has {len(visual.transformer.resblocks)} blocks")
