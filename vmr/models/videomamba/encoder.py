"""The VideoMamba video encoder (Li et al. 2024, "VideoMamba: State Space Model for Efficient Video Understanding").

Shapes: B batch, T frames, H = W pixels, S time steps (T / tubelet_size; 1 for an image), N patch tokens, C width,
K student taps, D teacher width.

    video (B, T, 3, H, W) -> tokens (B, 1 + N, C), CLS first -> layers -> norm -> video_tokens (B, N, C)
                                                                               -> pooled (B, 1 or 2 or S, C)
"""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from typing_extensions import Self

from vmr.errors import ModelError
from vmr.models.videomamba.backbone import SIZES, BackboneConfig, Size, VideoMambaBackbone, check_mask
from vmr.models.videomamba.mixer import RMSNorm
from vmr.models.videomamba.pooling import PoolType, pool_tokens
from vmr.models.videomamba.repeats import carry
from vmr.models.videomamba.student import StudentConfig, StudentDecoder, sinusoid
from vmr.models.videomamba.workspace import Workspace, workspace_for
from vmr.ops.backend import Backend


@dataclass(frozen=True)
class VideoMambaConfig(BackboneConfig):
    """Sizes of a video encoder: those of `BackboneConfig`, its pooling, and its student outputs.

    Attributes:
        pool: how tokens become the pooled vectors; see `vmr.models.videomamba.pooling.pool_tokens`.
        across_time: whether the frames of a clip are one sequence. If false, each frame is encoded as an image, so that
            the model cannot see motion; comparing the scores of both kinds shows how much of a score needs motion.
        student: which layers are compared with a teacher; None for an encoder without student outputs.

    Raises:
        ModelError: a setting is out of range, or two do not fit each other.
    """

    pool: PoolType = "cls+avg"
    across_time: bool = True
    student: StudentConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool not in get_args(PoolType):
            raise ModelError(f"pool is {self.pool!r}; use one of {', '.join(get_args(PoolType))}")
        if not self.across_time and (self.tubelet_size > 1 or self.pool == "cls_cat_avg"):
            raise ModelError("across_time: false needs a tubelet_size of 1 and a pool other than cls_cat_avg")
        if self.student is not None:
            self.student.tapped_layers(self.num_layers)

    @classmethod
    def of_size(cls, size: Size, *, num_frames: int = 8, image_size: int = 224) -> "VideoMambaConfig":
        """Give the sizes of a published model.

        Args:
            size: tiny, small, middle or base.
            num_frames: frames of a clip.
            image_size: side of the frames in pixels.

        Returns:
            The sizes, without student outputs.

        Raises:
            ModelError: the size is unknown.
        """
        if size not in SIZES:
            raise ModelError(f"size is {size!r}; use one of {', '.join(SIZES)}")
        width, num_layers = SIZES[size]
        return cls(width=width, num_layers=num_layers, num_frames=num_frames, image_size=image_size)


class VideoEncoderOutput(NamedTuple):
    """The output of the encoder for a batch of videos.

    Attributes:
        video_tokens: (B, N, C), after the final norm, without CLS: the tokens that a fusion encoder attends to. With a
            mask, only the tokens that it keeps, unless they are carried.
        pooled: (B, 1, C); (B, S, C) where time is kept; (B, 2, C) for the pooling `cls_cat_avg` where it is not.
        student: (K, B, 1 + kept, D) with CLS first; None without a mask or without `config.student`.
    """

    video_tokens: Tensor
    pooled: Tensor
    student: Tensor | None


