"""Norms and sums: what takes all units of a block together, or statistics of each.

A sum of squares is kept by rotations, a mean by what keeps the vector of ones, and layer norm by
rotations that do. The weight of a norm multiplies units one by one, and with it nothing rotates; it
may be that a scaling of the block makes it one, and then it is *absorbed* by what reads it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction

from ..layouts.events import Event, Value
from ..symmetry.kinds import MONOMIAL, ORTHOGONAL, ORTHOGONAL_ONES, POSITIVE, Kind
from .contractions import multiply
from .pointwise import power, product
from .scene import Letters, Scene, Seen, covered, meeting


@dataclass
class Ledger:
    """What statements about several ops need to know of one another."""

    absorbed: Collection[int] = ()
    """The numbers of the vectors that are taken as one."""
    vectors: dict[tuple[str, int], int] = field(default_factory=dict)
    """Per block and number of a value that multiplies it unit by unit, a frame of that."""
    squares: dict[int, Event] = field(default_factory=dict)
    """Per number of a value, the op that has squared another to make it."""
    variances: dict[int, set[float]] = field(default_factory=dict)
    """Per number of a running variance, what batch norms add to it."""


@dataclass(frozen=True)
class _Axes:
    """The letters of what a norm is given, in the order in which frames are compared."""

    of_operand: Letters
    of_weight: Letters
    inside: frozenset[str]
    """The axes over which statistics are taken."""
    order: Letters
    groups: int = 1


def layer_norm(scene: Scene, event: Event, ledger: Ledger) -> None:
    """Layer norm, over axes that blocks lie on; what they are beside, they are scaled by."""
    _, normalised, weight, bias = event.args[:4]
    axes = _last_axes(event, len(normalised))
    _normalise(scene, event, axes, ledger, ORTHOGONAL_ONES, weight, bias)


def rms_norm(scene: Scene, event: Event, ledger: Ledger) -> None:
    """The same without the mean, and without a bias."""
    _, normalised, weight = event.args[:3]
    _normalise(scene, event, _last_axes(event, len(normalised)), ledger, ORTHOGONAL, weight, None)


def group_norm(scene: Scene, event: Event, ledger: Ledger) -> None:
    """Layer norm over the units of each group, at all places together."""
    x, weight, bias, *_, groups, _ = event.args
    places = [f"s{d}" for d in range(x.layout.ndim - 2)]
    axes = _Axes(
        ["n", "g c", *places],
        ["g c"],
        frozenset(["c", *places]),
        ["n", "g", "c", *places],
        groups,
    )
    _normalise(scene, event, axes, ledger, ORTHOGONAL_ONES, weight, bias)


def _last_axes(event: Event, normalised: int) -> _Axes:
    order = [str(d) for d in range(event.results[0].layout.ndim)]
    last = order[len(order) - normalised :]
    return _Axes(order, last, frozenset(last), order)


def _normalise(
    scene: Scene,
    event: Event,
    axes: _Axes,
    ledger: Ledger,
    kind: Kind,
    weight: object,
    bias: object,
) -> None:
    def see(value: object, letters: Letters) -> list[Seen]:
        return scene.see(value, letters, axes.order, groups=axes.groups)

    inside = [f for f in see(event.args[0], axes.of_operand) if f.on <= axes.inside]
    for f in inside:
        scene.cap(f.number, kind)
        scene.frames.fix_scale(f.number)
        if kind.ones:
            scene.frames.fix_sign(f.number)
    weights = see(weight, axes.of_weight)
    if isinstance(weight, Value) and weight.number in ledger.absorbed:
        scene.say_nothing([weight])
        weights = []
    for h in see(event.results[0], axes.of_operand):
        given, scaling = meeting(h, inside), meeting(h, weights)
        if not given or not covered(h, given):
            continue
        if scaling:
            normed = scene.frames.new(scene.block)
            for f in given:
                scene.same(f.number, normed)
            multiply(scene, h, [Seen(normed, h.places, h.on)], scaling)
            _note_vectors(scene, weight, scaling, ledger)
        else:
            for f in given:
                scene.same(f.number, h.number)
        if isinstance(bias, Value):
            scene.add([h], [(see(bias, axes.of_weight), bias.is_zero)])


def _note_vectors(scene: Scene, value: object, frames: list[Seen], ledger: Ledger) -> None:
    if isinstance(value, Value):
        for f in frames:
            ledger.vectors[scene.block, value.number] = f.number


def product_with_vectors(scene: Scene, event: Event, ledger: Ledger) -> None:
    """Units that meet multiply their scales, but for vectors that are absorbed; what could be, is
    noted."""
    operands = [v for v in event.args if isinstance(v, Value)]
    absorbed = [v for v in operands if v.number in ledger.absorbed]
    for vector in absorbed:
        scene.say_nothing([vector])
        scene.found = {**scene.found, vector.number: []}
    product(scene, event)
    for v in operands:
        for f in scene.on(v):
            ledger.vectors[scene.block, v.number] = f.number


def batch_norm(scene: Scene, event: Event, ledger: Ledger) -> None:
    """Every unit has a scale before, which its statistics share, and one after, which its weight
    and bias share."""
    x, weight, bias, mean, variance = event.args[:5]
    is_training = event.op != "aten::_native_batch_norm_legit_no_training" and event.args[5]
    if is_training or not all(isinstance(v, Value) for v in (mean, variance)):
        return
    out = event.results[0]
    order = [str(d) for d in range(out.layout.ndim)]
    ledger.variances.setdefault(variance.number, set()).add(float(event.args[-1]))
    own = {
        name: scene.see(value, order[1:2], order)
        for name, value in (("weight", weight), ("bias", bias), ("mean", mean), ("var", variance))
    }
    given = scene.see(x, order, order)
    for h in scene.see(out, order, order):
        met = meeting(h, given)
        found = {name: meeting(h, frames) for name, frames in own.items()}
        if not all(covered(h, found[name]) for name in ("mean", "var")) or len(met) != 1:
            continue
        (f,) = met
        scene.cap(h.number, MONOMIAL)
        scene.cap(f.number, MONOMIAL)
        for s in found["mean"]:
            scene.multiply([(s.number, 1), (f.number, -1)])
        for s in found["var"]:
            scene.cap(s.number, POSITIVE)
            scene.frames.equate([(s.number, Fraction(1)), (f.number, Fraction(-2))])
            scene.frames.fix_sign(s.number)
        _scale_after(scene, h, f, found["weight"], found["bias"], has_bias=bias is not None)


def _scale_after(
    scene: Scene, h: Seen, f: Seen, weights: list[Seen], biases: list[Seen], *, has_bias: bool
) -> None:
    for s in weights:
        scene.cap(s.number, MONOMIAL)
        scene.frames.equate([(s.number, Fraction(1)), (h.number, Fraction(-1))])
        scene.frames.cancel([s.number, f.number, h.number])
    if not covered(h, weights):
        scene.frames.fix_scale(h.number)
        scene.frames.cancel([f.number, h.number])
    for s in biases:
        scene.multiply([(s.number, 1), (h.number, -1)])
    if has_bias and not covered(h, biases):
        scene.keep_ones(h.number)


def total(scene: Scene, event: Event, ledger: Ledger) -> None:
    """A sum or a mean; of squares over a whole block, what rotations keep."""
    x = event.args[0]
    reduced, given, results = _reduced(scene, event, _dims(event, 1))
    squared = ledger.squares.get(x.number)
    if squared is not None and any(not f.on <= reduced for f in given):
        power_two(scene, squared)
    for f in given:
        if not f.on <= reduced:
            if not f.on & reduced:
                scene.same_where_they_meet([f], results)
        elif squared is None:
            scene.keep_ones(f.number)
        else:
            _sum_squares(scene, f.number, x, squared.args[0])


def _sum_squares(scene: Scene, frame: int, x: Value, source: Value) -> None:
    """A frame of squares is summed over: rotations of what was squared keep the sum."""
    order = [str(d) for d in range(source.layout.ndim)]
    sources = scene.see(source, order, order)
    for f in scene.see(x, order, order):
        if f.number == frame and covered(f, meeting(f, sources)):
            scene.spoken.add(frame)
            for g in meeting(f, sources):
                scene.cap(g.number, ORTHOGONAL)
                scene.frames.fix_scale(g.number)
            return
    for g in sources:
        scene.forbid(g.number)


def power_two(scene: Scene, squared: Event) -> None:
    """What a square says that is not merely summed over."""
    if squared.op == "aten::mul":
        x = squared.args[0]
        squared = Event("aten::square", squared.node, (x,), {}, (x,), squared.results)
    power(scene, squared)


def length(scene: Scene, event: Event, ledger: Ledger) -> None:
    """A Euclidean length, which rotations keep."""
    if (event.args[1] if len(event.args) > 1 else 2) != 2:
        return
    reduced, given, results = _reduced(scene, event, _dims(event, 2))
    for f in given:
        if f.on <= reduced:
            scene.cap(f.number, ORTHOGONAL)
            scene.frames.fix_scale(f.number)
        elif not f.on & reduced:
            for h in meeting(f, results):
                for one in (f, h):
                    scene.cap(one.number, MONOMIAL)
                scene.frames.equate([(h.number, Fraction(1)), (f.number, Fraction(-1))])
                scene.frames.fix_sign(h.number)


def spread(scene: Scene, event: Event, ledger: Ledger) -> None:
    """A variance over a whole block: rotations keep it that keep the mean."""
    reduced, given, _ = _reduced(scene, event, _dims(event, 1))
    for f in given:
        if f.on <= reduced:
            scene.cap(f.number, ORTHOGONAL_ONES)
            scene.frames.fix_scale(f.number)
            scene.frames.fix_sign(f.number)


def largest(scene: Scene, event: Event, ledger: Ledger) -> None:
    """The largest over other axes, which scales as its operands do."""
    reduced, given, results = _reduced(scene, event, _dims(event, 1))
    for f in given:
        if not f.on & reduced:
            for h in meeting(f, results):
                scene.same(f.number, h.number)
                scene.cap(f.number, POSITIVE)
                scene.frames.fix_sign(f.number)


def _dims(event: Event, position: int) -> object:
    given = event.args[position] if len(event.args) > position else None
    return event.kwargs.get("dim", given)


def _reduced(
    scene: Scene, event: Event, dims: object
) -> tuple[frozenset[str], list[Seen], list[Seen]]:
    """The letters that are reduced over, and the frames of operand and result."""
    x, out = event.args[0], event.results[0]
    ndim = x.layout.ndim
    order = [str(d) for d in range(ndim)]
    listed = [dims] if isinstance(dims, int) else list(dims) if isinstance(dims, list) else []
    inside = {d % ndim for d in listed} if listed else set(range(ndim))
    if out.layout.ndim == ndim:
        made, every = [f"r{d}" if d in inside else str(d) for d in range(ndim)], order
        every = [*order, *(name for name in made if name not in order)]
    else:
        made, every = [str(d) for d in range(ndim) if d not in inside], order
    given = scene.see(x, order, every)
    return frozenset(str(d) for d in inside), given, scene.see(out, made, every)
