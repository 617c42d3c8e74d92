"""What a forward may do beside its layers: read a part of a parameter that depends on the size of
the input, derive from buffers, loop over groups, branch, map, join nothing, share what it holds.

Buffers named ``state`` hold what a checkpoint may hold as well: no value of theirs is certain.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.parameters import on_last, weight
from benchmarks.fuzz.ops.registry import (
    Call,
    Shape,
    axis,
    by_division,
    channels,
    channels_last,
    only,
    program,
)

SPARE = 4
"""How many places more than those of the example a table of positions has."""

PLACES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "slice": lambda w, t: w[:t],
    "narrow": lambda w, t: w.narrow(0, 0, t),
    "range": lambda w, t: w[torch.arange(t)],
    "embedding": lambda w, t: F.embedding(torch.arange(t), w),
    "rows": lambda w, t: torch.stack([w[k] for k in range(t)]),
    "from the end": lambda w, t: w[len(w) - t :],
}


@program(only(2, lambda shape: [(how,) for how in PLACES]))
def places_read(shape: Shape, how: str) -> nn.Module:
    """Something for every place, of which the example does not read all."""
    read = PLACES[how]
    return on_last(shape, lambda h, w: h + read(w, h.shape[1]), shape[0] + SPARE, shape[1])


@program(only(2))
def biased_by_distance(shape: Shape) -> nn.Module:
    """Tokens attend to each other; a square of biases is cut to their number."""

    def forward(h: Tensor, w: Tensor) -> Tensor:
        scores = h @ h.transpose(1, 2) / h.shape[2] + w[: h.shape[1], : h.shape[1]]
        return scores.softmax(-1) @ h

    return Call(forward, weight=weight(shape[0] + SPARE, shape[0] + SPARE))


@program(only(2, lambda shape: [(n, keep) for n in (1, 2, 3) for keep in (False, True)]))
def query_tokens(shape: Shape, n: int, keep: bool) -> nn.Module:
    """Learned tokens stand before the others while all attend to all."""
    c = channels(shape)

    def forward(h: Tensor, queries: Tensor, m: nn.Module) -> Tensor:
        joined = torch.cat([queries.expand(h.shape[0], -1, -1), h], 1)
        mixed = joined + m((joined @ joined.transpose(1, 2) / c).softmax(-1) @ joined)
        return mixed[:, n:] if keep else h + mixed[:, :n].mean(1, keepdim=True)

    return Call(forward, queries=weight(1, n, c), layer=nn.Linear(c, c))


def _by_loop(w: Tensor, h: Tensor) -> Tensor:
    return torch.stack([h[..., g, :] @ w[g].t() for g in range(len(w))], -2)


PER_GROUP: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": lambda w, h: (w @ h.unsqueeze(-1)).squeeze(-1),
    "product": lambda w, h: (w * h.unsqueeze(-2)).sum(-1),
    "loop": _by_loop,
    "index": lambda w, h: (w[torch.arange(len(w))] @ h.unsqueeze(-1)).squeeze(-1),
}


@program(lambda shape: [(g, n, how) for g, n in by_division(shape) for how in PER_GROUP])
def per_group(shape: Shape, groups: int, each: int, how: str) -> nn.Module:
    """A matrix for every group of channels."""
    act = PER_GROUP[how]
    return on_last(
        shape,
        lambda h, w: act(w, h.unflatten(-1, (groups, each))).flatten(-2),
        *(groups, each, each),
    )


DERIVED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scale": lambda h, s: h * (s * 1.0),
    "shift": lambda h, s: h + s.sigmoid(),
    "mask": lambda h, s: h * (s > 0.9),
    "where": lambda h, s: torch.where(s > 0.9, h, -h),
    "total": lambda h, s: h * s.sum(),
    "first": lambda h, s: h + s[0],
}


@program(lambda shape: [(how,) for how in DERIVED])
def from_buffer(shape: Shape, how: str) -> nn.Module:
    """Something that is made from a buffer in every call."""
    c = channels(shape)
    return channels_last(shape, Call(DERIVED[how], state=torch.ones(c)))


@program(only(2))
def branch_on_length(shape: Shape) -> nn.Module:
    """Another layer for inputs that are longer than the example."""
    c = channels(shape)

    def forward(h: Tensor, near: nn.Module, far: nn.Module) -> Tensor:
        return far(h) if h.shape[1] > shape[0] else near(h)

    return Call(forward, near=nn.Linear(c, c), far=nn.Linear(c, c))


@program()
def mapped(shape: Shape) -> nn.Module:
    """A function that sees one item of the batch at a time."""
    c = channels(shape)

    def forward(h: Tensor, w: Tensor) -> Tensor:
        return torch.vmap(lambda one: F.linear(one, w).tanh())(h)

    return on_last(shape, forward, c, c)


NOTHING: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cat": lambda h, d: torch.cat([h.narrow(d, 0, 0), h], d),
    "cat of a vector": lambda h, d: torch.cat([h.new_zeros(0), h], d),
    "sum": lambda h, d: h + h.narrow(d, 0, 0).sum(d, keepdim=True),
    "index_add": lambda h, d: h.index_add(0, torch.arange(0), h[:0]),
}


@program(lambda shape: [(how,) for how in NOTHING])
def joined_with_nothing(shape: Shape, how: str) -> nn.Module:
    """Empty operands, as of experts that no token went to."""
    act, d = NOTHING[how], axis(shape)
    return Call(lambda h: act(h, d))


class _OneOfTwoNames(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.first = nn.Linear(c, c)
        self.second = nn.Linear(c, c)
        self.second.weight = self.first.weight

    def forward(self, h: Tensor) -> Tensor:
        return self.second(self.first(h).tanh())


@program()
def one_of_two_names(shape: Shape) -> nn.Module:
    """Two layers that hold one parameter."""
    return channels_last(shape, _OneOfTwoNames(channels(shape)))


class _Counted(nn.Module):
    """Every call adds to a total that later calls do not read."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(c))

    def forward(self, h: Tensor) -> Tensor:
        self.total = self.get_buffer("total") + h.detach().reshape(-1, h.shape[-1]).mean(0)
        return h


@program()
def counted(shape: Shape) -> nn.Module:
    """Running statistics that forward keeps on its module."""
    return channels_last(shape, _Counted(channels(shape)))
