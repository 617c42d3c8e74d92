"""What every objective of state dicts is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from ..matching.inner_products import InnerProducts
from ..symmetry.group import Symmetry


class Objective(Protocol):
    """A function from two state dicts to what is maximised over a symmetry group.

    Options beyond these are given by ``functools.partial``.

    >>> from functools import partial
    >>> import fxrebasin as fr
    >>> matrices_alone: Objective = partial(fr.objectives.weights, vector_weight=0)
    """

    def __call__(
        self,
        symmetry: Symmetry,
        b: Mapping[str, torch.Tensor],
        a: Mapping[str, torch.Tensor],
        /,
        *,
        device: torch.device | str | None = None,
    ) -> InnerProducts:
        """Compare ``b``, which is permuted, with ``a``, on a device."""
        ...
