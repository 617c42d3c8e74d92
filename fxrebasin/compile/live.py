"""Permuted weights that follow the live ones: gathered anew only where these have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..symmetry.action import source_of, take
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Transform

Move = Callable[[Tensor], Tensor]
PROBES = 4
"""How many tensors one entry of is looked at in every call."""


@dataclass
class Gathered:
    """What was gathered of a parameter, and what it was gathered from."""

    tensor: Tensor
    state: tuple[int, int] | None
    """Version and place of the live tensor; None where torch keeps no version."""
    probe: float


class Cache(dict[str, Gathered]):
    """By name; shared by the graphs that take the same weights, so that there is one copy."""

    changes = 0
    """How often anything in it was put in place of something else."""


class LiveWeights:
    """The permuted counterparts of some of the inputs of a graph.

    Parameters are gathered anew where torch's version counters say that they were written to, or
    another tensor is given. Writes through ``.data`` are not counted; on a CPU, a few entries are
    looked at in every call, which sees those that change all weights, as moving averages do.
    Buffers, which are small and often written to by kernels that count nothing, are gathered in
    every call.

    Args:
        permutation: which unit comes where.
        names: from the positions of the inputs that are weights to their names.
        inputs: of the graph, as they will be.
        written: the positions of those that the graph writes to, such as running statistics.
        cache: of the parameters; changed.
    """

    def __init__(
        self,
        permutation: Transform,
        names: Mapping[int, str],
        inputs: Sequence[Any],
        written: Collection[int],
        cache: Cache,
    ) -> None:
        known = {n: p for p in permutation.symmetry.parameters for n in p.names}
        moving = {k: known[n] for k, n in names.items() if n in known and known[n].groups}
        undo = permutation.inverse()
        self.move = {k: _move_of(permutation, p) for k, p in moving.items()}
        self.undo = {k: _move_of(undo, p) for k, p in moving.items()}
        self.written = [k for k in moving if k in written]
        read = [k for k in moving if k not in written]
        self.parameters = [k for k in read if isinstance(inputs[k], nn.Parameter)]
        buffers = [k for k in read if not isinstance(inputs[k], nn.Parameter)]
        joint = [k for k in buffers if inputs[k].ndim == 1 and permutation.permutes_only(moving[k])]
        self.vectors = joint
        self.others = [k for k in buffers if k not in joint]
        self.joint = _Joint([self.move[k] for k in self.vectors], [inputs[k] for k in self.vectors])
        self.names = names
        self.cache = cache
        self._next = 0
        self._seen: list[int] = []

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The inputs, with permuted weights in the places of the live ones."""
        moved = list(inputs)
        for k, tensor in zip(self.parameters, self._gather(inputs), strict=True):
            moved[k] = tensor
        with torch.no_grad():
            for k in (*self.written, *self.others):
                moved[k] = self.move[k](inputs[k])
            gathered = self.joint([inputs[k] for k in self.vectors])
            for k, tensor in zip(self.vectors, gathered, strict=True):
                moved[k] = tensor
        if torch.is_grad_enabled():
            learned = [k for k in self.parameters if inputs[k].requires_grad]
            if learned:
                gathered = [moved[k] for k in learned]
                undo = [self.undo[k] for k in learned]
                followed = _Follow.apply(gathered, undo, *[inputs[k] for k in learned])
                for k, tensor in zip(learned, followed, strict=True):
                    moved[k] = tensor
        return moved

    @torch.no_grad()
    def write_back(self, inputs: Sequence[Any], moved: Sequence[Any]) -> None:
        """What was written to permuted statistics is written to the live ones."""
        for k in self.written:
            inputs[k].copy_(self.undo[k](moved[k]))

    @torch.no_grad()
    def _gather(self, inputs: Sequence[Any]) -> list[Tensor]:
        cache, names = self.cache, self.names
        live = [inputs[k] for k in self.parameters]
        if self._is_written_unseen(live):
            cache.clear()
            cache.changes += 1
        seen = _state_of_all(live, cache)
        if not seen or seen != self._seen:
            for k, parameter in zip(self.parameters, live, strict=True):
                state, kept = _state_of(parameter), cache.get(names[k])
                if kept is None or state is None or kept.state != state:
                    cache[names[k]] = Gathered(
                        self.move[k](parameter.detach()), state, _probe(parameter)
                    )
                    cache.changes += 1
            self._seen = _state_of_all(live, cache)
        return [cache[names[k]].tensor for k in self.parameters]

    def _is_written_unseen(self, live: Sequence[Tensor]) -> bool:
        """Does an entry of one of the next few differ, although no write was counted?"""
        for _ in range(min(PROBES, len(live))):
            self._next = (self._next + 1) % len(live)
            tensor = live[self._next]
            kept = self.cache.get(self.names[self.parameters[self._next]])
            if kept and kept.state == _state_of(tensor) and kept.probe != _probe(tensor):
                return True
        return False


