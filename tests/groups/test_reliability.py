"""What is asked of every unusual network (:mod:`reliability`) can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import f
from reliability import Case, Snapshot, X, check, made
from torch import Tensor, nn

torch.set_num_threads(1)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh())


PLAIN = Case("plain", Plain, (X,), f(6))


def test_an_ordinary_network_passes() -> None:
    check(PLAIN)


def test_another_group_is_noticed() -> None:
    with pytest.raises(AssertionError):
        check(replace(PLAIN, log_order=f(5)))


def test_a_permutation_that_changes_the_function_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def see_inside(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return [model.get_parameter("first.bias").detach().clone()]

    monkeypatch.setitem(check.__globals__, "outputs", see_inside)
    with pytest.raises(AssertionError, match="computes something else"):
        check(PLAIN)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda model: model.calls.add_(1), "calls was written to"),
        (lambda model: model.first.weight.data.mul_(2), "first.weight was written to"),
        (lambda model: model.register_buffer("calls", torch.zeros(())), "calls was replaced"),
        (lambda model: model(X).sum().backward(), "first.weight has a gradient"),
        (lambda model: model.first.bias.requires_grad_(False), "was frozen"),
        (lambda model: model.head.train(not model.head.training), "the mode of 'head' was changed"),
        (lambda model: X.add_(1), "an example input was changed"),
        (lambda model: torch.rand(1), "the random state was changed"),
    ],
)
def test_what_is_done_to_a_model_is_noticed(
    damage: Callable[[nn.Module], Any], complaint: str
) -> None:
    kept = X.clone()
    model = made(PLAIN, 0)
    snapshot = Snapshot(model, (X,))
    snapshot.check()
    damage(model)
    try:
        with pytest.raises(AssertionError, match=complaint):
            snapshot.check()
    finally:
        X.copy_(kept)
