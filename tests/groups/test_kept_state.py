"""What forward keeps from call to call, and what is computed from what a model stores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import f
from torch import Tensor, nn

import fxrebasin as fr

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Recurrent(nn.Module):
    """Its hidden state is a plain attribute; at first there is none, or one of zeros."""

    h: Tensor | None

    def __init__(self, begin: Tensor | None) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.again = nn.Parameter(torch.randn(8, 8) / 3)
        self.h = begin

    def forward(self, x: Tensor) -> Tensor:
        before = self.enter(x)
        self.h = torch.tanh(before if self.h is None else before + self.h @ self.again)
        y: Tensor = self.head(self.h)
        return y


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.n = nn.Linear(3, 8), nn.Linear(8, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        y: Tensor = self.head(self.first(x).tanh() * self.n)
        return y


class Cached(nn.Module):
    """What is computed from weights alone, once, is no state; its own train() forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.cache: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Cached:
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        if "w" not in self.cache:
            self.cache["w"] = self.first.weight.detach().square()
        y: Tensor = self.head((x @ self.cache["w"].T).tanh())
        return y


@pytest.mark.parametrize("runs", [0, 1, 2])
@pytest.mark.parametrize("begin", [None, torch.zeros(1, 8)])
def test_a_hidden_state_is_kept(begin: Tensor | None, runs: int) -> None:
    torch.manual_seed(0)
    a, b = Recurrent(begin), Recurrent(begin)
    for _ in range(runs):
        a(X), b(X)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert isinstance(aligned, Recurrent)
    for _ in range(3):
        torch.testing.assert_close(aligned(X), b(X))


def test_a_counter_is_kept() -> None:
    torch.manual_seed(0)
    a, b = Counting(), Counting()
    b(X)
    symmetry = fr.analyze(b, (X,))
    assert symmetry.log_order == pytest.approx(f(8))
    assert any("changes n" in note for note in symmetry.notes)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    for _ in range(3):
        torch.testing.assert_close(aligned(X), b(X))


@pytest.mark.parametrize("runs", [0, 1])
def test_a_cache_of_weights_is_no_state(runs: int) -> None:
    torch.manual_seed(0)
    b = Cached().eval()
    for _ in range(runs):
        b(X)
    symmetry = fr.analyze(b, (X,))
    assert symmetry.log_order == pytest.approx(f(8))
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(b)
    torch.testing.assert_close(moved(X), b(X))


class FromBuffer(nn.Module):
    c: Tensor

    def __init__(self, use: Any) -> None:
        super().__init__()
        self.first, self.head, self.use = nn.Linear(3, 8), nn.Linear(8, 2), use
        self.register_buffer("c", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.use(self.first(x).tanh(), self.c))
        return y


@pytest.mark.parametrize(
    "use",
    [
        lambda h, c: h * c,
        lambda h, c: h * (c * 1.0),
        lambda h, c: h + c.exp().clone().float(),
        lambda h, c: h.masked_fill(c < 0, 0.0),
        lambda h, c: torch.where(c > 0, h, -h),
        lambda h, c: h * torch.zeros(8).copy_(c),
        lambda h, c: h * torch.stack([c, c]).sum(0),
        lambda h, c: h * c.double().clone()[None].to(h),
    ],
)
@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
def test_what_comes_from_a_buffer_is_state(use: Any, front_end: Any) -> None:
    symmetry = fr.analyze(FromBuffer(use), (X,), front_ends=(front_end,))
    assert symmetry.log_order == 0.0


@pytest.mark.parametrize("use", [lambda h, c: h * c.mean(), lambda h, c: h * c[:1]])
def test_one_number_from_a_buffer_moves_nothing(use: Any) -> None:
    assert fr.analyze(FromBuffer(use), (X,)).log_order == pytest.approx(f(8))


class Loaded(nn.Module):
    """A plain attribute that the state dict fills."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.scale = torch.ones(8)

    def get_extra_state(self) -> Any:
        return {"scale": self.scale}

    def set_extra_state(self, state: Any) -> None:
        self.scale = state["scale"]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.first(x).tanh() * self.scale)
        return y


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
def test_an_attribute_that_the_state_dict_fills_is_state(front_end: Any) -> None:
    assert fr.analyze(Loaded(), (X,), front_ends=(front_end,)).log_order == 0.0
