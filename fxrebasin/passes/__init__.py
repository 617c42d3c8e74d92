"""The compiler passes: each usable alone, in torch's ``PassManager``, or through the API.

A pass holds no algorithm: it calls the library. What the passes find is kept in the state of the
module that they hand on (``state.py``); their order stands in ``pipeline.py``.
"""

from .absorb import Absorb
from .canonicalise import Canonicalise
from .compact import Compact
from .falsify import Falsify
from .order import Order
from .propagate import Propagate
from .refine import Refine
from .rewrite import Rewrite
from .solve import Solve
from .trace import Trace
from .verify import Verify

__all__ = [
    "Absorb",
    "Canonicalise",
    "Compact",
    "Falsify",
    "Order",
    "Propagate",
    "Refine",
    "Rewrite",
    "Solve",
    "Trace",
    "Verify",
]
