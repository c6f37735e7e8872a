"""The video-text model as an encoder: from frames and captions to vectors and matching logits.

Shapes: B videos or texts, V videos, T frames, S pixels a side, N video tokens, C their width, L text tokens, W text
width, D embed_dim.
"""

import hashlib
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vmr.errors import ModelError
from vmr.models.encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EncodedTexts,
    MatchingSizes,
    Preprocess,
    VideoFeatures,
    check_texts,
    fingerprint,
)
from vmr.models.families.inputs import check_input, check_skip
from vmr.models.families.names import with_skip
from vmr.models.text.fusion import VideoMemory
from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption
from vmr.models.upstream.video_text import video_text_from_upstream
from vmr.models.video_text import VideoTextModel, mean_frame_vector
from vmr.models.videomamba.cuda_graphs import CudaGraphs
from vmr.models.videomamba.repeats import SkipConfig, as_mask, find_repeats, uncarry
from vmr.models.weights import LoadReport

MAX_TEXT_TOKENS = 150  # upstream's limit for ActivityNet's paragraphs, the longest captions that it evaluates
TEXTS_AT_ONCE = 64
_WORTH_LEAVING_OUT = 64
"""Video tokens: to match fewer without repetitions takes longer than it saves. Measured with 64 to 1568 tokens."""


