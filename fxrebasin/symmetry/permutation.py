"""Permutations: the transforms that move units, and do nothing else to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import check_kind
from ..errors import FileFormatError
from ..models.surroundings import neutral
from .elements import Elements
from .group import Symmetry, check_symmetry
from .parts import ParameterSymmetry
from .random_elements import random_indices
from .transform import Transform


@dataclass(frozen=True, eq=False, repr=False)
class Permutation(Transform):
    """Which unit goes where, for every block of a symmetry.

    ``indices[name]`` has shape ``(count, size)``: place ``k`` under parent ``q`` is taken by what
    was unit ``indices[name][q, k]`` under the parent that ``q`` itself is taken from.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(4, 2)
    >>> symmetry = fr.analyze(net, args=(x,))
    >>> permutation = Permutation.random(symmetry, torch.Generator().manual_seed(1))
    >>> moved = permutation.apply_to(net)
    >>> torch.allclose(moved(x), net(x), atol=1e-6)
    True
    """

    signs: dict[str, NDArray[np.int8]] = field(default_factory=dict, init=False)
    log_scales: dict[str, torch.Tensor] = field(default_factory=dict, init=False)
    matrices: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    @classmethod
    @neutral()
    def random(  # type: ignore[override]  # there is no group to choose
        cls, symmetry: Symmetry, generator: torch.Generator | None = None
    ) -> Permutation:
        """A random permutation of a symmetry, uniform over the group.

        >>> from fxrebasin import Block, Symmetry
        >>> symmetry = Symmetry({"hidden": Block("hidden", 8)}, ())
        >>> drawn = Permutation.random(symmetry, torch.Generator().manual_seed(0))
        >>> drawn == drawn.inverse().inverse()
        True

        Args:
            symmetry: the group to draw from.
            generator: the source of randomness; torch's own if not given.
        """
        check_symmetry(symmetry)
        if generator is not None:
            check_kind(generator, torch.Generator, "generator", "a torch.Generator")
        return cls(symmetry, random_indices(symmetry, generator))

    def permute(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """One parameter's tensor with its entries moved; a new tensor.

        Raises:
            InvalidArgumentError: it is no tensor, or has another shape than the symmetry says.
        """
        return self.move(parameter, tensor)

    @overload
    def compose(self, first: Permutation) -> Permutation: ...
    @overload
    def compose(self, first: Transform) -> Transform: ...
    def compose(self, first: Transform) -> Transform:
        """``first``, and then this one: ``a.compose(b).apply(s) == a.apply(b.apply(s))``."""
        return super().compose(first)

    @classmethod
    def _of(cls, symmetry: Symmetry, elements: Elements) -> Permutation:
        others = [name for name, found in elements._asdict().items() if name != "indices" and found]
        if others:
            raise FileFormatError(
                f"expected indices only, found {' and '.join(others)} as well; read it with "
                "Transform.load"
            )
        return cls(symmetry, elements.indices)
