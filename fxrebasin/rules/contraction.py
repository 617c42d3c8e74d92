"""Convolution and attention: contractions that a plain signature cannot say alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..layouts.adoption import resolve
from ..layouts.coordinates import positional
from ..layouts.layout import Layout
from ..layouts.primitives import merge, move, reduce
from ..signature import apply as signature
from .call import Call, Rule


def added(text: str) -> Rule:
    """The rule of an op that adds its first argument to a contraction of the others.

    The first argument broadcasts against the result, which a signature would not say: its ``...``
    are axes of their own.
    """

    def rule(call: Call, x: Layout, *operands: Any, **kwargs: Any) -> Layout:
        return call.merge(call.signature(text, *operands), x)

    return rule


def convolution(
    call: Call,
    x: Layout,
    weight: Layout,
    bias: Layout | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Layout:
    kernel = "(g i) o" if transposed else "(g o) i"
    text = f"n (g i) _..., {kernel} _..., (g o) -> n (g o) _..."
    return call.signature(text, x, weight, bias, g=groups)


def attention(
    call: Call,
    query: Layout,
    key: Layout,
    value: Layout,
    dropout: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    attn_mask: Layout | None = None,
    **kwargs: Any,
) -> list[Layout]:
    """Scaled dot products, a softmax over the keys, and the mean of the values."""
    units = call.units
    key, value = (_as_many_heads(call, x, query) for x in (key, value))
    batch = query.shape[:-2]
    shape = (*batch, query.shape[-2], key.shape[-2])
    scores = signature.apply(units, "... q d, ... k d -> ... q k", [query, key], shape)
    told_apart = [] if attn_mask is None else [attn_mask]
    if is_causal:
        last = (len(shape) - 2, len(shape) - 1)
        told_apart.append(Layout(shape, tuple(positional(units, shape, last))))
    scores = merge(units, scores, *told_apart)
    total = reduce(units, scores, (-1,), keepdim=True)
    weights = merge(units, scores, total)
    result = signature.apply(units, "... q k, ... k d -> ... q d", [weights, value], call.shape)
    sums = Layout(total.shape[:-1], tuple(c[..., 0] for c in total.coordinates))
    return [result, *(_beside(call, sums, k) for k in range(1, len(call.shapes)))]


def _beside(call: Call, sums: Layout, k: int) -> Layout:
    """What kernels return beside the result, for its gradient: first the sums over the keys, in
    other shapes on some devices, then states of random numbers, which are constants."""
    shape = call.shapes[k]
    if k == 1 and shape == sums.shape:
        return sums
    if prod(shape) < 2:
        return Layout(shape)
    order_of = sums if k == 1 else None
    return Layout(shape, tuple(positional(call.units, shape)), order_of=order_of)


def biased_attention(
    call: Call,
    query: Layout,
    key: Layout,
    value: Layout,
    bias: Layout | None,
    with_sums: bool,
    dropout: float = 0.0,
    is_causal: bool = False,
    *args: Any,
    **kwargs: Any,
) -> list[Layout]:
    """The kernels that take what is added to the scores by position."""
    return attention(call, query, key, value, dropout, is_causal, attn_mask=bias)


def trilinear(
    call: Call,
    first: Layout,
    second: Layout,
    third: Layout,
    expand_first: Sequence[int],
    expand_second: Sequence[int],
    expand_third: Sequence[int],
    summed: Sequence[int],
    *args: Any,
) -> Layout:
    """The product of three tensors with new axes at the given places, summed: ``nn.Bilinear``."""
    operands = []
    for x, places in ((first, expand_first), (second, expand_second), (third, expand_third)):
        for place in places:
            x = move(x, lambda t, place=place: t.unsqueeze(place))[0]  # type: ignore[misc]
        operands.append(x)
    merged = merge(call.units, *operands, reduced=tuple(summed))
    return call.reduce(merged, summed)


def _as_many_heads(call: Call, x: Layout, query: Layout) -> Layout:
    """Grouped-query attention: every key and value head serves several query heads."""
    x = resolve(call.units, x)
    if x.ndim < 3 or x.shape[-3] == query.shape[-3]:
        return x
    times = query.shape[-3] // x.shape[-3]
    return move(x, lambda t: t.repeat_interleave(times, -3))[0]
