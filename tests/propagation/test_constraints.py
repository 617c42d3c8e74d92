"""Pins and ties on the user's word, and outputs that may move."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.propagation.constraints import Constraint

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def f(n: int) -> float:
    return math.lgamma(n + 1)


def test_a_pin_keeps_the_units_of_an_axis_in_place() -> None:
    symmetry = fr.analyze(mlp(), (X,), constraints=[fr.pin("0.weight", 0)])
    assert symmetry.log_order == pytest.approx(f(6))
    assert [b.name for b in symmetry] == ["2.weight[0]"]
    reasons = {(p.parameter, p.dim): p.reason for p in symmetry.pinned}
    for axis in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        assert reasons[axis] == "pinned by the user: 0.weight, 0"


def test_a_pin_counts_axes_from_the_end_as_well() -> None:
    symmetry = fr.analyze(mlp(), (X,), constraints=[fr.pin("2.weight", -1)])
    assert [b.name for b in symmetry] == ["2.weight[0]"]


def test_a_pin_holds_heads_and_the_features_in_them() -> None:
    model = nn.Sequential(nn.MultiheadAttention(6, 2, batch_first=True))
    attention = model[0]
    assert isinstance(attention, nn.MultiheadAttention)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    x = torch.randn(2, 5, 6)
    assert fr.analyze(Net(), (x,)).movable_units > 0
    pinned = fr.analyze(
        Net(),
        (x,),
        constraints=[fr.pin("attention.in_proj_weight", 0), fr.pin("attention.out_proj.weight", 1)],
    )
    assert pinned.movable_units == 0


def test_a_tie_has_two_axes_move_together() -> None:
    tied = fr.tie(("0.weight", 0), ("2.weight", 0))
    symmetry = fr.analyze(mlp(), (X,), constraints=[tied])
    assert symmetry.log_order == pytest.approx(f(6))
    (block,) = symmetry
    assert {("0.weight", 0), ("2.weight", 0), ("2.weight", 1), ("4.weight", 1)} <= set(block.axes)
    model = randomise(mlp())
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(model)
    assert difference(evaluate(moved, (X,)), evaluate(model, (X,))) < 1e-10


def test_a_tie_to_a_pinned_axis_pins() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    assert fr.analyze(model, (X,)).movable_units == 2
    symmetry = fr.analyze(model, (X,), constraints=[fr.tie(("0.weight", 0), ("1.weight", 0))])
    assert symmetry.movable_units == 0


def test_constraints_reach_alignment() -> None:
    a, b = mlp(), mlp()
    symmetry = fr.analyze(b, args=(X,), constraints=[fr.pin("0.weight", 0)])
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert torch.equal(aligned.get_parameter("0.weight"), b.get_parameter("0.weight"))
    assert not torch.equal(aligned.get_parameter("2.weight"), b.get_parameter("2.weight"))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mix = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 8, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.enter(x))


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        (fr.pin("mix.wieght", 0), r"no parameter 'mix.wieght' to pin or tie; it has enter.weight"),
        (fr.pin("mix.weight", 3), r"'mix.weight' has 3 axes, so it has no axis 3"),
        (fr.tie(("enter.weight", 0), ("mix.weight", 1)), r"has 8 entries along axis 0.*has 4"),
        (
            fr.tie(("enter.weight", 1), ("mix.weight", 1)),
            r"has 3 entries along axis 1.*only axes of one size can be tied",
        ),
        (
            fr.tie(("mix.weight", 1), ("mix.weight", 1)),
            r"axis 1 of 'mix.weight' holds other units for every index on its other axes",
        ),
    ],
)
def test_constraints_that_make_no_sense(constraint: Constraint, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        fr.analyze(Grouped(), (torch.randn(2, 3, 5),), constraints=[constraint])


# free outputs


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mean, self.spread = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        h = self.enter(x).relu()
        return self.mean(h), {"spread": self.spread(h).exp()}


def test_free_outputs_move_and_say_how() -> None:
    kept = fr.analyze(Encoder(), (X,))
    assert kept.log_order == pytest.approx(f(6))
    assert kept.outputs == ()
    free = fr.analyze(Encoder(), (X,), free_outputs=True)
    assert free.log_order == pytest.approx(f(6) + f(4) + f(5))
    assert [o.shape for o in free.outputs] == [(4, 4), (4, 5)]
    assert [[g.axes for g in o.groups] for o in free.outputs] == [[(1,)], [(1,)]]
    model = randomise(Encoder())
    permutation = fr.Permutation.random(free, torch.Generator().manual_seed(1))
    expected = [
        permutation.permute(o, t) for o, t in zip(free.outputs, evaluate(model, (X,)), strict=True)
    ]
    assert difference(evaluate(permutation.apply_to(model), (X,)), expected) < 1e-10
    assert difference(evaluate(model, (X,)), expected) > 1e-3


def test_free_outputs_are_kept_in_json() -> None:
    free = fr.analyze(Encoder(), (X,), free_outputs=True)
    again = fr.Symmetry.from_json(free.to_json())
    assert again == free
    assert [o.shape for o in again.outputs] == [(4, 4), (4, 5)]


def test_alignment_with_free_outputs_is_verified() -> None:
    torch.manual_seed(0)
    a, b = Encoder(), Encoder()
    symmetry = fr.analyze(b, args=(X,), free_outputs=True)
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    report = aligned.report
    assert report.verification is not None
    assert report.verification.error < 1e-9
    assert report.symmetry.movable_units == 15
    moved = [
        report.permutation.move(o, t)
        for o, t in zip(report.symmetry.outputs, (b(X)[0], b(X)[1]["spread"]), strict=True)
    ]
    assert torch.allclose(aligned(X)[0], moved[0], atol=1e-5)
    assert torch.allclose(aligned(X)[1]["spread"], moved[1], atol=1e-5)
