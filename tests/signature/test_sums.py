"""Sums of axes in rules: what they do to layouts, and to networks with an op that obeys them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from networks import Apply, f
from signature.test_apply import features, movable, parameter
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.layouts.ids import NOWHERE, Ids
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.units import Units
from fxrebasin.rules import table
from fxrebasin.rules.call import Call
from fxrebasin.signature.apply import apply

torch.set_num_threads(1)


def found(units: Units, ids: Ids) -> list[int]:
    return [int(i) for i in units.find(ids).ravel()]


# layouts


def test_the_sides_of_a_sum_come_one_after_the_other() -> None:
    units = Units()
    a, b = units.fresh(2), units.fresh(3)
    x, y = features(units, (4, 2), a), features(units, (4, 3), b)
    out = apply(units, "n a, n b -> n (a + b)", [x, y], (4, 5))
    assert out.shape == (4, 5)
    (both,) = movable(units, out)
    assert found(units, both) == [*a, *b]


def test_halves_that_share_a_letter_meet() -> None:
    units = Units()
    a = units.fresh(6)
    out = apply(units, "... (a + a) -> ... a", [features(units, (2, 4, 6), a)], (2, 4, 3))
    (gated,) = movable(units, out)
    assert gated.shape == (1, 1, 3)
    assert found(units, a) == found(units, gated) * 2
    assert len(set(found(units, a))) == 3


def test_parts_of_a_parameter_adopt_what_they_meet() -> None:
    """Both halves of the weight, scales and shifts, have the units of ``x``."""
    units = Units()
    a, w = units.fresh(3), parameter(units, 6)
    x = features(units, (2, 3), a)
    out = apply(units, "n a, (a + a) -> n a", [x, w.layout()], (2, 3))
    (scaled,) = movable(units, out)
    assert found(units, scaled) == a.tolist()
    halves = sorted(found(units, c) for c in w.named())
    nothing = [NOWHERE] * 3
    assert halves == sorted([[*a, *nothing], [*nothing, *a]])


def test_units_on_different_sides_are_not_exchangeable() -> None:
    units = Units()
    a = units.fresh(5)
    apply(units, "n (a + b) -> a b", [features(units, (2, 5), a)], (3, 2))
    labels: dict[int, list[int]] = {i: [] for i in a.tolist()}
    for ids, values in units.labels:
        for i, value in zip(ids.tolist(), values.tolist(), strict=True):
            if i in labels:
                labels[i].append(value)
    assert labels[a[0]] == labels[a[1]] == labels[a[2]]
    assert labels[a[3]] == labels[a[4]]
    assert labels[a[0]] != labels[a[3]]


def test_a_part_depends_on_what_is_summed_over_the_other_side() -> None:
    """One softmax over both sides: also where ``a`` is uniform, rows differ as ``b`` does."""
    units = Units()
    rows, b = units.fresh(3), units.fresh(2)
    x = apply(
        units,
        "r a, r b -> r (a + b)",
        [Layout((1, 2)), Layout((3, 2), (rows.reshape(3, 1), b.reshape(1, 2)))],
        (3, 4),
    )
    out = apply(units, "r (a + b) -> r (a + b)", [x], (3, 4), {"a": 2})
    first = {
        tuple(int(c[r, min(0, c.shape[1] - 1)]) for c in out.coordinates if c.shape[0] > 1)
        for r in range(3)
    }
    assert len(first) == 3


def test_an_axis_of_size_one_broadcasts_to_both_sides() -> None:
    units = Units()
    a = units.fresh(5)
    operands = [features(units, (2, 5), a), Layout((2, 1))]
    out = apply(units, "n (a + b), n (a + b) -> n (a + b)", operands, (2, 5), {"a": 2})
    assert [found(units, c) for c in movable(units, out)] == [a.tolist()]


@pytest.mark.parametrize("size", [0, 5])
def test_a_side_may_be_empty(size: int) -> None:
    units = Units()
    a = units.fresh(5)
    x = features(units, (2, 5), a)
    out = apply(units, "n (a + b) -> n (b + a)", [x], (2, 5), {"a": size})
    assert [found(units, c) for c in movable(units, out)] == [a.tolist()]


# networks


@dataclass(frozen=True)
class Case:
    """A function of the hidden units ``h`` and parameters, and the rule it obeys."""

    text: str
    function: Callable[..., Tensor]
    log_order: float
    """Of the group of the network around it, whose layer in front has ``width`` units."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Of the parameters."""
    sizes: dict[str, int] = field(default_factory=dict)
    width: int = 6
    tokens: int = 0
    commutes: float = 0.0
    """Of what can be exchanged besides, as a product does not mind its order: no text says that."""


def block_diagonal(h: Tensor, w: Tensor, v: Tensor) -> Tensor:
    return torch.cat([h[:, :4] @ w.T, h[:, 4:] @ v.T], 1)


