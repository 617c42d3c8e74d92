"""Copies of modules: with tensors of their own, or sharing them.

``copy.deepcopy`` fails on modules that keep tensors computed in forward, and on what has no copies,
such as locks and custom ops; of a ``GraphModule`` it drops what the graph does not use. Here all of
it is kept.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import fx, nn

from .rebased import RebasedModule, holder

M = TypeVar("M", bound=nn.Module)


def deep_copy(model: M, memo: dict[int, Any] | None = None) -> M:
    """A deep copy, also of modules that keep tensors computed in forward."""
    memo = dict(memo or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach())
    if isinstance(model, fx.GraphModule):
        return _deep_copy_of_graph(model, memo)  # type: ignore[return-value]
    try:
        copied = copy.deepcopy(model, dict(memo))
    except TypeError:  # what Python says of that which it cannot copy
        copied = copy.deepcopy(model, {**memo, **_uncopiable(model, memo)})
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # into one piece again, as accelerators want them
    return copied


def _uncopiable(model: nn.Module, memo: dict[int, Any]) -> dict[int, Any]:
    """What modules hold that has no copies, such as locks and custom ops, as a memo to share it."""
    found: dict[int, Any] = {}
    for module in model.modules():
        for name in vars(module).keys() - vars(nn.Module()).keys():
            value = vars(module)[name]
            try:
                copy.deepcopy(value, dict(memo))
            except TypeError:
                found[id(value)] = value
    return found


def _deep_copy_of_graph(model: fx.GraphModule, memo: dict[int, Any]) -> RebasedModule:
    """``GraphModule`` itself drops what its graph does not use when it is copied."""
    root = holder(copy.deepcopy(holder(model.__dict__).__dict__, memo))
    copied = RebasedModule(root, copy.deepcopy(model.graph), type(model).__name__)
    copied.meta.update(getattr(model, "meta", {}))
    copied.training = model.training
    return copied


def shared_copy(model: M) -> M:
    """A copy of a module that shares its parameters and buffers, and nothing else.

    Some modules keep tensors that they compute in forward. Tracing the user's own module would
    leave proxies behind in them; tracing the copy does not.
    """
    return deep_copy(model, {id(t): t for t in [*model.parameters(), *model.buffers()]})


def forget_caches(model: nn.Module) -> None:
    """Have modules drop what they computed from weights that are no longer the same.

    Those that keep such things between evaluations drop them when training begins.
    """
    modes = {module: module.training for module in model.modules()}
    model.train()
    for module, mode in modes.items():
        module.training = mode
