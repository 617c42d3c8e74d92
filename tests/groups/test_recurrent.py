"""Recurrent layers: every layer and direction has hidden units of its own, alike in all gates."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise

torch.set_num_threads(1)

INPUTS, HIDDEN, PROJECTED = 3, 5, 4


def f(*sizes: int) -> float:
    return math.fsum(math.lgamma(n + 1) for n in sizes)


def sequence(batch: int, length: int = 4, features: int = INPUTS) -> Tensor:
    return torch.randn(batch, length, features, generator=torch.Generator().manual_seed(0))


def check(model: nn.Module, *inputs: Tensor, log_order: float) -> fr.Symmetry:
    """The group has this order; what it does leaves the function as it is, a part of it does not.

    Where nothing moves there is no part of it to look at.
    """
    symmetry = fr.analyze(model, args=inputs, check=False)
    assert symmetry.log_order == pytest.approx(log_order, abs=1e-9)
    assert not symmetry.unknown_ops
    randomise(model)
    expected = evaluate(model, inputs)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(model)
    assert difference(evaluate(moved, inputs), expected) < 1e-12
    originals = dict(model.named_parameters())
    for name, tensor in moved.named_parameters():
        if torch.equal(tensor, originals[name]):
            continue
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.copy_(originals[name])
            assert difference(evaluate(moved, inputs), expected) > 1e-9, name
            tensor.copy_(kept)
    return symmetry


class Reader(nn.Module):
    """A recurrent layer and a head; the hidden states are no outputs."""

    def __init__(self, layer: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 2)

    def forward(self, x: Tensor, *states: Tensor) -> Tensor:
        found: Tensor = self.layer(x, *states)[0]
        return self.head(found)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize(("layers", "both_ways"), list(product([1, 2, 3], [False, True])))
@pytest.mark.parametrize(("batch_first", "bias"), [(False, True), (True, False)])
def test_every_layer_and_direction_has_units_of_its_own(
    kind: Callable[..., nn.RNNBase], layers: int, both_ways: bool, batch_first: bool, bias: bool
) -> None:
    options: dict[str, Any] = {"bidirectional": both_ways, "batch_first": batch_first}
    directions = 1 + both_ways
    layer = kind(INPUTS, HIDDEN, layers, bias=bias, **options)
    model = Reader(layer, directions * HIDDEN)
    check(model, sequence(4), log_order=layers * directions * f(HIDDEN))


@pytest.mark.parametrize(("layers", "both_ways"), list(product([1, 2], [False, True])))
def test_what_a_projection_makes_moves_by_itself(layers: int, both_ways: bool) -> None:
    """The cell's units, and those of what it hands on."""
    directions = 1 + both_ways
    layer = nn.LSTM(INPUTS, HIDDEN, layers, bidirectional=both_ways, proj_size=PROJECTED)
    model = Reader(layer, directions * PROJECTED)
    check(model, sequence(4), log_order=layers * directions * f(HIDDEN, PROJECTED))


def test_all_gates_move_alike() -> None:
    symmetry = check(Reader(nn.LSTM(INPUTS, HIDDEN), HIDDEN), sequence(4), log_order=f(HIDDEN))
    (block,) = symmetry
    axes = {f"layer.{w}_{side}_l0": 0 for w in ("weight", "bias") for side in ("ih", "hh")}
    assert set(block.axes) == {*axes.items(), ("layer.weight_hh_l0", 1), ("head.weight", 1)}
    order = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).flat(block.name)
    model = Reader(nn.LSTM(INPUTS, HIDDEN), HIDDEN)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(model)
    before = model.get_parameter("layer.weight_ih_l0").unflatten(0, (4, HIDDEN))
    after = moved.get_parameter("layer.weight_ih_l0").unflatten(0, (4, HIDDEN))
    assert torch.equal(after, before[:, order])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_initial_states_that_are_inputs_stay(kind: Callable[..., nn.RNNBase]) -> None:
    start = sequence(1, 4, HIDDEN)
    check(Reader(kind(INPUTS, HIDDEN), HIDDEN), sequence(4), start, log_order=0)


def test_what_is_said_goes_on_where_what_is_heard_ended() -> None:
    """A sequence to sequence model: the decoder starts from the encoder's units."""

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heard, self.said = nn.LSTM(INPUTS, HIDDEN), nn.LSTM(2, HIDDEN)
            self.head = nn.Linear(HIDDEN, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            _, states = self.heard(x)
            return self.head(self.said(y, states)[0])

    check(Translator(), sequence(4), sequence(3, 4, 2), log_order=f(HIDDEN))


def test_a_language_model_scores_with_the_table_that_it_embeds_with() -> None:
    """Embedding, last projection and scores share their features; the hidden units are apart."""

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, PROJECTED)
            self.layer = nn.LSTM(PROJECTED, HIDDEN, 2, proj_size=PROJECTED)
            self.scores = nn.Linear(PROJECTED, 7)
            self.scores.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(self.layer(self.table(x))[0])

    ids = torch.randint(7, (4, 3), generator=torch.Generator().manual_seed(0))
    check(LanguageModel(), ids, log_order=2 * f(HIDDEN) + 2 * f(PROJECTED))


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_cells_that_the_model_steps_itself(cell: Callable[..., nn.RNNCellBase], gates: int) -> None:
    class Stepping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = cell(INPUTS, HIDDEN), nn.Linear(HIDDEN, 2)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for part in x.unbind(1):
                state = self.cell(part, state)
            assert state is not None
            return self.head(state if gates < 4 else state[0])

    check(Stepping(), sequence(2, 3), log_order=f(HIDDEN))


def test_layers_with_a_skip_share_their_units() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.head = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, 2)
            self.layers = nn.ModuleList(nn.GRU(HIDDEN, HIDDEN) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x)
            for layer in self.layers:
                x = x + layer(x)[0]
            return self.head(x)

    check(Residual(), sequence(4), log_order=f(HIDDEN))


def test_a_sum_of_both_directions_ties_them() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(INPUTS, HIDDEN, bidirectional=True)
            self.head = nn.Linear(HIDDEN, 2)

        def forward(self, x: Tensor) -> Tensor:
            forwards, backwards = self.layer(x)[0].chunk(2, -1)
            return self.head(forwards + backwards)

    check(Summed(), sequence(4), log_order=f(HIDDEN))
