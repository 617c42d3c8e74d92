"""Ops that work in place: what is undone, what is pinned, what tensors are known to hold."""

from __future__ import annotations

import networkx as nx
import torch
from torch import nn

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.facts import Facts
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.units import Units
from fxrebasin.propagation.stored import find_stored, make_parameters
from fxrebasin.propagation.tensors import Tensors
from fxrebasin.propagation.writes import Writes


class Stores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 3))
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.tensor([1.0, 1.0, 0.0]))


def known(model: nn.Module) -> tuple[Tensors, Writes]:
    units = Units()
    stored = find_stored(model)
    facts = Facts(units, make_parameters(stored, units, {}), nx.MultiGraph())
    tensors = Tensors(facts, stored)
    return tensors, Writes(tensors, stored)


def named(tensors: Tensors, *shape: int) -> Layout:
    """Fresh units along every axis."""
    ids = [tensors.units.fresh(n) for n in shape]
    coordinates = [along(i, d, len(shape)) for d, i in enumerate(ids)]
    return Layout(shape, tuple(coordinates))


def sizes(layout: Layout) -> set[tuple[int, ...]]:
    return {c.shape for c in layout.coordinates}


def test_stored_tensors_are_known_and_constants_are_not() -> None:
    model = Stores()
    tensors, _ = known(model)
    for tensor in (model.weight, model.norm.weight, model.norm.running_mean):
        layout = tensors.get(tensor)  # type: ignore[arg-type]
        assert layout is not None
        assert layout.parameter is not None
    assert tensors.get(torch.rand(4)) is None
    assert tensors.get(model.get_buffer("mask")) is None


def test_constants_are_told_apart_where_their_values_differ() -> None:
    tensors, _ = known(Stores())
    assert sizes(tensors.layout_of(torch.tensor([[1.0, 2.0], [1.0, 2.0]]))) == {(1, 2)}
    assert sizes(tensors.layout_of(torch.ones(2, 3))) == set()
    assert sizes(tensors.layout_of(torch.ones(1, 3).expand(2, 3))) == set()


def test_buffers_may_hold_other_values_in_another_state_dict() -> None:
    model = Stores()
    model.get_buffer("mask").fill_(1.0)
    tensors, _ = known(model)
    layout = tensors.layout_of(model.get_buffer("mask"))
    assert sizes(layout) == {(3,)}
    assert layout.buffer is not None


def test_what_is_written_to_stored_tensors_is_undone() -> None:
    model = Stores()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, writes = known(model)
    with torch.no_grad():
        writes.keep_values(model.weight[0])  # a view of it
        model.weight[0] = 7.0
        writes.keep_values(model.weight)  # the first values count
        assert model.norm.running_mean is not None
        model.norm.running_mean.add_(1)  # batch norm does not say that it writes
        writes.undo()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_a_write_to_the_whole_of_a_tensor_replaces_its_layout() -> None:
    tensors, writes = known(Stores())
    x, new = torch.rand(3, 3), named(tensors, 3, 3)
    tensors.put(x, named(tensors, 3, 3))
    writes.follow(x, tensors.whole_of(x), new, "aten.copy_", ())
    assert tensors.get(x) is new


def test_what_cannot_be_followed_is_pinned() -> None:
    tensors, writes = known(Stores())
    x, new = torch.rand(3, 3), named(tensors, 3, 3)
    tensors.put(x, named(tensors, 3, 3))
    diagonal = torch.as_strided(x, (3,), (4,))  # no rows by columns
    writes.follow(diagonal, tensors.whole_of(x), new, "aten.copy_", ())
    units = tensors.units
    assert all(units.is_pinned(units.find(c)).all() for c in new.coordinates)
    reasons = {str(units.causes[int(k)]) for c in new.coordinates for k in units.cause(c).ravel()}
    assert reasons == {"aten.copy_ writes where it cannot be followed"}


def test_what_an_op_writes_without_returning_it_pins_what_it_was_made_of() -> None:
    tensors, writes = known(Stores())
    x, operand = torch.rand(3, 3), named(tensors, 3)
    tensors.put(x, named(tensors, 3, 3))
    writes.follow_unknown(x, tensors.whole_of(x), [operand], "mine.op", ())
    units = tensors.units
    assert all(units.is_pinned(units.find(c)).all() for c in operand.coordinates)
