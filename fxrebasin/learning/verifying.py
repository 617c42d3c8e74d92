"""Does a model compute the same after a transform, which rounds its weights?

Permutations round nothing, so that models are compared to the last digits. After a rotation, every
weight is another number, rounded to its dtype: in float32 that alone changes outputs by more than
verification allows in float64. So the transform is verified where nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..models.copying import deep_copy
from ..models.precision import in_double, to_double
from ..symmetry.transform import Transform
from ..verification.verify import Verification, verify


def verify_transform(
    model: nn.Module, transform: Transform, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Verification:
    """Compare a model with what a transform makes of it, both in float64.

    Raises:
        VerificationError: an output differs.
    """
    wide = to_double(deep_copy(model))
    args, kwargs = in_double((tuple(args), dict(kwargs)))
    return verify(wide, transform.apply_to(wide), args, kwargs)
