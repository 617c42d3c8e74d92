"""The linear assignment problem: one interface for every solver."""

from .assign import assign, suitable
from .dense import solve_dense
from .device.engine import solve_on_device
from .problem import Assignment, Engine
from .sparse.engine import solve_sparse

__all__ = [
    "Assignment",
    "Engine",
    "assign",
    "solve_dense",
    "solve_on_device",
    "solve_sparse",
    "suitable",
]