def packed_projection(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
    q, k, v = F.linear(h, w, b).split([2, 4, 3], -1)
    return torch.cat([q.sin(), k.cos(), v.tanh()], -1)


def partly_grouped(h: Tensor, w: Tensor, v: Tensor) -> Tensor:
    grouped = torch.einsum("ngi,goi->ngo", h[:, :4].unflatten(1, (2, 2)), w.unflatten(0, (2, 3)))
    return torch.cat([grouped.flatten(1), h[:, 4:] @ v.T], 1)


def normalised_together(h: Tensor) -> Tensor:
    raised = torch.cat([h[:, :4].exp(), 2 * h[:, 4:].exp()], 1)
    return raised / raised.sum(1, keepdim=True)


CASES = {
    "concatenated_by_torch": Case(
        "n a, n b -> n (a + b)",
        lambda h, w: torch.cat([h, w.expand(len(h), -1)], 1),
        f(6) + f(4),
        ((1, 4),),
    ),
    "gated": Case("... (a + a) -> ... a", lambda h: F.glu(h), f(3)),
    "gated_with_tokens": Case("... (a + a) -> ... a", lambda h: F.glu(h), f(3), tokens=5),
    "doubled": Case("... a -> ... (a + a)", lambda h: torch.cat([h.relu(), (-h).relu()], -1), f(6)),
    "exchanged": Case(
        "n (a + b) -> n (b + a)",
        lambda h: torch.cat([h[:, 4:].sin(), h[:, :4].exp()], 1),
        f(4) + f(2),
        sizes={"a": 4},
    ),
    "multiplied_out": Case(
        "n (a + b) -> n (a b)",
        lambda h: (h[:, :4, None] * h[:, None, 4:].exp()).flatten(1),
        f(4) + f(2),
        sizes={"a": 4},
    ),
    "block_diagonal": Case(
        "n (a + b), o a, p b -> n (o + p)",
        block_diagonal,
        f(4) + f(2) + f(3) + f(5),
        ((3, 4), (5, 2)),
    ),
    "packed_projection": Case(
        "... i, (q + k + v) i, (q + k + v) -> ... (q + k + v)",
        packed_projection,
        f(6) + f(2) + f(4) + f(3),
        ((9, 6), (9,)),
        {"q": 2, "k": 4},
        tokens=3,
    ),
    "partly_grouped": Case(
        "n (g i + r), (g o) i, s r -> n (g o + s)",
        partly_grouped,
        f(2) + 2 * f(2) + 2 * f(3) + f(2) + f(4),
        ((6, 2), (4, 2)),
        {"g": 2},
    ),
    "dot_products_per_head": Case(
        "... (h d + h d) -> ... h",
        lambda h: (h.unflatten(1, (2, 3, 2))[:, 0] * h.unflatten(1, (2, 3, 2))[:, 1]).sum(2),
        f(3) + 3 * f(2),
        commutes=6 * f(2),
        sizes={"h": 3},
        width=12,
    ),
    "normalised_together": Case(
        "n (a + b) -> n (a + b)", normalised_together, f(4) + f(2), sizes={"a": 4}
    ),
    "a_token_in_front": Case(
        "b n d, 1 1 d -> b (1 + n) d",
        lambda h, token: torch.cat([token.expand(len(h), -1, -1), h], 1),
        f(6),
        ((1, 1, 6),),
        tokens=3,
    ),
}  # fmt: skip

LIBRARY = torch.library.Library("fxrebasin_test_sums", "FRAGMENT")
NUMBER = count()


class Around(nn.Module):
    """A layer of hidden units, the function with its parameters, and a head."""

    def __init__(self, case: Case, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.function = nn.Linear(3, case.width), Apply(function)
        self.parameters_of_it = nn.ParameterList(torch.randn(shape) for shape in case.shapes)
        with torch.no_grad():
            width = self.middle(inputs(case)).shape[-1]
        self.head = nn.Linear(width, 2)

    def middle(self, x: Tensor) -> Tensor:
        found: Tensor = self.function(self.first(x).tanh(), *self.parameters_of_it)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(x).tanh())


def inputs(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, *([case.tokens] if case.tokens else []), 3, generator=generator)


def as_op(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """The function as an op of its own, with the rule that the case has."""
    name = f"op{next(NUMBER)}"
    LIBRARY.define(f"{name}(Tensor h, Tensor[] parameters) -> Tensor")
    LIBRARY.impl(name, lambda h, ws: case.function(h, *ws).clone(), "CompositeExplicitAutograd")
    op = getattr(torch.ops.fxrebasin_test_sums, name)

    def rule(call: Call, h: Layout, parameters: list[Layout]) -> Layout:
        return call.signature(case.text, h, *parameters, **case.sizes)

    monkeypatch.setitem(table.RULES, op, rule)
    return lambda h, *ws: op(h, list(ws))


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_the_group_that_plain_torch_has(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    plain, ruled = Around(case, case.function), Around(case, as_op(case, monkeypatch))
    x = inputs(case)
    expected = fr.analyze(plain, args=(x,))
    symmetry = fr.analyze(ruled, args=(x,))
    assert not symmetry.unknown_ops
    assert symmetry.log_order == pytest.approx(case.log_order)
    assert expected.log_order == pytest.approx(case.log_order + case.commutes)


@pytest.mark.parametrize("name", CASES)
def test_permutations_that_a_rule_allows_leave_the_function_unchanged(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    model = Around(case, as_op(case, monkeypatch))
    x = inputs(case)
    symmetry = fr.analyze(model, args=(x,))
    randomised = randomise(copy.deepcopy(model))
    expected = evaluate(randomised, (x,))
    for seed in range(3):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(
            randomised
        )
        assert difference(evaluate(moved, (x,)), expected) < 1e-10
