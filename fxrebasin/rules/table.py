"""The rules of the ATen ops, a line each.

Ops with the pointwise tag need no line: their operands are merged. An in-place op has the rule
of the op that it is named after. An op that is neither here nor pointwise is not understood, and
pins its operands.

The table is in families, in alphabetical order inside each; what several ops share is named once.
"""

from __future__ import annotations

from typing import Any

import torch

from . import (
    complex_numbers,
    contraction,
    indexing,
    matrices,
    movement,
    normalisation,
    ordering,
    pointwise,
    pooling,
    positional,
    quantisation,
    recurrent,
    reduction,
    spatial,
    writing,
)
from .call import Rule, of_signature
from .ordering import IndexRule, keep_indices

aten = torch.ops.aten

SAME = keep_indices(movement.keep_entries)
RESHAPE = keep_indices(movement.reshape)
POOL_1D, POOL_2D, POOL_3D = (
    of_signature(f"... {axes} -> ... {axes}") for axes in ("_", "_ _", "_ _ _")
)


def view(op: Any) -> Rule:
    return keep_indices(movement.view(op))


RULES: dict[Any, Rule] = {
    # contractions
    aten._cdist_forward: of_signature("... n d, ... m d -> ... n m"),
    aten._euclidean_dist: of_signature("... n d, ... m d -> ... n m"),
    aten._sparse_addmm: contraction.add_contraction("n k, k m -> n m"),
    aten._trilinear: contraction.trilinear,
    aten.addbmm: contraction.add_contraction("b n k, b k m -> n m"),
    aten.addmm: contraction.add_contraction("n k, k m -> n m"),
    aten.addmv: contraction.add_contraction("n k, k -> n"),
    aten.addr: contraction.add_contraction("n, m -> n m"),
    aten.baddbmm: contraction.add_contraction("b n k, b k m -> b n m"),
    aten.bmm: of_signature("b n k, b k m -> b n m"),
    aten.dot: of_signature("k, k ->"),
    aten.linear: of_signature("... i, o i, o -> ... o"),
    aten.mm: of_signature("n k, k m -> n m"),
    aten.mv: of_signature("n k, k -> n"),
    aten.vdot: of_signature("k, k ->"),
    # matrices
    aten._linalg_det: matrices.determinant,
    aten._linalg_eigh: matrices.factors,
    aten._linalg_slogdet: matrices.log_determinant,
    aten._linalg_solve_ex: matrices.solve,
    aten._linalg_svd: matrices.singular_values,
    aten.cholesky_inverse: of_signature("... _ _ -> ... _ _"),
    aten.cholesky_solve: of_signature("... _ k, ... _ _ -> ... _ k"),
    aten.diag_embed: matrices.diagonal,
    aten.linalg_cholesky_ex: matrices.factors,
    aten.linalg_eig: matrices.factors,
    aten.linalg_inv_ex: matrices.inverse,
    aten.linalg_lu: matrices.factors,
    aten.linalg_lu_factor_ex: matrices.factors,
    aten.linalg_matrix_exp: matrices.exponential,
    aten.linalg_pinv: matrices.inverse,
    aten.linalg_qr: matrices.factors,
    aten.linalg_solve_triangular: matrices.solve_triangular,
    aten.trace: matrices.trace,
    # convolution
    aten.convolution: contraction.convolution,
    # attention
    aten._scaled_dot_product_cudnn_attention: contraction.biased_attention,
    aten._scaled_dot_product_efficient_attention: contraction.biased_attention,
    aten._scaled_dot_product_flash_attention: contraction.attention,
    aten._scaled_dot_product_flash_attention_for_cpu: contraction.attention,
    # recurrent layers
    aten._pack_padded_sequence: recurrent.pack,
    aten._thnn_fused_gru_cell: recurrent.fused_cell(gates=3, kept=5),
    aten._thnn_fused_lstm_cell: recurrent.fused_cell(gates=4, kept=4),
    # pointwise but for what is kept for the gradient, or for training
    aten.log_sigmoid_forward: pointwise.log_sigmoid,
    aten.rrelu_with_noise: pointwise.rrelu,
    # quantisation in training
    aten._fake_quantize_learnable_per_channel_affine: quantisation.per_channel,
    aten._fake_quantize_learnable_per_tensor_affine: quantisation.per_tensor,
    aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams: quantisation.per_tensor,
    aten._fused_moving_avg_obs_fq_helper: quantisation.observed,
    aten.fake_quantize_per_channel_affine_cachemask: quantisation.per_channel,
    aten.fake_quantize_per_tensor_affine_cachemask: quantisation.per_tensor,
    # norms
    aten._batch_norm_no_update: normalisation.batch_norm,
    aten._fused_rms_norm: normalisation.rms_norm,
    aten._native_batch_norm_legit_no_training: normalisation.batch_norm,
    aten._weight_norm_interface: normalisation.weight_norm,
    aten.cudnn_batch_norm: normalisation.batch_norm,
    aten.miopen_batch_norm: normalisation.batch_norm,
    aten.native_batch_norm: normalisation.batch_norm,
    aten.native_group_norm: normalisation.group_norm,
    aten.native_layer_norm: normalisation.layer_norm,
    aten.renorm: reduction.renorm,
    # softmax
    aten._log_softmax: reduction.softmax,
    aten._safe_softmax: reduction.softmax,
    aten._softmax: reduction.softmax,
    # reductions
    aten._is_all_true: reduction.reduce,
    aten._is_any_true: reduction.reduce,
    aten.all: reduction.reduce,
    aten.amax: reduction.reduce,
    aten.amin: reduction.reduce,
    aten.aminmax: reduction.reduce_twice,
    aten.any: reduction.reduce,
    aten.count_nonzero: reduction.reduce,
    aten.equal: reduction.equal,
    aten.linalg_vector_norm: reduction.norm,
    aten.logsumexp: reduction.reduce,
    aten.mean: reduction.reduce,
    aten.nansum: reduction.reduce,
    aten.norm: reduction.norm,
    aten.prod: reduction.reduce,
    aten.std: reduction.reduce,
    aten.std_mean: reduction.reduce_twice,
    aten.sum: reduction.reduce,
    aten.var: reduction.reduce,
    aten.var_mean: reduction.reduce_twice,
    # losses
    aten.binary_cross_entropy: reduction.loss,
    aten.binary_cross_entropy_with_logits: reduction.loss,
    aten.huber_loss: reduction.loss,
    aten.mse_loss: reduction.loss,
    aten.nll_loss2d_forward: indexing.nll_loss,
    aten.nll_loss_forward: indexing.nll_loss,
    aten.smooth_l1_loss: reduction.loss,
    aten.soft_margin_loss: reduction.loss,
    # extrema, sorting and the indices they find, whose units are pinned when they are read
    aten.argmax: ordering.argmax,
    aten.argmin: ordering.argmax,
    aten.argsort: ordering.argsort,
    aten.kthvalue: ordering.kthvalue,
    aten.max: ordering.extremum,
    aten.median: ordering.extremum,
    aten.min: ordering.extremum,
    aten.mode: ordering.mode,
    aten.nanmedian: ordering.extremum,
    aten.sort: ordering.sort,
    aten.topk: ordering.topk,
    # running totals, masks and transforms: every position along an axis counts for itself
    aten._fft_c2c: positional.fft,
    aten._fft_c2r: positional.fft,
    aten._fft_r2c: positional.fft,
    aten.cummax: positional.scan,
    aten.cummin: positional.scan,
    aten.cumprod: positional.scan,
    aten.cumsum: positional.scan,
    aten.linalg_cross: positional.cross,
    aten.logcumsumexp: positional.scan,
    aten.segment_reduce: positional.segment_reduce,
    aten.tril: positional.triangle,
    aten.triu: positional.triangle,
    # histograms and places among bounds
    aten.bincount: positional.histogram,
    aten.bucketize: positional.bucketize,
    aten.histc: positional.histogram,
    aten.searchsorted: positional.searchsorted,
    # as many results as the values decide
    aten._unique2: positional.select_by_values,
    aten.masked_select: positional.select_by_values,
    aten.nonzero: positional.select_by_values,
    # pooling, padding and resampling of feature maps
    aten._adaptive_avg_pool2d: pooling.adaptive_pool(2),
    aten._adaptive_avg_pool3d: pooling.adaptive_pool(3),
    aten._upsample_bicubic2d_aa: POOL_2D,
    aten._upsample_bilinear2d_aa: POOL_2D,
    aten._upsample_nearest_exact1d: POOL_1D,
    aten._upsample_nearest_exact2d: POOL_2D,
    aten._upsample_nearest_exact3d: POOL_3D,
    aten.adaptive_max_pool2d: pooling.adaptive_pool(2),
    aten.adaptive_max_pool3d: pooling.adaptive_pool(3),
    aten.avg_pool1d: pooling.average_pool(1),
    aten.avg_pool2d: pooling.average_pool(2),
    aten.avg_pool3d: pooling.average_pool(3),
    aten.col2im: spatial.col2im,
    aten.cudnn_grid_sampler: of_signature("n c _ _, n h w _ -> n c h w"),
    aten.grid_sampler_2d: of_signature("n c _ _, n h w _ -> n c h w"),
    aten.grid_sampler_3d: of_signature("n c _ _ _, n d h w _ -> n c d h w"),
    aten.im2col: spatial.im2col,
    aten.max_pool2d_with_indices: pooling.max_pool(2),
    aten.max_pool3d_with_indices: pooling.max_pool(3),
    aten.max_unpool2d: of_signature("... _ _, ... _ _ -> ... _ _"),
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
    # views
    aten._reshape_alias: RESHAPE,
    aten._unsafe_view: RESHAPE,
    aten.diagonal: view(aten.diagonal),
    aten.expand: keep_indices(movement.expand),
    aten.narrow_copy: view(aten.narrow),
    aten.permute: view(aten.permute),
    aten.reshape: RESHAPE,
    aten.select: view(aten.select),
    aten.slice: view(aten.slice),
    aten.split: view(aten.split),
    aten.split_with_sizes: view(aten.split_with_sizes),
    aten.squeeze: view(aten.squeeze),
    aten.t: view(aten.t),
    aten.transpose: view(aten.transpose),
    aten.unbind: view(aten.unbind),
    aten.unfold: view(aten.unfold),
    aten.unsafe_split: view(aten.unsafe_split),
    aten.unsafe_split_with_sizes: view(aten.unsafe_split_with_sizes),
    aten.unsqueeze: view(aten.unsqueeze),
    aten.view: RESHAPE,
    # copies and casts
    aten._conj: movement.keep_entries,
    aten._neg_view: movement.keep_entries,
    aten._to_copy: SAME,
    aten._to_dense: SAME,
    aten.alias: SAME,
    aten.clone: SAME,
    aten.contiguous: SAME,
    aten.copy: movement.copy,
    aten.detach: SAME,
    aten.fill: movement.fill,
    aten.lift_fresh: SAME,
    aten.resize_: movement.resize,
    aten.resolve_conj: movement.keep_entries,
    aten.resolve_neg: movement.keep_entries,
    aten.to: SAME,
    aten.zero: movement.fill,
    # complex numbers
    aten.view_as_complex: complex_numbers.view_as_complex,
    aten.view_as_real: complex_numbers.view_as_real,
    # concatenation, repetition and reordering
    aten.cat: movement.cat,
    aten.channel_shuffle: movement.channel_shuffle,
    aten.constant_pad_nd: movement.pad,
    aten.flip: movement.flip_or_roll(aten.flip),
    aten.glu: movement.glu,
    aten.native_channel_shuffle: movement.channel_shuffle,
    aten.pixel_shuffle: movement.pixel_shuffle,
    aten.pixel_unshuffle: movement.pixel_unshuffle,
    aten.repeat: movement.repeat,
    aten.roll: movement.flip_or_roll(aten.roll),
    aten.rot90: movement.rot90,
    aten.stack: movement.stack,
    # reading at indices
    aten._embedding_bag: indexing.embedding_bag,
    aten._embedding_bag_forward_only: indexing.embedding_bag,
    aten.embedding: IndexRule(indexing.embedding),
    aten.embedding_renorm_: indexing.embedding_renorm,
    aten.gather: IndexRule(indexing.gather),
    aten.index: IndexRule(indexing.index),
    aten.index_select: IndexRule(indexing.index_select),
    aten.take: IndexRule(indexing.take),
    # writing
    aten.index_add: writing.index_add,
    aten.index_copy: writing.index_add,
    aten.index_fill: writing.index_add,
    aten.index_put: writing.index_put,
    aten.index_reduce: writing.index_add,
    aten.masked_scatter: writing.masked_scatter,
    aten.scatter: IndexRule(writing.scatter),
    aten.scatter_add: writing.scatter,
    aten.scatter_reduce: writing.scatter,
    aten.select_scatter: writing.select_scatter,
    aten.slice_scatter: writing.slice_scatter,
}
"""From op to rule."""

