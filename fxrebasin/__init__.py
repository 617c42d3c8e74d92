"""Find the permutation symmetries of PyTorch models, and align models with them."""

from . import objectives, testing
from .api import activation_matching, analyze, match, rebasin
from .matching import schedules, solvers
from .matching.alignment import Alignment
from .matching.progress import Step
from .matching.search import Budget
from .merging.interpolate import Path, interpolate
from .models.rebased import RebasedModule
from .objectives.weight_matching import weight_matching
from .passes.report import Report
from .propagation.constraints import pin, tie
from .repair.batch_norm import recompute_batch_norm
from .rules.call import Call
from .rules.registry import register_rule, unregister_rule
from .symmetry.explanation import Explanation
from .symmetry.group import Symmetry
from .symmetry.parts import Block, Segment
from .symmetry.permutation import Permutation
from .verification.verify import verify

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
    "objectives",
    "pin",
    "rebasin",
    "recompute_batch_norm",
    "register_rule",
    "schedules",
    "solvers",
    "testing",
    "tie",
    "unregister_rule",
    "verify",
    "weight_matching",
]
