"""What was measured of one model: the kinds of its blocks, and whether their elements keep it."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import nn

import fxrebasin as fr
from benchmarks.coverage.sections import SECTIONS
from benchmarks.measuring.double_precision import run_in_double_precision
from benchmarks.measuring.random_weights import randomise_deep
from fxrebasin.models.outputs import output_tensors
from fxrebasin.models.precision import largest_error
from fxrebasin.models.validation import stored_tensors
from fxrebasin.symmetry.kinds import Mix

TOLERANCE = 1e-9
"""Relative, of the output of the model that was acted upon, in float64."""

CONTROLS = 3


@dataclass(frozen=True)
class Row:
    """What was measured of one model; ``nan`` where it was not reached."""

    section: str
    model: str
    commit: str
    threads: int
    kinds: dict[str, int] = field(default_factory=dict)
    """How many blocks are of each kind, a nested one counted once per parent unit."""
    larger: float = float("nan")
    """The share of units in blocks of a larger kind than permutations."""
    dimension: int = 0
    """In how many independent directions elements move."""
    error: float = float("nan")
    control: float = float("nan")
    """The median change of the output where one tensor is left as the canonical weights have it."""
    seconds: float = float("nan")
    """For finding the kinds, after the analysis."""
    analysis: float = float("nan")
    failure: str = ""

    @property
    def status(self) -> str:
        if self.failure:
            return self.failure
        return "ok" if self.error <= TOLERANCE else "output changed"

    def cells(self) -> tuple[str, ...]:
        listed = "; ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in self.kinds.items())
        return (
            *(self.model, listed, f"{self.larger:.0%}", f"{self.dimension:,}"),
            *(f"{self.error:.1e}", f"{self.control:.1e}"),
            *(f"{self.analysis:.1f}", f"{self.seconds:.1f}", self.status),
        )


def counted(symmetry: fr.Symmetry) -> dict[str, int]:
    """How many blocks are of each kind, the largest groups first; sizes only where units mix.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    >>> counted(fr.analyze(net, (torch.zeros(1, 4),)))
    {'GL(8)': 1, 'signed S': 1}
    """
    found: Counter[str] = Counter()
    for block in sorted(symmetry, key=lambda b: -symmetry.kinds.of(b.name).dimension(b.size)):
        kind = symmetry.kinds.of(block.name)
        text = kind.describe(block.size) if kind.kind.mix is not Mix.NOT else kind.kind.name
        found[text] += block.count
    return dict(found)


@torch.no_grad()
def measure(row: Row) -> Row:
    """Measure one model; runs in a process of its own."""
    torch.set_num_threads(row.threads)
    torch.manual_seed(0)
    model, args, kwargs = SECTIONS[row.section].build(row.model)
    model.eval()
    randomise_deep(model, *args, **kwargs)
    start = time.perf_counter()
    symmetry = fr.analyze(model, args=args, kwargs=kwargs)
    analysis = time.perf_counter() - start
    start = time.perf_counter()
    kinds = symmetry.kinds
    seconds = time.perf_counter() - start
    of_blocks = [(block, kinds.of(block.name)) for block in symmetry]
    larger = sum(b.units for b, kind in of_blocks if kind.kind.name != "S")
    error, control = _moved(model, symmetry, args, kwargs)
    return replace(
        row,
        kinds=counted(symmetry),
        larger=larger / max(symmetry.movable_units, 1),
        dimension=sum(b.count * kind.dimension(b.size) for b, kind in of_blocks),
        error=error,
        control=control,
        seconds=seconds,
        analysis=analysis,
    )


def _moved(
    model: nn.Module, symmetry: fr.Symmetry, args: object, kwargs: object
) -> tuple[float, float]:
    """How much the outputs change under a random element, and if one tensor stays as it was."""
    model.double()
    expected = output_tensors(run_in_double_precision(model, args, kwargs))
    tensors = stored_tensors(model)
    canonical = fr.canonicalise(symmetry, {k: t.clone() for k, t in tensors.items()})
    generator = torch.Generator().manual_seed(0)
    moved = fr.Transform.random(symmetry, generator, scales=True).apply(canonical)

    def change(left: str = "") -> float:
        for name, tensor in tensors.items():
            tensor.copy_(canonical[name] if name == left else moved[name])
        model.train().eval()  # some keep what they compute from their weights until then
        found = output_tensors(run_in_double_precision(model, args, kwargs))
        return largest_error(expected, found)

    changed = [k for k in tensors if not torch.equal(canonical[k], moved[k])]
    drawn = random.Random(0).sample(changed, min(CONTROLS, len(changed)))
    return change(), statistics.median(map(change, drawn)) if drawn else 0.0
