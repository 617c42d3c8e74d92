"""Small networks whose symmetry groups were worked out by hand.

Every network is registered with its inputs, the natural logarithm of the order of its group, and
its blocks. Both are written down independently of each other, so that a slip in one shows:

* ``log_order`` is a formula in ``f(n)``, which is ``log n!``;
* ``blocks`` is a sum of ``S(a, b, ...)``, symmetric groups that stand alone, and of
  ``wr(n, a, b, ...)``, the wreath product ``(S_a x S_b x ...) wr S_n``.

``incomplete`` says why fewer symmetries than these are found; what is found is sound regardless.

``registry`` holds the table and this notation, ``parts`` the modules that several networks are
made of; every other file is a family of networks.

>>> S(6) + wr(4, 2, 3)
[(6, 1, 0), (4, 1, 0), (2, 4, 4), (3, 4, 4)]
"""

from __future__ import annotations

# isort: off
from . import (  # noqa: F401 - each registers its networks, in this order
    linear,
    sharing,
    convolutions,
    channel_groups,
    shortcuts,
    movement,
    tables,
    ordering,
    constants,
    writes,
    attention,
    grouped_queries,
    torch_attention,
    tokens,
    recurrent,
    skips,
)

# isort: on
from .attention import Attention
from .parts import Apply, Residual, around, stream
from .registry import NETWORKS, Network, S, f, real, wr

__all__ = [
    "NETWORKS",
    "Apply",
    "Attention",
    "Network",
    "Residual",
    "S",
    "around",
    "f",
    "real",
    "stream",
    "wr",
]
