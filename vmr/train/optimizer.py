"""Which parameters decay, and at which learning rate each is trained: named parameter groups for `torch.optim`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import nn

from vmr.errors import VmrError

DecayRule = Literal["standard", "upstream"]

# Beside what has fewer than two dimensions: parameters that are no weights of a product. Decay pulls them to a value
# that means something else than "simple": A_log = 0 is a state that decays at rate 1.
EXEMPT = frozenset({"bias", "A_log", "A_b_log", "pos_embed", "temporal_pos_embedding", "cls_token"})
EXEMPT_TABLES = ("embeddings.position.weight",)

_TOWER = r"((?:video_encoder\.|text_encoder\.)?)"  # a classifier's names have no tower
_LAYER = re.compile(_TOWER + r"layers\.(\d+)\.")
_INPUT = re.compile(_TOWER + r"(?:patch_embed|pos_embed|temporal_pos_embedding|cls_token|embeddings)(?:\.|$)")


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float,
    weight_decay: float,
    decay: DecayRule = "standard",
    overrides: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Sort the parameters that require a gradient into groups of one learning rate and one weight decay each.

    Upstream's video_sm names layer decay, too, but leaves the Mamba layers out of it: they are trained at the full rate
    and only the patch filter, the positions and CLS are slowed. Here every layer counts.

    Args:
        named_parameters: of the whole model, frozen ones included, as `named_parameters()` of an unwrapped module.
        learning_rate: of what no override names.
        weight_decay: of what is not exempt.
        decay: `standard` exempts parameters of fewer than two dimensions, A_log, positions and CLS; `upstream` exempts
            those of one dimension and biases only, so that A_log, positions, CLS and the temperature decay.
        overrides: regular expression -> learning rate of the parameters whose names it is found in; the first wins.
        layer_decay: in (0, 1], the rate's factor from each layer to the one below. Of an encoder with n layers, the
            input (patch filter or embeddings, positions, CLS) has depth 0, layer i has i + 1, and all that is not of
            the encoders' layers n + 1; rates are times layer_decay ** (n + 1 - depth), overridden ones too.

    Returns:
        Groups with `name`, `params`, `param_names`, `lr` and `weight_decay`, in the order of their first parameters.

    Raises:
        VmrError: a value out of range, an override or layer decay that fits no parameter, or nothing to train.
    """
    named = list(named_parameters)
    overrides = overrides or {}
    _check_rates({"learning_rate": learning_rate, **{f"overrides[{key!r}]": rate for key, rate in overrides.items()}})
    if weight_decay < 0:
        raise VmrError(f"weight_decay is {weight_decay}, but must be at least 0")
    for key in overrides:
        try:
            is_found = any(re.search(key, name) for name, _ in named)
        except re.error as error:
            raise VmrError(f"overrides: {key!r} is no regular expression: {error}") from None
        if not is_found:
            raise VmrError(f"overrides: {key!r} is found in no parameter's name")
    stages = _stages([name for name, _ in named], layer_decay) if layer_decay is not None else {}
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        pattern = next((pattern for pattern in overrides if re.search(pattern, name)), None)
        stage, scale = stages.get(name, (None, 1.0))
        exempt = is_exempt(name, parameter, decay)
        label = "/".join(part for part in (stage, pattern, "no_decay" if exempt else "decay") if part is not None)
        rate = learning_rate if pattern is None else overrides[pattern]
        new = {"name": label, "params": [], "param_names": [], "lr": rate * scale}
        group = groups.setdefault(label, {**new, "weight_decay": 0.0 if exempt else weight_decay})
        group["params"].append(parameter)
        group["param_names"].append(name)
    if not groups:
        raise VmrError("no parameter requires a gradient: there is nothing to train")
    return list(groups.values())


def is_exempt(name: str, parameter: nn.Parameter, decay: DecayRule) -> bool:
    """Whether a parameter is left out of weight decay."""
    if decay == "upstream":
        return parameter.dim() == 1 or name.endswith(".bias")
    return parameter.dim() < 2 or name.rpartition(".")[2] in EXEMPT or name.endswith(EXEMPT_TABLES)


def _stages(names: list[str], layer_decay: float) -> dict[str, tuple[str, float]]:
    """Name -> where in its encoder the parameter is, and the factor of its learning rate."""
    if not 0.0 < layer_decay <= 1.0:
        raise VmrError(f"layer_decay is {layer_decay}, but must be in (0, 1]")
    num_layers: dict[str, int] = {}
    for name in names:
        if layer := _LAYER.match(name):
            num_layers[layer[1]] = max(num_layers.get(layer[1], 0), int(layer[2]) + 1)
    if not num_layers:
        raise VmrError("layer_decay is given, but no parameter is named video_encoder.layers.0 or the like")
    stages = {}
    for name in names:
        if layer := _LAYER.match(name):
            tower, index = layer[1], int(layer[2])
            stages[name] = (f"{tower}layers.{index}", layer_decay ** (num_layers[tower] - index))
        elif (start := _INPUT.match(name)) and start[1] in num_layers:
            stages[name] = (f"{start[1]}input", layer_decay ** (num_layers[start[1]] + 1))
        else:
            stages[name] = ("top", 1.0)
    return stages


def _check_rates(rates: Mapping[str, float]) -> None:
    for key, rate in rates.items():
        if not rate > 0.0:
            raise VmrError(f"{key} is {rate}, but must be above 0")
