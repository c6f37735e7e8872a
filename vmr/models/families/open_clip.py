"""CLIP averaged over frames, through open_clip_torch: a strong and well-known baseline.

The vector of a video is the mean of its frames' unit image vectors, scaled to length 1; a text's is CLIP's text vector.
The order of frames has no effect.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from vmr.models.encoder import fingerprint
from vmr.models.families.frames import check_frames, encode_video_by_frames, unit
from vmr.models.open_clip_weights import import_open_clip, load_open_clip, open_clip_preprocess
from vmr.models.runtime import run_in_batches

TEXTS_AT_ONCE = 64
FRAMES_AT_ONCE = 8  # on the CPU; ViT-B-32 takes a tenth less time for each than with 1 or 2, and no less with 16
FRAMES_AT_ONCE_CUDA = 64


class OpenClipEncoder:
    """A model of open_clip as an `Encoder`; see there for its methods.

    Attributes:
        model: the model of open_clip.
        tokenizer: open_clip's tokeniser for it.
        device: where the model runs.
        frames_at_once: frames of every batch.
    """

    about = "CLIP averaged over frames: it knows nothing of their order"

    def __init__(self, name: str, num_frames: int = 8, device: str | torch.device = "cpu") -> None:
        """Load a model.

        Args:
            name: `open_clip:ViT-B-32/openai`, `open_clip:ViT-B-32/FILE`, `open_clip:hf-hub:ORG/NAME` and the like; see
                `load_open_clip`.
            num_frames: frames of a clip.
            device: where the model runs.

        Raises:
            ModelError: the name is unknown, the weights cannot be reached or do not fit, or the model's images cannot
                be prepared.
            MissingExtraError: open_clip is not installed.
        """
        self.name = name
        self.device = torch.device(device)
        self.frames_at_once = FRAMES_AT_ONCE if self.device.type == "cpu" else FRAMES_AT_ONCE_CUDA
        model, architecture = load_open_clip(name)
        self.model = model.eval().to(self.device)
        self.tokenizer = import_open_clip().get_tokenizer(architecture)
        self.preprocess = open_clip_preprocess(self.model, name, num_frames)
        self.embed_dim = self.encode_text(["a"]).shape[-1]
        self.fingerprint = fingerprint(
            self.model.state_dict(), self.preprocess, {"family": "open_clip", "architecture": architecture}
        )

    @torch.inference_mode()
    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed frames.

        Args:
            frames: uint8 in [0, 255], (N, 3, S, S).

        Returns:
            float32 unit vectors (N, D).

        Raises:
            ModelError: the frames have another dtype or shape.
        """
        check_frames(frames, self.preprocess)
        features = run_in_batches([*frames], self.frames_at_once, self._encode_batch)
        return np.array(features, np.float32).reshape(-1, self.embed_dim)

    def _encode_batch(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = self.preprocess(torch.from_numpy(frames)[:, None].to(self.device))[:, 0]
        return normalize(self.model.encode_image(images).float(), dim=-1).cpu().numpy()

    def pool_frames(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed videos by the vectors of their frames.

        Args:
            features: vectors of frames, (B, T, D).

        Returns:
            float32 unit vectors (B, D).
        """
        vectors = [unit(np.ascontiguousarray(one).mean(axis=0)) for one in features]
        return np.array(vectors, np.float32).reshape(-1, self.embed_dim)

    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 unit vectors (B, D), on the CPU.

        Raises:
            ModelError: the video has another dtype or shape.
        """
        return encode_video_by_frames(self, video)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: B strings, cut at the model's context length.

        Returns:
            float32 unit vectors (B, D).
        """
        vectors = [
            self.model.encode_text(self.tokenizer(list(texts[i : i + TEXTS_AT_ONCE])).to(self.device))
            for i in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        if not vectors:
            return torch.empty(0, self.embed_dim, device=self.device)
        return normalize(torch.cat(vectors).float(), dim=-1)
