"""The student of a frozen teacher: the weights that it starts from, its teacher, and what both see of a batch.

All tasks with a teacher share these. Shapes: B clips, T frames, N patches in a frame, S pixels a side, K features, D
teacher width.
"""

from dataclasses import replace

from torch import Tensor

from vmr.errors import ModelError
from vmr.models.masks import draw_mask, select_visible
from vmr.models.teachers import Teacher, load_teacher
from vmr.models.upstream.vision import load_upstream, read_vision
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.weights import LoadReport, error_prefix
from vmr.train.config import ModelConfig
from vmr.train.tasks.config import MaskConfig


def start_encoder(encoder: VideoMamba, path: str) -> LoadReport:
    """Fill a video encoder with trained weights.

    Args:
        encoder: the encoder. What the weights lack stays fresh: a classifier has no student outputs and no pooling
            norm, upstream's masked pre-training no pooling norm.
        path: `model.video_init`: a checkpoint file, or a folder saved by vmr.

    Returns:
        A report on every key.

    Raises:
        ModelError: the weights do not fit.
    """
    weights = read_vision(path)
    fresh = [part for part in ("pool_norm.", "clip_decoder.") if not any(part in key for key in weights)]
    with error_prefix(path):
        return replace(load_upstream(encoder, weights, fresh=fresh), source=path)


def named_teacher(model: ModelConfig) -> Teacher | None:
    """Load the teacher that a config names.

    Args:
        model: the model that is trained.

    Returns:
        The teacher; None if the config names none.

    Raises:
        ModelError: as `load_teacher` raises.
        MissingExtraError: likewise.
    """
    if model.teacher is None:
        return None
    num_taps = model.video.student.num_taps if model.video.student else 1
    return load_teacher(model.teacher, model.video.grid_size, num_features=num_taps, pixels=model.teacher_pixels)


def draw_visible(
    masking: MaskConfig,
    student: VideoMambaConfig,
    video: Tensor,
    teacher: Teacher | None,
    teacher_video: Tensor | None,
    order: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Draw the mask of a batch and compute the teacher's features of the visible patches.

    Args:
        masking: which patches are hidden.
        student: sizes of the encoder that is trained.
        video: (B, T, 3, S, S), of which only shape and device are used; T = 1 for images.
        teacher: the teacher; None if it is not needed.
        teacher_video: (B, T, 3, S', S'), normalised for the teacher; None if there is none.
        order: as in `draw_mask`; drawn if None.

    Returns:
        The mask, bool (B, 1 + T*N), True where a patch is hidden, and the features, (K, B, 1 + kept, D). Both are None
        if the kind of mask is "none"; the features are None without a teacher.

    Raises:
        ModelError: the teacher is needed, but the batch holds no video for it.
    """
    if masking.kind == "none":
        return None, None
    tubelet, num_frames = student.tubelet_size, video.shape[1]
    num_steps = 1 if num_frames == 1 else num_frames // tubelet
    seen = None
    if teacher is not None:
        if teacher_video is None:
            raise ModelError("objective: these losses need the teacher, so the batch must hold teacher_video")
        # A token of several frames learns the teacher's features of the middle frame.
        start = 0 if num_frames == 1 else tubelet // 2
        seen = teacher(teacher_video[:, start::tubelet])
    mask = draw_mask(
        masking.kind,
        masking.ratio,
        (len(video), num_steps, student.grid_size, student.grid_size),
        attention=None if seen is None else seen.attention,
        order=order,
        device=video.device,
    )
    return mask, None if seen is None or mask is None else select_visible(seen.features, mask)
