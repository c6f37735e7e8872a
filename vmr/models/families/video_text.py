"""The video-text model as an encoder: frames and captions in, vectors and matching logits out.

Shapes: B videos or texts, V videos, T frames, S pixels a side, N video tokens, C their width, L text tokens, W text
width, D embed_dim.
"""

import hashlib
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.errors import ModelError
from vmr.models.encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MatchingSizes,
    Preprocess,
    ReadTexts,
    VideoFeatures,
    fingerprint,
)
from vmr.models.text.tokenizer import CaptionTokenizer, check_texts, clean_caption
from vmr.models.upstream.video_text import video_text_from_upstream
from vmr.models.video_text import VideoTextConfig, VideoTextModel, mean_frame_vector
from vmr.models.videomamba.cuda_graphs import CudaGraphs
from vmr.models.weights import LoadReport

MAX_TEXT_TOKENS = 150  # what upstream reads of ActivityNet's paragraphs, its longest captions
TEXTS_AT_ONCE = 64
UPSTREAM_MEAN, UPSTREAM_STD = IMAGENET_MEAN, IMAGENET_STD


class VideoTextEncoder:
    """A `VideoTextModel` behind the `Encoder` protocol, and `match` for re-ranking; float32, deterministic.

    The model becomes the encoder's: it is moved to the device, set to evaluation, and its weights packed. Raises
    ModelError where the preprocessing, the tokeniser or max_text_tokens do not belong to the model.
    """

    def __init__(
        self,
        model: VideoTextModel,
        tokenizer: CaptionTokenizer,
        preprocess: Preprocess,
        *,
        name: str,
        about: str,
        max_text_tokens: int = MAX_TEXT_TOKENS,
        device: str | torch.device = "cpu",
        report: LoadReport | None = None,
    ) -> None:
        check_input(name, model.config, preprocess, max_text_tokens)
        if tokenizer.vocab_size != model.config.text.vocab_size:
            raise ModelError(
                f"{name}: the tokeniser {tokenizer.source} has {tokenizer.vocab_size} entries, but the model was made "
                f"for {model.config.text.vocab_size}: name the vocabulary that it was trained with"
            )
        self.name = name
        self.about = about
        self.device = torch.device(device)
        self.model = model.eval().to(self.device)
        if self.device.type == "cpu":
            self.model.video_encoder.pack_products()
        self._encode = CudaGraphs(self.model.encode_video, self.model.video_encoder, self.model.video_proj)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.max_text_tokens = max_text_tokens
        self.report = report
        self.embed_dim = model.config.embed_dim
        self.fingerprint = fingerprint(
            self.model.state_dict(),
            preprocess,
            {
                "family": "video_text",
                "video": "mean of the frames' unit vectors",
                "config": asdict(model.config),
                "vocabulary": hashlib.sha256("\n".join(tokenizer.words).encode()).hexdigest(),
                "max_text_tokens": max_text_tokens,
            },
        )

    @classmethod
    def from_upstream(
        cls,
        path: str | Path,
        *,
        name: str,
        about: str,
        device: str | torch.device = "cpu",
        num_frames: int | None = None,
        image_size: int | None = None,
        num_heads: int | None = None,
        tokenizer: CaptionTokenizer | None = None,
    ) -> "VideoTextEncoder":
        """A checkpoint file of upstream's, with upstream's preprocessing.

        num_frames, image_size, num_heads: see `video_text_from_upstream`, which also says what raises ModelError.
        tokenizer: default, BERT's uncased vocabulary; MissingExtraError where it is not installed.
        """
        tokenizer = CaptionTokenizer() if tokenizer is None else tokenizer
        model, report = video_text_from_upstream(
            path, num_frames=num_frames, image_size=image_size, num_heads=num_heads
        )
        video = model.config.video
        preprocess = Preprocess(video.num_frames, video.image_size, "upstream", UPSTREAM_MEAN, UPSTREAM_STD)
        return cls(model, tokenizer, preprocess, name=name, about=about, device=device, report=report)

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> float32 (B, D), the mean of the frames' unit vectors.

        Its dot product with a text's vector is upstream's similarity exactly: the mean cosine over the frames.
        """
        return self.video_features(video).vectors

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """texts: B captions, cleaned as upstream does and cut at max_text_tokens -> float32 unit vectors (B, D)."""
        batches = [self.model.encode_text(*tokens).embedding for tokens in self._tokenize(texts)]
        if not batches:
            return torch.empty(0, self.embed_dim, device=self.device)
        return normalize(torch.cat(batches).float(), dim=-1)

    @torch.inference_mode()
    def video_features(self, video: Tensor) -> VideoFeatures:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> vectors (B, D) and tokens (B, N, C) of one pass."""
        encoded = self._encode(self.preprocess(_on_device(video, self.device)))
        return VideoFeatures(mean_frame_vector(encoded.frame_embeddings), encoded.video_tokens)

    def video_tokens(self, video: Tensor) -> Tensor:
        """video: uint8 in [0, 255], (B, T, 3, S, S) -> (B, N, C), what `match` looks at."""
        return self.video_features(video).tokens

    def with_text_limit(self, max_text_tokens: int) -> "VideoTextEncoder":
        """The same encoder, reading at most so many tokens of a caption; videos have the same vectors as before."""
        limited = copy(self)
        limited.max_text_tokens = min(max_text_tokens, self.max_text_tokens)
        return limited

    @property
    def matching_sizes(self) -> MatchingSizes:
        """What decides the time and memory of matching."""
        video, text = self.model.config.video, self.model.config.text
        return MatchingSizes(
            num_video_tokens=video.num_steps * video.grid_size**2,
            video_width=video.width,
            text_width=text.width,
            feed_forward=text.feed_forward,
            num_text_layers=text.num_text_layers,
            num_fusion_layers=text.num_layers - text.num_text_layers,
        )

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """texts: B captions -> how many tokens of each are read, [CLS] and [SEP] included."""
        return [int(length) for _, mask in self._tokenize(texts) for length in mask.sum(dim=1)]

    @torch.inference_mode()
    def read_texts(self, texts: Sequence[str]) -> ReadTexts:
        """texts: B captions -> what `match` needs of them, B * L * W floats: at 32 tokens of BERT base 100 kB each."""
        read = [(self.model.text_encoder(ids, mask), mask) for ids, mask in self._tokenize(texts)]
        longest = max((mask.shape[1] for _, mask in read), default=0)
        width = self.model.config.text.width
        tokens = torch.zeros(len(texts), longest, width, device=self.device)
        masks = torch.zeros(len(texts), longest, dtype=torch.int64, device=self.device)
        for start, (one, mask) in zip(range(0, len(texts), TEXTS_AT_ONCE), read, strict=True):
            tokens[start : start + len(one), : one.shape[1]] = one
            masks[start : start + len(one), : one.shape[1]] = mask
        return ReadTexts(tokens, masks)

    @torch.inference_mode()
    def match(self, video_tokens: Tensor, texts: Sequence[str] | ReadTexts) -> Tensor:
        """How well each text describes each video, read token by token.

        video_tokens: (V, N, C), of `video_tokens`; texts: B captions, or what `read_texts` made of them -> float32
        logits (V, B), higher is better, any range: the logit of "they belong together", by which upstream re-ranks as
        it is. A video's keys and values are made once.
        """
        read = texts if isinstance(texts, ReadTexts) else self.read_texts(texts)
        logits = torch.empty(len(video_tokens), len(read), device=self.device)
        batches = torch.arange(len(read), device=self.device).split(TEXTS_AT_ONCE) if len(read) else ()
        for video, row in zip(video_tokens, logits, strict=True):
            row[:] = self.match_batches(video[None], map(read.select, batches))
        return logits

    @torch.inference_mode()
    def match_batches(self, video_tokens: Tensor, batches: Iterable[ReadTexts]) -> Tensor:
        """The same for one video (1, N, C) and texts that come batch by batch, B in all -> float32 logits (B,).

        The keys and values are made once, and memory holds one batch: its size and order are the caller's.
        """
        memory = self.model.remember(video_tokens.to(self.device))
        logits = [torch.empty(0, device=self.device)]
        for batch in batches:
            tokens, mask = batch.tokens.to(self.device), batch.mask.to(self.device)
            logits.append(self.model.match(tokens, mask, memory)[:, 1])
        return torch.cat(logits)

    def _tokenize(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """B captions -> token ids and mask, (b, L) each, of TEXTS_AT_ONCE captions at a time."""
        check_texts(texts)
        batches = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            captions = [clean_caption(text) for text in texts[start : start + TEXTS_AT_ONCE]]
            ids, mask = self.tokenizer(captions, self.max_text_tokens)
            batches.append((ids.to(self.device), mask.to(self.device)))
        return batches


def _on_device(video: Tensor, device: torch.device) -> Tensor:
    """The copy to a GPU leaves from pinned memory, so that it runs while the CPU goes on."""
    if device.type == "cuda" and not video.is_cuda:
        return video.pin_memory().to(device, non_blocking=True)
    return video.to(device)


def check_input(name: str, config: VideoTextConfig, preprocess: Preprocess, max_text_tokens: int) -> None:
    """Raise ModelError, starting with `name`, unless the model of `config` takes such videos and so long captions."""
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
