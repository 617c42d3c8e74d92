"""Variances of units over data, batch by batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxrebasin.errors import InvalidArgumentError
from fxrebasin.merging.activation_variance import Variances


class Net(nn.Module):
    """A convolution, a norm, a layer over the last axis, one that is called twice, and a bare
    parameter; takes its input by name as well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(2, 3, 1)
        self.norm = nn.BatchNorm1d(3)
        self.twice = nn.Linear(5, 5)
        self.unused = nn.Linear(1, 1)
        self.scale = nn.Parameter(torch.ones(5))
        self.drop = nn.Dropout()

    def forward(self, x: Tensor, shift: float = 0.0) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return self.drop(self.twice(self.twice(y))) * self.scale + shift


def data(sizes: tuple[int, ...] = (4, 7, 1)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 2, 5, generator=generator) * 3 + 20 for n in sizes]


def test_variances_are_those_of_all_examples_and_positions_at_once() -> None:
    model = Net().eval()
    x = torch.cat(data())
    with torch.no_grad():
        conv = model.conv(x)
        norm = model.norm(conv)
        first = model.twice(norm)
        twice = torch.cat([first, model.twice(first)])
        whole = model(x)
    found = Variances(model.train(), data()).under(model.state_dict().get)
    expected = {
        "conv": conv.transpose(1, 2).reshape(-1, 3).var(0, correction=0).mean(),
        "norm": norm.transpose(1, 2).reshape(-1, 3).var(0, correction=0).mean(),
        "twice": twice.reshape(-1, 5).var(0, correction=0).mean(),
        "": whole.reshape(-1, 5).var(0, correction=0).mean(),
    }
    assert found == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-4)
    assert all(module.training for module in model.modules())


def test_only_so_many_batches_are_read() -> None:
    model = Net()
    one, all_of_it = (
        Variances(model, data(), batches=n).under(model.state_dict().get) for n in (1, 3)
    )
    first = Variances(model, data()[:1]).under(model.state_dict().get)
    assert one == first
    assert one != all_of_it


def test_variances_are_measured_under_the_weights_that_are_given() -> None:
    model = Net()
    state = {n: t.clone() for n, t in model.state_dict().items()}
    half = {n: t / 2 if t.is_floating_point() else t for n, t in state.items()}
    measured = Variances(model, data())
    one, other = measured.under(state.get), measured.under(half.get)
    assert other["conv"] == pytest.approx(one["conv"] / 4)
    assert measured.under(state.get) == one
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())


def test_no_batches_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="data: expected batches of inputs, found none"):
        Variances(Net(), []).under(Net().state_dict().get)
