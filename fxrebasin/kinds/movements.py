"""Views, copies, concatenation, look-ups and pooling: linear maps that move entries, or mix those
of other axes.

Entries keep their units, so that a frame of the operand and one of the result are the same if the
units are, wherever the op takes an entry from. Where there is one of each, nothing has to be
followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map_only

from ..layouts.coordinates import as_tensor
from ..layouts.events import Event, Value
from ..layouts.ids import Ids
from ..layouts.layout import Layout
from ..layouts.primitives import move
from ..symmetry.kinds import POSITIVE
from .places import NO_UNIT
from .scene import Scene, Seen, covered, meeting

IN_PLACE_OF = ("_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh", "to")
"""Ops whose results have their entries where the operand has them."""


def movement(scene: Scene, event: Event) -> None:
    """A view, or a copy."""
    x = event.args[1] if event.op == "aten::copy" else event.args[0]
    for k, out in enumerate(event.results):
        if len(scene.on(x)) == 1 == len(scene.on(out)):
            scene.same(scene.on(x)[0].number, scene.on(out)[0].number)
        elif 0 in out.layout.shape:
            scene.say_nothing([x])
        elif scene.on(x):
            _follow(scene, event, x, k)


def _follow(scene: Scene, event: Event, x: Value, which: int) -> None:
    """Tie frames of which there are several: by running the op on the places of each.

    Of a frame that is not in what is left, a slice says nothing.
    """
    name, out = event.op.removeprefix("aten::"), event.results[which]
    order = [str(d) for d in range(out.layout.ndim)]
    results = scene.see(out, order, order)
    if name in IN_PLACE_OF or name == "copy":
        given = scene.see(x, order[out.layout.ndim - x.layout.ndim :], order)
        scene.same_where_they_meet(given, results)
        return
    reshapes = name in ("_reshape_alias", "_unsafe_view", "view")  # strides do not matter here
    op = torch.ops.aten.reshape if reshapes else getattr(torch.ops.aten, name)

    def run(t: torch.Tensor) -> Any:
        args, kwargs = tree_map_only(Value, lambda _: t, (event.args, dict(event.kwargs)))
        return op(*(args[:2] if reshapes else args), **kwargs)

    for frame in scene.on(x):
        moved = move(Layout(x.layout.shape, (frame.places,)), run)[which].coordinates[0]
        if (moved >= 0).any():
            taken = Seen(frame.number, moved, frozenset())
            scene.same_where_they_meet([taken], results)
        else:
            scene.spoken.add(frame.number)


def union(scene: Scene, event: Event) -> None:
    """Operands one after the other; what is put in between is the same for all units."""
    out = event.results[0]
    order = [str(d) for d in range(out.layout.ndim)]
    results = scene.see(out, order, order)
    if event.op == "aten::constant_pad_nd":
        x, pad = event.args[0], list(event.args[1])
        value = event.args[2] if len(event.args) > 2 else event.kwargs.get("value", 0)
        padded = [Seen(f.number, _pad(f.places, x, pad), f.on) for f in scene.see(x, order, order)]
        scene.add(results, [(padded, scene.is_zero(value))])
        return
    dim = event.args[1] if len(event.args) > 1 else event.kwargs.get("dim", 0)
    dim %= out.layout.ndim
    begin = 0
    for x in event.args[0]:
        if event.op == "aten::stack":
            letters, length = [name for d, name in enumerate(order) if d != dim], 1
        elif x.layout.ndim != out.layout.ndim:  # an empty one, which torch passes over
            continue
        else:
            letters, length = order, x.layout.shape[dim]
        parts = [_part(h, dim, begin, length) for h in results]
        begin += length
        here = [part for part in parts if (part.places >= 0).any()]
        scene.add(here, [(scene.see(x, letters, order), x.is_zero)])


def _pad(places: Ids, x: Value, pad: list[int]) -> Ids:
    expanded = as_tensor(places).expand(x.layout.shape)
    return torch.nn.functional.pad(expanded, pad, value=NO_UNIT).numpy()


def _part(h: Seen, dim: int, begin: int, length: int) -> Seen:
    """What a frame is in a stretch of one dim."""
    if h.places.shape[dim] == 1:
        return h
    places: Ids = np.take(h.places, range(begin, begin + length), axis=dim)
    return Seen(h.number, places, h.on)


def look_up(scene: Scene, event: Event) -> None:
    """Rows at indices: along the other axes, they are what the table's are."""
    table, out = event.args[0], event.results[0]
    if event.op == "aten::embedding":
        rows = [f"i{d}" for d in range(event.args[1].layout.ndim)]
        letters, made = ["v", "d"], [*rows, "d"]
    else:
        dim = event.args[1] % table.layout.ndim
        letters = [str(d) for d in range(table.layout.ndim)]
        made = [f"i{d}" if d == dim else str(d) for d in range(table.layout.ndim)]
    _along_others(scene, (table, letters), (out, made), lambda f, h: None)


def pooling(scene: Scene, event: Event) -> None:
    """Means of neighbours, and what is in between them: linear, of every channel by itself."""
    _pool(scene, event, lambda f, h: None)


def positive_pooling(scene: Scene, event: Event) -> None:
    """The largest of neighbours, which scales as they do."""

    def scales(f: Seen, h: Seen) -> None:
        scene.cap(f.number, POSITIVE)
        scene.frames.fix_sign(f.number)

    _pool(scene, event, scales)


def _pool(scene: Scene, event: Event, also: Callable[[Seen, Seen], None]) -> None:
    x, out = event.args[0], event.results[0]
    spatial = next(k for k in (1, 2, 3) if f"{k}d" in event.op)
    lead = [str(d) for d in range(out.layout.ndim - spatial)]
    letters, made = ([*lead, *(f"{s}{d}" for d in range(spatial))] for s in ("x", "y"))
    _along_others(scene, (x, letters), (out, made), also)


def _along_others(
    scene: Scene,
    given: tuple[Value, Sequence[str]],
    made: tuple[Value, Sequence[str]],
    also: Callable[[Seen, Seen], None],
) -> None:
    """Frames on the axes that operand and result share are the same."""
    shared = frozenset(given[1]) & frozenset(made[1])
    order = list(dict.fromkeys([*given[1], *made[1]]))
    results = [h for h in scene.see(made[0], made[1], order) if h.on <= shared]
    for f in scene.see(given[0], given[1], order):
        if f.on <= shared:
            for h in meeting(f, results):
                if covered(h, [f]):
                    scene.same(f.number, h.number)
                    also(f, h)
