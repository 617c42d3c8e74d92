"""Recurrent layers over tokens, and their cells."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import Arguments, Call, Shape, channels, odd, only, op

LAYERS: dict[str, Callable[..., nn.Module]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
CELLS: dict[str, Callable[..., nn.Module]] = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "rnn": nn.RNNCell,
}
HIDDEN = (6, 8)


def layers_of(shape: Shape) -> list[Arguments]:
    stacks = [(depth, both_ways) for depth in (1, 2) for both_ways in (0, 1)]
    return [(kind, n, *stack) for kind in LAYERS for n in HIDDEN for stack in stacks]


@op(only(2, layers_of))
def recurrent(shape: Shape, kind: str, n: int, depth: int, both_ways: int) -> nn.Module:
    layer = LAYERS[kind](
        channels(shape), n, num_layers=depth, bidirectional=bool(both_ways), batch_first=True
    )
    return Call(lambda h, m: m(h)[0], layer=layer)


@op(only(2))
def projected_lstm(shape: Shape) -> nn.Module:
    layer = nn.LSTM(channels(shape), 8, proj_size=6, batch_first=True)
    return Call(lambda h, m: m(h)[0], layer=layer)


@op(only(2, lambda shape: [(kind, n) for kind in LAYERS for n in HIDDEN]), outer=True)
def last_state(shape: Shape, kind: str, n: int) -> nn.Module:
    """What a recurrent layer remembers in the end."""
    layer = LAYERS[kind](channels(shape), n, batch_first=True)

    def forward(h: Tensor, m: nn.Module) -> Tensor:
        states = m(h)[1]
        return (states[0] if kind == "lstm" else states)[-1]

    return Call(forward, layer=layer)


@op(only(1, lambda shape: [(kind, n) for kind in CELLS for n in HIDDEN]))
def cell(shape: Shape, kind: str, n: int) -> nn.Module:
    layer = CELLS[kind](channels(shape), n)
    return Call(lambda h, m: m(h)[0] if kind == "lstm" else m(h), layer=layer)


@op(only(2, lambda shape: [(kind, n) for kind in ("gru", "rnn") for n in HIDDEN]))
def unrolled(shape: Shape, kind: str, n: int) -> nn.Module:
    """A cell that is called for one token after another."""
    layer = CELLS[kind](channels(shape), n)

    def forward(h: Tensor, m: nn.Module) -> Tensor:
        states = [m(h[:, 0])]
        for k in range(1, shape[0]):
            states.append(m(h[:, k], states[-1]))
        return torch.stack(states, 1)

    return Call(forward, layer=layer)


@odd(only(1))
def own_state(shape: Shape) -> nn.Module:
    """A cell whose input is its state too."""
    layer = nn.GRUCell(channels(shape), channels(shape))
    return Call(lambda h, m: m(h, h.tanh()), layer=layer)
