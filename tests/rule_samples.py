"""Example arguments for the op of every rule: what the tests of the rules run.

Sizes are small and mostly distinct, so that axes which have nothing to do with one another are not
mistaken for ones that move together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

aten = torch.ops.aten
per_channel = aten.fake_quantize_per_channel_affine_cachemask

_values = torch.Generator().manual_seed(0)


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_values, dtype=torch.float64)


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=_values, dtype=torch.float64) + 0.5


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values)


@dataclass(frozen=True)
class Sample:
    """One call of an op, and the symmetry that its rule is known to lose there."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    reason: str = ""
    """Why that symmetry is given up."""
    stand_in: Callable[..., Any] | None = None
    """What to run instead of an op that does not run here, with the same arguments."""

    @property
    def name(self) -> str:
        return str(self.op).removeprefix("aten.")

    def __str__(self) -> str:
        shapes = [tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in self.args]
        given = [*(str(s) for s in shapes), *(f"{k}={v}" for k, v in self.kwargs.items())]
        return f"{self.name}({', '.join(given)})".replace("\n", "")[:120]


def call(op: Any, *args: Any, **kwargs: Any) -> Sample:
    return Sample(op, args, kwargs)


def losing(lost: tuple[str, ...], reason: str, op: Any, *args: Any, **kwargs: Any) -> Sample:
    return Sample(op, args, kwargs, lost, reason)


def efficient_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_bias: torch.Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> tuple[torch.Tensor, ...]:
    """What the op of that name computes on GPUs, seed and offset of random numbers included."""
    result, sums = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_bias
    )
    return result, sums if compute_log_sumexp else sums[..., :0], ints(0)[0], ints(0)[0]


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
) -> tuple[torch.Tensor, ...]:
    result, sums, *_ = efficient_attention(query, key, value, None, True, dropout_p, is_causal)
    return result, sums, ints(0, 1), ints(0)[0], x(0)


def native_batch_norm(*args: Any) -> Any:
    return aten.native_batch_norm(*args)


