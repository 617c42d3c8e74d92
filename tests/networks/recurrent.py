"""Recurrent networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .registry import SEQUENCE, S, f, network, real


class Recurrent(nn.Module):
    """Hidden states are no outputs."""

    def __init__(self, rnn: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y)


@network(SEQUENCE, f(5), S(5))
def lstm() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, batch_first=True), 5)


@network(lambda n: (real(4, 3)(n).transpose(0, 1),), f(5), S(5))
def lstm_with_time_first() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5), 5)


@network(SEQUENCE, 4 * f(5), S(5, 5, 5, 5))
def lstm_of_two_layers_both_ways() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True), 10)


@network(SEQUENCE, f(5) + f(4), S(5, 4))
def lstm_with_projection() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, batch_first=True, proj_size=4), 4)


@network(SEQUENCE, 2 * f(5), S(5, 5))
def gru_of_two_layers() -> nn.Module:
    return Recurrent(nn.GRU(3, 5, 2, batch_first=True), 5)


@network(SEQUENCE, 2 * f(5), S(5, 5))
def rnn_both_ways() -> nn.Module:
    return Recurrent(nn.RNN(3, 5, batch_first=True, bidirectional=True, bias=False), 10)


@network(SEQUENCE, f(5), S(5))
class LastStates(nn.Module):
    """The final states are read, not the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, c) = self.rnn(x)
        return self.head(torch.cat([h[-1], c[-1]], 1))


@network(SEQUENCE, 0.0, [])
class StatesAreOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        return self.head(y), h


@network(SEQUENCE, f(5), S(5))
class UnrolledCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 5)
        for t in range(4):
            h = self.cell(x[:, t], h)
        return self.head(h)
