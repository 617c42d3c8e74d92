"""Find the permutation symmetries of PyTorch models, and align models with them."""

from .api import analyze, match, rebasin
from .batch_norm import recompute_batch_norm
from .graph_module import RebasedModule
from .matching import Alignment, weight_matching
from .paths import Path, interpolate
from .permutation import Permutation
from .report import Report
from .symmetry import Block, Segment, Symmetry
from .verification import verify

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Block",
    "Path",
    "Permutation",
    "RebasedModule",
    "Report",
    "Segment",
    "Symmetry",
    "analyze",
    "interpolate",
    "match",
    "rebasin",
    "recompute_batch_norm",
    "verify",
    "weight_matching",
]
