"""The rules of the ATen ops, a line each.

Ops with the pointwise tag need no line: their operands are merged. An in-place op has the rule
of the op it is named after. What is not here and not pointwise is not understood, and pinned.
"""

from __future__ import annotations

from typing import Any

import torch

from ..layouts.layout import Layout
from . import (
    complex_numbers,
    contraction,
    indexing,
    movement,
    normalisation,
    ordering,
    positional,
    recurrent,
    reduction,
    spatial,
    writing,
)
from .call import Call, Rule, spelled

aten = torch.ops.aten


def pointwise(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
    operands = [x for x in [*args, *kwargs.values()] if isinstance(x, Layout)]
    found = movement.same(call, *operands) if len(operands) == 1 else call.merge(*operands)
    return [found] * len(call.shapes)


def randomised_leaky_relu(
    call: Call,
    x: Layout,
    noise: Any,
    lower: float = 0.0,
    upper: float = 0.0,
    training: bool = False,
    *args: Any,
) -> Layout:
    """Outside of training there is one slope for all entries."""
    return call.pinned(x)[0] if training else movement.same(call, x)


POOL_1D, POOL_2D, POOL_3D = (spelled(f"... {axes} -> ... {axes}") for axes in ("_", "_ _", "_ _ _"))

RULES: dict[Any, Rule] = {
    # contractions
    aten.addbmm: contraction.added("b n k, b k m -> n m"),
    aten.addmm: contraction.added("n k, k m -> n m"),
    aten.addmv: contraction.added("n k, k -> n"),
    aten.baddbmm: contraction.added("b n k, b k m -> b n m"),
    aten.bmm: spelled("b n k, b k m -> b n m"),
    aten.dot: spelled("k, k ->"),
    aten.linear: spelled("... i, o i, o -> ... o"),
    aten.mm: spelled("n k, k m -> n m"),
    aten.mv: spelled("n k, k -> n"),
    aten.vdot: spelled("k, k ->"),
    aten.convolution: contraction.convolution,
    aten.embedding: ordering.Orderly(indexing.embedding),
    aten._embedding_bag: indexing.embedding_bag,
    aten._embedding_bag_forward_only: indexing.embedding_bag,
    aten._trilinear: contraction.trilinear,
    aten._cdist_forward: spelled("... n d, ... m d -> ... n m"),
    aten._scaled_dot_product_cudnn_attention: contraction.biased_attention,
    aten._scaled_dot_product_efficient_attention: contraction.biased_attention,
    aten._scaled_dot_product_flash_attention: contraction.attention,
    aten._scaled_dot_product_flash_attention_for_cpu: contraction.attention,
    # random in training only
    aten.rrelu_with_noise: randomised_leaky_relu,
    # steps of recurrent layers
    aten._thnn_fused_gru_cell: recurrent.fused_cell(gates=3, kept=5),
    aten._thnn_fused_lstm_cell: recurrent.fused_cell(gates=4, kept=4),
    # norms
    aten._batch_norm_no_update: normalisation.batch_norm,
    aten._fused_rms_norm: normalisation.rms_norm,
    aten._log_softmax: reduction.softmax,
    aten._native_batch_norm_legit_no_training: normalisation.batch_norm,
    aten._safe_softmax: reduction.softmax,
    aten._softmax: reduction.softmax,
    aten.cudnn_batch_norm: normalisation.batch_norm,
    aten.miopen_batch_norm: normalisation.batch_norm,
    aten.native_batch_norm: normalisation.batch_norm,
    aten.native_group_norm: normalisation.group_norm,
    aten.native_layer_norm: normalisation.layer_norm,
    aten._weight_norm_interface: normalisation.weight_norm,
    # reductions
    aten.all: reduction.reduction,
    aten.amax: reduction.reduction,
    aten.amin: reduction.reduction,
    aten.aminmax: reduction.moments,
    aten.any: reduction.reduction,
    aten.equal: reduction.comparison,
    aten.kthvalue: ordering.ranked,
    aten.logsumexp: reduction.reduction,
    aten.max: ordering.extremum,
    aten.min: ordering.extremum,
    aten.mean: reduction.reduction,
    aten.median: ordering.extremum,
    aten.prod: reduction.reduction,
    aten.std: reduction.reduction,
    aten.std_mean: reduction.moments,
    aten.sum: reduction.reduction,
    aten.var: reduction.reduction,
    aten.var_mean: reduction.moments,
    aten.linalg_vector_norm: reduction.with_argument,
    aten.norm: reduction.with_argument,
    # order: positions of units, which pin them when they are read
    aten.argmax: ordering.position,
    aten.argmin: ordering.position,
    aten.argsort: ordering.order_along,
    aten.sort: ordering.ordered,
    aten.topk: ordering.with_count,
    # running totals, transforms, and places that the values decide: order matters along them
    aten._fft_c2c: positional.spectrum,
    aten._fft_c2r: positional.spectrum,
    aten._fft_r2c: positional.spectrum,
    aten._unique2: positional.unfollowed,
    aten.bincount: positional.counted,
    aten.bucketize: positional.bucketed,
    aten.cummax: positional.scan,
    aten.cummin: positional.scan,
    aten.cumprod: positional.scan,
    aten.cumsum: positional.scan,
    aten.histc: positional.counted,
    aten.logcumsumexp: positional.scan,
    aten.masked_select: positional.unfollowed,
    aten.nonzero: positional.unfollowed,
    aten.searchsorted: positional.sorted_into,
    aten.tril: positional.triangle,
    aten.triu: positional.triangle,
    # pooling and resampling
    aten._adaptive_avg_pool2d: POOL_2D,
    aten._adaptive_avg_pool3d: POOL_3D,
    aten._upsample_bicubic2d_aa: POOL_2D,
    aten._upsample_bilinear2d_aa: POOL_2D,
    aten._upsample_nearest_exact1d: POOL_1D,
    aten._upsample_nearest_exact2d: POOL_2D,
    aten._upsample_nearest_exact3d: POOL_3D,
    aten.adaptive_max_pool2d: POOL_2D,
    aten.adaptive_max_pool3d: POOL_3D,
    aten.avg_pool1d: POOL_1D,
    aten.avg_pool2d: POOL_2D,
    aten.avg_pool3d: POOL_3D,
    aten.col2im: spatial.folded,
    aten.cudnn_grid_sampler: spelled("n c _ _, n h w _ -> n c h w"),
    aten.grid_sampler_2d: spelled("n c _ _, n h w _ -> n c h w"),
    aten.grid_sampler_3d: spelled("n c _ _ _, n d h w _ -> n c d h w"),
    aten.max_pool2d_with_indices: POOL_2D,
    aten.max_pool3d_with_indices: POOL_3D,
    aten.max_unpool2d: spelled("... _ _, ... _ _ -> ... _ _"),
    aten.reflection_pad1d: POOL_1D,
    aten.reflection_pad2d: POOL_2D,
    aten.reflection_pad3d: POOL_3D,
    aten.replication_pad1d: POOL_1D,
    aten.replication_pad2d: POOL_2D,
    aten.replication_pad3d: POOL_3D,
    aten.upsample_bicubic2d: POOL_2D,
    aten.upsample_bilinear2d: POOL_2D,
    aten.upsample_linear1d: POOL_1D,
    aten.upsample_nearest1d: POOL_1D,
    aten.upsample_nearest2d: POOL_2D,
    aten.upsample_nearest3d: POOL_3D,
    aten.upsample_trilinear3d: POOL_3D,
    # movement
    **{
        op: ordering.keeping(movement.view(op))
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
            aten.clone,
            aten.contiguous,
            aten.detach,
            aten.lift_fresh,
            aten.to,
        ),
        ordering.keeping(movement.same),
    ),
    **dict.fromkeys(
        (aten._reshape_alias, aten._unsafe_view, aten.reshape, aten.view),
        ordering.keeping(movement.reshaped),
    ),
    aten.as_strided: positional.restrided,
    aten.cat: movement.cat,
    aten.channel_shuffle: movement.channel_shuffle,
    aten.constant_pad_nd: movement.pad,
    aten.copy: movement.copied,
    aten.expand: ordering.keeping(movement.expanded),
    aten.fill: movement.filled,
    aten.flip: movement.shifted(aten.flip),
    aten.gather: ordering.Orderly(indexing.gather),
    aten.glu: movement.glu,
    aten.im2col: spatial.unfolded,
    aten.index: ordering.Orderly(indexing.index),
    aten.index_add: writing.index_add,
    aten.index_copy: writing.index_add,
    aten.index_fill: writing.index_add,
    aten.index_put: writing.index_put,
    aten.index_select: ordering.Orderly(indexing.index_select),
    aten.native_channel_shuffle: movement.channel_shuffle,
    aten.pixel_shuffle: movement.pixel_shuffle,
    aten.pixel_unshuffle: movement.pixel_unshuffle,
    aten._conj: movement.same,
    aten._neg_view: movement.same,
    aten.resolve_conj: movement.same,
    aten.resolve_neg: movement.same,
    aten.view_as_complex: complex_numbers.of_pairs,
    aten.view_as_real: complex_numbers.as_pairs,
    aten.repeat: movement.repeat,
    aten.roll: movement.shifted(aten.roll),
    aten.scatter: ordering.Orderly(writing.scatter),
    aten.scatter_add: writing.scatter,
    aten.scatter_reduce: writing.scatter,
    aten.select_scatter: writing.select_scatter,
    aten.slice_scatter: writing.slice_scatter,
    aten.stack: movement.stack,
    aten.zero: movement.filled,
}
"""From op to rule, sorted within each family."""

