"""Activation matching as an objective of state dicts, for whatever aligns and merges these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from ..arguments import check_device
from ..errors import InvalidInputError, VerificationError
from ..matching.inner_products import InnerProducts
from ..models.copying import deep_copy
from ..models.inputs import form_of
from ..models.surroundings import neutral
from ..models.validation import (
    check_inputs,
    check_model,
    check_same_tensors,
    check_state_dict,
    check_tensor,
    stored_tensors,
)
from ..rules.registry import RuleBook, rule_book
from ..symmetry.group import Symmetry, check_symmetry
from ..verification.verify import verify
from .activation_matching import GRAPHS, activations, check_belongs, compared
from .activation_symmetry import ActivationSymmetry, Watching, find_activation_symmetry
from .recording import Activations, recorded, watch, with_tensors


@neutral()
def activations_of(
    symmetry: Symmetry,
    b: Mapping[str, torch.Tensor],
    a: Mapping[str, torch.Tensor],
    /,
    *,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> InnerProducts:
    """Compare what a model computes with two state dicts; see :func:`activations`.

    The model is traced at the first call. Later ones with the same symmetry and inputs of the same
    shapes only run it, as when many models are merged.

    >>> import torch, fxrebasin as fr
    >>> from functools import partial
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> a, x = model.state_dict(), torch.randn(64, 4)
    >>> symmetry = fr.analyze(model, args=(x,))
    >>> hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    >>> by_activations = partial(fr.objectives.activations_of, model=model, args=(x,))
    >>> found = fr.match(
    ...     symmetry, hidden.apply(a), to=a, objective=by_activations, progress=False
    ... )
    >>> found == hidden.inverse()
    True

    Args:
        symmetry: the group to align over.
        b: the state dict that is permuted; not changed.
        a: the state dict it is aligned with; not changed.
        model: what has such state dicts; copies of it are run.
        args, kwargs: what it is run on.
        device: where the activations are compared; by default where the model is.

    Raises:
        ArchitectureMismatchError: a state dict has other tensors than the model.
        TraceError, InvalidInputError, InvalidArgumentError: see :func:`activations`.

    Warns:
        UnmatchedBlocksWarning: see :func:`activations`.
    """
    check_symmetry(symmetry)
    check_model(model, "model")
    check_inputs(args, kwargs)
    check_device(device)
    check_belongs(symmetry, model)
    states = {"b": b, "a": a}
    for name, state in states.items():
        _check_fits(model, state, name)
    watching = Watching(symmetry, args or (), dict(kwargs or {}), rule_book())
    watched = _WATCHED.get(model)
    if watched is None or not watched.serves(watching):
        loaded_b, loaded_a = loaded = [_loaded(model, state) for state in states.values()]
        watched = _watch(model, watching, loaded)
        if watched is None:
            return activations(symmetry, loaded_b, loaded_a, args, kwargs, device=device)
        _WATCHED[model] = watched
    seen_b, seen_a = (watched.seen(state, watching) for state in states.values())
    return compared(watched.found, seen_b, seen_a, device)


@dataclass(frozen=True, eq=False)
class _Watched:
    """What holds for all state dicts of a model."""

    graph: fx.GraphModule
    found: ActivationSymmetry
    rules: RuleBook
    form: tuple[Any, ...]

    def serves(self, watching: Watching) -> bool:
        """Is it what would be found for these inputs?"""
        return (
            self.found.symmetry is watching.symmetry
            and self.rules == watching.rules
            and self.form == _form(watching)
        )

    def seen(self, state: Mapping[str, torch.Tensor], watching: Watching) -> Activations:
        return recorded(with_tensors(self.graph, state), watching.args, watching.kwargs)


_WATCHED: WeakKeyDictionary[nn.Module, _Watched] = WeakKeyDictionary()
"""The last of every model: to trace it anew for each pair of state dicts takes most of the time.
Its graph shares the tensors of the model."""


def _watch(model: nn.Module, watching: Watching, loaded: Sequence[nn.Module]) -> _Watched | None:
    """Trace a model; None if its graph computes something else with other state dicts, as where
    tracing bakes numbers in that are read from them."""
    args, kwargs, rules = watching.args, watching.kwargs, watching.rules
    graph, _ = watch(GRAPHS, model, args, kwargs, rules)
    try:
        for one in loaded:
            verify(one, with_tensors(graph, stored_tensors(one)), args, kwargs)
    except (VerificationError, InvalidInputError):  # it may also return nothing to compare
        return None
    tensors = stored_tensors(loaded[0])
    seen = recorded(with_tensors(graph, tensors), args, kwargs)
    found = find_activation_symmetry(watching, graph, model, tensors, seen)
    return _Watched(graph, found, rules, _form(watching))


def _form(watching: Watching) -> tuple[Any, ...]:
    return form_of((tuple(watching.args), watching.kwargs))


def _check_fits(model: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Refuse a state dict that cannot be loaded.

    Raises:
        ArchitectureMismatchError: the model has other tensors.
    """
    check_state_dict(state, name)
    check_same_tensors(_slots(model), state, named=("the model", name))
    for key in _slots(model):
        check_tensor(state[key], f"{name}[{key!r}]")


def _loaded(model: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of a model with other tensors."""
    copied = deep_copy(model)
    with torch.no_grad():
        for key, slot in _slots(copied).items():
            slot.copy_(state[key])
    return copied


def _slots(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t for n, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
