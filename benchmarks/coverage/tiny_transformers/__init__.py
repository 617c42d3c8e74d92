"""Transformers of every family, tiny and untrained, with groups worked out by hand."""

from . import decoders, encoders, pairs, vision
from .models import ARCHITECTURES

FAMILIES = (decoders, encoders, pairs, vision)
"""They register what they define."""

__all__ = ["ARCHITECTURES", "FAMILIES"]
