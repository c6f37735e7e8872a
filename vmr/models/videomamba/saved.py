"""Save a pre-trained video encoder as a folder: `config.json` and the weights that it names, no pickles.

Such an encoder has learnt from a teacher and knows neither texts nor classes: fine-tuning starts from it
(`model.video_init`). `vmr.models.saved_folder` says what holds if a write fails or another process reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vmr.models.encoder import Preprocess
from vmr.models.saved_folder import PRETRAINED, Schema, packed_weights, recorded, write_saved
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig


@dataclass(frozen=True)
class SavedEncoder:
    """The content of `config.json`, without its schema.

    Attributes:
        encoder: sizes of the encoder.
        preprocess: the encoder's preprocessing of videos.
        weights_file: name of the file of weights, in the same folder.
        weights_sha256: its checksum, in hex.
        vmr_version: the version that saved the encoder.
        training: a record of the training; anything.
    """

    encoder: VideoMambaConfig
    preprocess: Preprocess
    weights_file: str
    weights_sha256: str
    vmr_version: str
    training: dict[str, Any] | None


SCHEMA = Schema(f"{PRETRAINED}/1", SavedEncoder, ("weights",), "video encoder")


def save_encoder(
    folder: str | Path, encoder: VideoMamba, preprocess: Preprocess, *, training: Mapping[str, Any] | None = None
) -> None:
    """Write an encoder for fine-tuning, replacing an encoder that is in the folder.

    Args:
        folder: created if needed; may hold other files.
        encoder: the encoder; its weights are stored, but no state of its training.
        preprocess: the encoder's preprocessing of videos.
        training: a record of how the encoder was made; anything that can be written as JSON.

    Raises:
        ModelError: a weight is not finite, `training` is not JSON, another process is writing, or the folder holds a
            config.json that is not a saved encoder's.
        VmrError: a file cannot be written. An encoder that was in the folder is still there.
    """
    weights = packed_weights(encoder, torch.float32)
    config = SavedEncoder(
        encoder=encoder.config,
        preprocess=preprocess,
        **recorded(weights, training),
    )
    write_saved(folder, SCHEMA, config, {"weights": weights})
