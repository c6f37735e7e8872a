"""Networks that VideoMamba is compared with: against Hugging Face's, and what each may and may not see."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vmr.errors import ModelError
from vmr.models.catalogue import load_classifier
from vmr.models.classification.config import NetworkConfig
from vmr.models.classification.networks import KINDS, build_network
from vmr.models.classification.timesformer_files import load_timesformer
from vmr.models.classifier import ClipInput
from vmr.models.comparators.mamba import CausalMixer, CausalVideoMamba, Vim
from vmr.models.videomamba.backbone import VideoMambaBackbone
from vmr.models.videomamba.mixer import BidirectionalMixer
from vmr.models.videomamba.workspace import Workspace

pytest.importorskip("timm")

# C = 32, 2 layers, 2 x 2 patches of 16 pixels, T = 4 frames, 5 classes
SIZES = NetworkConfig(
    width=32, num_layers=2, image_size=32, num_frames=4, num_classes=5, num_heads=2, num_time_layers=2
)  # fmt: skip
SEES_MOTION = ("videomamba", "videomamba_causal", "vit", "timesformer", "vivit")
READS_FRAMES = ("videomamba_frames", "vim")


def make_network(kind: str, **sizes: object) -> nn.Module:
    """A network whose parameters are all random: zeros and ones would hide what is left out."""
    torch.manual_seed(0)
    network = build_network(replace(SIZES, kind=kind, **sizes))
    for name, parameter in network.named_parameters():
        if not name.endswith(("A_log", "A_b_log", "dt_proj.bias", "dt_proj_b.bias")):
            nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return network.eval()


def make_video(frames: int = 4, size: int = 32) -> Tensor:
    return torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("kind", ["vit", "timesformer", "vivit"])
def test_fresh_transformers_start_as_published_or_scaled(kind):
    networks = [build_network(replace(SIZES, kind=kind, width=64, init=init)) for init in ("published", "scaled")]
    published, scaled = (network.state_dict() for network in networks)
    matrix, positions = "layers.1.mlp.fc2.weight", "temporal_pos_embedding"  # the matrix is (64, 256)
    assert published[matrix].std() == pytest.approx(0.02, rel=0.1)
    assert scaled[matrix].std() == pytest.approx((2 / (64 + 256)) ** 0.5, rel=0.1)
    assert not published[positions].any()
    assert scaled[positions].std() == pytest.approx(1.0, rel=0.3)
    assert scaled["pos_embed"].std() == pytest.approx(1.0, rel=0.3)
    with pytest.raises(ModelError, match="init is 'small'; use one of published, scaled"):
        replace(SIZES, init="small")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_clips_and_images_and_trains_all_its_weights(kind: str):
    network = make_network(kind).train()
    loss = nn.functional.cross_entropy(network(make_video()), torch.tensor([1, 3]))
    loss.backward()
    without = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    # A class token that stands first ends the last layer's forward scan before any state could decay.
    assert without == (["layers.1.mixer.A_log"] if kind in ("videomamba", "videomamba_frames") else [])
    assert network.head.weight.shape == (5, 32) and network.config.kind == kind
    assert network(make_video(1)).shape == (2, 5)
    with pytest.raises(ModelError, match="this model takes"):
        network(make_video(size=64))


@pytest.mark.parametrize("kind", KINDS)
def test_resized_interpolates_positions_and_shares_nothing(kind: str):
    network = make_network(kind)
    larger = network.resized(num_frames=8, image_size=64)
    assert (larger.config.num_frames, larger.config.image_size) == (8, 64)
    assert larger(make_video(8, 64)).shape == (2, 5)
    assert torch.equal(network.resized()(make_video()), network(make_video()))
    with torch.no_grad():
        larger.head.bias.fill_(100.0)
    assert network.head.bias.abs().max() < 100
    if kind in SEES_MOTION:
        times = network.temporal_pos_embedding[0].detach()
        # Eight steps over the same time as four: each lies a quarter from the nearest of the four.
        assert torch.allclose(larger.temporal_pos_embedding[0, 2], 0.25 * times[0] + 0.75 * times[1], atol=1e-6)
        assert torch.allclose(larger.temporal_pos_embedding[0, 0], times[0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_kinds_that_see_motion_notice_the_order_of_frames(kind: str):
    network, video = make_network(kind), make_video()
    with torch.no_grad():
        difference = (network(video) - network(video.flip(1))).abs().max()
    assert difference > 1e-3 if kind in SEES_MOTION else difference < 1e-5


@pytest.mark.parametrize("kind", READS_FRAMES)
def test_logits_of_a_clip_are_the_mean_over_its_frames(kind: str):
    network, video = make_network(kind), make_video()
    with torch.no_grad():
        apart = torch.stack([network(video[:, [frame]]) for frame in range(4)]).mean(0)
        assert torch.allclose(network(video), apart, atol=1e-5)
    with pytest.raises(ModelError, match="tubelet_size is 2"):
        make_network(kind, tubelet_size=2)


@pytest.mark.parametrize("kind", KINDS)
def test_stochastic_depth_and_recomputed_activations(kind: str):
    video = make_video()
    kept, dropped = make_network(kind), make_network(kind, drop_path=0.9).train()
    torch.manual_seed(1)
    with torch.no_grad():
        assert not torch.allclose(dropped(video), kept(video), atol=1e-4)
        assert torch.equal(dropped.eval()(video), kept(video))
    recomputed = make_network(kind, checkpointed_layers=2)
    for network in (kept, recomputed):
        network(video).square().sum().backward()
    for (name, one), other in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("kind", ["vit", "timesformer", "vivit", "videomamba_causal"])
def test_tubelets_take_several_frames_into_one_token(kind: str):
    network = make_network(kind, tubelet_size=2)
    assert network.temporal_pos_embedding.shape == (1, 2, 32)
    assert network(make_video()).shape == network(make_video(1)).shape == (2, 5)


def test_heads_divide_the_width():
    widths = {192: 3, 768: 12, 96: 2, 104: 2, 208: 4, 32: 1}
    assert {width: replace(SIZES, width=width, num_heads=0).heads for width in widths} == widths
    with pytest.raises(ModelError, match="no multiple of num_heads 3"):
        replace(SIZES, num_heads=3)


def test_attention_over_time_starts_without_effect():
    torch.manual_seed(0)
    network = build_network(replace(SIZES, kind="timesformer")).eval()
    video = make_video(1).expand(-1, 4, -1, -1, -1)
    with torch.no_grad():
        assert torch.allclose(network(video), network(video[:, :1]), atol=1e-5)


# Against Hugging Face.

LAYER_NAMES = (
    (r"^(encoder\.)?layers?\.", "layers."),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^layernorm\.", "norm."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


def hugging_face_timesformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(
        image_size=32, patch_size=16, num_frames=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, num_labels=5, id2label={i: f"class {i}" for i in range(5)},
    )  # fmt: skip
    model = transformers.TimesformerForVideoClassification(config).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return model


def test_timesformer_is_hugging_faces_also_in_its_gradients(tmp_path: Path):
    theirs = hugging_face_timesformer()
    theirs.save_pretrained(tmp_path)
    ours = load_classifier(tmp_path, "cpu")
    assert ours.labels == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert ours.clip == ClipInput(4, 32, None, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    assert (
        load_classifier(tmp_path, "cpu", num_frames=8)
        .logits(torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8))
        .isfinite()
        .all()
    )
    gradients = []
    for network in (theirs, ours.network):
        video = make_video().requires_grad_()
        logits = network(video)
        logits = logits if isinstance(logits, Tensor) else logits.logits
        logits.square().sum().backward()
        gradients.append((logits.detach(), video.grad))
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=1e-5, atol=1e-5)
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-5)


def test_timesformer_files_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    model = hugging_face_timesformer()
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "config.json"))):
        load_timesformer(tmp_path)
    model.save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    path = re.escape(str(tmp_path / "config.json"))
    for change, message in (
        ({"attention_type": "joint_space_time"}, "attention_type is 'joint_space_time'"),
        ({"intermediate_size": 64}, "intermediate_size is not four times"),
        ({"hidden_size": "32"}, f"{path}: hidden_size is '32', but must be a whole number"),
        ({"hidden_size": None}, f"{path}: hidden_size is None"),
        ({"num_frames": 0}, f"{path}: num_frames is 0"),
        ({"num_attention_heads": 5}, f"{path}: width 32 is no multiple of num_heads 5"),
        ({"id2label": ["a"]}, rf"{path}: id2label is \['a'\]"),
        ({"num_hidden_layers": 3}, "lacks 20 of 69 keys, first: layers.2"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(ModelError, match=message):
            load_timesformer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(description))
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        load_timesformer(tmp_path)


def hugging_face_vivit(frames: int, layers: int) -> nn.Module:
    """ViViT's model 1 over tubelets of two frames: joint attention."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(layers)
    config = transformers.VivitConfig(
        image_size=32, num_frames=frames, tubelet_size=[2, 16, 16], hidden_size=32, num_hidden_layers=layers,
        num_attention_heads=2, intermediate_size=128, hidden_act="gelu", layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.VivitModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return model


def layers_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights of its layers and last norm under our names; both of Hugging Face's ways to name them are known."""
    ours: dict[str, Tensor] = {}
    queries: dict[str, list[Tensor]] = {}
    for theirs, weight in model.state_dict().items():
        name = theirs
        for pattern, replacement in LAYER_NAMES:
            name = re.sub(pattern, replacement, name)
        if third := re.fullmatch(r"(layers\.\d+)\.attention\.(?:attention\.)?([qkv])\w+\.(\w+)", name):
            queries.setdefault(f"{third[1]}.attn.qkv.{third[3]}", [torch.empty(0)] * 3)["qkv".index(third[2])] = weight
        elif name.startswith(("layers.", "norm.")):
            ours[name] = weight
    return ours | {name: torch.cat(parts) for name, parts in queries.items()}


def embeddings_of(model: nn.Module) -> dict[str, Tensor]:
    filters = model.embeddings.patch_embeddings.projection
    return {
        "cls_token": model.embeddings.cls_token,
        "patch_embed.proj.weight": filters.weight,
        "patch_embed.proj.bias": filters.bias,
    }


def load(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load all weights but those of the head, which Hugging Face's models here do not have."""
    missing, left_over = network.load_state_dict({k: v.detach() for k, v in weights.items()}, strict=False)
    assert (missing, left_over) == (["head.weight", "head.bias"], [])


def test_joint_attention_is_hugging_faces_vivit():
    theirs, ours = hugging_face_vivit(frames=4, layers=2), make_network("vit", tubelet_size=2)
    space, time = torch.randn(1, 5, 32), torch.randn(1, 2, 32)
    patches = (space[:, None, 1:] + time[:, :, None]).flatten(1, 2)
    theirs.embeddings.position_embeddings.data = torch.cat([space[:, :1], patches], dim=1)
    load(ours, {**embeddings_of(theirs), **layers_of(theirs), "pos_embed": space, "temporal_pos_embedding": time})
    with torch.no_grad():
        assert torch.allclose(theirs(make_video()).last_hidden_state[:, 0], ours.embed(make_video()), atol=1e-5)


def test_factorised_encoder_is_two_of_hugging_faces():
    """Its spatial encoder sees one tubelet at a time; the layers of another model then read the class tokens."""
    spatial, temporal = hugging_face_vivit(frames=2, layers=2), hugging_face_vivit(frames=2, layers=1)
    ours, time = make_network("vivit", tubelet_size=2, num_time_layers=1), torch.randn(1, 2, 32)
    weights = {**embeddings_of(spatial), **layers_of(spatial), "pos_embed": spatial.embeddings.position_embeddings}
    weights |= {f"temporal.{name}": weight for name, weight in layers_of(temporal).items()}
    load(ours, {**weights, "temporal_pos_embedding": time, "temporal.cls_token": temporal.embeddings.cls_token})
    video = make_video()
    with torch.no_grad():
        steps = [spatial(tubelet).last_hidden_state[:, 0] for tubelet in video.split(2, dim=1)]
        tokens = torch.cat([temporal.embeddings.cls_token.expand(2, -1, -1), torch.stack(steps, dim=1) + time], dim=1)
        for layer in getattr(temporal, "layers", None) or temporal.encoder.layer:
            tokens = layer(tokens)
            tokens = tokens if isinstance(tokens, Tensor) else tokens[0]
        assert torch.allclose(temporal.layernorm(tokens)[:, 0], ours.embed(video), atol=1e-5)


# Variants of VideoMamba.


def test_causal_mixer_is_the_forward_half_of_the_bidirectional_one():
    torch.manual_seed(0)
    both, half = BidirectionalMixer(32), CausalMixer(32)
    both.reset_parameters(2, "intended")
    half.load_state_dict({name: weight for name, weight in both.state_dict().items() if "_b" not in name})
    with torch.no_grad():  # a scan from the right whose outputs are zero
        both.x_proj_b.weight[-both.d_state :].zero_()
        both.D_b.zero_()
    hidden = torch.randn(2, 7, 32)
    expected = both(hidden, Workspace())
    assert torch.allclose(half(hidden, Workspace()), expected, atol=1e-6)
    half.backend = "reference"
    assert torch.allclose(half(hidden, Workspace()), expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(half(hidden, Workspace()), expected, atol=1e-6)


def test_causal_class_token_sees_every_token_and_no_token_sees_a_later_one():
    network = make_network("videomamba_causal")
    assert isinstance(network, CausalVideoMamba)
    video = make_video().requires_grad_()
    network(video).sum().backward()
    assert (video.grad.flatten(3).abs().amax((2, 3)) > 0).all()
    tokens = torch.randn(1, 9, 32)
    changed = tokens.clone()
    changed[:, 5] += 1
    with torch.no_grad():
        (one, one_stream, _), (other, other_stream, _) = (network.run_layers(t, Workspace()) for t in (tokens, changed))
    differs = (one + one_stream - other - other_stream).abs().amax(2)[0] > 1e-6
    assert differs.tolist() == [False] * 5 + [True] * 4


def test_vim_has_its_class_token_in_the_middle():
    network, image = make_network("vim"), make_video(1)
    assert isinstance(network, Vim)
    with torch.no_grad():
        first = VideoMambaBackbone.embed_tokens(network, image)  # class token, then 4 patches
        middle = torch.stack([first[:, 1], first[:, 2], first[:, 0], first[:, 3], first[:, 4]], dim=1)
        hidden, residual, _ = network.run_layers(middle, Workspace())
        stream = (hidden + residual)[:, 2]
        normed = stream * torch.rsqrt(stream.square().mean(1, keepdim=True) + 1e-5) * network.norm_f.weight
        assert torch.allclose(network(image), network.head(normed), atol=1e-5)
