"""The rules of the ATen ops, a line each.

Ops with the pointwise tag need no line: their operands are merged. An in-place op has the rule
of the op it is named after. What is not here and not pointwise is not understood, and pinned.
"""

from __future__ import annotations

from typing import Any

import torch

from ..layout import Layout
from . import contraction, movement, normalisation
from .registry import Call, Rule

aten = torch.ops.aten


def spelled(text: str) -> Rule:
    """The rule of an op whose tensor arguments obey a signature."""

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        operands = [x for x in args if x is None or isinstance(x, Layout)]
        return [call.signature(text, *operands)] * len(call.shapes)

    return rule


def pointwise(call: Call, *args: Any, **kwargs: Any) -> Layout:
    operands = [x for x in [*args, *kwargs.values()] if isinstance(x, Layout)]
    if len(operands) == 1:
        return movement.same(call, operands[0])
    return call.merge(*operands)


POOL_1D, POOL_2D, POOL_3D = (spelled(f"... {axes} -> ... {axes}") for axes in ("_", "_ _", "_ _ _"))

RULES: dict[Any, Rule] = {
    # contractions
    aten.addbmm: spelled("n m, b n k, b k m -> n m"),
    aten.addmm: spelled("... m, n k, k m -> n m"),
    aten.addmv: spelled("n, n k, k -> n"),
    aten.baddbmm: spelled("... m, b n k, b k m -> b n m"),
    aten.bmm: spelled("b n k, b k m -> b n m"),
    aten.dot: spelled("k, k ->"),
    aten.linear: spelled("... i, o i, o -> ... o"),
    aten.mm: spelled("n k, k m -> n m"),
    aten.mv: spelled("n k, k -> n"),
    aten.convolution: contraction.convolution,
    aten.embedding: contraction.embedding,
    aten._trilinear: contraction.trilinear,
    aten._scaled_dot_product_efficient_attention: contraction.scaled_dot_product,
    aten._scaled_dot_product_flash_attention: contraction.scaled_dot_product,
    aten._scaled_dot_product_flash_attention_for_cpu: contraction.scaled_dot_product,
    # norms
    aten._batch_norm_no_update: normalisation.batch_norm,
    aten._log_softmax: normalisation.softmax,
    aten._native_batch_norm_legit_no_training: normalisation.batch_norm,
    aten._softmax: normalisation.softmax,
    aten.native_batch_norm: normalisation.batch_norm,
    aten.native_group_norm: normalisation.group_norm,
    aten.native_layer_norm: normalisation.layer_norm,
    aten._weight_norm_interface: normalisation.weight_norm,
    # reductions
    aten.amax: normalisation.reduction,
    aten.amin: normalisation.reduction,
    aten.logsumexp: normalisation.reduction,
    aten.max: normalisation.extremum,
    aten.min: normalisation.extremum,
    aten.mean: normalisation.reduction,
    aten.prod: normalisation.reduction,
    aten.std: normalisation.reduction,
    aten.sum: normalisation.reduction,
    aten.var: normalisation.reduction,
    aten.linalg_vector_norm: normalisation.with_argument,
    aten.norm: normalisation.with_argument,
    # order: positions of units, which pin them when they are read
    aten.argmax: normalisation.position,
    aten.argmin: normalisation.position,
    aten.argsort: normalisation.position,
    aten.sort: normalisation.ordered,
    aten.topk: normalisation.with_count,
    # pooling and resampling
    aten._adaptive_avg_pool2d: POOL_2D,
    aten._adaptive_avg_pool3d: POOL_3D,
    aten.adaptive_max_pool2d: POOL_2D,
    aten.adaptive_max_pool3d: POOL_3D,
    aten.avg_pool1d: POOL_1D,
    aten.avg_pool2d: POOL_2D,
    aten.avg_pool3d: POOL_3D,
    aten.max_pool2d_with_indices: POOL_2D,
    aten.max_pool3d_with_indices: POOL_3D,
    aten.max_unpool2d: spelled("... _ _, ... _ _ -> ... _ _"),
    aten.reflection_pad1d: POOL_1D,
    aten.reflection_pad2d: POOL_2D,
    aten.replication_pad2d: POOL_2D,
    aten.upsample_bicubic2d: POOL_2D,
    aten.upsample_bilinear2d: POOL_2D,
    aten.upsample_linear1d: POOL_1D,
    aten.upsample_nearest1d: POOL_1D,
    aten.upsample_nearest2d: POOL_2D,
    aten.upsample_trilinear3d: POOL_3D,
    # movement
    **{
        op: movement.view(op)
        for op in (
            aten.diagonal,
            aten.permute,
            aten.select,
            aten.slice,
            aten.split,
            aten.split_with_sizes,
            aten.squeeze,
            aten.t,
            aten.transpose,
            aten.unbind,
            aten.unfold,
            aten.unsafe_split,
            aten.unsafe_split_with_sizes,
            aten.unsqueeze,
        )
    },
    **dict.fromkeys(
        (
            aten._to_copy,
            aten.alias,
            aten.as_strided_,
            aten.clone,
            aten.contiguous,
            aten.detach,
            aten.lift_fresh,
            aten.to,
        ),
        movement.same,
    ),
    **dict.fromkeys(
        (aten._reshape_alias, aten._unsafe_view, aten.reshape, aten.view), movement.reshaped
    ),
    aten.cat: movement.cat,
    aten.channel_shuffle: movement.channel_shuffle,
    aten.constant_pad_nd: movement.pad,
    aten.copy: movement.copied,
    aten.expand: movement.expanded,
    aten.fill: movement.filled,
    aten.flip: movement.shifted(aten.flip),
    aten.glu: movement.glu,
    aten.im2col: movement.unfolded,
    aten.index: movement.index,
    aten.index_select: movement.index_select,
    aten.native_channel_shuffle: movement.channel_shuffle,
    aten.pixel_shuffle: movement.pixel_shuffle,
    aten.pixel_unshuffle: movement.pixel_unshuffle,
    aten.repeat: movement.repeat,
    aten.roll: movement.shifted(aten.roll),
    aten.stack: movement.stack,
    aten.zero: movement.filled,
}
"""From op to rule, sorted within each family."""

UNTAGGED_POINTWISE = frozenset(
    (aten._prelu_kernel, aten.celu, aten.hardsigmoid, aten.hardswish, aten.hardtanh, aten.mish)
)
"""Pointwise ops that torch does not tag as such."""

CONSTANTS = frozenset(
    (
        aten.empty_like,
        aten.full_like,
        aten.new_empty,
        aten.new_full,
        aten.new_ones,
        aten.new_zeros,
        aten.ones_like,
        aten.zeros_like,
    )
)
"""Ops whose results do not depend on the values of their arguments."""


def find_rule(op: torch._ops.OpOverload) -> Rule | None:
    """The rule of an op, or of the op that it is the in-place variant of."""
    packet = op.overloadpacket
    name = packet.__name__
    if packet not in RULES and name.endswith("_") and not name.endswith("__"):
        packet = getattr(getattr(torch.ops, op.namespace), name[:-1], packet)
    if packet in RULES:
        return RULES[packet]
    if packet in UNTAGGED_POINTWISE or _is_pointwise(op, packet):
        return pointwise
    return None


def _is_pointwise(op: torch._ops.OpOverload, packet: torch._ops.OpOverloadPacket) -> bool:
    functional = getattr(packet, op._overloadname, op)
    return torch.Tag.pointwise in op.tags or torch.Tag.pointwise in functional.tags
