"""Tests share the random networks of the benchmarks, which are not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

# At the end: what is installed comes first, so that it is what is tested.
sys.path.append(str(Path(__file__).parent.parent))

# Before Triton is imported, which reads it then: without a device, its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
