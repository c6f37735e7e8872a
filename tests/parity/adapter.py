"""vmr as the golden-value checker calls it: upstream's argument order and key names, over vmr's public code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from vmr import losses
from vmr.data.decoding.resize import resize_bicubic
from vmr.data.decoding.sampling import middle_indices
from vmr.eval.metrics.ranks import retrieval_metrics
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.models.teachers import ClipTeacher, Teacher
from vmr.models.text.bert_weights import load_bert
from vmr.models.text.encoder import TextConfig, TextEncoder
from vmr.models.text.fusion import FusionEncoder, MaskedLMHead
from vmr.models.text.tokenizer import CaptionTokenizer, clean_caption
from vmr.models.upstream.video_text import load_video_text, read_video_text, upstream_name
from vmr.models.upstream.vision import load_upstream
from vmr.models.video_text import VideoTextConfig, VideoTextModel, mean_frame_vector
from vmr.models.videomamba.classifier import ClassifierConfig, VideoMambaClassifier
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.models.videomamba.student import StudentConfig
from vmr.ops.backend import Backend
from vmr.retrieval.reranking.candidates import Candidates
from vmr.train.optimizer import parameter_groups
from vmr.train.schedule import cosine_with_warmup
from vmr.train.tasks.config import LossWeights, MaskConfig, ObjectiveConfig
from vmr.train.tasks.objective import Batch, Draws, Objective

StateDict = Mapping[str, Tensor]


class Adapter:
    """Builds models from upstream-named state dicts. Upstream's videos are (B, 3, T, H, W)."""

    def __init__(self, backend: Backend = "auto") -> None:
        self.backend = backend

    def encoder(self, cfg: dict[str, Any], sd: StateDict) -> Callable[..., tuple[Tensor, Tensor, Tensor | None]]:
        model = VideoMamba(encoder_config(cfg), backend=self.backend).eval()
        load_upstream(model, sd)

        @torch.no_grad()
        def encode(
            x: Tensor, mask: Tensor | None = None, use_image: bool = False, keep_temporal: bool = False
        ) -> tuple[Tensor, Tensor, Tensor | None]:
            assert use_image == (x.shape[2] == 1)
            return model(x.transpose(1, 2), mask, keep_temporal=keep_temporal)

        return encode

    def classifier(self, cfg: dict[str, Any], sd: StateDict) -> Callable[[Tensor], Tensor]:
        is_image = cfg["kind"] == "image"
        config = ClassifierConfig(
            width=cfg["embed_dim"],
            num_layers=cfg["depth"],
            num_frames=1 if is_image else cfg["num_frames"],
            num_classes=cfg["num_classes"],
        )
        model = VideoMambaClassifier(config, backend=self.backend).eval()
        load_upstream(model, sd)

        @torch.no_grad()
        def classify(x: Tensor) -> Tensor:
            return model(x.unsqueeze(1) if is_image else x.transpose(1, 2))

        return classify

    def interpolated(self, sd: StateDict, cfg: dict[str, Any], ckpt_num_frame: int) -> dict[str, Tensor]:
        model = VideoMamba(encoder_config(cfg), backend=self.backend)
        load_upstream(model, sd)  # the number of frames is inferred from the weights
        return model.state_dict()

    def inflate(self, sd_image: StateDict, num_frames: int, cfg: dict[str, Any]) -> dict[str, Tensor]:
        config = ClassifierConfig(
            width=cfg["embed_dim"],
            num_layers=cfg["depth"],
            num_frames=num_frames,
            num_classes=cfg["num_classes"],
        )
        model = VideoMambaClassifier(config, backend=self.backend)
        load_upstream(model, sd_image, fresh=("head.",))
        return model.state_dict()

    def bert(self, cfg: dict[str, Any], sd: StateDict) -> "Bert":
        return Bert(cfg, sd)

    def teacher(self, cfg: dict[str, Any], sd: StateDict) -> Callable[..., tuple[Tensor, Tensor]]:
        teacher = upstream_teacher(cfg, sd)

        def encode(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
            if mask is None:
                return teacher(x.transpose(1, 2))
            # Upstream's teacher can also run on the kept patches only, but no released model was trained so.
            kept = ~mask.view(x.shape[0] * x.shape[2], -1)  # (B*T, N)
            kept = torch.cat([kept.new_ones(len(kept), 1), kept], dim=1)
            tower: Any = teacher.network
            handle = tower.ln_pre.register_forward_pre_hook(
                lambda _, tokens: tokens[0][kept].unflatten(0, (len(kept), -1))
            )
            try:
                return teacher(x.transpose(1, 2))
            finally:
                handle.remove()

        return encode

    def get_sim(self, v: Tensor, t: Tensor, temp: Tensor) -> tuple[Tensor, Tensor]:
        scores = losses.similarity(v, t, temp)
        return scores, scores.T

    def vtc_loss(self, v: Tensor, t: Tensor, idx: Tensor | None, temp: Tensor) -> Tensor:
        return losses.contrastive_loss(v, t, temp, idx)

    def uta_loss(self, s: Tensor, c: Tensor, norm: Any = "l2", kind: Any = "l2") -> Tensor:
        return losses.alignment_loss(s, c, norm, kind)

    def mlm_masked_inputs(
        self, ids: Tensor, vocab: int, masked: Tensor, replaced: Tensor, rand_sel: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        draws = losses.TokenDraws(masked, replaced, rand_sel, words)
        return losses.mask_tokens(ids, vocab, pad_id=0, cls_id=101, mask_id=103, draws=draws)

    def umt(self, cfg: dict[str, Any], sd: StateDict) -> "Umt":
        return Umt(cfg, sd, self.backend)

    def umt_module(self, cfg: dict[str, Any]) -> "Umt":
        return Umt(cfg, None, self.backend)

    def umt_losses(
        self, m: "Umt", image: Tensor, ids: Tensor, att: Tensor, idx: Tensor, draws: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        chance = Draws(
            draws["importance"],
            draws["vision_neg"],
            draws["text_neg"],
            losses.TokenDraws(draws["masked"], draws["replaced"], draws["rand_sel"], draws["rand_words"]),
        )
        result = m.objective(Batch(image, image, ids, att, idx), chance)
        names = {"alignment": "uta", "contrastive": "vtc", "matching": "vtm", "masked_lm": "mlm"}
        zero = image.new_zeros(())
        return {f"loss_{theirs}": result.get(ours, zero) for ours, theirs in names.items()}

    @torch.no_grad()
    def encode_vision(self, m: "Umt", image: Tensor) -> tuple[Tensor, Tensor]:
        tokens, pooled, _ = m.model.video_encoder(image, keep_temporal=True)
        return tokens, pooled

    def encode_teacher(self, m: "Umt", image: Tensor, importance: Tensor) -> tuple[Tensor | None, Tensor | None]:
        empty = torch.empty(0)
        return m.objective.run_teacher(Batch(image, image, empty, empty, empty), importance)

    @torch.no_grad()
    def evaluation(
        self, m: "Umt", videos: Tensor, ids: Tensor, att: Tensor, k_test: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Tensor, Tensor]:
        video, text = m.model.encode_video(videos), m.model.encode_text(ids, att)
        scores = nn.functional.normalize(text.embedding, dim=-1) @ mean_frame_vector(video.frame_embeddings).T

        def match(index: int, texts: NDArray[np.int64]) -> NDArray[np.float32]:
            memory = m.model.project_video(video.video_tokens[index : index + 1])
            return m.model.match(text.text_tokens[texts], att[texts], memory)[:, 1].numpy()

        reranked = Candidates(scores.numpy(), k_test).score(match)
        return reranked.video_to_text, reranked.text_to_video, scores.T, scores

    def itm_eval(
        self, i2t: NDArray[Any], t2i: NDArray[Any], txt2img: dict[int, int], img2txt: dict[int, list[int]]
    ) -> dict[str, float]:
        text_of = retrieval_metrics(i2t, [img2txt[i] for i in range(len(i2t))])
        video_of = retrieval_metrics(t2i, [txt2img[t] for t in range(len(t2i))])
        result = {}
        for name, metrics in (("txt", text_of), ("img", video_of)):
            recalls = [metrics[f"R@{k}"] for k in (1, 5, 10)]
            result |= {f"{name}_r{k}": recall for k, recall in zip((1, 5, 10), recalls, strict=True)}
            result[f"{name}_r_mean"] = sum(recalls) / 3
        result["r_mean"] = (result["txt_r_mean"] + result["img_r_mean"]) / 2
        return {name: round(value, 2) for name, value in result.items()}

    def lr_schedule(self, sched: dict[str, Any], base_lrs: list[float], steps: int) -> list[list[float]]:
        factor = cosine_with_warmup(sched["num_warmup_steps"], sched["num_training_steps"], sched["min_lr_multi"])
        return [[base * factor(step) for base in base_lrs] for step in range(steps)]

    def param_groups(self, model: "Umt", optimizer_cfg: dict[str, Any]) -> dict[str, tuple[float, float]]:
        different = optimizer_cfg["different_lr"]
        groups = parameter_groups(
            model.all_named_parameters(),
            learning_rate=optimizer_cfg["lr"],
            weight_decay=optimizer_cfg["weight_decay"],
            decay="upstream",
            overrides=dict.fromkeys(different["module_names"], different["lr"]) if different["enable"] else None,
        )
        return {name: (group["weight_decay"], group["lr"]) for group in groups for name in group["param_names"]}

    def frame_indices(self, num_frames: int, vlen: int) -> list[int]:
        return middle_indices(num_frames, vlen).tolist()

    def pre_text(self, s: str) -> str:
        return clean_caption(s)

    def tokenize(self, texts: Sequence[str], max_length: int) -> Tensor:
        ids, _ = CaptionTokenizer()(texts, max_length)
        return nn.functional.pad(ids, (0, max_length - ids.shape[1]))

    def resize(self, frames: Tensor, size: int, antialias: bool) -> Tensor:
        return torch.from_numpy(resize_bicubic(frames.numpy(), (size, size), antialias=antialias))


class Bert:
    """A text encoder, its fusion layers and the head for masked words, filled by upstream's names."""

    def __init__(self, cfg: dict[str, Any], sd: StateDict) -> None:
        config = text_config(cfg)
        self.text_encoder = TextEncoder(config).eval()
        self.layers = FusionEncoder(config, cfg["encoder_width"]).eval()
        self.head = MaskedLMHead(config).eval()
        report = load_bert(self.text_encoder, self.layers, sd, self.head)
        assert not report.fresh

    @torch.no_grad()
    def text(self, ids: Tensor, att: Tensor) -> Tensor:
        return self.text_encoder(ids, att)

    @torch.no_grad()
    def fusion(self, emb: Tensor, att: Tensor, vis: Tensor, vis_att: Tensor | None = None) -> Tensor:
        return self.layers(emb, att, self.layers.project_video(vis, vis_att))

    @torch.no_grad()
    def mlm_logits(self, emb: Tensor, att: Tensor, vis: Tensor) -> Tensor:
        return self.head(self.fusion(emb, att, vis), self.text_encoder.embeddings.word.weight)


class Umt:
    """A video-text model and its objective, with parameters under upstream's names."""

    def __init__(self, cfg: dict[str, Any], sd: StateDict | None, backend: Backend) -> None:
        config = VideoTextConfig(encoder_config(cfg["vision"]), text_config(cfg["bert"]), cfg["embed_dim"])
        self.model = VideoTextModel(config, backend=backend).eval()
        if sd is not None:
            load_video_text(self.model, read_video_text(sd))
        self.teacher = None if cfg["teacher"] is None else upstream_teacher(cfg["teacher"], sd)
        weights, mask = cfg["loss_weight"], cfg["mask"]
        self.objective = Objective(
            self.model,
            self.teacher,
            tokenizer_of(cfg["bert"]["vocab_size"]),
            ObjectiveConfig(
                LossWeights(weights["vtc"], weights["vtm"], weights["mlm"], weights["uta"]),
                MaskConfig(mask["video_mask_type"], mask["video_mask_ratio"]),
                MaskConfig(mask["image_mask_type"], mask["image_mask_ratio"]),
            ),
        )

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.model.named_parameters():
            yield upstream_name(name, self.model.config.text.num_text_layers), parameter

    def all_named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters, including the teacher's, which upstream also passes to its optimiser."""
        yield from self.named_parameters()
        if self.teacher is not None:
            for name, parameter in self.teacher.network.named_parameters():
                yield f"clip_teacher.{name}", nn.Parameter(parameter)


def tokenizer_of(vocab_size: int) -> CaptionTokenizer:
    """BERT's, cut to the first words; all special ones are among them."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(CaptionTokenizer().words[:vocab_size]), encoding="utf-8")
        return CaptionTokenizer(folder)


def upstream_teacher(cfg: dict[str, Any], sd: StateDict | None) -> Teacher:
    """CLIP's image tower with upstream's weights, whose keys are open_clip's, and the student's ImageNet pixels."""
    width, size, patch = cfg["width"], cfg["input_resolution"], cfg["patch_size"]
    heads, layers, out = cfg["heads"], cfg["layers"], cfg["output_dim"]
    tower = VisionTransformer(size, patch, width, layers, heads, 4.0, output_dim=out, act_layer=QuickGELU)
    if sd is not None:
        prefix = "clip_teacher." if any(key.startswith("clip_teacher.") for key in sd) else ""
        state = {key.removeprefix(prefix): value for key, value in sd.items() if key.startswith(prefix)}
        patch_filter = state["conv1.weight"]
        tower.load_state_dict({**state, "conv1.weight": patch_filter.view_as(tower.conv1.weight)}, strict=True)
    return ClipTeacher(tower, num_features=cfg["clip_return_layer"], mean=IMAGENET_MEAN, std=IMAGENET_STD)


def text_config(cfg: dict[str, Any]) -> TextConfig:
    return TextConfig(
        vocab_size=cfg["vocab_size"],
        width=cfg["hidden_size"],
        num_layers=cfg["num_hidden_layers"],
        num_text_layers=cfg["fusion_layer"],
        num_heads=cfg["num_attention_heads"],
        feed_forward=cfg["intermediate_size"],
        max_positions=cfg["max_position_embeddings"],
    )


def encoder_config(cfg: dict[str, Any]) -> VideoMambaConfig:
    student = StudentConfig(
        teacher_dim=cfg.get("clip_output_dim", 512),
        num_taps=cfg.get("clip_return_layer", 1),
        interval=cfg.get("clip_student_return_interval", 1),
        last_tap="before_last_layer" if cfg.get("fused_add_norm", True) else "after_last_layer",
    )
    return VideoMambaConfig(
        width=cfg["embed_dim"],
        num_layers=cfg["depth"],
        image_size=cfg.get("img_size", 224),
        num_frames=cfg.get("num_frames", 8),
        tubelet_size=cfg.get("kernel_size", 1),
        pool=cfg.get("pool_type", "cls+avg"),
        student=student,
    )
