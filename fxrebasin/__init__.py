"""Find the permutation symmetries of PyTorch models, and align models with them."""

from . import schedules, testing
from .activations import activation_matching
from .api import analyze, match, rebasin
from .batch_norm import recompute_batch_norm
from .constraints import pin, tie
from .explanation import Explanation
from .graph_module import RebasedModule
from .matching import Alignment, weight_matching
from .paths import Path, interpolate
from .permutation import Permutation
from .progress import Step
from .report import Report
from .rules.book import register_rule, unregister_rule
from .rules.registry import Call
from .search import Budget
from .symmetry import Block, Segment, Symmetry
from .verification import verify

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Block",
    "Budget",
    "Call",
    "Explanation",
    "Path",
    "Permutation",
    "RebasedModule",
    "Report",
    "Segment",
    "Step",
    "Symmetry",
    "activation_matching",
    "analyze",
    "interpolate",
    "match",
    "pin",
    "rebasin",
    "recompute_batch_norm",
    "register_rule",
    "schedules",
    "testing",
    "tie",
    "unregister_rule",
    "verify",
    "weight_matching",
]
