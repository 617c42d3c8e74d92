"""The solvers, and what every solver is: a function from a sum of inner products to an alignment.

A new one is a function like these, in a file of its own; nothing needs to be told of it.
"""

from __future__ import annotations

from typing import Protocol

from ..symmetry.transform import Transform
from .alignment import Alignment
from .coordinate_descent import coordinate_descent
from .frank_wolfe import frank_wolfe
from .inner_products import InnerProducts
from .progress import Callback

__all__ = ["Solver", "coordinate_descent", "frank_wolfe"]


class Solver(Protocol):
    """Searches a symmetry group for the element at which an objective is highest.

    ``objective.group`` says over which part of the group it is to be searched; a solver that knows
    of permutations alone searches these.

    Options beyond these are given by ``functools.partial``.

    >>> from functools import partial
    >>> import fxrebasin as fr
    >>> thorough: Solver = partial(fr.solvers.coordinate_descent, budget=fr.Budget(rounds=8))
    """

    def __call__(
        self,
        objective: InnerProducts,
        /,
        *,
        start: Transform | None = None,
        seed: int = 0,
        callback: Callback | None = None,
        progress: bool = True,
    ) -> Alignment:
        """Search.

        Args:
            objective: what is maximised.
            start: where the search begins, such as what :func:`fxrebasin.activation_matching`
                found; by default wherever suits the solver.
            seed: of whatever it draws. The result is deterministic for a seed, unless something
                is limited by seconds.
            callback: called at every step with a ``Step``: the ``objective`` of what stopping
                there would return, what is ``gained`` by that, and the ``seconds`` since the
                search began. It raises ``StopIteration`` to stop, which is no reason for a
                warning.
            progress: show a progress bar.
        """
        ...
