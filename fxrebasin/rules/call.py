"""What a rule is made of: the call at hand, and the primitives that it offers.

A rule takes a :class:`Call` and the op's own arguments, with a :class:`Layout` in the place of
every tensor, and returns a layout per result. It states mathematics only: no weights, no search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..arguments import spelled
from ..errors import InvalidArgumentError, RuleError
from ..layouts import adoption, concatenation, primitives
from ..layouts.causes import PinKind
from ..layouts.coordinates import Shape, positional
from ..layouts.layout import Layout
from ..layouts.units import Units
from ..signature import apply as signature
from ..signature.apply import parse

Rule = Callable[..., Layout | Sequence[Layout]]
"""What an op does to units: a function of a :class:`Call` and of the op's own arguments, in which
tensors are replaced by layouts, to the layout of its result, or a sequence of one per result.

>>> def softmax(call: Call, x: Layout, dim: int) -> Layout:
...     return call.merge(x, call.reduce(x, [dim], keepdim=True))
"""


@dataclass(frozen=True)
class Call:
    """One call of an op, given to its rule, which composes the results of these methods:

    * :meth:`merge`: entries that meet at one position, as in every pointwise op, move together;
    * :meth:`reduce`: a sum, mean or maximum, which does not depend on the order;
    * :meth:`move`: a view, or anything else that only moves entries;
    * :meth:`concatenate`: one operand after the other;
    * :meth:`positions`: entries whose position carries meaning, which cannot move;
    * :meth:`pin`: the units of an operand must not move;
    * :meth:`signature`: all of that, for what a string can say.

    The rule of RMS norm, held against the op itself:

    >>> import torch, fxrebasin as fr
    >>> def rms_norm(x, scale):
    ...     return x / x.pow(2).mean(-1, keepdim=True).sqrt() * scale
    >>> def rule(call: fr.Call, x: fr.Layout, scale: fr.Layout) -> fr.Layout:
    ...     size = call.reduce(x, [-1], keepdim=True)
    ...     return call.merge(x, size, scale)
    >>> x, scale = torch.randn(2, 5), torch.rand(5)
    >>> print(fr.testing.check_rule(rms_norm, x, scale, rule=rule))  # doctest: +ELLIPSIS
    rms_norm: sound (error ...), nothing lost

    ``fr.register_rule(rms_norm, rule)`` makes the library use it from then on.
    """

    units: Units
    op: str
    """The name of the op."""
    shapes: tuple[Shape, ...]
    """The shape of every result."""
    parameters: Mapping[str, Layout] = field(default_factory=dict)
    """Where the rule is that of a module: what the module stores, by name."""
    absent: frozenset[str] = frozenset()
    """Where the rule is that of a module: the names under which it stores None, as of a bias."""
    schema: torch.FunctionSchema | None = None
    """Where the rule is that of an op: what its arguments are."""

    @property
    def shape(self) -> Shape:
        """The shape of the first result."""
        return self.shapes[0]

    def merge(self, *operands: Layout, reduced: Sequence[int] = ()) -> Layout:
        """Operands that broadcast meet entry by entry, as in ``x * y``.

        What a parameter meets gives it its units. ``reduced`` names dims of the result that are
        reduced next, as the ``k`` of a product of matrices: there alone a parameter then takes
        the units it meets, and along all other dims it has units of its own.
        """
        return primitives.merge(self.units, *operands, reduced=tuple(reduced))

    def merge_unordered(self, x: Layout, y: Layout) -> Layout:
        """Two operands meet in an op that does not mind their order, as ``x + y``.

        As :meth:`merge`, but the halves of one tensor can change places, unit by unit.
        """
        entries = primitives.merge_entries(self.units, x, y)
        return self.merge(x, y) if entries is None else entries

    def reduce(self, x: Layout, dims: Sequence[int], *, keepdim: bool = False) -> Layout:
        """A reduction over ``dims`` that does not depend on the order, as ``x.sum(dims)``."""
        return primitives.reduce(self.units, x, tuple(dims), keepdim=keepdim)

    def move(self, x: Layout, movement: primitives.Movement) -> list[Layout]:
        """The results of a function that only moves the entries of a tensor.

        The function is run on tensors of unit ids: ``call.move(x, lambda t: t.chunk(2, dim))``.
        """
        return primitives.move(self.resolve(x), movement)

    def view(self, x: Layout, movement: primitives.Movement) -> list[Layout]:
        """As :meth:`move`, of a function that returns views.

        A view of a parameter that has no units yet still gets them from what it meets.
        """
        return primitives.move(x, movement)

    def concatenate(self, operands: Sequence[Layout], dim: int) -> Layout:
        """One operand after the other along ``dim``, as ``torch.cat``."""
        if all(0 in x.shape for x in operands):
            text = "is concatenated where there are no entries on the example inputs"
            for x in operands:
                self.pin(x, text, kind=PinKind.EMPTY)
            return Layout(self.shape)
        return concatenation.concatenate(self.units, operands, dim % len(self.shape))

    def positions(self, shape: Shape, dims: Sequence[int] | None = None) -> Layout:
        """A tensor whose entries differ by their position along ``dims`` (default: all), and in
        nothing else, as a position embedding.

        What is merged with it cannot move along ``dims``. A result that has new positions there,
        such as the pixels of a resized image, is
        ``call.merge(channels, call.positions(call.shape, dims))``.
        """
        dims = range(len(shape)) if dims is None else dims
        chosen = tuple(d % len(shape) for d in dims)
        return Layout(shape, tuple(positional(self.units, shape, chosen)))

    def pin(
        self,
        x: Layout,
        reason: str,
        dims: Sequence[int] | None = None,
        *,
        kind: PinKind = PinKind.RULE,
    ) -> Layout:
        """``x``, of which no unit along ``dims`` (default: all) may move, and why."""
        dims = None if dims is None else tuple(d % x.ndim for d in dims)
        return primitives.pin_units(self.units, x, reason, dims, kind=kind, op=self.op)

    def pin_unused(self, x: Layout, used: Layout, reason: str) -> None:
        """Pin the units of ``x`` that are not in ``used``, along the axes where others are."""
        primitives.pin_unused(self.units, x, used, reason)

    def pinned(self, *operands: Layout, reason: str | None = None) -> tuple[Layout, ...]:
        """The results of an op that is not understood: nothing about its operands may move."""
        kind = PinKind.RULE if reason else PinKind.UNKNOWN_OP
        for x in operands:
            self.pin(x, reason or f"{self.op} is not understood", kind=kind)
        return tuple(self.positions(shape) for shape in self.shapes)

    def resolve(self, x: Layout) -> Layout:
        """``x`` with units, which a parameter that met nothing yet now gets of its own.

        The other methods do that by themselves. A rule calls it before it looks at the
        coordinates of ``x``, or where ``x`` must not take the units of what it meets.
        """
        return adoption.resolve(self.units, x)

    def signature(self, text: str, *operands: Layout | None, **sizes: int) -> Layout:
        """The result of an op that obeys a signature: ``call.signature("n c, c -> n c", x, w)``.

        An operand that is absent is None; sizes of letters that do not follow from the shapes are
        keywords: ``g=4``.
        """
        return signature.apply(self.units, text, operands, self.shape, sizes)

    def with_shapes(self, *shapes: Shape) -> Call:
        """The same call with results of other shapes: for a signature of one step of a rule."""
        return replace(self, shapes=shapes)

    def parameter(self, name: str) -> Layout:
        """What the module that the rule is for stores under a name."""
        if name not in self.parameters:
            raise InvalidArgumentError(
                f"the rule of {self.op} asks for {name!r}, but the module stores "
                f"{sorted(self.parameters)}"
            )
        return self.parameters[name]

    def tensors(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Layout | None]:
        """The tensors among the arguments, in order; None where an optional one is absent."""
        if self.schema is None:
            values = [*args, *kwargs.values()]
            return [x for x in values if x is None or isinstance(x, Layout)]
        return [
            args[k] if k < len(args) else kwargs.get(name)
            for k, name in tensor_arguments(self.schema).items()
        ]

    def results(self, found: Layout | Sequence[Layout]) -> list[Layout]:
        """What a rule returned, checked: a layout of the right shape for every result."""
        layouts: list[Any] = list(found) if isinstance(found, (list, tuple)) else [found]
        for layout in layouts:
            if not isinstance(layout, Layout):
                raise RuleError(
                    f"the rule of {self.op}: expected it to return a layout per result, found "
                    f"{spelled(layout)}; return what call.merge, call.signature, ... return"
                )
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


def tensor_arguments(schema: torch.FunctionSchema) -> dict[int, str]:
    """The arguments of an op that are operands of its rule: place and name."""
    return {
        k: argument.name
        for k, argument in enumerate(schema.arguments)
        if "Tensor" in str(argument.type) and not argument.is_out
    }


def absent_names(module: nn.Module) -> frozenset[str]:
    """The names under which a module could store a tensor and stores None."""
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, inner in module.named_modules()
        for name, tensor in {**inner._parameters, **inner._buffers}.items()
        if tensor is None
    )


def of_signature(text: str) -> Rule:
    """The rule of an op or function whose tensor arguments obey a signature.

    Operands of an op follow its schema, those of a function are its positional and then its
    keyword arguments; numbers and other options are not operands.
    """

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        return [call.signature(text, *call.tensors(args, kwargs))] * len(call.shapes)

    return rule


def of_module_signature(text: str) -> Rule:
    """The rule of a type of module: operands with a name are what it stores under that name."""
    names = parse(text).names

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        given = iter(call.tensors(args, kwargs))
        stored = {n: call.parameter(n) for n in names if n is not None and n not in call.absent}
        operands = [next(given, None) if n is None else stored.get(n) for n in names]
        return [call.signature(text, *operands)] * len(call.shapes)

    return rule
