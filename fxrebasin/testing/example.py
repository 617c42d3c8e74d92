"""One call of an op, on which its rule is checked: it is run on permuted and on other values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._library.custom_ops import CustomOpDef
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from ..errors import InvalidArgumentError, InvalidInputError
from ..layouts.ids import Ids

TOLERANCE = 1e-10
"""Largest difference that rounding may cause in float64, relative to a result's largest entry."""

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Draw:
    """Values of the arguments, and what the op makes of them."""

    example: Example
    tensors: Tensors
    results: Tensors

    @property
    def everything(self) -> dict[str, torch.Tensor]:
        return {**self.tensors, **self.results}


@dataclass(frozen=True)
class Example:
    """One call of the op at hand."""

    name: str
    op: Callable[..., Any]
    leaves: list[Any]
    spec: TreeSpec
    """Of the positional and keyword arguments."""
    tensors: dict[str, torch.Tensor]
    """What is permuted: every floating-point tensor among the arguments, in float64."""
    schema: torch.FunctionSchema | None
    device: torch.device
    """Where the op is run; everything else happens on the CPU."""

    def arguments(self, given: Callable[[torch.Tensor], Any]) -> tuple[Any, Any]:
        """Positional and keyword arguments, with something else in the place of each tensor."""
        leaves = [given(t) if isinstance(t, torch.Tensor) else t for t in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.spec)
        return args, kwargs

    def run(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        names = {id(t): name for name, t in self.tensors.items()}
        args, kwargs = self.arguments(
            lambda t: tensors.get(names.get(id(t), ""), t).to(self.device, copy=True)
        )
        with torch.no_grad():
            out = self.op(*args, **kwargs)
        found = [t.cpu() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if len(found) == 1:
            return {"result": found[0]}
        return {f"result.{k}": t for k, t in enumerate(found)}

    def draw(self, tensors: Tensors) -> Draw:
        return Draw(self, tensors, self.run(tensors))

    def redraws(self, kinds: Sequence[Redraw], generator: torch.Generator) -> list[Draw]:
        """Other values of the arguments, as far as the op accepts them."""
        found = []
        for redraw in kinds:
            try:
                tensors = {name: redraw(t, generator) for name, t in self.tensors.items()}
                found.append(self.draw(tensors))
            except RuntimeError:
                continue
        return found


def example_of(
    op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], generator: torch.Generator
) -> Example:
    name, schema = getattr(op, "__name__", str(op)), None
    if isinstance(op, CustomOpDef):
        op = op._opoverload
    if isinstance(op, torch._ops.OpOverloadPacket):
        op = _overload(op, args, kwargs)
    if isinstance(op, torch._ops.OpOverload):
        name, schema = str(op), op._schema
        args, kwargs = _by_schema(op._schema, args, kwargs)
    labels = [a.name for a in schema.arguments] if schema else _argument_names(op, len(args))
    values = [*zip(labels, args, strict=False), *kwargs.items()]
    taken: dict[int, torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}
    for label, value in values:
        leaves = tree_leaves(value)
        for k, t in enumerate(leaves):
            if isinstance(t, torch.Tensor) and id(t) not in taken:
                taken[id(t)] = _make_distinct(t, generator)
                if t.is_floating_point() or t.is_complex():
                    tensors[label if value is t else f"{label}.{k}"] = taken[id(t)]
    if not any(t.numel() > 1 for t in tensors.values()):
        kinds = ", ".join(_kind(v) for _, v in values) or "none"
        raise InvalidArgumentError(
            f"check_rule permutes floating-point tensors, but {name} was given none that has "
            f"anything to permute (arguments: {kinds})"
        )
    leaves, spec = tree_flatten((args, kwargs))
    leaves = [taken.get(id(leaf), leaf) for leaf in leaves]
    device = next(t.device for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
    example = Example(name, op, leaves, spec, tensors, schema, device)
    try:
        results = example.run(tensors)
    except Exception as error:
        shapes = {k: tuple(t.shape) for k, t in tensors.items()}
        raise InvalidInputError(
            f"{name} does not run on these arguments in float64, of shapes {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not results:
        raise InvalidInputError(f"{name} returns no tensor on these arguments")
    return example


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__


def _overload(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The overload that a call of the packet runs."""
    try:
        name = torch._C._jit_resolve_packet(op._qualified_op_name, *args, **kwargs)
    except RuntimeError as error:
        raise InvalidInputError(f"{op} does not take these arguments: {error}") from error
    return getattr(op, name or "default")


def _by_schema(
    schema: torch.FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as torch's dispatcher passes them on, which is how rules expect them."""
    given, named = list(args), dict(kwargs)
    for argument in schema.arguments[len(args) :]:
        if argument.kwarg_only or not named.keys() & {a.name for a in schema.arguments}:
            break
        given.append(named.pop(argument.name, argument.default_value))
    return tuple(given), named


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return [names[k] if k < len(names) else f"argument {k}" for k in range(count)]


def _make_distinct(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy in float64, scaled at random if entries repeat: equal ones would hide errors."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.detach().to("cpu", copy=True)
    dtype = torch.complex128 if tensor.is_complex() else torch.float64
    tensor = tensor.detach().to("cpu", dtype, copy=True).contiguous()
    if np.unique(tensor.numpy()).size == tensor.numel():
        return tensor
    factors = (1 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64)) / 2
    return torch.where(tensor == 0, factors - 0.5, tensor * factors)


Redraw = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def shuffle(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same values, which the op is known to accept, at other places."""
    return t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape)


def draw_normal(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.randn(t.shape, generator=generator, dtype=t.dtype)


def draw_integers(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Few distinct values, zero among them, which some ops treat differently from all others."""
    return torch.randint(-1, 3, t.shape, generator=generator).to(t.dtype)


def generators(n: int) -> list[Ids]:
    """A swap and a cycle."""
    places = np.arange(n, dtype=np.int64)
    swap = places.copy()
    swap[:2] = swap[1::-1]
    return [swap, np.roll(places, 1)][: max(n - 1, 0)]


def join_words(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
