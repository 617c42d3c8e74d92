"""The values of units that are constant go into the next bias, where that is exact.

A unit that nothing feeds has the same value for every input, ``relu(bias)`` for one. What a linear
layer or a convolution makes of such values is the same for every input as well, and everywhere on a
feature map unless the layer pads it with zeros. It is added to the layer's bias, or, where it has
none and BatchNorm comes next, subtracted from the running mean of that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.precision import TOLERANCE
from ..models.running import clone_tensors, unobserved
from .graph_constants import argument, name_of
from .places import Places
from .plan import Plan

LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
LAYERS_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


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
        if self._is_layer(n) and isinstance(n.args[0], fx.Node):
            kept = self.places.kept(n.args[0].name, self.plan)
            if kept:
                args, kwargs = self.fetch_args_kwargs_from_env(n)
                lost = _lost_part(args[0], kept)
                added = self._without_bias(n, lost, args, kwargs)
                if bool((added != 0).any()):
                    self._add(n, added)
        return value

    def _is_layer(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return isinstance(self.fetch_attr(str(n.target)), (nn.Linear, _ConvNd))
        return n.op == "call_function" and name_of(n) in (*LAYERS, *LAYERS_TRANSPOSED)

    def _without_bias(self, n: fx.Node, lost: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
        if n.op == "call_module":
            layer = copy.copy(self.fetch_attr(str(n.target)))
            layer._parameters = {**layer._parameters, "bias": None}
            result: torch.Tensor = layer(lost)
            return result
        rest = [None if k == 1 else a for k, a in enumerate(args[1:])]
        kwargs = {k: None if k == "bias" else v for k, v in kwargs.items()}
        result = n.target(lost, *rest, **kwargs)  # type: ignore[operator]
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


def _lost_part(x: torch.Tensor, kept: Mapping[int, Any]) -> torch.Tensor:
    """A tensor with zeros in all places that are left."""
    is_left = torch.ones((1,) * x.ndim, dtype=torch.bool)
    for axis, places in kept.items():
        here = torch.zeros(x.shape[axis], dtype=torch.bool)
        here[torch.from_numpy(places)] = True
        is_left = is_left & here.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x.masked_fill(is_left.to(x.device), 0)
