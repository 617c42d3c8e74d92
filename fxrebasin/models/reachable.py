"""What can be reached from an object: the items of containers, and the attributes of anything.

>>> from types import SimpleNamespace
>>> given = {"a": [torch.zeros(2), 3], "b": SimpleNamespace(c=torch.ones(1))}
>>> [path for path, _ in leaves_of(given)]
["['a'][0]", "['a'][1]", "['b'].c"]

Modules are not looked into: what they hold belongs to the model.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import SUPPORTED_NODES, tree_flatten

from ..errors import InvalidInputError

LARGEST = 100_000
"""How many objects are looked into."""

_ATOMS = (str, bytes, bool, int, float, complex, type(None), Enum, type, range, slice, np.generic)
_SKIPPED = (
    *_ATOMS,
    *(torch.Tensor, torch.dtype, torch.device, torch.Generator, np.ndarray, nn.Module),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.FrameType),
)
"""What is a leaf."""


def leaves_of(value: Any, *, strict: bool = True) -> Iterator[tuple[str, Any]]:
    """Every leaf that can be reached from a value, with the way that leads there, in order.

    What is both an item and an attribute, as in model outputs of transformers, comes once.
    Iterators, whose items would be gone once they were looked at, are leaves if not ``strict``.

    Raises:
        InvalidInputError: there is an iterator, or too much.
    """
    yield from _Walk(strict=strict).leaves("", value)


def reachable_tensors(value: Any, *, strict: bool = False) -> list[torch.Tensor]:
    """Every tensor that can be reached from a value, in order."""
    leaves = leaves_of(value, strict=strict)
    return [leaf for _, leaf in leaves if isinstance(leaf, torch.Tensor)]


def copy_with(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A deep copy with other tensors in the place of those that can be reached.

    Modules, and what has no copies, such as open files, are shared.
    """
    memo: dict[int, Any] = {}
    kept: list[Any] = []
    for leaf in _Walk(strict=False).everything(value):
        if id(leaf) in memo:
            continue
        if isinstance(leaf, torch.Tensor):
            memo[id(leaf)] = change(leaf)
        elif isinstance(leaf, torch.Generator):
            memo[id(leaf)] = leaf.clone_state()
        elif isinstance(leaf, nn.Module):
            memo[id(leaf)] = leaf
        kept.append(leaf)
    return copy_what_can(value, memo)


def copy_what_can(value: Any, memo: Mapping[int, Any]) -> Any:
    """A deep copy in which what has no copies, such as locks, is shared."""
    try:
        return copy.deepcopy(value, dict(memo))
    except Exception:
        return copy.deepcopy(value, {**memo, **_uncopiable(value, memo)})


def _uncopiable(value: Any, memo: Mapping[int, Any]) -> dict[int, Any]:
    """The innermost objects that cannot be copied, as a memo to share them."""
    found: dict[int, Any] = {}
    shared = dict(memo)
    if isinstance(value, nn.Module):  # large, and certainly copied: not again for every try
        shared |= {id(t): t for t in [*value.parameters(), *value.buffers()]}

    def fails(one: Any) -> bool:
        try:
            copy.deepcopy(one, dict(shared))
        except Exception:
            return True
        return False

    visited: set[int] = set()
    pending = [value]
    while pending:
        one = pending.pop()
        if id(one) in visited or id(one) in shared:
            continue
        visited.add(id(one))
        inside = vars(one).values() if isinstance(one, nn.Module) else _parts(one)
        failing = [part for part in inside if fails(part)]
        pending += failing
        if not failing:
            found[id(one)] = one
    return found


def _parts(value: Any) -> list[Any]:
    return [part for _, part, _ in _parts_of(value)]


class _Walk:
    """One walk: it never follows a circle, nor looks into one plain object twice."""

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.above: set[int] = set()
        self.seen: set[int] = set()
        self.tensors: set[int] = set()
        self.kept: list[Any] = []
        """Keeps what attributes make on the way alive, so that no id is used again."""

    def leaves(self, path: str, value: Any, *, again: bool = True) -> Iterator[tuple[str, Any]]:
        if isinstance(value, _SKIPPED):
            if isinstance(value, torch.Tensor):
                if not again and id(value) in self.tensors:
                    return
                self.tensors.add(id(value))
            yield path, value
            return
        if isinstance(value, Iterator):
            if not self.strict:
                return
            raise InvalidInputError(
                f"the model returns, or keeps, {type(value).__name__} objects{path and ' at '}"
                f"{path}, whose items are gone once they were looked at; return a list instead"
            )
        if id(value) in self.above or (not again and id(value) in self.seen):
            return
        self.above.add(id(value))
        self.seen.add(id(value))
        self.kept.append(value)
        if len(self.kept) > LARGEST:
            if not self.strict:
                return
            raise InvalidInputError(
                f"more than {LARGEST} objects can be reached from what the model takes or returns, "
                "too many to look for tensors in; return the tensors themselves"
            )
        for step, part, is_item in _parts_of(value):
            yield from self.leaves(path + step, part, again=again and is_item)
        self.above.discard(id(value))

    def everything(self, value: Any) -> Iterator[Any]:
        return (leaf for _, leaf in self.leaves("", value, again=False))


def _parts_of(value: Any) -> Iterator[tuple[str, Any, bool]]:
    """What an object holds directly: the step that leads there, and whether it is an item."""
    if isinstance(value, _SKIPPED):
        return
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item, True) for key, item in value.items())
    elif isinstance(value, (list, tuple, deque, Set)):
        yield from ((f"[{k}]", item, True) for k, item in enumerate(value))
    elif type(value) in SUPPORTED_NODES:
        items, _ = tree_flatten(value, is_leaf=lambda part: part is not value)
        yield from ((f"[{k}]", item, True) for k, item in enumerate(items))
    fields: tuple[str, ...] = ()
    if dataclasses.is_dataclass(value):
        fields = tuple(f.name for f in dataclasses.fields(value))
    is_container = isinstance(value, (Mapping, list, tuple, deque, Set))
    for name, part in _attributes(value).items():
        if is_container and name not in fields and isinstance(part, _ATOMS):
            continue  # what a container notes about itself
        yield f".{name}", part, name in fields and not isinstance(value, Mapping)


def _attributes(value: Any) -> dict[str, Any]:
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.MethodType):
        return {"__self__": value.__self__}
    found: dict[str, Any] = {}
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
        return found | {"__defaults__": value.__defaults__, "__kwdefaults__": value.__kwdefaults__}
    found.update(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{base.__name__.lstrip('_')}{name}"
            is_private = name.startswith("__") and not name.endswith("__")
            descriptor = vars(base).get(mangled if is_private else name)
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    found[name] = descriptor.__get__(value)
                except AttributeError:  # not set
                    continue
    return found
