"""The encoder of a fresh machine: pretrained weights that come with pip, nothing to download.

Image classifier probabilities are projected into a sentence-embedding space (ConSE, Norouzi et al. 2014, section 3):
a video is the weighted mean of the sentence vectors of the classes that its frames look like, a text is its own
sentence vector. The classifier is EfficientNet-Lite0 (ImageNet), the sentence encoder all-MiniLM-L6-v2. It is a
baseline: it knows the 1000 ImageNet classes and nothing of motion.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.models.encoder import Preprocess, fingerprint
from vmr.models.pip_weights import load_efficientnet_lite0, load_minilm

# The recipe's constants: they depend on no test set.
PROBABILITY_POWER = 0.75
TOP_CLASSES = 50
CLASS_PROMPT = "a photo of a {}"

MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was trained


class OfflineEncoder:
    """ConSE over EfficientNet-Lite0 and MiniLM; 384 dimensions, deterministic, float32.

    Raises MissingExtraError where the two weight packages are not installed, ModelError where their weights do not
    fit the networks exactly.
    """

    name = "offline"
    about = "a baseline that needs no download: it knows the 1000 ImageNet classes and nothing of motion"
    embed_dim = 384

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        # The largest centred square: captions speak of the whole picture, so no border is trimmed besides.
        self.preprocess = Preprocess(8, 224, "crop", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.classifier = load_efficientnet_lite0().eval().to(self.device).to(memory_format=torch.channels_last)
        # On a CPU more images at once only leave the cache: 8 took 1.4 times as long as four times 2.
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
        """The sentence vector of each ImageNet class, (1000, D); made at the first video, since texts do without."""
        return self.encode_text([CLASS_PROMPT.format(name) for name in imagenet_class_names()])

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, 224, 224) -> float32 unit vectors (B, 384).

        ConSE's combination with probabilities softened to p^0.75, over the 50 likeliest classes, minus the mean class
        vector, which all videos share and which would drown the rest.
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
        """texts: B strings, cut after 256 tokens -> float32 unit vectors (B, 384): the mean over token vectors."""
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
    """The first name of each of the 1000 ImageNet classes, in the classifier's order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(index).split(",")[0] for index in range(info.num_classes())]