class VideoTextEncoder:
    """A `VideoTextModel` as an `Encoder`, a `Matcher` and a `TextLimited`; float32, deterministic.

    Attributes:
        model: the model.
        tokenizer: turns captions into token ids.
        max_text_tokens: where captions are cut, [CLS] and [SEP] included.
        report: which keys of the model's file were loaded, fitted or ignored; None for a model made in memory.
        device: where the model runs.
        skip: which patches of a clip are left out, because they repeat earlier ones; None to leave out none. A clip
            then goes through the model by itself, so that its vector and tokens do not depend on other clips.
        learnt_skip: whether the model was trained to leave out such patches.
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
        skip: SkipConfig | None = None,
        learnt_skip: bool = False,
    ) -> None:
        """Move a model to the device and set it to evaluation mode; on a CPU, also pack its weights.

        Args:
            model: the model; do not train it further.
            tokenizer: with the vocabulary that the model was trained with.
            preprocess: with the model's number of frames and image size.
            name: of the encoder.
            about: one line on what the model can and cannot do.
            max_text_tokens: where captions are cut, [CLS] and [SEP] included; from 2 to the model's positions.
            device: where the model runs.
            report: which keys of the model's file were loaded, fitted or ignored.
            skip: which patches of a clip are left out; for a model that was trained so.
            learnt_skip: whether the model was trained with some patches left out, although `skip` is None.

        Raises:
            ModelError: the preprocessing, the tokeniser, max_text_tokens or `skip` does not fit the model.
        """
        check_input(name, model.config, preprocess, max_text_tokens)
        check_skip(name, model.config, skip)
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
        self.skip = skip
        self.learnt_skip = learnt_skip or skip is not None
        self.embed_dim = model.config.embed_dim
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        config = {
            "family": "video_text",
            "video": "mean of the frames' unit vectors",
            "config": asdict(self.model.config),
            "vocabulary": hashlib.sha256("\n".join(self.tokenizer.words).encode()).hexdigest(),
            "max_text_tokens": self.max_text_tokens,
        }
        if self.skip is not None:  # without it the fingerprint is that of versions that left out nothing
            config["skip"] = asdict(self.skip)
        return fingerprint(self.model.state_dict(), self.preprocess, config)

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
        """Load a checkpoint file of upstream's, with upstream's preprocessing.

        Args:
            path: the file.
            name: of the encoder.
            about: one line on what the model can and cannot do.
            device: where the model runs.
            num_frames: frames of a clip; default, those of the checkpoint. Temporal positions are interpolated.
            image_size: side of the frames in pixels; default, that of the checkpoint. Positions are interpolated.
            num_heads: attention heads of BERT, for a checkpoint of an unusual width.
            tokenizer: default, BERT's uncased vocabulary.

        Returns:
            The encoder.

        Raises:
            ModelError: the file cannot be read safely, or anything in it is missing, left over or of another shape.
            MissingExtraError: BERT's vocabulary is needed and not installed.
        """
        tokenizer = CaptionTokenizer() if tokenizer is None else tokenizer
        model, report = video_text_from_upstream(
            path, num_frames=num_frames, image_size=image_size, num_heads=num_heads
        )
        video = model.config.video
        preprocess = Preprocess(video.num_frames, video.image_size, "upstream", IMAGENET_MEAN, IMAGENET_STD)
        return cls(model, tokenizer, preprocess, name=name, about=about, device=device, report=report)

    @torch.inference_mode()
    def encode_video(self, video: Tensor) -> Tensor:
        """Embed videos by the mean of the unit vectors of their frames.

        The dot product of the result with a text's vector is upstream's similarity: the mean cosine over the frames.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 (B, D), of length at most 1.
        """
        return self.video_features(video).vectors

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed captions.

        Args:
            texts: B captions; cleaned as upstream does, and cut at `max_text_tokens`.

        Returns:
            float32 unit vectors (B, D).

        Raises:
            ModelError: `texts` is one string instead of a list.
        """
        batches = [torch.empty(0, self.embed_dim, device=self.device)]
        batches += [self.model.encode_text(*tokens).embedding for tokens in self._tokenize(texts)]
        return normalize(torch.cat(batches).float(), dim=-1)

    @torch.inference_mode()
    def video_features(self, video: Tensor) -> VideoFeatures:
        """Compute vectors and tokens of videos in one forward pass.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            Vectors (B, D) and tokens (B, N, C).
        """
        video = _on_device(video, self.device)
        pixels = self.preprocess(video)
        if self.skip is None or video.shape[1] == 1:
            encoded = self._encode(pixels)
            return VideoFeatures(mean_frame_vector(encoded.frame_embeddings), encoded.video_tokens)
        masks = as_mask(self.changed_patches(video))  # clips keep different numbers of patches
        clips = [
            self.model.encode_video(*each, carried=True) for each in zip(pixels.split(1), masks.split(1), strict=True)
        ]
        vectors = torch.cat([mean_frame_vector(clip.frame_embeddings) for clip in clips])
        return VideoFeatures(vectors, torch.cat([clip.video_tokens for clip in clips]))

    def changed_patches(self, video: Tensor) -> Tensor:
        """Find the patches that are kept; the others repeat earlier ones, as `skip` says.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            Bool (B, time steps, patches of a step).

        Raises:
            ModelError: the encoder leaves out nothing.
        """
        if self.skip is None:
            raise ModelError(f"{self.name}: leaves out no patches")
        sizes = self.model.config.video
        found = find_repeats(video, **asdict(self.skip), tubelet_size=sizes.tubelet_size, patch_size=sizes.patch_size)
        return found.keep

    def video_tokens(self, video: Tensor) -> Tensor:
        """Compute the tokens that `match` compares with texts.

        Args:
            video: uint8 in [0, 255], (B, T, 3, S, S).

        Returns:
            float32 (B, N, C).
        """
        return self.video_features(video).tokens

    def with_text_limit(self, max_text_tokens: int) -> "VideoTextEncoder":
        """Make an encoder with the same model that cuts captions earlier; vectors of videos stay the same.

        Args:
            max_text_tokens: tokens to read of a caption, [CLS] and [SEP] included; more than now has no effect.

        Returns:
            The other encoder, which shares the model with this one.
        """
        limited = copy(self)
        limited.max_text_tokens = min(max_text_tokens, self.max_text_tokens)
        return limited

    def with_skip(self, threshold: float) -> "VideoTextEncoder":
        """Make an encoder with the same model that leaves out other patches.

        Args:
            threshold: of what is a repetition, see `SkipConfig`; 0 leaves out nothing.

        Returns:
            The other encoder, which shares the model with this one and has another fingerprint.

        Raises:
            ModelError: the threshold is out of range, or the model encodes each frame by itself.
        """
        other = copy(self)
        other.skip = replace(self.skip or SkipConfig(), threshold=threshold) if threshold else None
        check_skip(self.name, self.model.config, other.skip)
        other.name = with_skip(self.name, threshold)
        other.fingerprint = other._fingerprint()
        return other

    @property
    def matching_sizes(self) -> MatchingSizes:
        """Sizes that decide the time and memory of matching."""
        video, text = self.model.config.video, self.model.config.text
        return MatchingSizes(
            num_video_tokens=video.num_steps * video.grid_size**2,
            video_width=video.width,
            text_width=text.width,
            feed_forward=text.feed_forward,
            num_text_layers=text.num_text_layers,
            num_fusion_layers=text.num_layers - text.num_text_layers,
            may_repeat=self.skip is not None,
        )

    def text_lengths(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each caption that the model reads, including [CLS] and [SEP].

        Args:
            texts: B captions.

        Returns:
            B lengths.
        """
        return [int(length) for _, mask in self._tokenize(texts) for length in mask.sum(dim=1)]

    @torch.inference_mode()
    def read_texts(self, texts: Sequence[str]) -> EncodedTexts:
        """Run the text encoder.

        Args:
            texts: B captions.

        Returns:
            The encoded texts for `match`: B * L * W floats; with BERT base and 32 tokens, 100 kB for each caption.
        """
        read = [(self.model.text_encoder(ids, mask), mask) for ids, mask in self._tokenize(texts)]
        longest = max((mask.shape[1] for _, mask in read), default=0)
        width = self.model.config.text.width
        tokens = torch.zeros(len(texts), longest, width, device=self.device)
        masks = torch.zeros(len(texts), longest, dtype=torch.int64, device=self.device)
        for start, (one, mask) in zip(range(0, len(texts), TEXTS_AT_ONCE), read, strict=True):
            tokens[start : start + len(one), : one.shape[1]] = one
            masks[start : start + len(one), : one.shape[1]] = mask
        return EncodedTexts(tokens, masks)

    @torch.inference_mode()
    def match(self, video_tokens: Tensor, texts: Sequence[str] | EncodedTexts) -> Tensor:
        """Score how well each text describes each video, by comparing them token by token.

        The score is the logit of the class "they belong together", without a softmax, as in upstream's re-ranking. The
        keys and values of a video are computed once for all texts.

        Args:
            video_tokens: (V, N, C), as returned by the method `video_tokens`.
            texts: B captions, or the result of `read_texts`.

        Returns:
            float32 logits (V, B), higher is better, in any range.
        """
        read = texts if isinstance(texts, EncodedTexts) else self.read_texts(texts)
        logits = torch.empty(len(video_tokens), len(read), device=self.device)
        batches = torch.arange(len(read), device=self.device).split(TEXTS_AT_ONCE) if len(read) else ()
        for video, row in zip(video_tokens, logits, strict=True):
            row[:] = self.match_batches(video[None], map(read.select, batches))
        return logits

    @torch.inference_mode()
    def match_batches(self, video_tokens: Tensor, batches: Iterable[EncodedTexts]) -> Tensor:
        """Match one video with texts that come in batches, holding one batch in memory at a time.

        The keys and values of the video are computed once. The caller decides the size and the order of the batches.
        With `skip`, tokens that repeat are looked at once, and counted: the logits are the same up to rounding.

        Args:
            video_tokens: (1, N, C).
            batches: texts, B in all.

        Returns:
            float32 logits (B,), those that `match` gives, in the order of the texts.
        """
        memory = self._remember(video_tokens.to(self.device))
        logits = [torch.empty(0, device=self.device)]
        for batch in batches:
            tokens, mask = batch.tokens.to(self.device), batch.mask.to(self.device)
            logits.append(self.model.match(tokens, mask, memory)[:, 1])
        return torch.cat(logits)

    def _remember(self, video_tokens: Tensor) -> VideoMemory:
        """Compute the keys and values of one video, (1, N, C): of tokens that repeat once, where that saves time."""
        num_tokens, places = video_tokens.shape[1], self.model.config.video.grid_size**2
        if self.skip is not None and num_tokens - places >= _WORTH_LEAVING_OUT:
            tokens, counts = uncarry(video_tokens[0], num_tokens // places)
            if num_tokens - len(tokens) >= _WORTH_LEAVING_OUT:
                return self.model.project_video(tokens[None], counts[None])
        return self.model.project_video(video_tokens)

    def _tokenize(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """B captions -> batches of TEXTS_AT_ONCE captions, each as token ids and mask of shape (batch, L)."""
        check_texts(texts)
        batches = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            captions = [clean_caption(text) for text in texts[start : start + TEXTS_AT_ONCE]]
            ids, mask = self.tokenizer(captions, self.max_text_tokens)
            batches.append((ids.to(self.device), mask.to(self.device)))
        return batches


def _on_device(video: Tensor, device: torch.device) -> Tensor:
    """Copy to the device. Copies to a GPU use pinned memory, so that they run while the CPU continues."""
    if device.type == "cuda" and not video.is_cuda:
        return video.pin_memory().to(device, non_blocking=True)
    return video.to(device)
