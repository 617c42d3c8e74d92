"""Example inputs of another length and batch size, to test on what the example did not reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

DIMS = ((0, 1), (0, 2, 3), (1,), (0,))
"""Which dims of the inputs are made longer, in the order in which that is tried: batch and length,
batch, height and width of images, one alone."""


def vary(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Inputs with some dims one longer, wherever these have the size of the first, and which."""
    inputs = (tuple(args), dict(kwargs))
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.ndim]
    first = max(tensors, key=lambda t: t.ndim, default=None)
    for dims in DIMS if first is not None else ():
        assert first is not None
        sizes = {d: first.shape[d] for d in dims if d < first.ndim}
        if len(sizes) == len(dims) and 0 not in sizes.values():
            longer = tree_map_only(torch.Tensor, partial(_longer, sizes), inputs)
            yield longer, ", ".join(f"{n + 1} along dim {d}" for d, n in sizes.items())


def _longer(sizes: Mapping[int, int], tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout != torch.strided:
        return _longer(sizes, tensor.to_dense()).to_sparse(layout=tensor.layout)
    for d, n in sizes.items():
        if d < tensor.ndim and tensor.shape[d] == n:
            tensor = torch.cat([tensor.detach(), tensor.detach().narrow(d, 0, 1)], d)
    return tensor
