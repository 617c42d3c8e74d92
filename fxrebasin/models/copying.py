"""Copies of modules: with tensors of their own, or sharing them.

``copy.deepcopy`` fails on modules that keep tensors computed in forward, and on what has no copies,
such as locks and custom ops; of a ``GraphModule`` it drops what the graph does not use. Here all of
it is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import fx, nn

from .reachable import copy_what_can, leaves_of
from .rebased import RebasedModule, holder

M = TypeVar("M", bound=nn.Module)


def deep_copy(model: M, memo: dict[int, Any] | None = None) -> M:
    """A deep copy, also of modules that keep tensors computed in forward."""
    copied = _copy(model, memo or {})
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):  # into one piece again, as accelerators want them
            nn.RNNBase.flatten_parameters(module)
    return copied


def _copy(model: M, memo: dict[int, Any]) -> M:
    memo = dict(memo)
    for value in [*model.buffers(), *_kept_by(model)]:
        if isinstance(value, torch.Tensor) and (not value.is_leaf or value.layout in COMPRESSED):
            memo.setdefault(id(value), value.detach().clone())
        elif isinstance(value, torch.Generator):
            memo.setdefault(id(value), value.clone_state())
    copy_of: Any = _deep_copy_of_graph if isinstance(model, fx.GraphModule) else copy_what_can
    if not any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        copied: M = copy_of(model, memo)
        return copied
    with torch.no_grad():  # else what TorchScript has compiled would be a function of the original
        copied = copy_of(model, memo)
    own = dict(copied.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        own[name].requires_grad_(parameter.requires_grad)
    return copied


COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
"""Layouts of sparse tensors that ``copy.deepcopy`` cannot copy."""

OWN = frozenset(vars(nn.Module())) - {"training"}
"""The attributes in which ``nn.Module`` keeps parameters, buffers, submodules and hooks."""


def attributes(module: nn.Module) -> dict[str, Any]:
    """What a module keeps besides parameters, buffers, submodules, hooks and its mode."""
    return {k: v for k, v in vars(module).items() if k not in OWN and k != "training"}


def _kept_by(model: nn.Module) -> Iterator[Any]:
    """All that can be reached from the attributes of modules."""
    for module in model.modules():
        if not isinstance(module, fx.GraphModule):
            yield from (leaf for _, leaf in leaves_of(attributes(module), strict=False))


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
    leave proxies behind in them; tracing the copy does not. What TorchScript has compiled keeps
    nothing, and has no copies that share: it is shared itself.
    """
    shared = [*model.parameters(), *model.buffers()]
    compiled = [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]
    if model in compiled:
        return model
    return _copy(model, {id(one): one for one in [*shared, *compiled]})


def copy_sharing_parameters(model: M) -> M:
    """A copy of a module that shares its parameters, and has all else for itself."""
    return _copy(model, {id(p): p for p in model.parameters()})


def forget_caches(model: nn.Module) -> None:
    """Have modules drop what they computed from weights that are no longer the same.

    Modules that keep such things between evaluations drop them when training begins. What their
    ``train`` does is done to a copy, since it may do more, such as to merge weights; only what it
    drops is dropped. Modules that keep no tensors are not asked.
    """
    for module in list(model.modules()):
        kept = {name: value for name, value in attributes(module).items() if _holds_tensors(value)}
        if type(module).train is nn.Module.train or not kept:
            continue
        asked = deep_copy(module)
        try:
            asked.train()
        except Exception:
            continue
        for name in kept:
            now = vars(asked).get(name)
            if not _holds_tensors(now):
                vars(module)[name] = now


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for _, leaf in leaves_of(value, strict=False))


def set_modes(model: nn.Module, training: bool) -> None:
    """Put a module into train or eval mode without running its own ``train`` or ``eval``, which
    may do more than that, such as to merge weights."""
    for module in model.modules():
        module.training = training
