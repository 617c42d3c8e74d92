"""The ops that random networks are made of, a file per family.

An op knows which arguments fit a value of a given shape, and makes the module that applies it. A
new op is one function under ``@op``, ``@odd`` or ``@program``.
"""

from benchmarks.fuzz.ops import (
    attention,
    layers,
    movement,
    normalised_weights,
    norms,
    parameters,
    products,
    programs,
    recurrent,
    spatial,
)
from benchmarks.fuzz.ops.registry import OPS, Op, Shape, axis, channels

FAMILIES = (
    *(attention, layers, movement, normalised_weights, norms, parameters, products, programs),
    *(recurrent, spatial),
)

__all__ = ["FAMILIES", "OPS", "Op", "Shape", "axis", "channels"]
