import pytest
import torch
from torch import nn

from vmr.errors import VmrError
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig
from vmr.train.optimizer import EXEMPT, parameter_groups

SHAPES = {
    "temperature": (),
    "video_proj.weight": (4, 3),
    "video_proj.bias": (4,),
    "video_encoder.cls_token": (1, 1, 3),
    "video_encoder.pos_embed": (1, 5, 3),
    "video_encoder.temporal_pos_embedding": (1, 2, 3),
    "video_encoder.patch_embed.proj.weight": (3, 3, 1, 2, 2),
    "video_encoder.layers.0.mixer.A_log": (6, 2),
    "video_encoder.layers.0.mixer.A_b_log": (6, 2),
    "video_encoder.layers.0.mixer.D": (6,),
    "video_encoder.layers.0.mixer.in_proj.weight": (12, 3),
    "video_encoder.layers.1.mixer.in_proj.weight": (12, 3),
    "video_encoder.layers.1.norm.weight": (3,),
    "video_encoder.norm.weight": (3,),
    "text_encoder.embeddings.word.weight": (10, 4),
    "text_encoder.embeddings.position.weight": (6, 4),
    "text_encoder.embeddings.norm.bias": (4,),
    "text_encoder.layers.0.attention.query.weight": (4, 4),
    "fusion.layers.0.cross_attention.key.weight": (4, 3),
}
DECAYED = {
    "video_proj.weight",
    "video_encoder.patch_embed.proj.weight",
    "video_encoder.layers.0.mixer.in_proj.weight",
    "video_encoder.layers.1.mixer.in_proj.weight",
    "text_encoder.embeddings.word.weight",
    "text_encoder.layers.0.attention.query.weight",
    "fusion.layers.0.cross_attention.key.weight",
}
DECAYED_BY_UPSTREAM = DECAYED | {
    "temperature",
    "video_encoder.cls_token",
    "video_encoder.pos_embed",
    "video_encoder.temporal_pos_embedding",
    "video_encoder.layers.0.mixer.A_log",
    "video_encoder.layers.0.mixer.A_b_log",
    "text_encoder.embeddings.position.weight",
}


def named(*, frozen: str = "nothing") -> list[tuple[str, nn.Parameter]]:
    return [(k, nn.Parameter(torch.ones(v), requires_grad=not k.startswith(frozen))) for k, v in SHAPES.items()]


def groups_of(parameters=None, **options) -> list[dict]:
    return parameter_groups(parameters or named(), **{"learning_rate": 1.0, "weight_decay": 0.05, **options})


