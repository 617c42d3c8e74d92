"""Which buffers move like parameters, because the user says so.

A buffer is a constant of the model, as far as one can see: a table of positions, or a codebook
that was learnt. Those that are learnt, drawn at random or set by hand belong to units as weights
do; that they do is for the user to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..arguments import check_function, check_items, refuse
from ..errors import InvalidArgumentError

Movable = str | Sequence[str] | Callable[[str, torch.Tensor], bool]
"""Names or patterns of buffers, or a function of the name and the buffer."""

MOST_SHOWN = 8


def check_movable(given: object) -> None:
    """Refuse what names no buffers.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if isinstance(given, str):
        return
    if callable(given):
        check_function(given, "movable", "lambda name, buffer: name.endswith('mask')")
        return
    check_items(given, str, "movable", "the name of a buffer", "give movable=['codebook']")


def find_movable(model: nn.Module, movable: Movable) -> frozenset[str]:
    """The names of the buffers that are to move like parameters.

    Raises:
        InvalidArgumentError: a name fits no buffer, or one that cannot move.
    """
    buffers = dict(model.named_buffers(remove_duplicate=False))
    stays = {name: why_it_stays(model, name, tensor) for name, tensor in buffers.items()}
    if not isinstance(movable, str) and callable(movable):
        asked = [name for name, tensor in buffers.items() if movable(name, tensor)]
        return frozenset(name for name in asked if not stays[name])
    found: set[str] = set()
    for pattern in [movable] if isinstance(movable, str) else movable:
        fitting = [n for n in buffers if n == pattern or fnmatchcase(n, pattern)]
        moving = [name for name in fitting if not stays[name]]
        if not fitting:
            _refuse_unknown(model, pattern, [name for name in buffers if not stays[name]])
        if not moving:
            raise InvalidArgumentError(
                f"movable: the buffer {fitting[0]!r} {stays[fitting[0]]}, so it cannot move"
            )
        found.update(moving)
    return frozenset(found)


def _refuse_unknown(model: nn.Module, pattern: str, known: Sequence[str]) -> None:
    if pattern in dict(model.named_parameters(remove_duplicate=False)):
        refuse("movable", "names of buffers", pattern, "it is a parameter and moves without that")
    listed = ", ".join(map(repr, known[:MOST_SHOWN])) or "none"
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    refuse("movable", f"buffers of the model that can move, which are {listed}{more}", pattern)


def why_it_stays(model: nn.Module, name: str, buffer: torch.Tensor) -> str:
    """What keeps a buffer from being moved, whatever the user says; empty if nothing does."""
    path, _, leaf = name.rpartition(".")
    if leaf in model.get_submodule(path)._non_persistent_buffers_set:
        return (
            "is not in the state dict (persistent=False), which would lose it when weights are "
            "moved there"
        )
    if buffer.layout != torch.strided:
        return f"is sparse ({buffer.layout})"
    if not (buffer.is_floating_point() or buffer.is_complex() or buffer.dtype == torch.bool):
        return f"holds whole numbers ({buffer.dtype}), which count or point somewhere"
    return "" if buffer.numel() > 1 else "has a single entry"
