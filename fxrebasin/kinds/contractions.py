"""Products of matrices, convolutions and attention: what sums of products say of frames.

Along the axis that is summed over, the two sides are dual: ``sum_k x_k w_k`` stays what it is if a
matrix acts on ``x`` and its inverse transpose on ``w``. What a free axis of an operand has, the
result has. Along an axis that both sides and the result share, units meet one by one.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ..layouts.events import Event, Value
from .scene import Letters, Scene, Seen, covered, meeting

PRODUCTS: dict[str, tuple[str, str, str]] = {
    "aten::addmm": ("n k", "k m", "n m"),
    "aten::addmv": ("n k", "k", "n"),
    "aten::baddbmm": ("b n k", "b k m", "b n m"),
    "aten::bmm": ("b n k", "b k m", "b n m"),
    "aten::dot": ("k", "k", ""),
    "aten::mm": ("n k", "k m", "n m"),
    "aten::mv": ("n k", "k", "n"),
}
"""The axes of both operands and of the result."""

WITH_SUMMAND = ("aten::addmm", "aten::addmv", "aten::baddbmm")
"""Products to which their first operand is added."""


def contraction(scene: Scene, event: Event) -> None:
    """``mm`` and all that it is the simplest of, ``linear`` among them."""
    operands, out = list(event.args), event.results[0]
    summand: object = None
    if event.op == "aten::linear":
        x, y, summand = (*operands, None)[:3]
        lead = [f"a{d}" for d in range(x.layout.ndim - 1)]
        letters: tuple[Letters, Letters, Letters] = ([*lead, "i"], ["o", "i"], [*lead, "o"])
    else:
        if event.op in WITH_SUMMAND:
            summand = operands.pop(0)
        x, y = operands[:2]
        one, other, result = PRODUCTS[event.op]
        letters = (one.split(), other.split(), result.split())
    order = list(dict.fromkeys([*letters[0], *letters[1]]))
    results = scene.see(out, letters[2], order)
    left, right = scene.see(x, letters[0], order), scene.see(y, letters[1], order)
    _contract(scene, (left, x), (right, y), results, letters)
    if isinstance(summand, Value):
        added = scene.see(summand, letters[2][len(letters[2]) - summand.layout.ndim :], order)
        scene.add(results, [(added, summand.is_zero)])


def convolution(scene: Scene, event: Event) -> None:
    """A product of matrices at every place of a kernel, within groups of channels."""
    x, w, bias, _, _, _, is_transposed, _, groups = event.args
    out = event.results[0]
    spatial = x.layout.ndim - 2
    places, kernel, made = ([f"{s}{d}" for d in range(spatial)] for s in ("x", "k", "y"))
    weight = ["g c", "o"] if is_transposed else ["g o", "c"]
    letters = (["n", "g c", *places], [*weight, *kernel], ["n", "g o", *made])
    order = ["n", "g", "o", "c", *places, *kernel, *made]
    results = scene.see(out, letters[2], order, groups=groups)
    left = scene.see(x, letters[0], order, groups=groups)
    right = scene.see(w, letters[1], order, groups=groups)
    apart = tuple(" ".join(names).split() for names in letters)
    _contract(scene, (left, x), (right, w), results, (apart[0], apart[1], apart[2]))
    if isinstance(bias, Value):
        added = scene.see(bias, ["g o"], order, groups=groups)
        scene.add(results, [(added, bias.is_zero)])


def attention(scene: Scene, event: Event) -> None:
    """Products of queries and keys go through a softmax; their weighted sums of values are linear.

    Heads meet the softmax, so that of them only permutations are known. There may be fewer heads
    of keys and values, each of which then serves a group of queries that follow one another.
    """
    q, k, v = event.args[:3]
    batch, heads = k.layout.shape[:2]
    if k.layout.shape[:2] != v.layout.shape[:2] or q.layout.shape[0] != batch:
        return
    if q.layout.shape[1] % heads:
        return
    order = ["b", "h", "r", "t", "s", "d", "e"]
    of_heads = ["b", "h r", "t"]
    queries = _along(scene.see(q, [*of_heads, "d"], order, groups=heads), "d")
    keys = _along(scene.see(k, ["b", "h", "s", "d"], order), "d")
    _sum_over(scene, queries, keys, other_is_zero=k.is_zero)
    _sum_over(scene, keys, queries, other_is_zero=q.is_zero)
    values = _along(scene.see(v, ["b", "h", "s", "e"], order), "e")
    results = _along(scene.see(event.results[0], [*of_heads, "e"], order, groups=heads), "e")
    scene.same_where_they_meet(values, results)


def _along(frames: list[Seen], letter: str) -> list[Seen]:
    return [f for f in frames if f.on == {letter}]


def _contract(
    scene: Scene,
    left: tuple[list[Seen], Value],
    right: tuple[list[Seen], Value],
    results: list[Seen],
    letters: tuple[Letters, Letters, Letters],
) -> None:
    """Frames that lie on axes of several sorts are left to what holds if nothing is said."""
    one, other, result = (frozenset(names) for names in letters)
    summed, shared = (one & other) - result, one & other & result
    (fs, x), (gs, y) = left, right
    _sum_over(scene, _inside(fs, summed), _inside(gs, summed), other_is_zero=y.is_zero)
    _sum_over(scene, _inside(gs, summed), _inside(fs, summed), other_is_zero=x.is_zero)
    _meet_one_by_one(scene, _inside(fs, shared), _inside(gs, shared), results)
    for frames, own in ((fs, one - other), (gs, other - one)):
        scene.same_where_they_meet(_inside(frames, own & result), results)


def _inside(frames: list[Seen], letters: AbstractSet[str]) -> list[Seen]:
    return [f for f in frames if f.on and f.on <= letters]


def _sum_over(scene: Scene, one: list[Seen], other: list[Seen], *, other_is_zero: bool) -> None:
    for f in one:
        met = meeting(f, other)
        for g in met:
            scene.same(f.number, g.number, -1)
        if not covered(f, met):
            if other_is_zero:
                scene.spoken.add(f.number)
            else:
                scene.keep_ones(f.number)


def _meet_one_by_one(scene: Scene, one: list[Seen], other: list[Seen], results: list[Seen]) -> None:
    for h in results:
        multiply(scene, h, meeting(h, one), meeting(h, other))


def multiply(scene: Scene, h: Seen, fs: list[Seen], gs: list[Seen], power: int = 1) -> None:
    """A result is the product, entry by entry, of operands that have these frames; of the second
    operand, to this power."""
    if not fs and not gs:
        return
    if not gs and covered(h, fs):
        for f in fs:
            scene.same(f.number, h.number)
    elif not fs and power == 1 and covered(h, gs):
        for g in gs:
            scene.same(g.number, h.number)
    elif (not fs or covered(h, fs)) and covered(h, gs):
        for g in gs:
            for f in fs:
                scene.multiply([(h.number, 1), (f.number, -1), (g.number, -power)])
            if not fs:
                scene.multiply([(h.number, 1), (g.number, -power)])
    else:
        for one in (h, *fs, *gs):
            scene.forbid(one.number)
