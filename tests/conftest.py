"""Tests share the random networks of the benchmarks, which are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end: what is installed comes first, so that it is what is tested.
sys.path.append(str(Path(__file__).parent.parent))