def of_each(groups: list[dict], key: str) -> dict:
    """Parameter name -> what its group says."""
    found = {name: group[key] for group in groups for name in group["param_names"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    return found


@pytest.mark.parametrize(("decay", "decayed"), [("standard", DECAYED), ("upstream", DECAYED_BY_UPSTREAM)])
def test_what_decays(decay, decayed):
    groups = groups_of(decay=decay)
    assert {group["name"] for group in groups} == {"decay", "no_decay"}
    assert of_each(groups, "weight_decay") == {name: 0.05 if name in decayed else 0.0 for name in SHAPES}
    assert set(of_each(groups, "lr").values()) == {1.0}


def test_exempt_names_are_those_of_the_encoder():
    encoder = VideoMamba(VideoMambaConfig(width=32, num_layers=1, image_size=32, num_frames=2))
    names = {name for name, _ in encoder.named_parameters()}
    assert {name.rpartition(".")[2] for name in names} >= EXEMPT
    weights = of_each(groups_of(list(encoder.named_parameters())), "weight_decay")
    products = {f"layers.0.mixer.{name}.weight" for name in ("in_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b")}
    convolutions = {"patch_embed.proj.weight", "layers.0.mixer.conv1d.weight", "layers.0.mixer.conv1d_b.weight"}
    decayed = {name for name, weight in weights.items() if weight}
    assert decayed == products | convolutions | {"layers.0.mixer.out_proj.weight"}


def test_overrides_are_searched_in_names_and_the_first_wins():
    groups = groups_of(overrides={r"layers\.[0]\.": 4.0, "text_encoder": 2.0})
    rates = of_each(groups, "lr")
    assert rates["video_encoder.layers.0.mixer.D"] == 4.0
    assert rates["text_encoder.layers.0.attention.query.weight"] == 4.0
    assert rates["text_encoder.embeddings.norm.bias"] == 2.0
    assert rates["video_encoder.layers.1.norm.weight"] == 1.0
    assert "text_encoder/no_decay" in {group["name"] for group in groups}


def test_layer_decay_by_hand():
    rates = of_each(groups_of(layer_decay=0.5, overrides={"text_encoder": 8.0}), "lr")
    assert rates == {
        # two video layers: input 0.5^3, layer 0 0.5^2, layer 1 0.5
        "video_encoder.cls_token": 0.125,
        "video_encoder.pos_embed": 0.125,
        "video_encoder.temporal_pos_embedding": 0.125,
        "video_encoder.patch_embed.proj.weight": 0.125,
        "video_encoder.layers.0.mixer.A_log": 0.25,
        "video_encoder.layers.0.mixer.A_b_log": 0.25,
        "video_encoder.layers.0.mixer.D": 0.25,
        "video_encoder.layers.0.mixer.in_proj.weight": 0.25,
        "video_encoder.layers.1.mixer.in_proj.weight": 0.5,
        "video_encoder.layers.1.norm.weight": 0.5,
        # one text layer: input 0.5^2, layer 0 0.5, of the override's 8
        "text_encoder.embeddings.word.weight": 2.0,
        "text_encoder.embeddings.position.weight": 2.0,
        "text_encoder.embeddings.norm.bias": 2.0,
        "text_encoder.layers.0.attention.query.weight": 4.0,
        # above both
        "temperature": 1.0,
        "video_proj.weight": 1.0,
        "video_proj.bias": 1.0,
        "video_encoder.norm.weight": 1.0,
        "fusion.layers.0.cross_attention.key.weight": 1.0,
    }


def test_layer_decay_of_a_classifier():
    encoder = VideoMamba(VideoMambaConfig(width=32, num_layers=4, image_size=32, num_frames=2))
    rates = of_each(groups_of(list(encoder.named_parameters()), layer_decay=0.8), "lr")
    assert rates["pos_embed"] == pytest.approx(0.32768)  # 0.8^5
    assert rates["temporal_pos_embedding"] == pytest.approx(0.32768)
    assert rates["layers.0.mixer.A_log"] == pytest.approx(0.4096)
    assert rates["layers.3.norm.weight"] == pytest.approx(0.8)
    assert rates["norm.weight"] == 1.0


def test_frozen_parameters_are_left_out_but_count_as_layers():
    groups = groups_of(named(frozen="video_encoder.layers.1"), layer_decay=0.5)
    rates = of_each(groups, "lr")
    assert rates.keys() == {name for name in SHAPES if not name.startswith("video_encoder.layers.1")}
    assert rates["video_encoder.layers.0.mixer.D"] == 0.25


def test_groups_keep_parameter_order_and_fit_an_optimizer():
    parameters = named()
    groups = groups_of(parameters, layer_decay=0.5)
    by_name = dict(parameters)
    for group in groups:
        assert all(by_name[name] is p for name, p in zip(group["param_names"], group["params"], strict=True))
    optimizer = torch.optim.AdamW(groups)
    sum(parameter.sum() for parameter in by_name.values()).backward()
    optimizer.step()
    saved = optimizer.state_dict()
    assert [group["name"] for group in saved["param_groups"]] == [group["name"] for group in groups]
    torch.optim.AdamW(groups_of(parameters, layer_decay=0.5)).load_state_dict(saved)
    # Adam's first step is the rate against the gradient's sign, after a decay of rate * weight_decay
    layer = by_name["video_encoder.layers.0.mixer.in_proj.weight"]
    assert layer[0, 0].item() == pytest.approx(1 - 0.25 * 0.05 - 0.25, abs=1e-6)
    assert by_name["video_encoder.layers.0.mixer.A_log"][0, 0].item() == pytest.approx(1 - 0.25, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"overrides": {"text": -1.0}}, r"overrides\['text'\] is -1.0"),
        ({"overrides": {"txet": 1.0}}, "'txet' matches no parameter's name"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"layer_decay": 0.8, "parameters": named()[:3]}, r"video_encoder\.layers\.0"),
        ({"parameters": named(frozen="")}, "nothing to train"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(VmrError, match=message):
        groups_of(**options)


# -- classifiers -------------------------------------------------------------------------------------------------------


def classifier_scales(scope: str) -> dict[str, float]:
    own = [(name.removeprefix("video_encoder."), one) for name, one in named() if name.startswith("video_encoder.")]
    return of_each(groups_of([*own, ("head.weight", nn.Parameter(torch.ones(2, 3)))], layer_decay=0.5,
                             layer_scope=scope), "lr")  # fmt: skip


def test_what_layer_decay_slows():
    every, but_time, of_input = (classifier_scales(scope) for scope in ("all", "all_but_time", "input"))
    assert (every["temporal_pos_embedding"], every["cls_token"], every["head.weight"]) == (0.125, 0.125, 1.0)
    assert but_time == {**every, "temporal_pos_embedding": 1.0}
    slow = {"cls_token", "pos_embed", "patch_embed.proj.weight"}
    assert of_input == {name: 0.125 if name in slow else 1.0 for name in every}  # upstream's accident


def test_upstreams_classifiers_decay_their_states_but_no_positions():
    decayed = of_each(groups_of(decay="upstream_classifier"), "weight_decay")
    places = {"cls_token", "pos_embed", "temporal_pos_embedding"}
    expected = {name for name in DECAYED_BY_UPSTREAM - {"temperature"} if name.rpartition(".")[2] not in places}
    assert {name for name, rate in decayed.items() if rate} == expected | {"temperature"}
