"""Weights and inputs made from a name and a shape, by the rules under which the golden values were computed.

All numbers come from `torch.rand`, whose bits are the same on every CPU. Shapes are those of upstream's state dicts.
"""

import math
import zlib

import torch
from torch import Tensor

Shape = tuple[int, ...]

LEARNED_TOKENS = ("cls_token", "pos_embed", "temporal_pos_embedding", "class_embedding", "positional_embedding")
TIED = {  # copies in upstream's files -> the originals
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def uniform(name: str, shape: Shape) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.rand(shape, generator=generator)


def unit(name: str, shape: Shape) -> Tensor:
    """Mean 0, variance 1."""
    return (uniform(name, shape) * 2 - 1) * math.sqrt(3.0)


def fill(key: str, shape: Shape) -> Tensor:
    """The weight that upstream calls `key`."""
    for copy, original in TIED.items():
        if key.endswith(copy):
            key = key.removesuffix(copy) + original
    last = key.rsplit(".", 1)[-1]
    if last in ("A_log", "A_b_log"):
        return torch.tensor([math.log(n + 1) for n in range(shape[1])]) + 0.1 * unit(key, shape)
    if key.endswith(("dt_proj.bias", "dt_proj_b.bias")):  # softplus of it is log-uniform in 0.001 .. 0.1
        dt = torch.exp(uniform(key, shape).double() * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3))
        return (dt + torch.log(-torch.expm1(-dt))).float()
    if last == "position_ids":
        return torch.arange(shape[-1]).expand(shape).clone()
    if not shape:  # the temperature
        return torch.tensor(0.07)
    if last in LEARNED_TOKENS:
        return 0.3 * unit(key, shape)
    if len(shape) == 1:
        return 1 + 0.1 * unit(key, shape) if last in ("weight", "D", "D_b") else 0.05 * unit(key, shape)
    if "embeddings." in key:  # tables of BERT
        return 0.05 * unit(key, shape)
    return unit(key, shape) / math.sqrt(math.prod(shape[1:]))


def make_input(name: str, shape: Shape) -> Tensor:
    return unit(f"input:{name}", shape)


def make_mask(name: str, batch: int, frames: int, patches: int, ratio: float) -> Tensor:
    """bool (batch, 1 + frames * patches), True = dropped, as many in every frame; CLS is kept."""
    num_kept = patches - int(patches * ratio)
    order = torch.argsort(uniform(f"input:{name}", (batch * frames, patches)), dim=1, stable=True)
    dropped = torch.ones(batch * frames, patches, dtype=torch.bool).scatter_(1, order[:, :num_kept], False)
    return torch.cat([torch.zeros(batch, 1, dtype=torch.bool), dropped.view(batch, -1)], dim=1)


def encoder_shapes(
    width: int, num_layers: int, patches: int, frames: int, teacher_dim: int, taps: int
) -> dict[str, Shape]:
    """Every key of an upstream video encoder."""
    inner, rank = 2 * width, math.ceil(width / 16)
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + patches, width),
        "temporal_pos_embedding": (1, frames, width),
        "patch_embed.proj.weight": (width, 3, 1, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "pool_norm.weight": (width,),
        "pool_norm.bias": (width,),
    }
    for tap in range(taps):
        shapes[f"clip_decoder.{tap}.head.weight"] = (teacher_dim, width)
        for key in ("head.bias", "norm.weight", "norm.bias"):
            shapes[f"clip_decoder.{tap}.{key}"] = (teacher_dim,)
    for layer in range(num_layers):
        shapes[f"layers.{layer}.norm.weight"] = (width,)
        mixer = f"layers.{layer}.mixer"
        shapes[f"{mixer}.in_proj.weight"] = (2 * inner, width)
        shapes[f"{mixer}.out_proj.weight"] = (width, inner)
        for end, A_log in (("", "A_log"), ("_b", "A_b_log")):
            shapes[f"{mixer}.{A_log}"] = (inner, 16)
            shapes[f"{mixer}.D{end}"] = (inner,)
            shapes[f"{mixer}.conv1d{end}.weight"] = (inner, 1, 4)
            shapes[f"{mixer}.conv1d{end}.bias"] = (inner,)
            shapes[f"{mixer}.x_proj{end}.weight"] = (rank + 32, inner)
            shapes[f"{mixer}.dt_proj{end}.weight"] = (inner, rank)
            shapes[f"{mixer}.dt_proj{end}.bias"] = (inner,)
    return shapes


def small_encoder_weights(taps: int = 1) -> dict[str, Tensor]:
    """The small encoder of the golden values: width 64, 4 layers, 64 px, 4 frames, teacher width 32."""
    return {key: fill(key, shape) for key, shape in encoder_shapes(64, 4, 16, 4, 32, taps).items()}