def _move_of(permutation: Transform, parameter: ParameterSymmetry) -> Move:
    blocks, indices = permutation.symmetry.blocks, permutation.indices
    if not permutation.permutes_only(parameter):
        return lambda tensor: _like(tensor, permutation.move(parameter, tensor))
    steps = [(g.axes, source_of(blocks, indices, parameter, g)) for g in parameter.groups]

    def move(tensor: Tensor) -> Tensor:
        moved = tensor
        for axes, source in steps:
            moved = take(moved, axes, source)
        return _like(tensor, moved)

    return move


def _like(tensor: Tensor, moved: Tensor) -> Tensor:
    """A moved tensor with the strides of the other, on which compiled code relies."""
    return moved if moved.stride() == tensor.stride() else torch.empty_like(tensor).copy_(moved)


def _state_of(tensor: Tensor) -> tuple[int, int] | None:
    if tensor.is_inference():
        return None  # keeps no count of what is written to it
    return tensor._version, tensor.data_ptr()


def _state_of_all(live: Sequence[Tensor], cache: Cache) -> list[int]:
    """What changes where any state does, or the cache; empty where there is no telling."""
    if any(t.is_inference() for t in live):
        return []
    return [cache.changes, *[t._version for t in live], *[t.data_ptr() for t in live]]


def _probe(tensor: Tensor) -> float:
    """One entry; none of a device that would have to be waited for."""
    if tensor.device.type != "cpu" or not tensor.numel():
        return 0.0
    return float(tensor.detach().flatten()[0]) if tensor.is_contiguous() else 0.0


class _Joint:
    """Several vectors gathered at once, which costs a fraction of one after the other."""

    def __init__(self, moves: Sequence[Move], vectors: Sequence[Tensor]) -> None:
        kinds = {(v.dtype, v.device) for v in vectors}
        self.moves = moves
        self.sizes = [len(v) for v in vectors]
        self.index: Tensor | None = None
        if len(kinds) == 1 and all(v.is_contiguous() for v in vectors):
            device = vectors[0].device
            places = torch.arange(sum(self.sizes), device=device).split(self.sizes)
            self.index = torch.cat([move(p) for move, p in zip(moves, places, strict=True)])

    def __call__(self, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.index is None:
            return [move(v) for move, v in zip(self.moves, vectors, strict=True)]
        gathered: Sequence[Tensor] = (
            torch.cat(list(vectors)).index_select(0, self.index).split(self.sizes)
        )
        return gathered


class _Follow(torch.autograd.Function):
    """What was gathered, as a function of the live weights: gradients go back to these."""

    @staticmethod
    def forward(ctx: Any, gathered: list[Tensor], undo: list[Move], *inputs: Tensor) -> Any:
        ctx.undo = undo
        return tuple([tensor.detach() for tensor in gathered])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        undone = (g if g is None else undo(g) for undo, g in zip(ctx.undo, grads, strict=True))
        return (None, None, *undone)
