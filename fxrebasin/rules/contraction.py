"""Contractions that a plain signature cannot say alone: convolution, attention, ``nn.Bilinear``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from ..layouts.layout import Layout
from .call import Call, Rule
from .pooling import moves_along, per_axis


def add_contraction(text: str) -> Rule:
    """The rule of an op that adds a contraction to its first argument, as ``addmm`` does.

    ``text`` is the signature of the contraction. The first argument broadcasts against the result,
    which a signature cannot say: the axes of its ``...`` cannot be those of other letters.
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
    """Along an axis with a kernel of one tap, what is there may move, and stays where it is."""
    n = weight.ndim - 2
    options = (per_axis(n, v) for v in (stride, padding, output_padding))
    there, taps = ["_"] * n, ["_"] * n
    for k, (size, *rest) in enumerate(zip(weight.shape[2:], *options, strict=True)):
        if (size, *rest) == (1, 1, 0, 0) and moves_along(call, x, 2 + k):
            there[k], taps[k] = f"p{k}", "1"
    kept, read = (" ".join(t) if "1" in taps else "_..." for t in (there, taps))
    channels = "(g i) o" if transposed else "(g o) i"
    text = f"n (g i) {kept}, {channels} {read}, (g o) -> n (g o) {kept}"
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
    key, value = (_repeat_heads(call, x, query) for x in (key, value))
    shape = (*query.shape[:-1], key.shape[-2])
    scores = call.with_shapes(shape).signature("... q d, ... k d -> ... q k", query, key)
    masks = [] if attn_mask is None else [attn_mask]
    if is_causal:
        masks.append(call.positions(shape, (-2, -1)))
    scores = call.merge(scores, *masks)
    total = call.reduce(scores, [-1], keepdim=True)
    weights = call.merge(scores, total)
    result = call.signature("... q k, ... k d -> ... q d", weights, value)
    (sums,) = call.move(total, lambda t: t.squeeze(-1))
    return [result, *(_auxiliary(call, sums, k) for k in range(1, len(call.shapes)))]


def _auxiliary(call: Call, sums: Layout, k: int) -> Layout:
    """What kernels return after the result, for its gradient: first the sums over the keys, in
    other shapes on some devices, then states of random numbers, which are constants."""
    shape = call.shapes[k]
    if k == 1 and shape == sums.shape:
        return sums
    if prod(shape) < 2:
        return Layout(shape)
    return replace(call.positions(shape), order_of=sums if k == 1 else None)


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


def _repeat_heads(call: Call, x: Layout, query: Layout) -> Layout:
    """Grouped-query attention: every key and value head serves several query heads."""
    x = call.resolve(x)
    if x.ndim < 3 or x.shape[-3] == query.shape[-3]:
        return x
    times = query.shape[-3] // x.shape[-3]
    return call.move(x, lambda t: t.repeat_interleave(times, -3))[0]


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
    """The product of three tensors with new axes at the given dims, summed: ``nn.Bilinear``."""
    operands = []
    for x, dims in ((first, expand_first), (second, expand_second), (third, expand_third)):
        for dim in dims:
            x = call.view(x, lambda t, dim=dim: t.unsqueeze(dim))[0]  # type: ignore[misc]
        operands.append(x)
    return call.reduce(call.merge(*operands, reduced=summed), summed)
