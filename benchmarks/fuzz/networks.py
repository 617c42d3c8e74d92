"""Random networks, each told in one line that rebuilds it.

A recipe is a tuple of steps, and a step is the name of an op with its arguments. Some steps hold
further steps, and lead around them; ``recall`` joins the value from some steps before. The first
step says what the inputs are, the last one what the outputs are.

>>> recipe = (("vector", 5, 12), ("skip", (("linear", 12), ("activation", "relu"))), ("each",))
>>> build(recipe)(*example_inputs(recipe)).shape
torch.Size([2, 3])

:func:`draw` makes recipes from any source of choices: ``random.Random(seed).choice``, or one that
hypothesis knows how to shrink. The ops are in :mod:`benchmarks.fuzz.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fuzz.ops import OPS, Shape, around, axis, channels, ends

Step = tuple[Any, ...]
Recipe = tuple[Step, ...]
Choose = Callable[[Sequence[Any]], Any]

PROFILES = ("ordinary", "odd", "program")
FORMS = ("op",) * 10 + ("skip",) * 4 + ("recall",) * 3 + around.AROUND
"""What a step may be, as often as it stands here."""
RECALLS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "add": lambda h, past, d: h + past,
    "multiply": lambda h, past, d: h * past.tanh(),
    "halves": lambda h, past, d: torch.cat([h.chunk(2, d)[0], past.chunk(2, d)[1]], d),
}
LONGEST = (5, 3, 1)
"""How many steps a network may have, a body in it, and a body in that one."""


class UnfitError(ValueError):
    """A step does not fit the value that it is given."""


class Recall(nn.Module):
    """Join a value with the one that was there some steps before."""

    def __init__(self, back: int, how: str, d: int) -> None:
        super().__init__()
        self.back, self.how, self.d = back, how, d

    def forward(self, h: Tensor, past: Tensor) -> Tensor:
        return RECALLS[self.how](h, past, self.d)


class Stretch(nn.Module):
    """Steps, one after another."""

    def __init__(self, steps: Sequence[Step], shape: Shape) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        shapes = [shape]
        for step in steps:
            layer, shape = grow(step, shapes)
            self.layers.append(layer)
            shapes.append(shape)
        self.shape = shape

    def forward(self, h: Tensor) -> Tensor:
        past = [h]
        for layer in self.layers:
            if isinstance(layer, Recall):
                past.append(layer(past[-1], past[-1 - layer.back]))
            else:
                past.append(layer(past[-1]))
        return past[-1]


class Network(nn.Module):
    """What a recipe builds."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        first, *steps, last = recipe
        self.stem = ends.stem(*first)
        shape = tuple(self.stem(*example_inputs(recipe)).shape[1:])
        self.body = Stretch(steps, shape)
        self.head = ends.head(self.body.shape, *last)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(self.stem(x)))


