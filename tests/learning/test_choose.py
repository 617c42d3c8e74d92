"""Several alignments are tried, the best model half way decides, and nothing else is changed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError, WorseMidpointWarning


def net(activation: Callable[[], nn.Module], seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), activation(), nn.Linear(12, 3)).eval()


X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


class Case:
    """B is A after a random element of the group; A's outputs are what is wanted."""

    def __init__(self, activation: Callable[[], nn.Module], group: Any = "linear") -> None:
        self.a = net(activation)
        self.symmetry = fr.analyze(self.a, (X,))
        element = fr.Transform.random(self.symmetry, torch.Generator().manual_seed(1), group=group)
        self.b = element.apply_to(self.a)
        self.wanted = self.a(X).detach()

    def evaluate(self, model: nn.Module) -> Tensor:
        return F.mse_loss(model(X), self.wanted)

    def choose(self, **options: Any) -> Any:
        given = {"evaluate": self.evaluate, "args": (X,), "progress": False, **options}
        return fr.choose_alignment(self.b, to=self.a, **given)


@pytest.mark.parametrize(
    ("activation", "names"),
    [
        (nn.GELU, ["weights, signed", "activations, signed"]),
        (nn.Tanh, ["weights, signed", "activations, signed"]),
        (
            nn.Identity,
            ["weights, signed", "activations, signed", "weights, linear", "activations, linear"],
        ),
    ],
)
def test_what_was_planted_is_chosen(activation: Callable[[], nn.Module], names: list[str]) -> None:
    case = Case(activation)
    chosen = case.choose()
    report = chosen.report
    assert isinstance(chosen, fr.Chosen)
    assert chosen.__class__.__name__ == "Sequential"
    assert [trial.name for trial in report.tried] == ["as it came", *names]
    assert report.chosen.loss == min(trial.loss for trial in report.tried) < 1e-6
    torch.testing.assert_close(chosen(X), case.b(X), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(report.reference(X), case.a(X), atol=1e-5, rtol=1e-4)
    half_way = fr.interpolate(report.reference, chosen, case.evaluate, steps=3, progress=False)
    assert half_way.midpoint["loss"] == pytest.approx(report.chosen.loss, abs=1e-7)
    assert all(name in str(report) for name in names) and "verified" in str(report)


def test_nothing_else_is_changed() -> None:
    case = Case(nn.Identity)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (case.a, case.b)]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same = case.choose(), case.choose()
    assert torch.rand(1) == expected
    assert all(torch.equal(x, same.state_dict()[n]) for n, x in one.state_dict().items())
    for model, kept in zip((case.a, case.b), before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


def test_what_was_chosen_can_be_refined() -> None:
    case = Case(nn.Identity)
    chosen = case.choose()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.mse_loss(model(batch), case.wanted)

    refined = fr.refine(chosen, [X], loss, steps=2, learning_rate=1e-6, progress=False)
    assert refined.report.symmetry is chosen.report.symmetry
    torch.testing.assert_close(refined(X), case.b(X), atol=1e-5, rtol=1e-4)


def test_where_alignment_makes_it_worse_b_stays_and_that_is_said() -> None:
    case = Case(nn.GELU)
    losses = iter([1.0, 3.0, 2.0])
    with pytest.warns(
        WorseMidpointWarning, match=r"is 1 as they came, and 2 .*activations"
    ) as told:
        chosen = case.choose(evaluate=lambda model: next(losses))
    assert told[0].filename == __file__
    assert chosen.report.chosen.name == "as it came"
    assert chosen.report.alignment is chosen.report.verification is None
    assert chosen.report.reference is case.a
    assert all(torch.equal(x, case.b.state_dict()[n]) for n, x in chosen.state_dict().items())
    assert "chosen" in str(chosen.report)


def test_what_is_as_good_without_alignment_is_left_alone() -> None:
    case = Case(nn.GELU)
    case.b = net(nn.GELU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert case.choose().report.chosen.name == "as it came"


def test_nan_is_worst() -> None:
    losses = iter([math.nan, math.nan, 2.0])
    chosen = Case(nn.GELU).choose(evaluate=lambda model: {"loss": next(losses), "other": 1.0})
    assert chosen.report.chosen.name == "activations, signed"


def test_groups_may_be_named() -> None:
    chosen = Case(nn.Identity).choose(groups=["permutations"])
    names = ["as it came", "weights, permutations", "activations, permutations"]
    assert [trial.name for trial in chosen.report.tried] == names
    with pytest.raises(InvalidArgumentError, match=r"groups: .*'permutations', 'signed', 'linear'"):
        Case(nn.Identity).choose(groups=["rotations"])
