"""Rules as strings: what they do to units."""

from __future__ import annotations

import numpy as np

from fxrebasin.layouts.coordinates import along, positional
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.units import Units
from fxrebasin.signature.apply import apply


def parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("p",), shape, False, tuple(units.fresh(n) for n in shape))


def features(units: Units, shape: tuple[int, ...], ids: Ids, dim: int = -1) -> Layout:
    """Pinned positions everywhere, units along one dimension."""
    dim = dim % len(shape)
    others = tuple(d for d in range(len(shape)) if d != dim)
    return Layout(shape, (*positional(units, shape, others), along(ids, dim, len(shape))))


def movable(units: Units, layout: Layout) -> list[Ids]:
    return [c for c in layout.coordinates if not units.is_pinned(c).all()]


def test_a_linear_layer() -> None:
    units = Units()
    inputs, w, b = units.fresh(4), parameter(units, 3, 4), parameter(units, 3)
    x = features(units, (2, 5, 4), inputs)
    out = apply(units, "... i, o i, o -> ... o", [x, w.layout(), b.layout()], (2, 5, 3))
    assert out.shape == (2, 5, 3)
    (outputs,) = movable(units, out)
    assert outputs.shape == (1, 1, 3)
    named = {c.shape: units.find(c).ravel().tolist() for c in w.coordinates}
    assert named[(1, 4)] == inputs.tolist()
    assert named[(3, 1)] == units.find(outputs).ravel().tolist()
    assert [units.find(c).tolist() for c in b.coordinates] == [named[(3, 1)]]


def test_an_operand_may_be_absent() -> None:
    units = Units()
    w = parameter(units, 3, 4)
    x = features(units, (2, 4), units.fresh(4))
    for operands in ([x, w.layout(), None], [x, w.layout()]):
        out = apply(units, "... i, o i, o -> ... o", operands, (2, 3))
        assert len(movable(units, out)) == 1


def test_a_grouped_convolution_ties_channels_to_groups() -> None:
    units = Units()
    inputs, w = units.fresh(4), parameter(units, 6, 2, 3)
    x = features(units, (1, 4, 8), inputs, 1)
    text = "n (g i) _..., (g o) i _..., (g o) -> n (g o) _..."
    out = apply(units, text, [x, w.layout(), None], (1, 6, 6), {"g": 2})
    assert out.shape == (1, 6, 6)
    outputs = next(c for c in movable(units, out) if c.size == 6).ravel()
    parents: dict[int, int] = {}
    for child, parent, _ in units.parents:
        parents |= zip(units.find(child).tolist(), units.find(parent).tolist(), strict=True)
    above = [parents[int(i)] for i in units.find(np.concatenate([inputs, outputs]))]
    assert above[:4] == [above[0]] * 2 + [above[2]] * 2
    assert above[4:] == [above[0]] * 3 + [above[2]] * 3
    assert above[0] != above[2]


def test_kernel_taps_and_new_positions_are_pinned() -> None:
    units = Units()
    x = features(units, (1, 2, 8), units.fresh(2), 1)
    w = parameter(units, 3, 2, 5)
    out = apply(units, "n i _, o i _ -> n o _", [x, w.layout()], (1, 3, 4))
    pinned = [c for c in out.coordinates if units.is_pinned(c).all()]
    assert any(c.shape == (1, 1, 4) for c in pinned)
    taps = [c for c in w.coordinates if c.shape == (1, 1, 5)]
    assert taps
    assert all(units.is_pinned(c).all() for c in taps)


def test_axes_of_size_one_broadcast() -> None:
    units = Units()
    a = units.fresh(3)
    x = features(units, (2, 3), a)
    out = apply(units, "n c, n c -> n c", [x, Layout((1, 3), ())], (2, 3))
    (left,) = movable(units, out)
    assert left.ravel().tolist() == a.tolist()


def test_letters_that_are_missing_on_the_right_are_summed() -> None:
    units = Units()
    a = units.fresh(3)
    out = apply(units, "n c -> n", [features(units, (2, 3), a)], (2,))
    assert out.shape == (2,)
    assert not movable(units, out)
    assert not units.is_pinned(a).any()