def build(recipe: Recipe) -> nn.Module:
    """The network of a recipe in eval mode, with the weights that its constructors choose.

    Raises:
        UnfitError: a step does not fit the value that it is given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(recipe).eval()


def example_inputs(
    recipe: Recipe, seed: int = 0, *, batch: int = 2, longer: int = 0
) -> tuple[Tensor]:
    """A batch in float32 or integers, with a few more tokens or pixels than the first step says."""
    kind, size, width = recipe[0]
    size += longer if kind != "vector" else 0
    return ends.inputs((kind, size, width), torch.Generator().manual_seed(seed), batch)


def grow(step: Step, shapes: Sequence[Shape]) -> tuple[nn.Module, Shape]:
    """The module of a step, and the shape that it makes of the last of the shapes so far."""
    name, *given = step
    shape = shapes[-1]
    values = [torch.zeros(2, *shape)]
    try:
        if name == "recall":
            layer: nn.Module = Recall(given[0], given[1], axis(shape))
            values.append(torch.zeros(2, *shapes[-1 - given[0]]))
            if values[0].shape != values[1].shape:
                raise UnfitError(f"{step} would join {values[1].shape} with {values[0].shape}")
        elif name in around.AROUND:
            layer = _lead_around(name, shape, given)
        else:
            layer = OPS[name].make(shape, *given)
        with torch.no_grad():
            made = layer.eval()(*values)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError) as error:
        raise UnfitError(f"{step} does not fit {shape}: {error}") from error
    return layer, tuple(made.shape[1:])


def _lead_around(name: str, shape: Shape, given: list[Any]) -> nn.Module:
    count = around.body_count(name)
    arguments, bodies = given[:-count], given[-count:]
    inside = around.shape_inside(name, shape, *arguments)
    built = [Stretch(body, inside) for body in bodies]
    for body in built:
        if body.shape != inside:
            raise UnfitError(f"a body of {name!r} makes {body.shape} of {inside}")
    return around.around(name, shape, tuple(arguments), list[nn.Module](built))


def draw(choose: Choose, profile: str, longest: tuple[int, ...] = LONGEST) -> Recipe:
    """A random recipe; ``choose`` picks from a sequence, whose first items are the simplest.

    ``longest`` bounds the steps of the network, of bodies in it, of bodies in those, and so on.
    """
    first = choose(ends.STEMS)
    shape = tuple(ends.stem(*first)(*example_inputs((first,))).shape[1:])
    steps, _ = Draw(choose, profile).steps(shape, longest, inside=False)
    heads = ends.HEADS if profile != "program" else (*ends.HEADS, *ends.PROGRAM_HEADS)
    return (first, *steps, (choose(heads),))


@dataclass(frozen=True)
class Draw:
    """How the parts of a recipe are drawn."""

    choose: Choose
    profile: str

    def steps(
        self, shape: Shape, longest: tuple[int, ...], *, inside: bool
    ) -> tuple[list[Step], Shape]:
        """Steps, and the shape that they make of a shape."""
        steps: list[Step] = []
        shapes = [shape]
        for _ in range(self.choose(range(1, longest[0] + 1))):
            steps.append(self.step(shapes, longest, inside=inside))
            shapes.append(grow(steps[-1], shapes)[1])
        return steps, shapes[-1]

    def step(self, shapes: list[Shape], longest: tuple[int, ...], *, inside: bool) -> Step:
        form, shape = self.choose(FORMS), shapes[-1]
        alike = [k for k in range(1, len(shapes)) if shapes[-1 - k] == shape]
        if form == "recall" and alike:
            joins = [how for how in RECALLS if how != "halves" or channels(shape) % 2 == 0]
            return ("recall", self.choose(alike), self.choose(joins))
        given = around.arguments(form, shape) if form in around.AROUND else []
        if given and longest[1:]:
            return self.around(form, shape, self.choose(given), longest[1:])
        known = [op for op in OPS.values() if op.profile in ("ordinary", self.profile)]
        fit = [op for op in known if not (inside and op.outer)]
        options = {op.name: found for op in fit if (found := list(op.options(shape)))}
        name = self.choose(list(options))
        return (name, *self.choose(options[name]))

    def around(
        self, form: str, shape: Shape, arguments: tuple[int, ...], longest: tuple[int, ...]
    ) -> Step:
        """A step with bodies, each of which ends in the shape that it began with."""
        before = around.shape_inside(form, shape, *arguments)
        bodies = []
        for _ in range(around.body_count(form)):
            steps, after = self.steps(before, longest, inside=True)
            bodies.append((*steps, *self.back(after, before)))
        return (form, *arguments, *bodies)

    def back(self, shape: Shape, wanted: Shape) -> Iterator[Step]:
        """Steps from one shape to another."""
        if len(shape) == 3 and shape[1:] != wanted[1:]:
            yield ("resize", *wanted[1:], self.choose(("nearest", "bilinear")))
        now, n = channels(shape), channels(wanted)
        if now > n:
            yield self.choose([("crop", 0, n), ("linear", n), ("crop", (now - n) // 2, n)])
        elif now < n:
            first = (n - now) // 2
            pads = [("pad", 0, n - now), ("pad", first, n - now - first)]
            yield self.choose([("linear", n), *pads])
