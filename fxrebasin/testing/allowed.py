"""The group that a rule allows, on the arguments and results of one op."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import networkx as nx
import numpy as np
import torch

from ..layouts.adoption import resolve
from ..layouts.coordinates import varies_on
from ..layouts.facts import Propagation
from ..layouts.ids import Ids
from ..layouts.layout import Layout, Parameter
from ..layouts.settling import settle
from ..layouts.units import Units
from ..propagation.dispatch import LayoutMode
from ..propagation.stored import Stored, unnamed_parameters
from ..refinement.build import build_symmetry
from ..rules.call import Call, Rule
from ..symmetry.group import Symmetry
from .example import Example


@dataclass(frozen=True)
class Claim:
    """The group that a rule allows, given what had units before the op."""

    symmetry: Symmetry
    ids: dict[str, torch.Tensor]
    """Per tensor, a number per entry; equal where the layout says that the values are."""
    orders: dict[str, tuple[int, ...]]
    """Per result that holds numbers of units, how many those are along each axis."""


def claims_of(example: Example, rule: Rule) -> Iterator[Claim]:
    """The first claim names every argument, each other one only one of them."""
    names = list(example.tensors)
    for named in [names, *([name] for name in names if len(names) > 1)]:
        yield _claim(example, rule, named)


def _claim(example: Example, rule: Rule, named: Sequence[str]) -> Claim:
    units = Units(site=example.name)
    stored = [Stored(t, [name], False) for name, t in example.tensors.items()]
    found = Propagation(units, unnamed_parameters(stored, units, {}), nx.MultiGraph())
    mode = LayoutMode(found, stored)
    up_front = {id(example.tensors[name]) for name in named}

    def layout_of(t: torch.Tensor) -> Layout:
        layout = mode.layout_of(t)
        return resolve(units, layout) if id(t) in up_front else layout

    args, kwargs = example.arguments(layout_of)
    results = example.run(example.tensors)
    shapes = tuple(tuple(t.shape) for t in results.values())
    call = Call(units, example.name, shapes, schema=example.schema)
    layouts = call.results(rule(call, *args, **kwargs))
    for t in example.tensors.values():
        resolve(units, mode.layout_of(t))
    ids = {p.name: _numbered(p.shape, p.named()) for p in found.parameters}
    orders = {}
    for name, layout in zip(results, layouts, strict=True):
        x = settle(units, resolve(units, layout))
        ids[name] = _numbered(x.shape, x.coordinates)
        found.parameters.append(Parameter((name,), x.shape, False, (), _with_copies(units, x)))
        if layout.order_of is not None:
            x = settle(units, resolve(units, layout.order_of))
            orders[name] = x.shape
            found.parameters.append(
                Parameter((order_of_result(name),), x.shape, False, (), [*x.coordinates])
            )
    return Claim(build_symmetry(found).symmetry, ids, orders)


def order_of_result(result: str) -> str:
    return f"what {result} numbers"


def _numbered(shape: tuple[int, ...], coordinates: Sequence[Ids]) -> torch.Tensor:
    columns = [np.broadcast_to(c, shape).ravel() for c in coordinates]
    if not columns or not prod(shape):
        return torch.zeros(shape, dtype=torch.int64)
    _, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return torch.from_numpy(inverse.reshape(shape).astype(np.int64))


def _with_copies(units: Units, x: Layout) -> list[Ids]:
    """Coordinates that number the entries which a layout holds to be equal, one by one."""
    coordinates = list(x.coordinates)
    joined = nx.Graph()
    for c in x.coordinates:
        nx.add_path(joined, varies_on(c))
    for axes in nx.connected_components(joined):
        shape = tuple(n if d in axes else 1 for d, n in enumerate(x.shape))
        inside = [c for c in x.coordinates if set(varies_on(c)) & axes]
        numbers = _numbered(shape, inside).flatten().numpy()
        order = np.argsort(numbers, kind="stable")
        _, first, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        copy = np.empty_like(numbers)
        copy[order] = np.arange(len(order)) - np.repeat(first, counts)
        if copy.any():
            coordinates.append(units.positions(-2, int(copy.max()) + 1)[copy].reshape(shape))
    return coordinates
