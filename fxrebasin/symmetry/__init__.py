"""The symmetry group, its elements, and the forms in which it can be read and written."""

from .group import Symmetry
from .parts import Block, Segment
from .permutation import Permutation
from .transform import Transform

__all__ = ["Block", "Permutation", "Segment", "Symmetry", "Transform"]