OTHER_LIBRARIES: dict[str, Rule] = {
    "torchvision::deform_conv2d": spatial.deform_conv2d,
    "torchvision::nms": positional.select_by_values,
    "torchvision::roi_align": spatial.roi_pool,
    "torchvision::roi_pool": spatial.roi_pool,
}
"""The ops of libraries that may not be installed, by name."""

COLLECTIVES = frozenset(
    (
        "_c10d_functional::all_reduce",
        "_c10d_functional::all_reduce_coalesced",
        "_c10d_functional::broadcast",
        "_c10d_functional::broadcast_coalesced",
        "_c10d_functional::wait_tensor",
        "c10d::allreduce_",
        "c10d::allreduce_coalesced_",
        "c10d::broadcast_",
    )
)
"""Ops in which the processes of a group exchange tensors entry by entry."""

UNTAGGED_POINTWISE = frozenset(
    (
        aten._prelu_kernel,
        aten.celu,
        aten.complex,
        aten.hardsigmoid,
        aten.hardswish,
        aten.hardtanh,
        aten.masked_fill,
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

CHECKS = frozenset(
    (
        aten._assert_async,
        aten._assert_scalar,
        aten._assert_tensor_metadata,
        aten._linalg_check_errors,
    )
)
"""Ops that return nothing and only raise."""
