"""Find the permutation symmetries of PyTorch models, and align models with them."""

from .api import analyze
from .paths import Path, interpolate
from .permutation import Permutation
from .symmetry import Block, Segment, Symmetry

__version__ = "0.1.0"

__all__ = ["Block", "Path", "Permutation", "Segment", "Symmetry", "analyze", "interpolate"]
