"""CLIP averaged over frames, through open_clip_torch: a strong and well-known baseline.

The vector of a video is the mean of its frames' unit image vectors, scaled to length 1; a text's is CLIP's text vector.
The order of frames has no effect.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.models.encoder import fingerprint
from vmr.models.open_clip_weights import import_open_clip, load_open_clip, open_clip_preprocess

IMAGES_AT_ONCE = 64


class OpenClipEncoder:
    """A model of open_clip as an `Encoder`; see there for its methods.

    Attributes:
        model: the model of open_clip.
        tokenizer: open_clip's tokeniser for it.
        device: where the model runs.
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
        model, architecture = load_open_clip(name)
        self.model = model.eval().to(self.device)
        self.tokenizer = import_open_clip().get_tokenizer(architecture)
        self.preprocess = open_clip_preprocess(self.model, name, num_frames)
        self.embed_dim = self.encode_text(["a"]).shape[-1]
        self.fingerprint = fingerprint(
            self.model.state_dict(), self.preprocess, {"family": "open_clip", "architecture": architecture}
        )

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 unit vectors (B, D).
        """
        images = self.preprocess(video.to(self.device)).flatten(0, 1)  # (B*T, 3, S, S)
        frames = torch.cat([normalize(self.model.encode_image(part), dim=-1) for part in images.split(IMAGES_AT_ONCE)])
        return normalize(frames.unflatten(0, video.shape[:2]).mean(1).float(), dim=-1)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: B strings, cut at the model's context length.

        Returns:
            float32 unit vectors (B, D).
        """
        vectors = [
            self.model.encode_text(self.tokenizer(list(texts[i : i + IMAGES_AT_ONCE])).to(self.device))
            for i in range(0, len(texts), IMAGES_AT_ONCE)
        ]
        if not vectors:
            return torch.empty(0, self.embed_dim, device=self.device)
        return normalize(torch.cat(vectors).float(), dim=-1)
