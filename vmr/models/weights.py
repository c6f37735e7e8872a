"""Match the weights of a file with those of a model: a weight that did not load is an error.

PyTorch's `strict=False` silently skips keys that do not match, so that a misspelt name leaves a layer with random
weights. Here every key of the file is loaded unchanged, changed to fit, or ignored for a stated reason, and every
weight of the model comes from the file, unless the caller allows it to keep its initial value. Anything else is a
ModelError. All loaders of vmr use `match_weights`, and return its report.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from vmr.errors import ModelError

Fit = Callable[[str, Tensor, Tensor], tuple[Tensor, str]]
"""(key, weight of the file, weight of the model) -> the weight to load, and what was done to it ("" for nothing)."""


class Unfilled(TorchFunctionMode):
    """A context in which modules are made without random weights, because a file will replace every one of them.

    Drawing them takes longer than reading the file, and touches memory that is never used. Not for modules that call
    torch's `trunc_normal_`: it draws until every number is in range, which without drawing may be never.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Skip what fills a tensor with random numbers; call everything else."""
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@dataclass(frozen=True)
class LoadReport:
    """A report on every key of a file, and on every weight of the model.

    Attributes:
        source: name of the file, or of another source of the weights.
        loaded: weights that were loaded unchanged.
        fitted: weights that were changed to fit -> the change, such as "interpolated from 1x5x32 to 1x10x32".
        ignored: keys of the file that were not used -> the reason.
        fresh: weights of the model that the file lacks; the caller allowed them to keep their initial values.
    """

    source: str
    loaded: tuple[str, ...]
    fitted: dict[str, str]
    ignored: dict[str, str]
    fresh: tuple[str, ...]

    def refitted(self, fitted: dict[str, str]) -> "LoadReport":
        """Add what was changed after loading: weights -> the change."""
        loaded = tuple(key for key in self.loaded if key not in fitted)
        return replace(self, loaded=loaded, fitted={**self.fitted, **fitted})

    def __str__(self) -> str:
        """Return the report in one line."""
        parts = [f"{self.source}: {len(self.loaded) + len(self.fitted)} weights loaded"]
        if self.fitted:
            parts.append(", ".join(f"{key} {how}" for key, how in self.fitted.items()))
        if self.ignored:
            parts.append(f"{len(self.ignored)} keys ignored ({', '.join(sorted(set(self.ignored.values())))})")
        if self.fresh:
            parts.append(f"{len(self.fresh)} weights left fresh, first: {self.fresh[0]}")
        return "; ".join(parts)


def match_weights(
    source: str,
    available: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    ignored: Mapping[str, str] | None = None,
    may_lack: Collection[str] = (),
    fit: Fit | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Match the keys of a file with the weights of a model: choose the weights to load, and report on every key.

    Args:
        source: name of the file in error messages.
        available: the weights of the file, by the keys that error messages name.
        wanted: the weights of the model, by the same keys.
        ignored: keys of `available` that are not used -> the reason.
        may_lack: keys of `wanted` that may be absent; the model then keeps the weights that it has.
        fit: changes a weight of another shape so that it fits the model; None: every shape must be the model's.

    Returns:
        The weights that the file has, in the model's order, and the report.

    Raises:
        ModelError: keys are missing, left over, of another shape, or not finite.
    """
    ignored = dict(ignored or {})
    missing = [key for key in wanted if key not in available and key not in may_lack]
    left_over = [key for key in available if key not in wanted and key not in ignored]
    check_complete(source, missing, left_over, len(wanted))
    matched = {key: available[key] for key in wanted if key in available}
    fitted = {}
    for key in matched if fit else ():
        assert fit is not None
        with error_prefix(f"{source}: {key}"):
            matched[key], how = fit(key, matched[key], wanted[key])
        if how:
            fitted[key] = how
    check_shapes(source, matched, wanted)
    loaded = tuple(key for key in matched if key not in fitted)
    fresh = tuple(key for key in wanted if key not in matched)
    return matched, LoadReport(source, loaded, fitted, ignored, fresh)


def check_complete(source: str, missing: Sequence[str], left_over: Sequence[str], num_wanted: int) -> None:
    """Check that no key is missing and none is left over.

    Args:
        source: name of the file in the error message.
        missing: keys that the model needs and the file lacks.
        left_over: keys of the file that nothing uses.
        num_wanted: how many keys the model needs.

    Raises:
        ModelError: either list is not empty; the message names the first keys.
    """
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of {num_wanted} keys, first: {', '.join(missing[:3])}")
    if left_over:
        problems.append(f"has {len(left_over)} left over, first: {', '.join(left_over[:3])}")
    if problems:
        raise ModelError(f"{source} {'; '.join(problems)}")


def check_shapes(source: str, matched: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that every weight has the model's shape and is finite in the model's dtype.

    Args:
        source: name of the file in the error message.
        matched: weights of the file.
        wanted: weights of the model; has all keys of `matched`.

    Raises:
        ModelError: a weight has another shape, is not of a floating-point type, or holds NaN or infinity; the message
            names the first such key.
    """
    wrong = [key for key in matched if matched[key].shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"{source} has {len(wrong)} of {len(wanted)} keys in another shape, first: "
            f"{key} is {shape_text(matched[key].shape)}, but this model takes {shape_text(wanted[key].shape)}"
        )
    for key, tensor in matched.items():
        if not tensor.is_floating_point():
            raise ModelError(f"{source}: {key} holds {_dtype_text(tensor)}, not floating-point numbers")
        if not bool(tensor.to(wanted[key].dtype).isfinite().all()):
            raise ModelError(f"{source}: {key} is not finite in {_dtype_text(wanted[key])}")


def check_ties(source: str, weights: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """Check that the copies of a weight in a file equal that weight, since the model keeps only one of them.

    Args:
        source: name of the file in the error message.
        weights: weights of the file.
        ties: key of a copy -> key of the weight that it repeats; keys that the file lacks are not checked.

    Raises:
        ModelError: a copy differs.
    """
    for key, original in ties.items():
        if key not in weights or original not in weights:
            continue
        copy, kept = weights[key], weights[original]
        if copy.shape != kept.shape or not bool((copy == kept).all()):
            raise ModelError(f"{source}: {key} differs from {original}, to which it should be tied")


@contextmanager
def error_prefix(source: str) -> Iterator[None]:
    """Put `source` and a colon before the message of every ModelError raised inside the `with` block.

    Args:
        source: what the error is about, such as the name of a file.

    Yields:
        Nothing.

    Raises:
        ModelError: the one raised inside, with the longer message.
    """
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as messages show it.

    Args:
        shape: lengths of the dimensions.

    Returns:
        Such as "1x197x768"; "scalar" for no dimension.
    """
    return "x".join(map(str, shape)) or "scalar"


def _dtype_text(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