OTHER_LIBRARIES: dict[str, Rule] = {
    "torchvision::deform_conv2d": spatial.deformed_convolution,
    "torchvision::nms": positional.unfollowed,
    "torchvision::roi_align": spatial.pooled_regions,
    "torchvision::roi_pool": spatial.pooled_regions,
}
"""The ops of libraries that may not be installed, by name."""

UNTAGGED_POINTWISE = frozenset(
    (
        aten._prelu_kernel,
        aten.celu,
        aten.complex,
        aten.hardsigmoid,
        aten.hardswish,
        aten.hardtanh,
        aten.mish,
        aten.polar,
    )
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

CHECKS = frozenset((aten._assert_async, aten._assert_scalar, aten._assert_tensor_metadata))
"""Ops that return nothing and only raise."""


def find_rule(op: torch._ops.OpOverload) -> Rule | None:
    """The rule of an op, or of the op that it is the in-place variant of."""
    packet = op.overloadpacket
    name = packet.__name__
    if packet not in RULES and name.endswith("_") and not name.endswith("__"):
        packet = getattr(getattr(torch.ops, op.namespace), name[:-1], packet)
    if packet in RULES:
        return RULES[packet]
    if packet._qualified_op_name in OTHER_LIBRARIES:
        return OTHER_LIBRARIES[packet._qualified_op_name]
    if packet in UNTAGGED_POINTWISE or _is_pointwise(op, packet):
        return pointwise
    return None


def _is_pointwise(op: torch._ops.OpOverload, packet: torch._ops.OpOverloadPacket) -> bool:
    functional = getattr(packet, op._overloadname, op)
    return torch.Tag.pointwise in op.tags or torch.Tag.pointwise in functional.tags