def bilinear_grid_sampler(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return aten.grid_sampler_2d(image, grid, 0, 0, True)


def lstm_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    cell: torch.Tensor,
    *biases: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """What the fused step computes on GPUs: the new state, and what its gradient needs."""
    sums = torch.stack(torch.broadcast_tensors(input_gates, hidden_gates, *biases)).sum(0)
    entry, forget, new, output = sums.chunk(4, dim=1)
    entry, forget, new, output = entry.sigmoid(), forget.sigmoid(), new.tanh(), output.sigmoid()
    cell = forget * cell + entry * new
    return output * cell.tanh(), cell, torch.cat((entry, forget, new, output), dim=1)


def gru_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    state: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    if input_bias is not None and hidden_bias is not None:
        input_gates, hidden_gates = input_gates + input_bias, hidden_gates + hidden_bias
    reset, update, new = input_gates.chunk(3, dim=1)
    hidden = hidden_gates.chunk(3, dim=1)
    reset, update = (reset + hidden[0]).sigmoid(), (update + hidden[1]).sigmoid()
    new = (new + reset * hidden[2]).tanh()
    kept = torch.cat((reset, update, new, state, hidden[2]), dim=1)
    return new + update * (state - new), kept


def both_true(condition: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """An op on booleans, as one on the numbers that they come from."""
    return lambda values, *args: condition(values > 0, *args).double()


def real_part(transform: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A transform of complex numbers, as one of real numbers."""
    return lambda values, *args: transform(values.to(torch.complex128), *args).real.clone()


TIED = "can be permuted alone, but the rule ties it to"
TOGETHER = "can be permuted together, but the rule pins them"
ALONE = "can be permuted alone, but the rule pins it"


def of_sparse(added: torch.Tensor, sparse: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return aten._sparse_addmm(added.expand(2, 4), sparse.to_sparse(), other)


def dense(values: torch.Tensor) -> torch.Tensor:
    return aten._to_dense(values.to_sparse())


CONTRACTIONS = [
    call(aten._cdist_forward, x(2, 3, 4), x(2, 5, 4), 2.0, None),
    call(aten._euclidean_dist, x(2, 3, 4), x(2, 5, 4)),
    Sample(aten._sparse_addmm, (x(2, 4), x(2, 3), x(3, 4)), stand_in=of_sparse),
    Sample(aten._sparse_addmm, (x(4), x(2, 3), x(3, 4)), stand_in=of_sparse),
    call(aten.addr, x(3, 4), x(3), x(4)),
    call(aten.addr, x(4), x(3), x(4)),
    call(aten.addbmm, x(3, 4), x(2, 3, 5), x(2, 5, 4)),
    call(aten.addmm, x(4), x(2, 3), x(3, 4)),
    call(aten.addmm, x(2, 4), x(2, 3), x(3, 4), beta=0.5),
    call(aten.addmv, x(3), x(3, 4), x(4)),
    call(aten.baddbmm, x(2, 3, 4), x(2, 3, 5), x(2, 5, 4)),
    call(aten.baddbmm, x(4), x(2, 3, 5), x(2, 5, 4)),
    call(aten.bmm, x(2, 3, 5), x(2, 5, 4)),
    call(aten.dot, x(4), x(4)),
    call(aten.linear, x(2, 3), x(4, 3)),
    call(aten.linear, x(2, 5, 3), x(4, 3), x(4)),
    call(aten.mm, x(2, 3), x(3, 4)),
    call(aten.mv, x(3, 4), x(4)),
    call(aten.vdot, x(4), x(4)),
    call(aten.convolution, x(2, 3, 7), x(5, 3, 2), x(5), [1], [0], [1], False, [0], 1),
    call(aten.convolution, x(2, 3, 7), x(5, 3, 2), None, [2], [1], [1], False, [0], 1),
    call(aten.convolution, x(1, 4, 5), x(6, 2, 3), x(6), [1], [0], [1], False, [0], 2),
    call(aten.convolution, x(2, 5, 4), x(5, 1, 3), x(5), [1], [0], [1], False, [0], 5),
    call(
        aten.convolution,
        x(1, 2, 4, 5),
        x(3, 2, 2, 3),
        None,
        [1, 1],
        [0, 0],
        [1, 1],
        False,
        [0, 0],
        1,
    ),
    call(aten.convolution, x(2, 3, 5), x(3, 4, 2), x(4), [1], [0], [1], True, [0], 1),
    call(aten.convolution, x(2, 3, 5), x(4, 3, 1), x(4), [1], [0], [1], False, [0], 1),
    call(aten.convolution, x(2, 3, 5), x(4, 3, 1), x(4), [2], [0], [1], False, [0], 1),
    call(aten.convolution, x(2, 3, 5), x(4, 3, 1), None, [1], [1], [1], False, [0], 1),
    call(aten.convolution, x(1, 4, 5), x(4, 3, 1), x(6), [1], [0], [1], True, [0], 2),
    call(
        aten.convolution,
        *(x(1, 4, 3, 5), x(6, 2, 2, 1), x(6), [1, 1], [0, 0], [1, 1], False, [0, 0], 2),
    ),
    call(aten.convolution, x(1, 4, 5), x(6, 2, 1), x(6), [1], [0], [1], False, [0], 2),
    call(aten.convolution, x(1, 4, 5), x(4, 3, 2), x(6), [1], [0], [1], True, [0], 2),
    call(aten.embedding, x(5, 3), ints(1, 2, 2, 0)),
    call(aten.embedding, x(5, 3), ints(1, 2, 2, 0), 2),
    call(aten.embedding, x(5, 3), ints(1, 2, 2, 0, 4, 3).reshape(2, 3)),
    call(aten.embedding_renorm_, x(5, 3), ints(1, 2, 2, 0, 4), 0.5, 2.0),
    *(
        call(op, x(5, 3), ints(1, 2, 2, 0, 4), ints(0, 2), False, mode)
        for op in (aten._embedding_bag, aten._embedding_bag_forward_only)
        for mode in (0, 1, 2)
    ),
    call(aten._embedding_bag, x(5, 3), ints(1, 2, 2, 0, 4), ints(0, 2), False, 0, False, x(5)),
    call(aten._trilinear, x(2, 3), x(5, 3, 4), x(2, 4), [1, 3], [0], [1, 2], [2, 3]),
    call(
        aten._scaled_dot_product_flash_attention_for_cpu,
        x(2, 3, 5, 7),
        x(2, 3, 4, 7),
        x(2, 3, 4, 7),
    ),
    call(
        aten._scaled_dot_product_flash_attention_for_cpu,
        x(1, 2, 5, 3),
        x(1, 2, 5, 3),
        x(1, 2, 5, 3),
        0.0,
        True,
    ),
    call(
        aten._scaled_dot_product_flash_attention_for_cpu,
        *(x(1, 2, 5, 3), x(1, 2, 4, 3), x(1, 2, 4, 3)),
        attn_mask=x(5, 4),
    ),
    Sample(
        aten._scaled_dot_product_efficient_attention,
        (x(1, 2, 5, 3), x(1, 2, 4, 3), x(1, 2, 4, 3), x(1, 2, 5, 4), False),
        stand_in=efficient_attention,
    ),
    Sample(
        aten._scaled_dot_product_efficient_attention,
        (x(1, 2, 5, 3), x(1, 2, 4, 3), x(1, 2, 4, 3), None, True),
        stand_in=efficient_attention,
    ),
    Sample(
        aten._scaled_dot_product_flash_attention,
        (x(1, 2, 5, 3), x(1, 2, 4, 3), x(1, 2, 4, 3)),
        stand_in=flash_attention,
    ),
    Sample(
        aten._scaled_dot_product_flash_attention,
        (x(1, 2, 5, 3), x(1, 2, 5, 3), x(1, 2, 5, 3), 0.0, True),
        stand_in=flash_attention,
    ),
    Sample(
        aten._scaled_dot_product_cudnn_attention,
        (x(1, 2, 5, 3), x(1, 2, 4, 3), x(1, 2, 4, 3), x(1, 2, 5, 4), False),
        stand_in=efficient_attention,
    ),
]


def first_of(op: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """An op without what it returns beside its first result, which is pinned when it is read."""
    return lambda *args, **kwargs: op(*args, **kwargs)[0]


def log_determinant(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Without the sign."""
    return x(0), aten._linalg_slogdet(matrix)[1]


def symmetric(*shape: int) -> torch.Tensor:
    """Positive definite matrices."""
    values = x(*shape)
    return values @ values.mT + torch.eye(shape[-1])


MATRICES = [
    Sample(aten._linalg_det, (x(2, 3, 3),), stand_in=first_of(aten._linalg_det)),
    call(aten._linalg_eigh, symmetric(2, 3, 3)),
    call(aten._linalg_eigh, symmetric(3, 3), "L", False),
    Sample(aten._linalg_slogdet, (x(2, 3, 3),), stand_in=log_determinant),
    *(
        Sample(aten._linalg_solve_ex, given, options, stand_in=first_of(aten._linalg_solve_ex))
        for given, options in (
            ((x(2, 3, 3), x(2, 3, 4)), {}),
            ((x(2, 3, 3), x(2, 4, 3)), {"left": False}),
            ((x(2, 3, 3), x(2, 3)), {}),
            ((x(3, 3), x(3)), {}),
        )
    ),
    call(aten._linalg_svd, x(3, 4), False, False),
    call(aten._linalg_svd, x(2, 4, 3), False, False),
    call(aten.cholesky_inverse, x(2, 3, 3)),
    call(aten.cholesky_solve, x(2, 3, 4), x(2, 3, 3)),
    call(aten.diag_embed, x(2, 4)),
    call(aten.diag_embed, x(2, 4), 1),
    call(aten.diag_embed, x(2, 5, 4), 0, 0, 2),
    call(aten.linalg_cholesky_ex, symmetric(2, 3, 3)),
    call(aten.linalg_eig, x(2, 3, 3)),
    call(aten.linalg_inv_ex, x(2, 3, 3)),
    call(aten.linalg_lu, x(2, 3, 4)),
    call(aten.linalg_lu_factor_ex, x(2, 3, 4)),
    call(aten.linalg_matrix_exp, x(2, 3, 3)),
    call(aten.linalg_pinv, x(2, 3, 4), atol=None, rtol=None),
    call(aten.linalg_qr, x(2, 4, 3)),
    call(aten.linalg_solve_triangular, x(2, 3, 3), x(2, 3, 4), upper=True),
    call(aten.linalg_solve_triangular, x(2, 3, 3), x(2, 4, 3), upper=False, left=False),
    call(aten.trace, x(3, 3)),
    call(aten.trace, x(3, 4)),
]


def with_single_scale(op: Callable[..., Any]) -> Callable[..., Any]:
    """An op that takes scales in float32 only, whatever its input is in."""
    return lambda x, scale, *rest: op(x, scale.float(), *rest)


QUANTISED = [
    Sample(
        aten._fake_quantize_learnable_per_channel_affine,
        (x(2, 3, 4), positive(3), ints(3, 3, 3).int(), 1, 0, 15),
        stand_in=with_single_scale(first_of(per_channel)),
    ),
    call(aten._fake_quantize_learnable_per_tensor_affine, x(2, 3), positive(1), x(1), 0, 15),
    call(
        aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams,
        *(x(2, 3), positive(1), ints(0).int(), ints(1), 0, 15),
    ),
    *(
        Sample(per_channel, given, stand_in=with_single_scale(first_of(per_channel)))
        for given in (
            (x(2, 3, 4), positive(3), ints(3, 3, 3).int(), 1, 0, 15),
            (x(4, 2), positive(4), ints(3, 3, 3, 3).int(), 0, 0, 15),
        )
    ),
    call(aten.fake_quantize_per_tensor_affine_cachemask, x(2, 3), 0.1, 3, 0, 15),
]


def observe(x: torch.Tensor, *args: Any) -> tuple[torch.Tensor, ...]:
    """The op on copies of its state, which it takes in float32 only."""
    single = (
        a.float() if isinstance(a, torch.Tensor) and a.dtype == torch.float64 else a for a in args
    )
    return aten._fused_moving_avg_obs_fq_helper(x.float(), *single)


def state_of_observer(n: int) -> tuple[torch.Tensor, ...]:
    """Observer and quantisation are on; smallest and largest values, scales, zero points."""
    return ints(1), ints(1), -positive(n), positive(n), positive(n), torch.zeros(n).int()


OBSERVED = [
    Sample(
        aten._fused_moving_avg_obs_fq_helper,
        (x(4, 2, 3), *state_of_observer(1), 0.5, -3, 3, 0, False, True),
        stand_in=observe,
    ),
    Sample(
        aten._fused_moving_avg_obs_fq_helper,
        (x(4, 2, 3), *state_of_observer(4), 0.5, -3, 3, 0, True, True),
        lost=(
            f"argument 5[0] {TIED} x[0], argument 3[0], argument 4[0], result.0[0] and result.1[0]",
            "x[0], argument 3[0], argument 4[0], result.0[0] and result.1[0] can be permuted "
            "together, but the rule ties them to argument 5[0]",
        ),
        reason="scales are overwritten only where the observer is on",
        stand_in=observe,
    ),
]

RECURRENT = [
    call(aten._pack_padded_sequence, x(2, 2, 3), ints(2, 1), False),
    call(aten._pack_padded_sequence, x(2, 4, 3), ints(3, 1), True),
    *(
        Sample(op, (x(2, n), x(2, n), x(2, 3), *biases), stand_in=step)
        for op, step, n in (
            (aten._thnn_fused_gru_cell, gru_cell, 9),
            (aten._thnn_fused_lstm_cell, lstm_cell, 12),
        )
        for biases in ((), (x(n), x(n)))
    ),
]

NORMS = [
    call(aten._batch_norm_no_update, x(2, 3, 5), x(3), x(3), x(3), positive(3), 0.1, 1e-5),
    call(aten._fused_rms_norm, x(2, 3, 4), [4], x(4), 1e-5),
    call(aten._log_softmax, x(2, 3), 1, False),
    call(
        aten._native_batch_norm_legit_no_training,
        x(2, 3, 5),
        x(3),
        x(3),
        x(3),
        positive(3),
        0.1,
        1e-5,
    ),
    call(
        aten._native_batch_norm_legit_no_training, x(2, 3), None, None, x(3), positive(3), 0.1, 1e-5
    ),
    call(aten._safe_softmax, x(2, 3, 4), 1),
    call(aten._softmax, x(2, 3, 4), -1, False),
    call(aten._softmax, x(2, 3, 4), 1, False),
    *(
        Sample(
            op,
            (x(2, 3, 5), x(3), x(3), x(3), positive(3), False, 0.1, 1e-5),
            stand_in=native_batch_norm,
        )
        for op in (aten.cudnn_batch_norm, aten.miopen_batch_norm)
    ),
    call(aten.native_batch_norm, x(2, 3, 5), x(3), x(3), x(3), positive(3), False, 0.1, 1e-5),
    call(aten.native_batch_norm, x(2, 3, 5), x(3), x(3), None, None, True, 0.1, 1e-5),
    call(aten.native_group_norm, x(2, 6, 5), x(6), x(6), 2, 6, 5, 3, 1e-5),
    call(aten.native_group_norm, x(2, 4, 3), None, None, 2, 4, 3, 1, 1e-5),
    call(aten.native_group_norm, x(2, 3, 5), x(3), x(3), 2, 3, 5, 3, 1e-5),
    call(aten.native_layer_norm, x(2, 3, 4), [4], x(4), x(4), 1e-5),
    call(aten.native_layer_norm, x(2, 3, 4), [3, 4], x(3, 4), x(3, 4), 1e-5),
    call(aten.native_layer_norm, x(2, 3), [3], None, None, 1e-5),
    call(aten._weight_norm_interface, x(3, 4, 2), x(3, 1, 1), 0),
    call(aten._weight_norm_interface, x(4, 2, 3), x(1, 1, 3), 2),
    call(aten.renorm, x(2, 3, 4), 2, 1, 0.5),
]

SIGNS = torch.tensor([[-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]], dtype=torch.float64)

REDUCTIONS = [
    Sample(aten._is_all_true, (x(2, 3),), stand_in=both_true(aten._is_all_true)),
    Sample(aten._is_any_true, (x(2, 3),), stand_in=both_true(aten._is_any_true)),
    Sample(aten.all, (SIGNS.neg(), 1), stand_in=both_true(aten.all)),
    call(aten.amax, x(2, 3, 4), [1]),
    call(aten.amin, x(2, 3, 4), [-1, 0], True),
    call(aten.aminmax, x(2, 3, 4), dim=1),
    call(aten.aminmax, x(3, 4)),
    call(aten.count_nonzero, x(2, 3, 4)),
    call(aten.count_nonzero, x(2, 3, 4), 0),
    call(aten.count_nonzero, x(2, 3, 4), [0, 2]),
    call(aten.nansum, x(2, 3, 4)),
    call(aten.nansum, x(2, 3, 4), [0, -1], True),
    *(
        call(loss, x(2, 3), x(2, 3), reduction=reduction)
        for loss in (aten.huber_loss, aten.mse_loss, aten.smooth_l1_loss, aten.soft_margin_loss)
        for reduction in (0, 1, 2)
    ),
    *(
        call(loss, positive(2, 3) / 2, positive(2, 3) / 2, positive(3), reduction=reduction)
        for loss in (aten.binary_cross_entropy, aten.binary_cross_entropy_with_logits)
        for reduction in (0, 1)
    ),
    call(aten.nll_loss_forward, x(2, 3), ints(2, 0), x(3), 1, -100),
    call(aten.nll_loss_forward, x(2, 3), ints(0, 0), None, 0, -100),
    call(aten.nll_loss_forward, x(3), ints(2)[0], None, 2, -100),
    call(aten.nll_loss2d_forward, x(2, 3, 1, 2), ints(2, 0, 1, 1).reshape(2, 1, 2), None, 0, -100),
    call(aten.nll_loss2d_forward, x(2, 3, 1, 2), ints(2, 0, 1, 1).reshape(2, 1, 2), x(3), 1, -100),
    Sample(aten.any, (SIGNS, 1), stand_in=both_true(aten.any)),
    Sample(aten.equal, (x(2, 3), x(2, 3)), stand_in=torch.dist),
    Sample(aten.equal, (x(2, 3, 4), x(2, 3, 4)), stand_in=torch.dist),
    call(aten.logsumexp, x(2, 3, 4), [1]),
    call(aten.max, x(3, 4)),
    call(aten.max, x(2, 3, 4), 1),
    call(aten.max, x(3, 4), x(4)),
    call(aten.min, x(2, 3, 4), -1, True),
    call(aten.min, x(3, 4), x(3, 4)),
    call(aten.mean, x(2, 3)),
    call(aten.mean, x(2, 3, 4), [-1], True),
    call(aten.prod, x(3, 4)),
    call(aten.prod, x(3, 4), 1),
    call(aten.std, x(2, 3, 4), [1], correction=1),
    call(aten.std_mean, x(2, 3, 4), [1], correction=1),
    call(aten.sum, x(2, 3, 4)),
    call(aten.sum, x(2, 3, 4), [0, 2]),
    call(aten.sum, x(2, 3), []),
    call(aten.var, x(2, 3, 4), [1, 2], correction=0, keepdim=True),
    call(aten.var_mean, x(2, 3, 4), [0, 2], correction=0, keepdim=True),
    call(aten.linalg_vector_norm, x(2, 3, 4), 2, [1], True),
    call(aten.linalg_vector_norm, x(2, 3, 4), float("inf")),
    call(aten.norm, x(3, 4)),
    call(aten.norm, x(2, 3, 4), 2, [-1]),
]

ORDERS = [
    call(aten.argmax, x(2, 3), 1),
    call(aten.argmax, x(2, 3)),
    call(aten.argmin, x(2, 3, 4), 1, True),
    call(aten.argsort, x(2, 5), 1),
    call(aten.kthvalue, x(2, 5, 3), 2, 1),
    call(aten.median, x(2, 5, 3), 1),
    call(aten.median, x(3, 5)),
    call(aten.mode, x(2, 5)),
    call(aten.nanmedian, x(2, 5, 3), 1),
    call(aten.sort, x(2, 5)),
    call(aten.sort, x(4, 3), 0, True),
    call(aten.sort, x(4, 3), stable=True, dim=0, descending=True),
    call(aten.topk, x(2, 6), 4),
    call(aten.topk, x(6, 3), 2, 0),
    call(aten.topk, x(6, 3), 2, dim=0, largest=False),
    call(aten.sort, x(2, 4), -1, True),
]

WRITTEN = "places that are written to by constants are told apart one by one"


PLACES = [
    Sample(aten._fft_c2c, (x(2, 3, 5), [1], 0, True), stand_in=real_part(aten._fft_c2c)),
    Sample(aten._fft_c2r, (x(2, 3, 4), [2], 0, 6), stand_in=real_part(aten._fft_c2r)),
    call(aten._fft_r2c, x(2, 3, 5), [1, 2], 0, True),
    losing(
        (f"self[0] {ALONE}",),
        "the set of values is not followed",
        *(aten._unique2, x(5)),
    ),
    call(aten.bincount, ints(0, 2, 2, 1), x(4)),
    call(aten.bucketize, x(2, 3), ints(0, 2, 4).double()),
    call(aten.cummax, x(3, 5), 1),
    call(aten.cummin, x(3, 5), 0),
    call(aten.cumprod, x(3, 5), 1),
    call(aten.cumsum, x(2, 3, 5), 1),
    call(aten.cumsum, x(2, 3, 5), -1),
    call(aten.histc, x(3, 5), 4, -2, 2),
    call(aten.linalg_cross, x(2, 3, 4), x(2, 3, 4), dim=1),
    call(aten.segment_reduce, x(5, 3), "sum", lengths=ints(2, 3), unsafe=True),
    call(aten.segment_reduce, x(2, 5, 3), "max", lengths=ints(2, 3, 3, 2).reshape(2, 2), axis=1),
    call(aten.logcumsumexp, x(3, 5), 1),
    call(aten.masked_select, x(3, 5), x(3, 5) > 0),
    call(aten.nonzero, positive(3, 5)),
    call(aten.searchsorted, ints(0, 2, 4).double(), x(2, 3)),
    call(aten.tril, x(2, 4, 5)),
    call(aten.triu, x(2, 4, 5), 1),
]

SOME_TOKENS = ints(1, 0, 0, 1, 1, 0).bool().reshape(2, 3, 1)

CHOICES = [
    call(aten.gather, x(3, 4), 1, ints(0, 2, 2).expand(3, 3)),
    call(aten.gather, x(2, 4, 3), 1, ints(0, 2).reshape(1, 2, 1).expand(2, 2, 3)),
    call(aten.gather, x(3, 4), 0, ints(0, 2, 1, 1).reshape(1, 4)),
    losing(
        (f"the 2 blocks of self[0], source[0] and the 2 blocks of result[0] {TOGETHER}",),
        WRITTEN,
        *(aten.index_add, x(4, 3), 0, ints(2, 0), x(2, 3)),
    ),
    losing(
        (f"the 2 blocks of self[0], source[0] and the 2 blocks of result[0] {TOGETHER}",),
        WRITTEN,
        *(aten.index_copy, x(4, 3), 0, ints(2, 0), x(2, 3)),
    ),
    losing(
        (f"the 2 blocks of self[0] and the 2 blocks of result[0] {TOGETHER}",),
        WRITTEN,
        *(aten.index_fill, x(4, 3), 0, ints(2, 0), 0.5),
    ),
    losing(
        (f"the 2 blocks of self[0], source[0] and the 2 blocks of result[0] {TOGETHER}",),
        WRITTEN,
        *(aten.index_reduce, x(4, 3), 0, ints(2, 0), x(2, 3), "amax"),
    ),
    call(aten.index_put, x(5, 3), [ints(2, 0)], x(2, 3)),
    call(aten.index_put, x(5, 3), [ints(2, 0)], x(3), True),
    call(aten.index_put, x(3, 2), [ints(1, 0, 1).bool()], x(2, 2)),
    call(aten.index_put, x(5, 3, 2), [None, ints(1, 0, 1).bool()], x(5, 2, 2)),
    call(aten.index_put, x(2, 2, 3), [ints(1, 0, 1, 1).bool().reshape(2, 2)], x(3, 3)),
    call(aten.index_put, x(2, 2, 3), [ints(1, 0, 1, 1).bool().reshape(2, 2)], x(3)),
    call(aten.index_put, x(2, 2), [ints(1, 0, 1, 1).bool().reshape(2, 2)], x(3)),
    losing(
        (f"the first 2 places of self[0] {ALONE}",),
        WRITTEN,
        *(aten.index_put, x(4, 5, 3), [ints(2, 0, 1, 1).reshape(2, 2)], x(2, 2, 5, 3)),
    ),
    call(aten.index_put, x(4, 5, 3), [None, ints(2, 0)], x(4, 2, 3)),
    call(aten.masked_scatter, x(2, 3, 4), SOME_TOKENS, x(3, 4)),
    call(aten.masked_scatter, x(2, 3, 4), SOME_TOKENS, x(4, 4)),
    call(aten.masked_scatter, x(2, 3, 4), SOME_TOKENS, x(12)),
    call(aten.masked_scatter, x(2, 3, 4), ints(0, 1).bool().reshape(2, 1, 1), x(3, 4)),
    call(aten.masked_scatter, x(3, 4), ints(1, 0, 1, 1).bool(), x(2, 5)),
    losing(
        (f"the 2 blocks of self[1], src[1] and the 2 blocks of result[1] {TOGETHER}",),
        WRITTEN,
        *(aten.scatter, x(3, 4), 1, ints(2, 0).expand(3, 2), x(3, 2)),
    ),
    losing(
        (f"the 2 blocks of self[1] and the 2 blocks of result[1] {TOGETHER}",),
        WRITTEN,
        *(aten.scatter, x(3, 4), 1, ints(2, 0).expand(3, 2), 1.0),
    ),
    losing(
        (f"the 2 blocks of self[1], src[1] and the 2 blocks of result[1] {TOGETHER}",),
        WRITTEN,
        *(aten.scatter_add, x(3, 4), 1, ints(2, 0).expand(3, 2), x(3, 2)),
    ),
    call(
        aten.scatter_reduce, x(3, 4), 0, ints(2, 0, 1, 1, 0, 1, 2, 0).reshape(2, 4), x(2, 4), "amax"
    ),
    call(aten.select_scatter, x(3, 4), x(3), 1, 2),
    call(aten.slice_scatter, x(3, 6), x(3, 2), 1, 2, 4),
]


RESAMPLING = [
    call(aten._adaptive_avg_pool2d, x(2, 3, 5, 7), [2, 3]),
    call(aten._adaptive_avg_pool3d, x(2, 3, 5, 4, 7), [2, 3, 3]),
    call(aten._upsample_bicubic2d_aa, x(2, 3, 4, 5), [7, 6], False),
    call(aten._upsample_bilinear2d_aa, x(2, 3, 4, 5), [7, 6], False),
    call(aten._upsample_nearest_exact1d, x(2, 3, 4), [7]),
    call(aten._upsample_nearest_exact2d, x(2, 3, 4, 5), [7, 6]),
    call(aten._upsample_nearest_exact3d, x(2, 3, 2, 4, 5), [3, 7, 6]),
    call(aten.adaptive_max_pool2d, x(2, 3, 5, 7), [2, 3]),
    call(aten.adaptive_max_pool3d, x(2, 3, 5, 4, 7), [2, 3, 3]),
    call(aten._adaptive_avg_pool2d, x(2, 3, 6, 5), [3, 5]),
    call(aten.adaptive_max_pool2d, x(2, 6, 5), [2, 1]),
    call(aten.avg_pool1d, x(2, 3, 7), [2]),
    call(aten.avg_pool1d, x(2, 3, 6), [2]),
    call(aten.avg_pool1d, x(2, 3, 6), [2], [2], [1]),
    call(aten.avg_pool2d, x(2, 3, 4, 6), [1, 6]),
    call(aten.avg_pool2d, x(2, 3, 5, 7), [2, 2], [1, 2]),
    call(aten.avg_pool2d, x(3, 5, 7), [2, 3]),
    call(aten.avg_pool3d, x(2, 3, 4, 5, 7), [2, 2, 2], [1, 2, 2]),
    call(aten.col2im, x(2, 12, 6), [3, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
    Sample(aten.cudnn_grid_sampler, (x(2, 3, 4, 5), x(2, 3, 7, 2)), stand_in=bilinear_grid_sampler),
    call(aten.grid_sampler_2d, x(2, 3, 4, 5), x(2, 3, 7, 2), 0, 0, False),
    call(aten.grid_sampler_3d, x(2, 4, 3, 5, 3), x(2, 7, 5, 3, 3), 0, 0, False),
    call(aten.max_pool2d_with_indices, x(2, 3, 5, 7), [2, 2], [1, 2]),
    call(aten.max_pool2d_with_indices, x(2, 3, 4, 6), [1, 2]),
    call(aten.max_pool2d_with_indices, x(3, 4, 6), [4, 6]),
    call(aten.max_pool2d_with_indices, x(3, 4, 6), [2, 2], [], 0, [1, 2]),
    call(aten.max_pool2d_with_indices, x(3, 4, 7), [1, 3], [], 0, 1, True),
    call(aten.max_pool3d_with_indices, x(2, 3, 4, 5, 7), [2, 2, 2]),
    call(
        aten.max_unpool2d, x(2, 3, 2, 2), ints(0, 3, 9, 13).reshape(2, 2).expand(2, 3, 2, 2), [4, 5]
    ),
    call(aten.reflection_pad1d, x(2, 3, 5), [2, 1]),
    call(aten.reflection_pad2d, x(2, 3, 5, 4), [2, 1, 1, 0]),
    call(aten.reflection_pad3d, x(2, 3, 4, 5, 3), [2, 1, 1, 0, 1, 1]),
    call(aten.replication_pad1d, x(2, 3, 4), [2, 1]),
    call(aten.replication_pad2d, x(2, 3, 5, 4), [2, 1, 1, 1]),
    call(aten.replication_pad3d, x(2, 3, 4, 5, 2), [2, 1, 1, 1, 1, 2]),
    call(aten.upsample_bicubic2d, x(2, 3, 4, 5), [7, 6], False),
    call(aten.upsample_bilinear2d, x(2, 3, 4, 5), [7, 6], True),
    call(aten.upsample_linear1d, x(2, 3, 4), [7], False),
    call(aten.upsample_nearest1d, x(2, 3, 4), [7]),
    call(aten.upsample_nearest2d, x(2, 3, 4, 5), [7, 11]),
    call(aten.upsample_nearest3d, x(2, 3, 2, 4, 5), [3, 7, 11]),
    call(aten.upsample_trilinear3d, x(2, 3, 2, 4, 5), [3, 7, 6], False),
]

VIEWS = [
    call(aten.diagonal, x(2, 3, 5), 0, 1, 2),
    call(aten.diagonal, x(4, 5), 1),
    call(aten.permute, x(2, 3, 4), [2, 0, 1]),
    call(aten.select, x(2, 3, 4), 1, 2),
    call(aten.slice, x(2, 5), 1, 1, 4),
    call(aten.slice, x(6, 3), 0, 0, 6, 2),
    call(aten.split, x(5, 3), 2),
    call(aten.split_with_sizes, x(2, 7), [3, 4], 1),
    call(aten.squeeze, x(1, 3, 1, 4)),
    call(aten.squeeze, x(1, 3, 1, 4), 2),
    call(aten.squeeze, x(1, 3, 1, 4), [0, 2]),
    call(aten.squeeze_, x(1, 3, 1, 4)),
    call(aten.t, x(2, 3)),
    call(aten.transpose, x(2, 3, 4), 0, 2),
    call(aten.transpose_, x(2, 3), 0, 1),
    call(aten.t_, x(2, 3)),
    call(aten.unbind, x(2, 3, 4), 1),
    call(aten.unfold, x(2, 6), 1, 2, 2),
    call(aten.unfold, x(2, 5), 1, 3, 1),
    call(aten.unsafe_split, x(2, 4), 2, 1),
    call(aten.unsafe_split_with_sizes, x(7, 2), [3, 4]),
    call(aten.unsqueeze, x(2, 3), 1),
    call(aten._to_copy, x(2, 3), dtype=torch.float32),
    Sample(aten._to_dense, (x(2, 3),), stand_in=dense),
    call(aten.alias, x(2, 3)),
    call(aten.clone, x(2, 3)),
    call(aten.contiguous, x(2, 3)),
    call(aten.detach, x(2, 3)),
    call(aten.narrow_copy, x(2, 5), 1, 1, 3),
    call(aten.resize_, x(2, 3), [2, 3]),
    call(aten.lift_fresh, x(2, 3)),
    call(aten.to, x(2, 3), torch.float32),
    call(aten._reshape_alias, x(2, 6), [4, 3], [3, 1]),
    call(aten._unsafe_view, x(4, 3), [2, 2, 3]),
    call(aten.reshape, x(2, 3, 4), [6, 4]),
    call(aten.view, x(2, 3), torch.int64),
    call(aten.view, x(4, 6), [3, 8]),
    call(aten.expand, x(3), [-1]),
    call(aten.view, x(2, 6), [2, 3, 2]),
]

MOVEMENT = [
    call(aten.cat, [x(2, 3), x(2, 4)], 1),
    call(aten.cat, [x(2, 3), x(4, 3), x(5, 3)]),
    call(aten.cat, [x(0), x(2, 3), x(2, 3)], -1),
    call(aten.channel_shuffle, x(2, 6, 5), 2),
    call(aten.constant_pad_nd, x(2, 3), [1, 2]),
    call(aten.constant_pad_nd, x(3, 1), [0, 1]),
    call(aten.constant_pad_nd, x(2, 5), [-1, 2, 0, 1], 1.0),
    call(aten.copy, x(2, 3), x(3)),
    call(aten.copy_, x(2, 3), x(2, 1)),
    call(aten.zero_, x(2, 3)),
    call(aten.expand, x(3, 1), [2, 3, 4]),
    call(aten.fill, x(2, 3), 1.0),
    call(aten.fill, x(2, 3), x()),
    call(aten.fill_, x(2, 3), x()),
    call(aten.flip, x(2, 5), [1]),
    call(aten.glu, x(2, 6), 1),
    call(aten.im2col, x(2, 3, 4, 5), [2, 2], [1, 1], [0, 0], [1, 1]),
    call(aten.index, x(5, 3), [ints(2, 0, 0)]),
    call(aten.index, x(4, 5, 3), [None, ints(2, 0, 4)]),
    call(aten.index, x(4, 5, 3), [ints(2, 0), ints(3, 4)]),
    call(aten.index, x(4, 5, 3), [ints(2, 0), None, ints(1, 2)]),
    call(aten.index, x(3, 4), [torch.tensor([[True, False, True, True]] * 3)]),
    call(aten.index, x(4, 3), [torch.tensor([True, False, True, True])]),
    call(aten.index_select, x(3, 5), 1, ints(4, 0, 1)),
    call(aten.native_channel_shuffle, x(2, 6, 4, 5), 3),
    call(aten.pixel_shuffle, x(2, 12, 3, 5), 2),
    call(aten.pixel_unshuffle, x(1, 2, 4, 6), 2),
    call(aten.repeat, x(2, 3), [2, 1, 3]),
    call(aten.roll, x(2, 5), [2], [1]),
    call(aten.roll, x(2, 3), [1]),
    call(aten.roll, x(2, 3, 5), [1, 2], [1, 2]),
    *(call(aten.rot90, x(2, 3, 5), k, [0, 2]) for k in (1, 2, -1)),
    call(aten.stack, [x(3, 4), x(3, 4)], 1),
    call(aten.stack, [x(3), x(3), x(3)], -1),
    call(aten.take, x(2, 3), ints(0, 4, 5)),
    call(aten.zero, x(2, 3)),
]

POINTWISE = [
    call(aten.relu, x(2, 3)),
    call(aten.gelu, x(2, 3), approximate="tanh"),
    call(aten.exp_, x(2, 3)),
    call(aten.clamp, x(2, 3), -0.5, 0.5),
    call(aten.clamp, x(2, 3), x(3), None),
    call(aten.add, x(2, 3), x(3)),
    call(aten.add, x(2, 3), x(2, 1), alpha=2),
    call(aten.add, x(2, 3), 1.0),
    call(aten.add_, x(2, 3), x(3)),
    call(aten.mul, x(2, 1, 4), x(3, 1)),
    call(aten.div_, x(2, 3), positive(2, 1)),
    call(aten.maximum, x(2, 3), x(2, 3)),
    call(aten.gt, x(5, 7), x(7)),
    call(aten.where, ints(1, 0, 1).bool(), x(2, 3), x(3)),
    call(aten.masked_fill, x(2, 3), ints(1, 0, 1).bool(), 0.0),
    call(aten.masked_fill, x(2, 3), ints(1, 0).bool().reshape(2, 1), x()),
    call(aten.masked_fill, x(2, 3), ints(1, 0, 1).bool(), ints(1)[0]),
    call(aten._foreach_add, [x(2, 3), x(4)], [x(2, 3), x(1)]),
    call(aten._foreach_lerp, [x(2, 3), x(4)], [x(3), x(4)], 0.3),
    call(aten._foreach_mul, [x(2, 3), x(4)], x()),
    call(aten._foreach_norm, [x(2, 3), x(4)]),
    call(aten.log_sigmoid_forward, x(2, 3)),
    call(aten.lerp, x(2, 3), x(3), x(2, 1)),
    call(aten.addcmul, x(2, 3), x(3), x(2, 1), value=0.5),
    call(aten._prelu_kernel, x(2, 3, 4), x(1, 3, 1)),
    call(aten.celu, x(2, 3), 0.7),
    call(aten.hardsigmoid, x(2, 3)),
    call(aten.hardswish, x(2, 3)),
    call(aten.hardswish_, x(2, 3)),
    call(aten.frexp, x(2, 3)),
    call(aten.hardtanh, x(2, 3)),
    call(aten.mish, x(2, 3)),
]

SAMPLES = [
    # complex numbers
    call(aten._neg_view, x(2, 3)),
    call(aten.resolve_neg, x(2, 3)),
    call(aten._conj, torch.complex(x(2, 3), x(2, 3))),
    call(aten.complex, x(2, 3), x(2, 3)),
    call(aten.polar, positive(2, 3), x(2, 3)),
    call(aten.resolve_conj, torch.complex(x(2, 3), x(2, 3))),
    call(aten.view_as_complex, x(3, 5, 2)),
    call(aten.rrelu_with_noise, x(2, 3), x(2, 3), 0.125, 0.25, False),
    call(aten.view_as_real, torch.complex(x(3, 5), x(3, 5))),
    *CONTRACTIONS,
    *MATRICES,
    *QUANTISED,
    *OBSERVED,
    *RECURRENT,
    *NORMS,
    *REDUCTIONS,
    *ORDERS,
    *PLACES,
    *CHOICES,
    *RESAMPLING,
    *VIEWS,
    *MOVEMENT,
    *POINTWISE,
]
