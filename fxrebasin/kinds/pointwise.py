"""Ops that act on every entry by itself: what sums, products, powers and activations say."""

from __future__ import annotations

from fractions import Fraction

from ..layouts.events import Event, Value
from ..symmetry.kinds import MONOMIAL, POSITIVE, SIGNED
from .contractions import multiply
from .scene import Scene, Seen, meeting

EXPONENTS = {
    "aten::reciprocal": Fraction(-1),
    "aten::rsqrt": Fraction(-1, 2),
    "aten::sqrt": Fraction(1, 2),
    "aten::square": Fraction(2),
}
"""Ops that are powers of their operand."""


def _all_seen(scene: Scene, event: Event, *values: object) -> list[list[Seen]]:
    """The frames of the result, and of operands that broadcast to it."""
    out = event.results[0]
    order = [str(d) for d in range(out.layout.ndim)]
    found = [scene.see(out, order, order)]
    for value in values:
        ndim = value.layout.ndim if isinstance(value, Value) else 0
        found.append(scene.see(value, order[len(order) - ndim :], order))
    return found


def addition(scene: Scene, event: Event) -> None:
    """A sum, or a difference."""
    x, y = event.args[:2]
    results, left, right = _all_seen(scene, event, x, y)
    scene.add(results, [(left, scene.is_zero(x)), (right, scene.is_zero(y))])


def product(scene: Scene, event: Event) -> None:
    """Units that meet multiply their scales; a number that is the same for all changes nothing."""
    x, y = (*event.args, 1)[:2]
    if scene.is_zero(x) or scene.is_zero(y):  # as is the result, which every linear map keeps
        scene.say_nothing([x, y, *event.results])
        return
    results, left, right = _all_seen(scene, event, x, y)
    for h in results:
        multiply(scene, h, meeting(h, left), meeting(h, right))


def quotient(scene: Scene, event: Event) -> None:
    """As a product, with the inverse of what divides."""
    if event.kwargs.get("rounding_mode") is not None:
        return
    results, left, right = _all_seen(scene, event, *event.args[:2])
    for h in results:
        multiply(scene, h, meeting(h, left), meeting(h, right), power=-1)


def exponent_of(event: Event) -> Fraction | None:
    """Which power of its operand an op is; None for what depends on another tensor."""
    if event.op != "aten::pow":
        return EXPONENTS.get(event.op)
    k = event.args[1]
    is_number = isinstance(k, (int, float)) and isinstance(event.args[0], Value)
    return Fraction(k).limit_denominator(1 << 20) if is_number else None


def power(scene: Scene, event: Event) -> None:
    """Scales are raised to the power; an even one forgets signs, and a fractional one has none."""
    results, given = _all_seen(scene, event, event.args[0])
    if event.op == "aten::abs":
        exponent, is_even = Fraction(1), True
    else:
        found = exponent_of(event)
        if found is None:
            return
        exponent, is_even = found, found.denominator == 1 and found % 2 == 0
    for f in given:
        for h in meeting(f, results):
            for one in (f, h):
                scene.cap(one.number, MONOMIAL if exponent.denominator == 1 else POSITIVE)
            scene.frames.equate([(h.number, Fraction(1)), (f.number, -exponent)])
            if exponent.denominator != 1:
                scene.frames.fix_sign(f.number)
            if is_even or exponent.denominator != 1:
                scene.frames.fix_sign(h.number)
            else:
                scene.frames.cancel([f.number, h.number])


def positive(scene: Scene, event: Event) -> None:
    """ReLU and its kin, whose slopes belong to units and are permuted with them."""
    results, given = _all_seen(scene, event, event.args[0])
    for f in given:
        for h in meeting(f, results):
            scene.same(f.number, h.number)
            scene.cap(f.number, POSITIVE)
            scene.frames.fix_sign(f.number)
    slopes = event.args[1] if len(event.args) > 1 else None
    for frame in scene.on(slopes):
        scene.frames.fix_scale(frame.number)
        scene.frames.fix_sign(frame.number)
        scene.spoken.add(frame.number)


def odd(scene: Scene, event: Event) -> None:
    """tanh and its kin."""
    results, given = _all_seen(scene, event, event.args[0])
    for f in given:
        for h in meeting(f, results):
            scene.same(f.number, h.number)
            scene.cap(f.number, SIGNED)
            scene.frames.fix_scale(f.number)


def even(scene: Scene, event: Event) -> None:
    """The cosine: signs may change before it, and are gone after it."""
    results, given = _all_seen(scene, event, event.args[0])
    for f in given:
        for h in meeting(f, results):
            scene.cap(f.number, SIGNED)
            scene.frames.fix_scale(f.number)
            for fix in (scene.frames.fix_scale, scene.frames.fix_sign):
                fix(h.number)
            scene.spoken.add(h.number)
