"""Ops on feature maps that act on every channel alike, at positions that are computed or fixed."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call
from .reduction import reduce_in_order


def col2im(call: Call, x: Layout, *args: Any) -> Layout:
    """Columns of channels times kernel positions back into a feature map."""
    n, channels = call.shape[0], call.shape[-3]
    taps = call.resolve(x).reshape((n, channels, x.shape[-2] // channels, x.shape[-1]))
    return call.merge(reduce_in_order(call, taps, (2, 3)), call.positions(call.shape, (2, 3)))


def im2col(call: Call, x: Layout, *args: Any) -> Layout:
    """Patches as columns of channels times kernel positions."""
    n, rows, columns = call.shape
    shape = (n, x.shape[1], rows // x.shape[1], columns)
    channels = reduce_in_order(call, x, (2, 3))
    return call.merge(channels, call.positions(shape, (2, 3))).reshape(call.shape)


def deform_conv2d(
    call: Call,
    x: Layout,
    weight: Layout,
    offset: Layout,
    mask: Layout,
    bias: Layout | None,
    *args: Any,
) -> Layout:
    """A convolution whose kernel is moved by ``offset``, for each group of channels apart."""
    groups, offset_groups, use_mask = args[-3:]
    n, channels, *size = x.shape
    grouped = call.resolve(x).reshape((n, offset_groups, channels // offset_groups, *size))
    for where in (offset, mask)[: 1 + use_mask]:
        taps = call.resolve(where).reshape(
            (n, offset_groups, where.shape[1] // offset_groups, *where.shape[2:])
        )
        grouped = call.merge(grouped, reduce_in_order(call, taps, (2, 3, 4)))
    text = "n (g i) _..., (g o) i _..., (g o) -> n (g o) _..."
    return call.signature(text, grouped.reshape(x.shape), weight, bias, g=groups)


def roi_pool(call: Call, x: Layout, boxes: Layout, *args: Any) -> list[Layout]:
    """Every channel at new positions, box by box; there may be no box."""
    call.pin(boxes, "says where to look")
    channels = reduce_in_order(call, x, (0, 2, 3))
    pooled = call.merge(channels, call.positions(call.shape, (0, 2, 3)))
    return [pooled] * len(call.shapes)
