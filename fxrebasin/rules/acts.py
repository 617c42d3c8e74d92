"""What ops do to numbers, a line for each family: how far they commute with linear maps.

The rules of ``table.py`` say which permutations an op respects. A family says which larger groups
it does, as ReLU respects positive scales and tanh signs. An op that is in no family respects
permutations alone, as far as anybody has said: GELU, sigmoid, softmax, sorting and whatever is new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Act(Enum):
    """Families of ops that act alike."""

    ADDITION = "the sum of its operands"
    ATTENTION = "sums of values, weighted by products of queries and keys"
    BATCH_NORM = "statistics of every unit by itself"
    CONTRACTION = "a product of matrices"
    CONVOLUTION = "a product of matrices at every place"
    EVEN = "forgets signs"
    GROUP_NORM = "takes the mean of a group away and divides by its spread"
    LAYER_NORM = "takes the mean away and divides by the spread"
    LENGTH = "a Euclidean length"
    LOOK_UP = "rows of a table"
    MOVEMENT = "entries of one operand, moved"
    POOLING = "means of neighbours"
    POSITIVE = "commutes with positive scales"
    POSITIVE_POOLING = "the largest of neighbours"
    POSITIVE_REDUCTION = "the largest of some entries"
    POWER = "a power of its operand"
    PRODUCT = "the product of its operands, entry by entry"
    QUOTIENT = "the quotient of its operands, entry by entry"
    RMS_NORM = "divides by the root of the mean square"
    ODD = "commutes with signs"
    SPREAD = "a variance"
    SUM = "a sum or a mean"
    UNION = "its operands, one after the other"


FAMILIES: dict[Act, str] = {
    Act.ADDITION: "add sub",
    Act.ATTENTION: "_scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu",
    Act.BATCH_NORM: "_native_batch_norm_legit_no_training cudnn_batch_norm native_batch_norm",
    Act.CONTRACTION: "addmm addmv baddbmm bmm dot linear mm mv",
    Act.CONVOLUTION: "convolution",
    Act.EVEN: "cos cosh",
    Act.GROUP_NORM: "native_group_norm",
    Act.LAYER_NORM: "native_layer_norm",
    Act.LENGTH: "linalg_vector_norm",
    Act.LOOK_UP: "embedding index_select",
    Act.MOVEMENT: "_reshape_alias _to_copy _unsafe_view alias clone contiguous copy detach expand "
    "flip lift_fresh narrow permute repeat reshape roll select slice split split_with_sizes "
    "squeeze t to transpose unbind unsafe_split unsafe_split_with_sizes unsqueeze view",
    Act.ODD: "asin asinh atan atanh erf erfinv hardshrink sin sinh softshrink tan tanh",
    Act.POOLING: "_adaptive_avg_pool2d _adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_trilinear3d",
    Act.POSITIVE: "leaky_relu prelu _prelu_kernel relu",
    Act.POSITIVE_POOLING: "adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices "
    "max_pool3d_with_indices",
    Act.POSITIVE_REDUCTION: "amax amin",
    Act.POWER: "abs pow reciprocal rsqrt sqrt square",
    Act.PRODUCT: "mul neg",
    Act.QUOTIENT: "div",
    Act.RMS_NORM: "_fused_rms_norm",
    Act.SPREAD: "std var var_mean",
    Act.SUM: "mean sum",
    Act.UNION: "cat constant_pad_nd stack",
}
"""From family to ops of ATen; one that works in place is in the family of that which does not."""

ACTS: dict[str, Act] = {
    f"aten::{name}": act for act, names in FAMILIES.items() for name in names.split()
}


def name_of(op: Any) -> str:
    """What an op is called in :data:`ACTS`: without its overload, and as if not in place.

    >>> import torch
    >>> name_of(torch.ops.aten.relu_.default), name_of(torch.ops.aten.slice.Tensor)
    ('aten::relu', 'aten::slice')
    """
    name: str = op.overloadpacket._qualified_op_name
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


PERMUTES = "permutations"
CLAIMS = (PERMUTES, "signed", "positive", "monomial", "linear")
"""What the rule of a user's own may say that its target commutes with."""


@dataclass(frozen=True, eq=False)
class ClaimedRule:
    """A rule, and what else than permutations its target is said to commute with."""

    rule: Callable[..., Any]
    acts: str = PERMUTES

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.rule(*args, **kwargs)


def claim_of(rule: object) -> str:
    """What a rule says of its target beside permutations."""
    return rule.acts if isinstance(rule, ClaimedRule) else PERMUTES
