"""The optimiser in a config, and named parameter groups for `torch.optim`, each with its own rates."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from vmr.errors import VmrError
from vmr.train.schedule import Schedule
from vmr.train.source_config import require

DecayRule = Literal["standard", "upstream", "upstream_classifier"]
LayerScope = Literal["all", "all_but_time", "input"]
"""What layer_decay slows. all_but_time: temporal positions, which are new where a model of images starts to learn
videos, have the full rate, as upstream's recipes mean it. input: all layers have the full rate too, and only the patch
filter, the positions in space and CLS are slowed. This is what upstream's code does: with its default of 0.75 and 24
layers they get 0.00075 of the rate."""

# Parameters that do not decay although they may have two dimensions, because they are no weights of a product. Decay
# pulls to 0, which is no neutral value for them: A_log = 0 is a state that decays at rate 1.
PLACES = frozenset({"pos_embed", "temporal_pos_embedding", "cls_token"})
EXEMPT = PLACES | {"bias", "A_log", "A_b_log"}
EXEMPT_TABLES = ("embeddings.position.weight",)

_TOWER = r"((?:video_encoder\.|text_encoder\.)?)"  # names in a classifier have no encoder's name before them
_LAYER = re.compile(_TOWER + r"layers\.(\d+)\.")
_INPUT = re.compile(_TOWER + r"(?:patch_embed|pos_embed|temporal_pos_embedding|cls_token|embeddings)(?:\.|$)")
_TIME = "temporal_pos_embedding"


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate: in every stage, a warm-up and then half a cosine.

    Attributes:
        learning_rate: learning rate at the end of the warm-up.
        weight_decay: weight decay of the parameters that are not exempt; see decay.
        decay: which parameters decay: standard (weights of matrix products), upstream (all but vectors and biases), or
            upstream_classifier (all but vectors, biases, positions and CLS).
        betas: decay rates of the running means of the gradients and of their squares.
        eps: added to the root of the mean square.
        layer_decay: factor from each layer's learning rate to that of the layer below; see `parameter_groups`.
        layer_scope: what layer_decay slows: all, all_but_time, or input (all layers at the full rate, as upstream's
            code does).
        overrides: regular expression -> learning rate of the parameters whose names match it.
        max_grad_norm: if the norm of all gradients together is greater, they are scaled down to it; null for no limit.
        schedule: cosine (the warm-up starts at 0, and min_ratio is a lower bound), upstream_steps (the warm-up starts
            at start_ratio, and the cosine ends at min_ratio), or upstream_epochs (the same, but the rate changes only
            every steps_per_epoch steps); see `vmr.train.schedule`.
        warmup: length of each stage's warm-up, in steps, or, below 1, as a share of the stage's steps.
        start_ratio: learning rate at the start of the warm-up of upstream's schedules, as a share of learning_rate.
        min_ratio: lowest learning rate, as a share of learning_rate.
        steps_per_epoch: for upstream_epochs.
    """

    learning_rate: float = 4e-4
    weight_decay: float = 0.05
    decay: DecayRule = "standard"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    layer_decay: float | None = None
    layer_scope: LayerScope = "all"
    overrides: dict[str, float] = field(default_factory=dict)
    max_grad_norm: float | None = 1.0
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    start_ratio: float = 0.0
    min_ratio: float = 0.01
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"optimizer.learning_rate is {self.learning_rate}, but must be above 0")
        require(all(0 <= beta < 1 for beta in self.betas), f"optimizer.betas are {self.betas}, but must be in [0, 1)")
        require(
            self.max_grad_norm is None or self.max_grad_norm > 0, "optimizer.max_grad_norm must be above 0, or null"
        )
        require(self.warmup >= 0, f"optimizer.warmup is {self.warmup}, but must be at least 0")
        require(self.eps > 0, f"optimizer.eps is {self.eps}, but must be above 0")
        for name in ("start_ratio", "min_ratio"):
            ratio = getattr(self, name)
            require(0 <= ratio <= 1, f"optimizer.{name} is {ratio}, but must be in [0, 1]")
        by_epoch, epoch = self.schedule == "upstream_epochs", self.steps_per_epoch
        require(
            by_epoch == (epoch is not None), "optimizer: schedule upstream_epochs and steps_per_epoch need each other"
        )
        require(epoch is None or epoch >= 1, f"optimizer.steps_per_epoch is {epoch}, but must be at least 1")


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float,
    weight_decay: float,
    decay: DecayRule = "standard",
    overrides: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
    layer_scope: LayerScope = "all",
) -> list[dict[str, Any]]:
    """Sort the parameters that require a gradient into groups of one learning rate and one weight decay each.

    Args:
        named_parameters: `named_parameters()` of an unwrapped module, including frozen parameters.
        learning_rate: for the parameters that no override matches.
        weight_decay: for the parameters that are not exempt.
        decay: `standard` exempts parameters of fewer than two dimensions, A_log, positions and CLS; `upstream` exempts
            those of one dimension and biases only, so that A_log, positions, CLS and the temperature decay;
            `upstream_classifier` exempts positions and CLS as well, so that A_log decays.
        overrides: regular expression -> learning rate of the parameters whose names it matches; the first match wins.
        layer_decay: in (0, 1], the factor from each layer's rate to the rate of the layer below. In an encoder with n
            layers the input (patch filter or embeddings, positions, CLS) has depth 0, layer i has depth i + 1, and
            everything else n + 1. Every rate, overridden or not, is multiplied by layer_decay ** (n + 1 - depth).
        layer_scope: what layer_decay slows; see LayerScope.

    Returns:
        Groups with `name`, `params`, `param_names`, `lr` and `weight_decay`, in the order of their first parameters.

    Raises:
        VmrError: a value is out of range, an override or the layer decay matches nothing, or nothing can be trained.
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
            raise VmrError(f"overrides: {key!r} is not a regular expression: {error}") from None
        if not is_found:
            raise VmrError(f"overrides: {key!r} matches no parameter's name")
    stages = _stages([name for name, _ in named], layer_decay, layer_scope) if layer_decay is not None else {}
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
    """Say whether a parameter is left out of weight decay.

    Args:
        name: its name in the model.
        parameter: the parameter.
        decay: as for `parameter_groups`.

    Returns:
        True if it does not decay.
    """
    if decay != "standard":
        is_place = decay == "upstream_classifier" and name.rpartition(".")[2] in PLACES
        return parameter.dim() == 1 or name.endswith(".bias") or is_place
    return parameter.dim() < 2 or name.rpartition(".")[2] in EXEMPT or name.endswith(EXEMPT_TABLES)


def _stages(names: list[str], layer_decay: float, scope: LayerScope) -> dict[str, tuple[str, float]]:
    """Name -> the place of the parameter in its encoder, and the factor of its learning rate."""
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
        if (scope != "all" and name.endswith(_TIME)) or (scope == "input" and _LAYER.match(name)):
            stages[name] = ("top", 1.0)
        elif layer := _LAYER.match(name):
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
