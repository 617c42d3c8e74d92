"""Convolution, attention and embedding: contractions that a plain signature cannot say alone."""

from __future__ import annotations

from typing import Any

from .. import signature
from ..layout import Layout, positional
from ..primitives import merge, reduce
from .registry import Call


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


def scaled_dot_product(
    call: Call,
    query: Layout,
    key: Layout,
    value: Layout,
    *args: Any,
    attn_mask: Layout | None = None,
    is_causal: bool = False,
    **kwargs: Any,
) -> list[Layout]:
    units = call.units
    if args and isinstance(args[-1], bool):
        is_causal = args[-1]
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
    return [result, Layout(total.shape[:-1], tuple(c[..., 0] for c in total.coordinates))]


def embedding(call: Call, weight: Layout, index: Layout, *args: Any, **kwargs: Any) -> Layout:
    return call.signature("_ d, ... -> ... d", weight, index)
