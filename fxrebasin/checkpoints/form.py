"""How a file stores a state dict: what stands in front of its names, and what is around it.

What is read has the names of the model; what is written gets those of the file back.

>>> form = Form(names={"weight": "module.weight"}, around=(Level("state_dict", {"epoch": 3}),))
>>> form.wrap({"weight": 1.5})
{'epoch': 3, 'state_dict': {'module.weight': 1.5}}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..models.validation import PREFIXES


@dataclass(frozen=True)
class Level:
    """One mapping that the state dict is in."""

    key: str
    """Under which it is."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What else there is and holds no tensors: an epoch, hyperparameters."""
    left_out: tuple[str, ...] = ()
    """The keys of what holds tensors, as the state of an optimizer: of the old weights."""


@dataclass(frozen=True)
class Form:
    """How a file stores a state dict; see :func:`fxrebasin.load`."""

    names: Mapping[str, str] = field(default_factory=dict)
    """From the names of the model to those of the file, where they differ."""
    around: tuple[Level, ...] = ()
    """The mappings that the state dict is in, the outermost first."""
    implied: frozenset[str] = frozenset()
    """Names that the file leaves out: what the model ties to others, and counts of batches."""

    def named(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict under the names of the file."""
        stored = (name for name in state_dict if name not in self.implied)
        return {self.names.get(name, name): state_dict[name] for name in stored}

    def wrap(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """What a file of ``torch.save`` holds."""
        content = self.named(state_dict)
        for level in reversed(self.around):
            content = {**level.beside, level.key: content}
        return content

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual about the file, a sentence each."""
        found = []
        if self.around:
            place = "".join(f"[{level.key!r}]" for level in self.around)
            found.append(f"the state dict is in {place}")
        left_out = [key for level in self.around for key in level.left_out]
        if left_out:
            found.append(f"of the old weights, and not written again: {spelled(left_out)}")
        if self.names:
            first, stored = next(iter(self.names.items()))
            made = [by for prefix, by in PREFIXES.items() if prefix in stored]
            by = f", as {' and '.join(made)} names it" if made else ""
            found.append(f"{first!r} is stored as {stored!r}{by}")
        if self.implied:
            found.append(f"known without being stored: {spelled(sorted(self.implied))}")
        return tuple(found)


def spelled(names: Collection[str], shown: int = 3) -> str:
    """The first names of several.

    >>> spelled(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 more"
    """
    first = ", ".join(map(repr, list(names)[:shown]))
    return first if len(names) <= shown else f"{first} and {len(names) - shown} more"


def level_of(found: Mapping[Any, Any], key: str) -> Level:
    """What is beside a state dict in the mapping that it is in."""
    others = {name: value for name, value in found.items() if name != key}
    kept = {name: value for name, value in others.items() if not _is_of_weights(value)}
    return Level(key, kept, tuple(str(name) for name in others if name not in kept))


def _is_of_weights(value: Any) -> bool:
    """Does it hold tensors, or belong to an optimizer?"""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Mapping):
        is_optimizer = {"state", "param_groups"} <= value.keys()
        return is_optimizer or any(map(_is_of_weights, value.values()))
    return isinstance(value, (list, tuple, set)) and any(map(_is_of_weights, value))
