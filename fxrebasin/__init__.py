"""Find the permutation symmetries of PyTorch models, and align models with them.

Find the group: :func:`analyze`. Align: :func:`rebasin`, :func:`match`. Merge: :func:`merge`,
:func:`repair`. Look at what is aligned: :func:`interpolate`, :func:`loss_plane`, :func:`diagnose`.
Make one model smaller or put it in order: :func:`compact`, :func:`order`. Check: :func:`verify`,
:mod:`testing`. Teach an op: :func:`register_rule`.
"""

import logging

from . import assignment, errors, objectives, passes, testing
from .api import activation_matching, analyze, match, merge, rebasin
from .canonical.canonicalise import canonicalise
from .checkpoints.form import Form
from .checkpoints.loading import StateDict, load
from .checkpoints.opening import open_checkpoint
from .checkpoints.saving import save
from .compaction.compact import Compaction
from .compaction.ordering import Key
from .compaction.unit_weights import UnitWeights
from .compile import Backend, CompileReport, GraphReport
from .layouts.layout import Layout
from .learning.choice import AlignmentTrial, ChoiceReport, Chosen
from .learning.choose import choose_alignment
from .learning.refine import refine
from .learning.report import LearningStep, Refined, RefineReport
from .matching import schedules, solvers
from .matching.alignment import Alignment, Round
from .matching.inner_products import InnerProducts
from .matching.progress import Callback, Step
from .matching.search import Budget
from .matching.solvers import Solver
from .merging import curves, merge_methods
from .merging.bezier import train_bezier
from .merging.diagnose import diagnose
from .merging.diagnosis import BlockMatch, Diagnosis, ParameterChange
from .merging.fisher import fisher
from .merging.interpolate import Path, interpolate
from .merging.loss_plane import loss_plane
from .merging.merge_report import MergedModule, MergeReport, Trial
from .merging.merged import Merged
from .merging.parents import Parent
from .merging.path import Point
from .merging.plane import Plane
from .merging.protocol import MergeMethod
from .merging.transport import transport
from .models.rebased import RebasedModule
from .objectives import Objective
from .objectives.weight_matching import weight_matching
from .one_model import compact, order
from .passes.report import Aligned, Report
from .propagation.constraints import Constraint, pin, tie
from .repair.batch_norm import recompute_batch_norm
from .repair.biases import BiasReport, calibrate_biases
from .repair.closed_form import repair_linear
from .repair.repair import repair
from .repair.report import Repaired, RepairReport
from .rules.call import Call, Rule
from .rules.registry import register_rule, unregister_rule
from .symmetry.explanation import Explanation
from .symmetry.group import Symmetry
from .symmetry.kinds import BlockKind, Kind, Kinds
from .symmetry.parts import Block, Segment
from .symmetry.permutation import Permutation
from .symmetry.transform import Transform
from .tracing.front_ends import FrontEnd
from .verification.verify import Verification, verify

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet, unless it is asked for

backend = Backend
"""As it is written in ``torch.compile(model, backend=fxrebasin.backend(to=reference))``."""

__version__ = "0.1.0"

# ruff: disable[RUF022]
__all__ = [
    # find the group
    "analyze",
    "pin",
    "tie",
    "Symmetry",
    "Block",
    "Segment",
    "Explanation",
    "Kinds",
    "BlockKind",
    "Kind",
    "Constraint",
    "FrontEnd",
    # align
    "rebasin",
    "match",
    "weight_matching",
    "activation_matching",
    "Permutation",
    "Transform",
    "Aligned",
    "Alignment",
    "Round",
    "Report",
    "RebasedModule",
    "Budget",
    "Step",
    "Callback",
    "canonicalise",
    # what is compared, and how the group is searched
    "objectives",
    "solvers",
    "schedules",
    "Objective",
    "Solver",
    "InnerProducts",
    # use what is aligned
    "interpolate",
    "Path",
    "Point",
    "curves",
    "train_bezier",
    "loss_plane",
    "Plane",
    "diagnose",
    "Diagnosis",
    "ParameterChange",
    "BlockMatch",
    "recompute_batch_norm",
    # let data decide how models are aligned
    "choose_alignment",
    "Chosen",
    "ChoiceReport",
    "AlignmentTrial",
    "refine",
    "Refined",
    "RefineReport",
    "LearningStep",
    # files of state dicts
    "load",
    "save",
    "open_checkpoint",
    "StateDict",
    "Form",
    # merge
    "merge",
    "merge_methods",
    "MergeMethod",
    "Parent",
    "MergedModule",
    "MergeReport",
    "Trial",
    "Merged",
    "fisher",
    "transport",
    "repair",
    "repair_linear",
    "calibrate_biases",
    "RepairReport",
    "Repaired",
    "BiasReport",
    # make one model smaller, or put it in order
    "compact",
    "order",
    "Compaction",
    "Key",
    "UnitWeights",
    # inside torch.compile
    "backend",
    "Backend",
    "CompileReport",
    "GraphReport",
    # check
    "verify",
    "Verification",
    "testing",
    # teach an op
    "register_rule",
    "unregister_rule",
    "Call",
    "Layout",
    "Rule",
    # modules
    "assignment",
    "errors",
    "passes",
]
# ruff: enable[RUF022]
