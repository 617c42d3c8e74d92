"""The values of units that are constant go into the next bias, where that is exact.

A unit that nothing feeds has the same value for every input, ``relu(bias)`` for one. What a linear
layer or a convolution makes of such values is the same for every input as well, and everywhere on a
feature map unless the layer pads it with zeros. It is added to the layer's bias, or, where it has
none and BatchNorm comes next, subtracted from the running mean of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.nodes import argument, name_of
from ..models.precision import TOLERANCE
from ..models.running import clone_tensors, unobserved
from ..symmetry.action import Indices
from .places import Places
from .plan import Plan

LAYERS = ("linear", *(f"{kind}{n}d" for kind in ("conv", "conv_transpose") for n in (1, 2, 3)))


class NotConstantError(ValueError):
    """A constant cannot be put into a bias."""


class Fold(NamedTuple):
    """What is added to a stored vector."""

    name: str
    added: torch.Tensor


def find_folds(
    traced: fx.GraphModule,
    places: Places,
    plan: Plan,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> list[Fold]:
    """What units that are cut add to the layers that read them.

    Args:
        traced: the graph, with the permuted weights, before anything is cut.
        places: where blocks lie in its values.
        plan: what is to be cut.
        args, kwargs: example inputs.

    Raises:
        NotConstantError: a layer reads something that is the same for every input, but has
            nothing to put it into, or makes something else of it in every place.
    """
    finder = _Finder(traced, places, plan)
    with unobserved(traced):
        given = clone_tensors((tuple(args), dict(kwargs)))
        finder.run(*in_placeholder_order(traced, *given), enable_io_processing=False)
    return [Fold(name, added) for name, added in finder.found.items()]


def apply_folds(model: nn.Module, folds: Sequence[Fold]) -> None:
    """Add to the stored vectors of a model, in place."""
    with torch.no_grad():
        for name, added in folds:
            owner, _, leaf = name.rpartition(".")
            getattr(model.get_submodule(owner), leaf).add_(added)


class _Finder(Interpreter):
    """Runs the graph, and lets the layers run once more on what is cut of their inputs."""

    def __init__(self, module: fx.GraphModule, places: Places, plan: Plan) -> None:
        super().__init__(module)
        self.places, self.plan = places, plan
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        source = n.args[0] if n.args else None
        if isinstance(source, fx.Node) and self._is_layer(n):
            kept = dict(self.places.kept(source.name, self.plan) or {})
            x = self.env[source]
            axis = _read_axis(x, self._weight_of(n))
            read = kept.pop(axis, None)
            if read is not None:
                for other, places in kept.items():
                    x = x.index_select(other, torch.from_numpy(places).to(x.device))
                added = self._without_bias(n, _lost_part(x, axis, read))
                if bool((added != 0).any()):
                    self._add(n, added)
        return value

    def _is_layer(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return isinstance(self.fetch_attr(str(n.target)), (nn.Linear, _ConvNd))
        return n.op == "call_function" and name_of(n) in LAYERS

    def _without_bias(self, n: fx.Node, lost: torch.Tensor) -> torch.Tensor:
        if n.op == "call_module":
            return _call_without_bias(self.fetch_attr(str(n.target)), lost)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        rest = [None if k == 1 else a for k, a in enumerate(args[1:])]
        kwargs = {k: None if k == "bias" else v for k, v in kwargs.items()}
        result: torch.Tensor = n.target(lost, *rest, **kwargs)  # type: ignore[operator]
        return result

    def _add(self, n: fx.Node, added: torch.Tensor) -> None:
        weight = self._weight_of(n)
        axis = -1 if weight.ndim == 2 else added.ndim - weight.ndim + 1
        rows = added.movedim(axis, 0).flatten(1)
        vector = rows[:, 0]
        spread = (rows - vector[:, None]).abs().max()
        layer = n.target if n.op == "call_module" else n.name
        if not spread <= TOLERANCE[added.dtype] * vector.abs().max():
            raise NotConstantError(
                f"what {str(layer)!r} reads of them is not the same everywhere: they are no "
                "constants, or it pads with zeros"
            )
        name, sign = self._target_of(n)
        known = self.found.get(name)
        if known is None:
            self.found[name] = sign * vector
        elif not torch.allclose(known, sign * vector, rtol=TOLERANCE[added.dtype]):
            raise NotConstantError(f"{name!r} would have to take another constant at every call")

    def _weight_of(self, n: fx.Node) -> torch.Tensor:
        if n.op == "call_module":
            found: torch.Tensor = self.fetch_attr(str(n.target)).weight
        else:
            found = self.env[argument(n, 1, "weight")]
        return found

    def _target_of(self, n: fx.Node) -> tuple[str, float]:
        """The vector that takes the constant, and whether it is added to it or subtracted."""
        if n.op == "call_module":
            if self.fetch_attr(str(n.target)).bias is not None:
                return f"{n.target}.bias", 1.0
        else:
            bias = argument(n, 2, "bias")
            if isinstance(bias, fx.Node) and bias.op == "get_attr":
                return str(bias.target), 1.0
        users = list(n.users)
        if len(users) == 1 and users[0].op == "call_module":
            module = self.fetch_attr(str(users[0].target))
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                return f"{users[0].target}.running_mean", -1.0
        layer = n.target if n.op == "call_module" else n.name
        raise NotConstantError(f"{str(layer)!r} reads a constant, and has no bias to take it")


def _read_axis(x: torch.Tensor, weight: torch.Tensor) -> int:
    """The axis that a layer sums over: features of a linear layer, channels of a convolution."""
    return x.ndim - 1 if weight.ndim == 2 else x.ndim - weight.ndim + 1


def _lost_part(x: torch.Tensor, axis: int, kept: Indices) -> torch.Tensor:
    """A tensor with zeros in all places of an axis that are left."""
    return x.index_fill(axis, torch.from_numpy(kept).to(x.device), 0)


def _call_without_bias(layer: Any, x: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight)
    if not isinstance(layer, _ConvTransposeNd):
        result: torch.Tensor = layer._conv_forward(x, layer.weight, None)
        return result
    transposed = getattr(F, f"conv_transpose{layer.weight.ndim - 2}d")
    settings = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    result = transposed(x, layer.weight, None, *settings)
    assert isinstance(result, torch.Tensor)
    return result
