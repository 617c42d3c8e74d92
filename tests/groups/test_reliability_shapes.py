"""Axes of size zero and one, batches of one and two, and outputs that are returned twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import Apply, f, real
from reliability import Case, Cases, X, check
from torch import Tensor, nn
from torch.nn.functional import pad

import fxrebasin as fr
from fxrebasin.errors import InvalidInputError

torch.set_num_threads(1)

ONE, ZERO, PADDED, BATCH, TWICE = Cases(), Cases(), Cases(), Cases(), Cases()


# axes of size one


@ONE.model(0.0)
def one_hidden_unit() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 2))


@ONE.model(f(5), torch.linspace(-1, 1, 4)[:, None])
def one_feature_here_and_there() -> nn.Module:
    return nn.Sequential(
        nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 5), nn.LayerNorm(5), nn.Linear(5, 1)
    )


@ONE.model(f(6), real(3, 1, 1)(2))
def one_pixel() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )


@ONE.model(f(6), real(1, 6, 6)(2))
def one_channel_in_and_per_group() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=6), nn.Flatten(), nn.Linear(24, 2)
    )


@ONE.model(2 * f(6), real(3, 6, 6)(2))
def one_channel_and_all_of_them_in_a_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.GroupNorm(6, 6),
        nn.Conv2d(6, 6, 3),
        nn.GroupNorm(1, 6),
        nn.Conv2d(6, 2, 1),
    )


@ONE.hidden(f(6))
def one_row_flipped_rolled_and_normalised(h: Tensor) -> Tensor:
    """None of this does anything to an axis of size one, but softmax makes it ones."""
    row = h.unsqueeze(1)
    return (row.flip(1).roll(1, 1).cumsum(1) * row.softmax(1)).squeeze(1)


@ONE.hidden(f(6))
def one_unit_expanded(h: Tensor) -> Tensor:
    return h + h.mean(1, keepdim=True).expand(-1, 6)


@pytest.mark.parametrize("case", ONE.each())
def test_axes_of_size_one(case: Case) -> None:
    check(case)


# axes of size zero


@ZERO.hidden(f(6))
def concatenated_with_nothing(h: Tensor) -> Tensor:
    nothing = torch.empty(0, dtype=h.dtype)
    return torch.cat([nothing, h[:, :0], torch.cat(h.split([0, 6], 1), 1)], 1)


@ZERO.hidden(f(6))
def sum_of_nothing(h: Tensor) -> Tensor:
    return h + h[:, :0].sum(1, keepdim=True)


@ZERO.hidden(f(6))
def nothing_in_another_shape(h: Tensor) -> Tensor:
    return torch.cat([h, h[:0].t().reshape(4, 0)], 1)


@ZERO.hidden(f(6))
def nothing_written(h: Tensor) -> Tensor:
    h[:, 6:].fill_(3)
    h[:, :0].mul_(2)
    return h


@ZERO.model(f(6))
class RankZero(nn.Module):
    """A low-rank update that is switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.down, self.up = nn.Parameter(torch.zeros(0, 6)), nn.Parameter(torch.zeros(6, 0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.head(h + h @ self.down.t() @ self.up.t())


@ZERO.model(f(6))
class NoClasses(nn.Module):
    """As the head of a feature extractor may have been cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.none = nn.Parameter(torch.zeros(0, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return self.head(h), h @ self.none.t()


@pytest.mark.parametrize("case", ZERO.each())
def test_axes_of_size_zero(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_inputs_that_nothing_can_be_concluded_from_are_refused(shape: tuple[int, ...]) -> None:
    """Every permutation keeps outputs without entries, so they say nothing about the function."""
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    with pytest.raises(InvalidInputError, match="no entries"):
        fr.analyze(net, args=(torch.zeros(shape),))


# constants beside units, which nothing names


@PADDED.hidden(f(6) + 2 * f(2), m=10)
def padded_twice_with_two_values(h: Tensor) -> Tensor:
    return pad(pad(h, (2, 0), value=1.0), (2, 0))


@PADDED.hidden(f(6) + 2 * f(2), m=10)
def padded_before_and_after_an_exponential(h: Tensor) -> Tensor:
    return pad(pad(h, (2, 0)).exp(), (2, 0))


@PADDED.hidden(f(6) + 2 * f(2), m=10)
def padded_beside_ones(h: Tensor) -> Tensor:
    return pad(torch.cat([h, torch.ones(len(h), 2)], 1), (0, 2))


@PADDED.hidden(f(6) + f(2), m=9)
def padded_beside_their_sum(h: Tensor) -> Tensor:
    return pad(torch.cat([h, h.sum(1, keepdim=True)], 1), (0, 2))


@pytest.mark.parametrize("case", PADDED.each())
def test_padding(case: Case) -> None:
    check(case)


# batches; that of every network in ``networks`` is one and two as well


def square() -> nn.Module:
    """With six examples of six features, nothing but the meaning of the axes tells them apart."""
    return nn.Sequential(
        nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
    )


def over_the_batch() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        return (h - h.mean(0)) * h.softmax(0)

    return nn.Sequential(nn.Linear(6, 6), Apply(forward), nn.Linear(6, 2))


def gram_matrix() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Apply(lambda h: h @ h.t()))


def squeezed_and_transposed() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        return h.t().contiguous().t().squeeze()

    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Apply(forward), nn.Linear(6, 2))


def scaled_by_the_batch_size() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), Apply(lambda h: (h / h.shape[0]).tanh()), nn.Linear(6, 2))


for maker, order in [
    (square, 2 * f(6)),
    (over_the_batch, f(6)),
    (gram_matrix, f(6)),
    (squeezed_and_transposed, f(6)),
    (scaled_by_the_batch_size, f(6)),
]:
    for size in (1, 2, 6):
        name = f"{maker.__name__}_of_{size}"
        BATCH[name] = Case(name, maker, (real(6)(size),), order)


@BATCH.model(f(6) + f(5), real(3)(1)[0])
def without_a_batch() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.Softmax(-1), nn.Linear(5, 2)
    )


@BATCH.model(f(6), real(3, 6, 6)(1)[0])
def image_without_a_batch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 2, 1))


@pytest.mark.parametrize("case", BATCH.each())
def test_batches_of_one_two_and_as_many_as_units(case: Case) -> None:
    check(case)


# outputs


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return h, self.head(self.second(h).tanh())


@TWICE.model(f(6) + f(5))
class TheSameTwice(Outputs):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, y = self.layers(x)
        return y, y


@TWICE.model(f(6) + f(5))
class OutputsViewsAndInputs(Outputs):
    """In containers, next to a view of it, the input itself, and things that are no tensors."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        _, y = self.layers(x)
        return {"y": y, "views": [y.t(), (y[:, 0],)], "x": x, "none": None, "text": "t", "n": 3}


@TWICE.model(f(5))
class HiddenTwice(Outputs):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, y = self.layers(x)
        return y, h, h


@TWICE.model(f(3) + f(5))
class HiddenInOverlappingParts(Outputs):
    """Units 0, 1 and 2 are seen, unit 1 twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, y = self.layers(x)
        return y, h[:, :2], h[:, 1:3]


@TWICE.model(f(6) + f(5))
class SortedTwice(Outputs):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, y = self.layers(x)
        return y, h.sort(1)[0], h.sort(1, descending=True)[0]


@TWICE.model(f(6) + f(5))
class WrittenAfterItWasTaken(Outputs):
    """Both outputs are one tensor, which is doubled."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, y = self.layers(x)
        return y, y.mul_(2)


@TWICE.model(f(5))
class AParameterToo(Outputs):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x)[1], self.first.weight


@pytest.mark.parametrize("case", TWICE.each())
def test_outputs_that_are_returned_twice(case: Case) -> None:
    check(case)


def test_an_aligned_module_returns_one_tensor_twice_too() -> None:
    aligned = fr.rebasin(TheSameTwice(), to=TheSameTwice(), args=(X,), progress=False)
    one, other = aligned(X)
    assert one is other
