"""What every merge method is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from ..matching.solvers import Solver, coordinate_descent
from ..objectives import Objective
from ..objectives import weights as weights_of
from ..symmetry.group import Symmetry
from .average import State
from .merged import Merged


class MergeMethod(Protocol):
    """Aligns models of one architecture, and makes one model of them.

    Options beyond these are given by ``functools.partial``.

    >>> from functools import partial
    >>> import fxrebasin as fr
    >>> few: MergeMethod = partial(fr.merge_methods.many, max_sweeps=2)
    """

    def __call__(
        self,
        symmetry: Symmetry,
        models: Sequence[State],
        /,
        *,
        weights: Sequence[float] | None = None,
        objective: Objective = weights_of,
        solver: Solver = coordinate_descent,
        seed: int = 0,
        device: torch.device | str | None = None,
        progress: bool = True,
    ) -> Merged:
        """Merge.

        Tensors of floating point are averaged, in float32 or more; all others, such as counts of
        batches, are those of the first model. Running statistics are averaged as well, and
        describe the merged model badly: measure them afresh with
        :func:`fxrebasin.recompute_batch_norm`. No model is changed.

        Args:
            symmetry: the group, as :func:`fxrebasin.analyze` found it for one of the models.
            models: their state dicts, which need not fit in memory together: each may be a mapping
                that reads a tensor when it is indexed, as :func:`fxrebasin.open_checkpoint` gives.
                They may have different dtypes and be on different devices.
            weights: how much each model counts; by default all count alike. They are divided by
                their sum.
            objective: what is compared, as in :func:`fxrebasin.match`.
            solver: how two models are aligned, as there.
            seed: of whatever the method or the solver draws.
            device: where to compute; by default where the first model is. The result is where the
                first model is.
            progress: show progress bars.

        Raises:
            InvalidArgumentError: an argument makes no sense.
            ArchitectureMismatchError: the models have different keys or shapes, others than the
                symmetry, or different ties.
            InvalidParameterError: a tensor is not finite where it is compared, sparse, ...
        """
        ...
