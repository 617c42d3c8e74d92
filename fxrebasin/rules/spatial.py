"""Ops on feature maps that act on every channel alike, at places that are computed or fixed."""

from __future__ import annotations

from typing import Any

from ..layouts.adoption import resolve
from ..layouts.coordinates import positional
from ..layouts.layout import Layout, reshape
from .call import Call
from .indexing import beside


def deformed_convolution(
    call: Call,
    x: Layout,
    weight: Layout,
    offset: Layout,
    mask: Layout,
    bias: Layout | None,
    *args: Any,
) -> Layout:
    """A convolution whose taps lie where ``offset`` says, for each group of channels apart."""
    groups, offset_groups, use_mask = args[-3:]
    if offset_groups > 1:
        x = call.pin(x, "is sampled at offsets of its own", [1])
    text = "n (g i) _..., (g o) i _..., n _..., n _..., (g o) -> n (g o) _..."
    return call.signature(text, x, weight, offset, mask if use_mask else None, bias, g=groups)


def pooled_regions(call: Call, x: Layout, boxes: Layout, *args: Any) -> list[Layout]:
    """Every channel at new places, box by box; there may be no box."""
    call.pin(boxes, "says where to look")
    channels = beside(call, x, (0, 2, 3)).coordinates
    places = positional(call.units, call.shape, (0, 2, 3))
    return [Layout(call.shape, (*channels, *places))] * len(call.shapes)


def folded(call: Call, x: Layout, *args: Any) -> Layout:
    """Columns of channels times taps back into a feature map."""
    n, c = call.shape[0], call.shape[-3]
    x = reshape(resolve(call.units, x), (n, c, x.shape[-2] // c, x.shape[-1]))
    rest = beside(call, x, (2, 3))
    return Layout(call.shape, (*rest.coordinates, *positional(call.units, call.shape, (2, 3))))


def unfolded(call: Call, x: Layout, *args: Any) -> Layout:
    """Patches as columns of channels times taps, at new places."""
    n, rows, columns = call.shape
    rest = beside(call, resolve(call.units, x), (2, 3))
    shape = (n, x.shape[1], rows // x.shape[1], columns)
    taps = positional(call.units, shape, (2, 3))
    return reshape(Layout(shape, (*rest.coordinates, *taps)), call.shape)
