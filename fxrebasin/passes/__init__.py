"""The compiler passes: each usable alone, in torch's ``PassManager``, or through the API.

A pass holds no algorithm: it calls the library. What the passes find is kept in
``GraphModule.meta["fxrebasin"]``.
"""

from .falsify import Falsify
from .propagate import Propagate
from .refine import Refine
from .rewrite import Rewrite
from .solve import Solve
from .trace import Trace
from .verify import Verify

__all__ = ["Falsify", "Propagate", "Refine", "Rewrite", "Solve", "Trace", "Verify"]