def bert_shapes(
    width: int, num_layers: int, text_layers: int, feed_forward: int, vocab: int, positions: int, video_width: int
) -> dict[str, Shape]:
    """Every key of upstream's BERT with a masked language modelling head; the last layers look at the video."""
    embeddings, head = "bert.embeddings", "cls.predictions"
    shapes: dict[str, Shape] = {
        f"{embeddings}.position_ids": (1, positions),
        f"{embeddings}.word_embeddings.weight": (vocab, width),
        f"{embeddings}.position_embeddings.weight": (positions, width),
        f"{embeddings}.token_type_embeddings.weight": (2, width),
        **_norm(f"{embeddings}.LayerNorm", width),
        f"{head}.bias": (vocab,),
        **_linear(f"{head}.transform.dense", width, width),
        **_norm(f"{head}.transform.LayerNorm", width),
        **_linear(f"{head}.decoder", vocab, width),
    }
    for layer in range(num_layers):
        name = f"bert.encoder.layer.{layer}"
        sources = {"attention": width} | ({"crossattention": video_width} if layer >= text_layers else {})
        for attention, source_width in sources.items():
            shapes |= _linear(f"{name}.{attention}.self.query", width, width)
            shapes |= _linear(f"{name}.{attention}.self.key", width, source_width)
            shapes |= _linear(f"{name}.{attention}.self.value", width, source_width)
            shapes |= _linear(f"{name}.{attention}.output.dense", width, width)
            shapes |= _norm(f"{name}.{attention}.output.LayerNorm", width)
        shapes |= _linear(f"{name}.intermediate.dense", feed_forward, width)
        shapes |= _linear(f"{name}.output.dense", width, feed_forward)
        shapes |= _norm(f"{name}.output.LayerNorm", width)
    return shapes


def small_video_text_shapes() -> dict[str, Shape]:
    """The small video-text model of the golden values, without a teacher: the small encoder, and a BERT of 4 layers."""
    bert = bert_shapes(64, 4, 2, 128, vocab=1000, positions=64, video_width=64)
    return {
        "temp": (),
        **{f"vision_encoder.{key}": shape for key, shape in encoder_shapes(64, 4, 16, 4, 32, 1).items()},
        **{f"text_encoder.{key}": shape for key, shape in bert.items()},
        **_linear("vision_proj", 32, 64),
        **_linear("text_proj", 32, 64),
        **_linear("itm_head", 2, 64),
    }


def small_video_text_weights() -> dict[str, Tensor]:
    """The weights of `small_video_text_shapes`."""
    return {key: fill(key, shape) for key, shape in small_video_text_shapes().items()}


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def small_teacher_weights() -> dict[str, Tensor]:
    """The small CLIP tower of the golden values, as a full checkpoint holds it: width 64, 3 layers, 64 px, out 32."""
    shapes: dict[str, Shape] = {
        "class_embedding": (64,),
        "positional_embedding": (17, 64),
        "proj": (64, 32),
        "conv1.weight": (64, 3, 1, 16, 16),
        **_norm("ln_pre", 64),
        **_norm("ln_post", 64),
    }
    for layer in range(3):
        block = f"transformer.resblocks.{layer}"
        shapes |= {f"{block}.attn.in_proj_weight": (192, 64), f"{block}.attn.in_proj_bias": (192,)}
        shapes |= _linear(f"{block}.attn.out_proj", 64, 64)
        shapes |= _linear(f"{block}.mlp.c_fc", 256, 64) | _linear(f"{block}.mlp.c_proj", 64, 256)
        shapes |= _norm(f"{block}.ln_1", 64) | _norm(f"{block}.ln_2", 64)
    keys = {f"clip_teacher.{key}": shape for key, shape in shapes.items()}
    return {key: fill(key, shape) for key, shape in keys.items()}


def make_ints(name: str, shape: Shape, low: int, high: int) -> Tensor:
    return (uniform(f"input:{name}", shape).double() * (high - low)).long() + low


def make_permutations(name: str, rows: int, length: int) -> Tensor:
    return torch.argsort(uniform(f"input:{name}", (rows, length)), dim=1, stable=True)


def make_texts(name: str, batch: int, longest: int, vocab: int) -> tuple[Tensor, Tensor]:
    """Token ids [CLS] words [SEP] of 4 to `longest` tokens, the first of the latter length, and their mask."""
    lengths = make_ints(f"{name}.len", (batch,), 4, longest + 1)
    lengths[0] = longest
    ids = make_ints(f"{name}.ids", (batch, longest), 104, vocab)
    position = torch.arange(longest)
    ids[:, 0] = 101
    ids[position == lengths[:, None] - 1] = 102
    mask = (position < lengths[:, None]).long()
    return ids * mask, mask


def make_draws(name: str, batch: int, frames: int, patches: int, ids: Tensor, vocab: int) -> dict[str, Tensor]:
    """The random choices of a training step."""

    def happens(what: str, chance: float) -> Tensor:
        return uniform(f"input:{name}.{what}", tuple(ids.shape)) < chance

    return {
        "importance": make_permutations(f"{name}.imp", batch * frames, patches),
        "vision_neg": (torch.arange(batch) + 2) % batch,
        "text_neg": (torch.arange(batch) + 3) % batch,
        "masked": happens("m", 0.5),
        "replaced": happens("r", 0.8),
        "rand_sel": happens("s", 0.5),
        "rand_words": make_ints(f"{name}.w", tuple(ids.shape), 0, vocab),
    }
