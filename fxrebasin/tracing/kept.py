"""Does a model keep something from call to call that a graph of it would not?

A graph holds what forward computes, and not what it notes on modules or in its arguments: a hidden
state, a counter, the features of the last call. Models that do so are run as they are. What is
computed once and is the same ever after, such as a cache of what weights give, does no harm.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from ..models.copying import deep_copy, forget_caches
from ..models.reachable import copy_with, leaves_of
from ..models.running import unobserved
from ..models.state import State, changes, state_of


def find_kept(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """What forward changes in a way that matters; empty if nothing is found.

    The model is run for that, where its code or its arguments make it possible.
    """
    if not (args or kwargs) or not (_may_write(model) or _may_be_written((args, kwargs))):
        return ""
    for others in (False, True):
        try:
            tried = deep_copy(model)
            if others:
                _draw_weights(tried)
            forget_caches(tried)
            found = _find_kept(tried, (tuple(args), dict(kwargs)))
        except Exception:  # what does not run is found out elsewhere
            return ""
        if found:
            return found[0]
    return ""


@torch.no_grad()
def _draw_weights(model: nn.Module) -> None:
    """Other weights, under which signals neither vanish nor explode: what equal ones make of any
    input may be the same, and so may what saturates."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel():
            summed = parameter[0].numel() if parameter.ndim > 1 else 1
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.to(parameter) / summed**0.5)


def _find_kept(model: nn.Module, given: Any) -> list[str]:
    """What changes from the first call to the second, or when other inputs are given."""
    before = state_of(model, buffers=False)
    first, arguments = _call(model, given)
    if arguments:
        return arguments
    if not changes(before, first):
        return []
    second, _ = _call(model, given)
    other, _ = _call(model, copy_with(given, _disturb))
    return [*changes(first, second), *changes(second, other)]


def _call(model: nn.Module, given: Any) -> tuple[State, list[str]]:
    """The state after a call, and what the call has changed in its arguments but for tensors."""
    args, kwargs = copy_with(given, lambda t: t.detach().clone())
    before = _arguments((args, kwargs))
    with unobserved(model):
        model(*args, **kwargs)
    after = _arguments((args, kwargs))
    changed = [p for p in {**before, **after} if before.get(p) is not after.get(p)]
    return state_of(model, buffers=False), [f"an argument, at {path}" for path in changed]


def _arguments(given: Any) -> dict[str, Any]:
    return dict(leaves_of(given, strict=False))


def _disturb(tensor: torch.Tensor) -> torch.Tensor:
    """Other inputs that are as valid as these."""
    flipped = tensor.detach().flip(tuple(range(tensor.ndim)))
    return flipped * 0.5 + 0.25 if tensor.is_floating_point() else flipped


def _may_be_written(given: Any) -> bool:
    """Is there an argument besides tensors and numbers, that forward could write into?"""
    args, kwargs = given
    plain = (torch.Tensor, str, bytes, bool, int, float, complex, type(None))
    return not all(isinstance(value, plain) for value in [*args, *kwargs.values()])


CHANGING = {"append", "extend", "insert", "update", "setdefault", "pop", "clear", "add", "setattr"}
"""Names by which containers and objects are changed; tensors are by names that end in ``_``."""

STORING = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR"}


def _may_write(model: nn.Module) -> bool:
    """Does forward of any module, or what it calls by name, store into what it is given?"""
    seen: set[Any] = set()
    for kind in {type(m) for m in model.modules()}:
        if not kind.__module__.startswith("torch.") and _stores(kind.forward, kind, seen):
            return True
    return any("forward" in vars(m) or m._forward_hooks for m in model.modules())


def _stores(function: Any, kind: type, seen: set[Any]) -> bool:
    if isinstance(function, (property, staticmethod, classmethod)):
        function = function.fget if isinstance(function, property) else function.__func__
    function = inspect.unwrap(function) if isinstance(function, FunctionType) else None
    if not isinstance(function, FunctionType) or (function, kind) in seen:
        return False
    seen.add((function, kind))
    if (function.__module__ or "").partition(".")[0] == "torch":
        return False
    pending: list[CodeType] = [function.__code__]
    while pending:
        code = pending.pop()
        if any(step.opname in STORING for step in dis.get_instructions(code)):
            return True
        if any(n in CHANGING or (n[-1] == "_" and n[0] != "_") for n in code.co_names):
            return True
        pending += [c for c in code.co_consts if isinstance(c, CodeType)]
        for name in code.co_names:
            methods = [vars(base).get(name) for base in kind.__mro__]  # super() may be asked
            if any(_stores(f, kind, seen) for f in [*methods, function.__globals__.get(name)]):
                return True
    return False
