"""The ways to align models that are tried where the user's own number decides between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..matching.alignment import check_alignment
from ..matching.solvers import coordinate_descent
from ..objectives import Objective, activations_of
from ..repair.batches import Batches
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .many import many
from .merged import Merged, check_merged
from .parents import Parents, Permuted
from .protocol import MergeMethod
from .reference import mean

EXAMPLES = 1024
"""How many examples activations are compared on, if there are so many."""

AS_THEY_CAME = "as they came"
"""What it is called if nothing is aligned."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional arguments, and those by name."""


def examples_of(data: Iterable[Any], device: torch.device, *, least: int = EXAMPLES) -> Call:
    """The first examples of some data, as one batch; the first batch alone where batches cannot be
    joined."""
    calls: list[Call] = []
    count = 0
    for call in Batches(data).read(device):
        tensors = [x for x in tree_flatten(call)[0] if isinstance(x, Tensor) and x.ndim]
        calls.append(call)
        count += len(tensors[0]) if tensors else least
        if count >= least:
            break
    joined = _join(calls)
    return calls[0] if joined is None else joined


def _join(calls: Sequence[Call]) -> Call | None:
    leaves = [tree_flatten(call) for call in calls]
    spec = leaves[0][1]
    columns = list(zip(*(flat for flat, _ in leaves), strict=False))
    if any(other != spec for _, other in leaves):
        return None
    for column in columns:
        first = column[0]
        fits = isinstance(first, Tensor) and first.ndim > 0
        if not fits or any(x.shape[1:] != first.shape[1:] for x in column):
            return None
    joined: Call = tree_unflatten([torch.cat(column) for column in columns], spec)
    return joined


def by_weights(
    parents: Parents,
    symmetry: Symmetry,
    method: MergeMethod,
    options: Mapping[str, Any],
) -> Merged:
    """As the method does it."""
    found = method(symmetry, parents.states, **options)
    check_merged(found)
    return found


def by_activations(
    parents: Parents, symmetry: Symmetry, examples: Call, options: Mapping[str, Any]
) -> Merged:
    """Every model is aligned with the first, by what both compute from some examples."""
    assert parents.template is not None
    args, kwargs = examples
    permutations: list[Transform] = [Permutation.identity(symmetry)]
    history = [0.0, 0.0]
    for state in parents.states[1:]:
        compared = activations_of(
            symmetry, state, parents.states[0], model=parents.template, args=args, kwargs=kwargs
        )
        found = coordinate_descent(compared, seed=options["seed"], progress=options["progress"])
        check_alignment(found)
        permutations.append(found.permutation)
        history[0] += found.objective_before
        history[1] += found.objective_after
    states = [Permuted(s, p) for s, p in zip(parents.states, permutations, strict=True)]
    averaged = mean(symmetry, states, weights=options["weights"], progress=False)
    return Merged(averaged.state_dict, tuple(permutations), tuple(history))


def from_there(
    parents: Parents, symmetry: Symmetry, start: Merged, options: Mapping[str, Any]
) -> Merged:
    """Every model is aligned with the mean of the others, by weights, from where another way to
    align has left them."""
    states = [Permuted(s, p) for s, p in zip(parents.states, start.permutations, strict=True)]
    found = many(symmetry, states, in_turn=False, **options)
    permutations = tuple(
        after.compose(before)
        for after, before in zip(found.permutations, start.permutations, strict=True)
    )
    return Merged(found.state_dict, permutations, found.history)


def ways_to_align(
    parents: Parents,
    symmetry: Symmetry,
    method: MergeMethod,
    objective: Objective,
    examples: Call | None,
    options: Mapping[str, Any],
    *,
    several: bool,
) -> dict[str, Callable[[], Merged]]:
    """By name: the method; if several are wanted, models as they came as well, and, where there are
    examples, activations, and weights from there."""
    options = {**options, "objective": objective}
    ways: dict[str, Callable[[], Merged]] = {
        "weights": partial(by_weights, parents, symmetry, method, options)
    }
    if several:
        ways[AS_THEY_CAME] = partial(
            mean, symmetry, parents.states, weights=options["weights"], progress=False
        )
    if several and examples is not None:
        found: list[Merged] = []

        def aligned() -> Merged:
            if not found:
                found.append(by_activations(parents, symmetry, examples, options))
            return found[0]

        ways["activations"] = aligned
        ways["weights from activations"] = lambda: from_there(parents, symmetry, aligned(), options)
    return ways
