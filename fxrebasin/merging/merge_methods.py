"""The merge methods, and what every one is: a function from models to one model.

A new one is a function like these, in a file of its own; nothing needs to be told of it.
"""

from __future__ import annotations

from .fisher_mean import fisher_weighted
from .many import many
from .protocol import MergeMethod
from .reference import mean, sequential, to_reference
from .tree import tree
from .universe import cycle_consistent

__all__ = [
    "MergeMethod",
    "cycle_consistent",
    "fisher_weighted",
    "many",
    "mean",
    "sequential",
    "to_reference",
    "tree",
]
