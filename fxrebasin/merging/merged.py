"""What merging some models gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..arguments import check_kind
from ..symmetry.transform import Transform


@dataclass(frozen=True, eq=False)
class Merged:
    """One model made of several, and how each of them was permuted to be averaged.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abc"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> merged = fr.merge_methods.many(symmetry, states, progress=False)
    >>> nets[0].load_state_dict(merged.state_dict)
    <All keys matched successfully>
    >>> merged.permutations[0], merged.history[-1] >= merged.history[0]
    (Permutation(0 of 8 units moved), True)
    """

    state_dict: dict[str, Tensor] = field(repr=False)
    """The weights, with the keys, order, dtypes and devices of the first model."""
    permutations: tuple[Transform, ...]
    """Of each model, into the frame of the result, which is that of the first model."""
    history: tuple[float, ...]
    """The objective of the models with their mean: as they came, and after each step of the
    method. Empty where nothing was compared."""

    def __str__(self) -> str:
        rose = ""
        if self.history:
            rose = f", objective {self.history[0]:,.4f} -> {self.history[-1]:,.4f}"
            rose += f" in {len(self.history) - 1} steps"
        moved = (
            f"  model {k}: {p.moved_units:,} of {p.symmetry.movable_units:,} units moved"
            for k, p in enumerate(self.permutations)
        )
        return "\n".join([f"{len(self.permutations)} models merged{rose}", *moved])


def check_merged(found: object, name: str = "method") -> None:
    """Refuse what a merge method must not return.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    check_kind(found, Merged, name, "a function that returns a Merged")
