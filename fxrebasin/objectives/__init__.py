"""What is compared when models are aligned: one function per objective.

An objective takes a symmetry and both state dicts, or whatever else it compares, and returns
:class:`InnerProducts`: a list of terms, each a pair of tensors that is made by :func:`term`.
"""

from ..matching.inner_products import InnerProducts, Term, term
from .activation_matching import activations
from .mixtures import mixed, mixture
from .protocol import Objective
from .stored_activations import activations_of
from .weight_matching import weights

__all__ = [
    "InnerProducts",
    "Objective",
    "Term",
    "activations",
    "activations_of",
    "mixed",
    "mixture",
    "term",
    "weights",
]
