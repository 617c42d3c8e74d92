"""Groups that were found at one length hold at others: what the example did not read follows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import lgamma
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr

torch.set_num_threads(1)


def f(n: int) -> float:
    """The logarithm of n!."""
    return lgamma(n + 1)


class Positions(nn.Module):
    """A position per token is added, read in one of several ways."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.embed, self.deep, self.head = nn.Linear(3, 7), nn.Linear(7, 6), nn.Linear(6, 2)
        self.position, self.table = nn.Parameter(torch.randn(1, 9, 7)), nn.Embedding(9, 7)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        h, t = self.embed(x), x.shape[1]
        if self.read == "slice":
            h = h + self.position[:, :t]
        elif self.read == "narrow":
            h = h + self.position.narrow(1, 0, t)
        elif self.read == "last":
            h = h + self.position[:, 9 - t :]
        elif self.read == "table":
            h = h + self.table.weight[:t]
        else:
            h = torch.stack([h[:, i] + self.position[0, i] for i in range(t)], 1)
        return self.head(self.deep(h.relu()).relu())


class RelativeBias(nn.Module):
    """Two heads with a bias per pair of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = (nn.Linear(n, m) for n, m in [(3, 8)] * 3 + [(8, 2)])
        self.bias = nn.Parameter(torch.randn(2, 9, 9))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (m(x).view(b, t, 2, 4).transpose(1, 2) for m in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) + self.bias[:, :t, :t]).softmax(-1)
        return self.head((weights @ v).transpose(1, 2).reshape(b, t, 8))


class Synthesizer(nn.Module):
    """Of the outputs of a layer, as many are read as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scores = nn.Linear(3, 8), nn.Linear(8, 32)
        self.value, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.scores(self.first(x).relu())[..., : x.shape[1]].softmax(-1)
        return self.head(weights @ self.value(x).relu())


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = kind(3, 6, batch_first=True, **options)
        width = options.get("proj_size", 6) * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


class Cells(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = kind(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.of_input, self.of_state, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 6, dtype=x.dtype)
        for t in range(x.shape[1]):
            h = (self.of_input(x[:, t]) + self.of_state(h)).tanh()
        return self.head(h)


MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    **{
        f"position, {read}": (partial(Positions, read), f(7) + f(6))
        for read in ("slice", "narrow", "last", "table", "loop")
    },
    "relative bias": (RelativeBias, f(2) + 4 * f(4)),
    "outputs": (Synthesizer, f(8) + f(5)),
    "lstm": (lambda: Recurrent(nn.LSTM), f(6)),
    "gru": (lambda: Recurrent(nn.GRU), f(6)),
    "rnn": (lambda: Recurrent(nn.RNN), f(6)),
    "lstm, projected": (lambda: Recurrent(nn.LSTM, proj_size=5), f(6) + f(5)),
    "gru, both ways": (lambda: Recurrent(nn.GRU, bidirectional=True), 2 * f(6)),
    "lstm, deep": (lambda: Recurrent(nn.LSTM, num_layers=2), 2 * f(6)),
    "lstm cell": (lambda: Cells(nn.LSTMCell), f(6)),
    "gru cell": (lambda: Cells(nn.GRUCell), f(6)),
    "rnn cell": (lambda: Cells(nn.RNNCell), f(6)),
    "by hand": (ByHand, f(6)),
}


def largest_difference(model: nn.Module, symmetry: fr.Symmetry) -> float:
    """At all lengths and batch sizes, in float64, of a permutation drawn at random."""
    model = model.double().eval()
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(model)
    worst = 0.0
    with torch.no_grad():
        for length in (1, 2, 3, 5, 9):
            for batch in (1, 3):
                x = torch.randn(batch, length, 3, dtype=torch.float64)
                worst = max(worst, float((model(x) - moved(x)).abs().max()))
    return worst


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_what_one_length_does_not_read_follows(name: str, length: int) -> None:
    if (name, length) == ("relative bias", 1):
        pytest.skip("a softmax over one position is constant")
    torch.manual_seed(0)
    factory, log_order = MODELS[name]
    model = factory()
    symmetry = fr.analyze(model, args=(torch.randn(1, length, 3),), check=False)
    assert largest_difference(model, symmetry) < 1e-9
    assert symmetry.log_order == pytest.approx(log_order)


class Weights(nn.Module):
    """As many layers as there are tokens, from one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.weight = nn.Parameter(torch.randn(9, 6, 6) / 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x[:, 0]).relu()
        for t in range(x.shape[1]):
            h = (h @ self.weight[t]).relu()
        return self.head(h)


class Branch(nn.Module):
    """Long inputs go another way, through the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        deep = self.second(h).relu()
        return self.head(deep + h if x.shape[1] > 2 else deep)


def test_blocks_that_hold_at_one_size_only_are_pinned() -> None:
    torch.manual_seed(0)
    for length, factory in ((1, Weights), (2, Branch)):
        model = factory()
        with pytest.warns(fr.errors.RefutedWarning, match="hold for the sizes of the example"):
            symmetry = fr.analyze(model, args=(torch.randn(1, length, 3),))
        assert largest_difference(model, symmetry) < 1e-9
        assert any("hold for the sizes" in note for note in symmetry.notes)


@pytest.mark.parametrize("check", [False, True])
def test_several_examples_hold_together(check: bool) -> None:
    torch.manual_seed(0)
    model = Branch()
    examples = [(torch.randn(1, 2, 3),), ((), {"x": torch.randn(2, 3, 3)})]
    symmetry = fr.analyze(model, examples=examples, check=check)
    assert symmetry.log_order == pytest.approx(f(6))
    assert largest_difference(model, symmetry) < 1e-9
    assert "holds for 2 example inputs together" in symmetry.notes


def test_a_group_that_holds_at_other_sizes_says_at_which() -> None:
    symmetry = fr.analyze(Positions("slice"), args=(torch.randn(1, 4, 3),))
    assert symmetry.log_order == pytest.approx(f(7) + f(6))
    assert symmetry.tested_at == "2 along dim 0, 5 along dim 1"


class Auxiliary(nn.Module):
    def __init__(self, in_training: bool = True) -> None:
        super().__init__()
        self.first, self.head, self.extra = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)
        self.in_training = in_training

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = nn.functional.dropout(self.first(x).relu(), 0.5, self.training)
        if self.training and self.in_training:
            return self.head(h), self.extra(h)
        return self.head(h)


def test_heads_of_training_move_with_what_they_read() -> None:
    symmetry = fr.analyze(Auxiliary(), args=(torch.randn(2, 3),))
    assert symmetry.log_order == pytest.approx(f(6))
    assert ("extra.weight", 1) in next(iter(symmetry)).axes
    assert not symmetry.untouched
    assert any("training" in note for note in symmetry.notes)


def test_untouched_parameters_are_named() -> None:
    with pytest.warns(fr.errors.UntouchedWarning, match="2 parameters are not used.*extra"):
        symmetry = fr.analyze(Auxiliary(in_training=False), args=(torch.randn(2, 3),))
    assert symmetry.untouched == ("extra.weight", "extra.bias")
    assert fr.Symmetry.from_json(symmetry.to_json()).untouched == symmetry.untouched
