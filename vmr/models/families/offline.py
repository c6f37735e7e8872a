"""An encoder that works on a fresh machine: its pretrained weights come with pip, nothing is downloaded.

Probabilities of an image classifier are projected into the space of a sentence encoder (ConSE, Norouzi et al. 2014,
section 3): the vector of a video is the weighted mean of the sentence vectors of the classes that its frames look like,
and the vector of a text is its own sentence vector. The classifier is EfficientNet-Lite0 (ImageNet), the sentence
encoder all-MiniLM-L6-v2. This is a baseline: it knows the 1000 ImageNet classes and ignores motion.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.models.encoder import Preprocess, fingerprint
from vmr.models.pip_weights import load_efficientnet_lite0, load_minilm

# Constants of the recipe; none was tuned on a test set.
PROBABILITY_POWER = 0.75
TOP_CLASSES = 50
CLASS_PROMPT = "a photo of a {}"

MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was trained


class OfflineEncoder:
    """ConSE over EfficientNet-Lite0 and MiniLM as an `Encoder`; 384 dimensions, deterministic, float32.

    Attributes:
        classifier: EfficientNet-Lite0.
        sentence_encoder: MiniLM.
        tokenizer: MiniLM's.
        images_at_once: frames that go through the classifier together.
        device: where both networks run.
    """

    name = "offline"
    about = "a baseline that needs no download: it knows the 1000 ImageNet classes and nothing of motion"
    embed_dim = 384

    def __init__(self, device: str | torch.device = "cpu") -> None:
        """Load both networks.

        Args:
            device: where they run.

        Raises:
            MissingExtraError: the packages of weights are not installed.
            ModelError: their weights do not fit the networks exactly.
        """
        self.device = torch.device(device)
        # The largest centred square. Captions describe the whole picture, so no more of it is cut off.
        self.preprocess = Preprocess(8, 224, "crop", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.classifier = load_efficientnet_lite0().eval().to(self.device).to(memory_format=torch.channels_last)
        # More images at once do not fit into a CPU's cache: a batch of 8 took 1.4 times as long as 4 batches of 2.
        self.images_at_once = 2 if self.device.type == "cpu" else 128
        self.tokenizer, sentence_encoder = load_minilm()
        self.sentence_encoder = sentence_encoder.eval().to(self.device)
        self.fingerprint = fingerprint(
            {
                **{f"classifier.{name}": value for name, value in self.classifier.state_dict().items()},
                **{f"sentence.{name}": value for name, value in self.sentence_encoder.state_dict().items()},
            },
            self.preprocess,
            {"family": self.name, "power": PROBABILITY_POWER, "top": TOP_CLASSES, "prompt": CLASS_PROMPT},
        )

    @cached_property
    def class_vectors(self) -> Tensor:
        """Sentence vectors of the ImageNet classes, (1000, D); computed for the first video, as texts need none."""
        return self.encode_text([CLASS_PROMPT.format(name) for name in imagenet_class_names()])

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
        vectors = [self._encode_text_batch(texts[i : i + 64]) for i in range(0, len(texts), 64)]
        return torch.cat(vectors) if vectors else torch.empty(0, self.embed_dim, device=self.device)

    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.device)
        states = self.sentence_encoder(**tokens).last_hidden_state  # (B, L, D)
        kept = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # (B, L, 1)
        return normalize((states * kept).sum(1) / kept.sum(1), dim=-1)


def imagenet_class_names() -> list[str]:
    """List the first name of each of the 1000 ImageNet classes.

    Returns:
        The names, in the order of the classifier's outputs.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(index).split(",")[0] for index in range(info.num_classes())]
