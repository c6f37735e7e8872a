"""Check that videos, captions and settings fit a video-text model."""

from vmr.errors import ModelError
from vmr.models.encoder import Preprocess
from vmr.models.video_text import VideoTextConfig
from vmr.models.videomamba.repeats import SkipConfig


def check_skip(name: str, config: VideoTextConfig, skip: SkipConfig | None) -> None:
    """Check that a model can leave out patches that repeat.

    Args:
        name: of the model, for the error message.
        config: its sizes.
        skip: which patches are left out; None for none.

    Raises:
        ModelError: the model encodes each frame by itself.
    """
    if skip is not None and not config.video.across_time:
        raise ModelError(f"{name}: encodes each frame by itself, so that it cannot leave out what repeats")


def check_input(name: str, config: VideoTextConfig, preprocess: Preprocess, max_text_tokens: int) -> None:
    """Check that videos and captions fit a model.

    Args:
        name: of the model or of the setting, for the error message.
        config: sizes of the model.
        preprocess: the preprocessing of its videos.
        max_text_tokens: where captions will be cut.

    Raises:
        ModelError: the model takes another number of frames or another image size, or has too few text positions.
    """
    video, text = config.video, config.text
    if (preprocess.num_frames, preprocess.size) != (video.num_frames, video.image_size):
        raise ModelError(
            f"{name}: the preprocessing makes {preprocess.num_frames} frames of {preprocess.size} pixels, but the "
            f"model takes {video.num_frames} of {video.image_size}"
        )
    if not 2 <= max_text_tokens <= text.max_positions:
        raise ModelError(
            f"{name}: max_text_tokens is {max_text_tokens}, but [CLS] and [SEP] take 2 and the model has positions for "
            f"{text.max_positions}"
        )
