"""Where rules are looked up: one dict from an op to what it does to layouts.

A rule takes the :class:`Call` at hand and the op's own arguments with tensors replaced by layouts,
and returns a layout per result. It states mathematics only: no weights, no search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import InvalidArgumentError, RuleError
from ..layouts import primitives
from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.coordinates import Shape
from ..layouts.layout import Layout
from ..layouts.units import Units
from ..signature import apply as signature
from ..signature.apply import parse

Rule = Callable[..., Layout | Sequence[Layout]]


@dataclass(frozen=True)
class Call:
    """One execution of an op: the units of the analysis and the shapes of the results."""

    units: Units
    op: str
    shapes: tuple[Shape, ...]
    parameters: Mapping[str, Layout] = field(default_factory=dict)
    """Where the rule is that of a module: what the module stores, by name."""
    schema: torch.FunctionSchema | None = None
    """Where the rule is that of an op: what its arguments are."""

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def results(self, found: Layout | Sequence[Layout]) -> list[Layout]:
        """What a rule returned, checked: a layout of the right shape for every result."""
        layouts = [found] if isinstance(found, Layout) else list(found)
        if len(layouts) != len(self.shapes):
            raise RuleError(
                f"the rule of {self.op} returns {len(layouts)} layouts for {len(self.shapes)} "
                "results; one that is not understood is call.pinned(operands)"
            )
        for k, (layout, shape) in enumerate(zip(layouts, self.shapes, strict=True)):
            if layout.shape != shape:
                raise RuleError(
                    f"the rule of {self.op} says that result {k} has shape {layout.shape}, but "
                    f"its shape is {shape}"
                )
        return layouts

    def merge(self, *operands: Layout) -> Layout:
        return primitives.merge(self.units, *operands)

    def reduce(self, x: Layout, dims: Sequence[int], *, keepdim: bool = False) -> Layout:
        return primitives.reduce(self.units, x, tuple(dims), keepdim=keepdim)

    def tensors(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Layout | None]:
        """The tensors among the arguments, in order; None where an optional one is absent."""
        if self.schema is None:
            values = [*args, *kwargs.values()]
            return [x for x in values if x is None or isinstance(x, Layout)]
        return [
            args[k] if k < len(args) else kwargs.get(argument.name)
            for k, argument in enumerate(self.schema.arguments)
            if "Tensor" in str(argument.type) and not argument.is_out
        ]

    def move(self, x: Layout, movement: primitives.Movement) -> list[Layout]:
        """The results of a view-like function of one tensor, which is run on the units."""
        return primitives.move(resolve(self.units, x), movement)

    def parameter(self, name: str) -> Layout:
        """What the module that the rule is for stores under a name."""
        if name not in self.parameters:
            raise InvalidArgumentError(
                f"the rule of {self.op} asks for {name!r}, but the module stores "
                f"{sorted(self.parameters)}"
            )
        return self.parameters[name]

    def signature(self, text: str, *operands: Layout | None, **sizes: int) -> Layout:
        return signature.apply(self.units, text, operands, self.shape, sizes)

    def pin(self, x: Layout, reason: str, dims: Sequence[int] | None = None) -> Layout:
        dims = None if dims is None else tuple(d % x.ndim for d in dims)
        return primitives.pin(self.units, x, reason, dims, op=self.op)

    def pinned(self, *operands: Layout, reason: str | None = None) -> tuple[Layout, ...]:
        """The results of an op that is not understood."""
        kind = PinKind.RULE if reason else PinKind.UNKNOWN_OP
        reason = reason or f"{self.op} is not understood"
        return tuple(
            primitives.pinned(self.units, shape, *operands, reason=reason, kind=kind, op=self.op)
            for shape in self.shapes
        )


def spelled(text: str) -> Rule:
    """The rule of an op or function whose tensor arguments obey a signature.

    Operands of an op follow its schema, those of a function are its positional and then its
    keyword arguments; numbers and other options are not operands.
    """

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        return [call.signature(text, *call.tensors(args, kwargs))] * len(call.shapes)

    return rule


def spelled_for_module(text: str) -> Rule:
    """The rule of a type of module: operands with a name are what it stores under that name."""
    names = parse(text).names

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        given = iter(call.tensors(args, kwargs))
        operands = [next(given, None) if n is None else call.parameters.get(n) for n in names]
        return [call.signature(text, *operands)] * len(call.shapes)

    return rule
