"""Transformers of every family, tiny and untrained, with groups worked out by hand."""

from benchmarks.coverage.tiny_transformers import decoders, encoders, pairs, vision
from benchmarks.coverage.tiny_transformers.models import ARCHITECTURES

FAMILIES = (decoders, encoders, pairs, vision)
"""They register what they define."""

__all__ = ["ARCHITECTURES", "FAMILIES"]
