"""The group that a rule allows on one call of an op, of arguments and results together.

The call is treated as a model of its own: its arguments are the stored tensors, its results the
outputs, and units are found as in any analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import networkx as nx
import numpy as np
import torch

from ..layouts.adoption import resolve
from ..layouts.coordinates import varies_on
from ..layouts.facts import Facts
from ..layouts.ids import Ids
from ..layouts.layout import Layout, Parameter
from ..layouts.settling import settle
from ..layouts.units import Units
from ..propagation.stored import Stored, make_parameters
from ..propagation.tensors import Tensors
from ..refinement.build import build_symmetry
from ..rules.call import Call, Rule
from ..symmetry.group import Symmetry
from .example import Example


@dataclass(frozen=True)
class Allowed:
    """The group that a rule allows, where certain arguments had units before the op."""

    symmetry: Symmetry
    ids: dict[str, torch.Tensor]
    """Per tensor, a number per entry; equal where the layout says that the values are."""
    indexed: dict[str, tuple[int, ...]]
    """Per result that holds indices of units, the shape of the tensor of these units."""


def allowed_groups(example: Example, rule: Rule) -> Iterator[Allowed]:
    """The group where every argument has units before the op, and one per argument where it alone
    has, so that the others adopt its units."""
    names = list(example.tensors)
    for named in [names, *([name] for name in names if len(names) > 1)]:
        yield _allowed(example, rule, named)


def _allowed(example: Example, rule: Rule, named: Sequence[str]) -> Allowed:
    units = Units(site=example.name)
    stored = [Stored(t, [name], False) for name, t in example.tensors.items()]
    found = Facts(units, make_parameters(stored, units, {}), nx.MultiGraph())
    tensors = Tensors(found, stored)
    have_units = {id(example.tensors[name]) for name in named}

    def layout_of(t: torch.Tensor) -> Layout:
        layout = tensors.layout_of(t)
        return resolve(units, layout) if id(t) in have_units else layout

    args, kwargs = example.arguments(layout_of)
    results = example.run(example.tensors)
    shapes = tuple(tuple(t.shape) for t in results.values())
    call = Call(units, example.name, shapes, schema=example.schema)
    layouts = call.results(rule(call, *args, **kwargs))
    for t in example.tensors.values():
        resolve(units, tensors.layout_of(t))
    ids = {p.name: _number_entries(p.shape, p.named()) for p in found.parameters}
    indexed = {}
    for name, layout in zip(results, layouts, strict=True):
        x = settle(units, resolve(units, layout))
        ids[name] = _number_entries(x.shape, x.coordinates)
        found.parameters.append(Parameter((name,), x.shape, False, (), _with_copies(units, x)))
        if layout.order_of is not None:
            x = settle(units, resolve(units, layout.order_of))
            indexed[name] = x.shape
            found.parameters.append(
                Parameter((indexed_by(name),), x.shape, False, (), [*x.coordinates])
            )
    return Allowed(build_symmetry(found).symmetry, ids, indexed)


def indexed_by(result: str) -> str:
    """The name of the tensor of units that a result holds indices of."""
    return f"what {result} indexes"


def _number_entries(shape: tuple[int, ...], coordinates: Sequence[Ids]) -> torch.Tensor:
    """A number per entry, the same where all coordinates have the same units."""
    columns = [np.broadcast_to(c, shape).ravel() for c in coordinates]
    if not columns or not prod(shape):
        return torch.zeros(shape, dtype=torch.int64)
    _, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return torch.from_numpy(inverse.reshape(shape).astype(np.int64))


def _with_copies(units: Units, x: Layout) -> list[Ids]:
    """Coordinates that give every entry units of its own.

    Where a layout gives several entries the same units, they are numbered by pinned coordinates:
    a group moves entries, and so has to have each at one place.
    """
    coordinates = list(x.coordinates)
    joined = nx.Graph()
    for c in x.coordinates:
        nx.add_path(joined, varies_on(c))
    for axes in nx.connected_components(joined):
        shape = tuple(n if d in axes else 1 for d, n in enumerate(x.shape))
        inside = [c for c in x.coordinates if set(varies_on(c)) & axes]
        numbers = _number_entries(shape, inside).flatten().numpy()
        order = np.argsort(numbers, kind="stable")
        _, first, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        copy = np.empty_like(numbers)
        copy[order] = np.arange(len(order)) - np.repeat(first, counts)
        if copy.any():
            coordinates.append(units.positions(-2, int(copy.max()) + 1)[copy].reshape(shape))
    return coordinates