class VideoMamba(VideoMambaBackbone):
    """Encodes videos and images.

    Attributes:
        config: its sizes.
        backend: implementation of the kernels.
        norm: the final norm of tokens.
        pool_norm: the norm of the pooled vectors.
        clip_decoder: one head for each student output; only with `config.student`.
    """

    config: VideoMambaConfig

    def __init__(self, config: VideoMambaConfig, *, backend: Backend = "auto") -> None:
        """Make an encoder with fresh weights.

        Args:
            config: its sizes.
            backend: implementation of the kernels, as in `vmr.ops.backend`.
        """
        super().__init__(config, backend=backend)
        self.backend = backend
        self.norm = RMSNorm(config.width, backend=backend)
        self.pool_norm = nn.LayerNorm(config.width)
        if config.student is not None:
            dims = [config.student.teacher_dim] * config.student.num_taps
            self.clip_decoder = nn.ModuleList(StudentDecoder(config.width, dim) for dim in dims)
            self.register_buffer("student_positions", _student_positions(config), persistent=False)
            self.student_positions: Tensor

    def forward(
        self, video: Tensor, mask: Tensor | None = None, *, keep_temporal: bool = False, carried: bool = False
    ) -> VideoEncoderOutput:
        """Encode a batch.

        Args:
            video: floats (B, T, 3, H, W), normalised as the weights expect; T = 1 is an image, which gets no temporal
                position.
            mask: bool (B, 1 + N), True = dropped. It must keep CLS (column 0), and the same number of tokens in every
                sample.
            keep_temporal: pool each time step separately. A mask must then keep the same number of tokens in every time
                step, unless `carried`.
            carried: what the mask drops repeats what it keeps: each kept token stands for its place until another is
                kept there, see `vmr.models.videomamba.repeats`. The mask must keep the first step whole. There are N
                `video_tokens` then, and no student outputs.

        Returns:
            Tokens, pooled vectors and student outputs.

        Raises:
            ModelError: the video or the mask does not have the shape that this model takes.
        """
        carried = carried and mask is not None
        if video.shape[1] > 1 and not self.config.across_time:
            if carried:
                raise ModelError("across_time: false encodes each frame by itself, and leaves out no repetitions")
            return self._encode_apart(video, mask, keep_temporal)
        num_steps = 1 if video.shape[1] == 1 else self.config.num_steps
        if mask is not None and keep_temporal and not carried:
            _check_equal_steps(mask, num_steps)
        tokens = self.embed_tokens(video, mask)  # (B, 1 + N, C)
        workspace = workspace_for(tokens, self.packed)
        tapped = self.config.student if mask is not None and not carried else None
        layers = [] if tapped is None else tapped.tapped_layers(self.config.num_layers)
        hidden, residual, taps = self.run_layers(tokens, workspace, layers[:-1])
        before_last = residual.clone() if tapped and workspace.reuses_buffers else residual
        normed, after_last = self.norm(hidden, residual, self.compute_dtype(tokens), workspace)
        student = None
        if mask is not None and tapped is not None:
            last = before_last if tapped.last_tap == "before_last_layer" else after_last
            student = self._decode_taps(tapped, taps, last, mask)
        cls_token, video_tokens = normed[:, :1], normed[:, 1:]
        if carried:
            assert mask is not None
            video_tokens = carry(video_tokens, mask, num_steps)
        pooled = pool_tokens(cls_token, video_tokens, self.config.pool, num_steps if keep_temporal else None)
        return VideoEncoderOutput(video_tokens, self.pool_norm(pooled.to(self.pool_norm.weight.dtype)), student)

    def resized(self, *, image_size: int | None = None, num_frames: int | None = None) -> Self:
        """Copy the model for another input size; see `VideoMambaBackbone.resized`."""
        model = super().resized(image_size=image_size, num_frames=num_frames)
        if self.config.student is not None:
            model.student_positions = _student_positions(model.config).to(self.student_positions)
        return model

    def _encode_apart(self, video: Tensor, mask: Tensor | None, keep_temporal: bool) -> VideoEncoderOutput:
        """Encode each frame as an image. The student's CLS is the mean over the frames, like the teacher's."""
        batch, num_frames = video.shape[:2]
        if mask is not None:
            check_mask(mask, batch, 1 + num_frames * self.config.grid_size**2)
            _check_equal_steps(mask, num_frames)
            patches = mask[:, 1:].reshape(batch * num_frames, -1)  # (B*T, N)
            mask = torch.cat([patches.new_zeros(len(patches), 1), patches], dim=1)
        tokens, pooled, student = self.forward(video.flatten(0, 1).unsqueeze(1), mask)
        pooled = pooled.view(batch, num_frames, -1)  # (B, T, C)
        if student is not None:
            frames = student.unflatten(1, (batch, num_frames))  # (K, B, T, 1 + kept, D)
            cls_token = frames[:, :, :, :1].mean(dim=2)
            student = torch.cat([cls_token, frames[:, :, :, 1:].flatten(2, 3)], dim=2)
        return VideoEncoderOutput(
            tokens.reshape(batch, -1, tokens.shape[2]),
            pooled if keep_temporal else pooled.mean(dim=1, keepdim=True),
            student,
        )

    def _decode_taps(self, student: StudentConfig, taps: dict[int, Tensor], last: Tensor, mask: Tensor) -> Tensor:
        """The streams after the tapped layers -> (K, B, 1 + kept, D). Upstream normalises all but the last stream."""
        batch, num_kept = last.shape[:2]
        positions = self.student_positions[: mask.shape[1]].expand(batch, -1, -1)[~mask].view(batch, num_kept, -1)
        *inner_layers, _ = student.tapped_layers(self.config.num_layers)
        streams = [self.norm(taps[layer], None, last.dtype, Workspace())[0] for layer in inner_layers]
        decoders = zip(self.clip_decoder, [*streams, last], strict=True)
        return torch.stack([decoder(stream + positions) for decoder, stream in decoders])


def _student_positions(config: VideoMambaConfig) -> Tensor:
    return sinusoid(1 + config.num_steps * config.grid_size**2, config.width)  # (1 + N, C)


def _check_equal_steps(mask: Tensor, num_steps: int) -> None:
    kept = (~mask[:, 1:]).reshape(len(mask), num_steps, -1).sum(dim=2)  # (B, S)
    if bool((kept != kept[0, 0]).any()):
        raise ModelError("keep_temporal needs a mask that keeps the same number of patches in every time step")
