"""What was measured of one model, and how: its group, and whether the function is kept."""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import fxrebasin as fr
from benchmarks.coverage.sections import SECTIONS
from benchmarks.measuring.double_precision import run_in_double_precision
from benchmarks.measuring.processes import peak_memory
from benchmarks.measuring.random_weights import randomise_deep
from fxrebasin.errors import RefutedWarning
from fxrebasin.models.outputs import output_tensors
from fxrebasin.models.precision import largest_error

TOLERANCE = 1e-9  # relative, of the permuted model's output, in float64
VISIBLE = 1e-6  # relative, what leaving out one tensor must at least change
CONTROLS = 3


@dataclass(frozen=True)
class Row:
    """What was measured of one model; ``nan`` where it was not reached."""

    section: str
    model: str
    commit: str
    threads: int
    size: str = ""
    front_end: str = ""
    blocks: int = 0
    movable_units: int = 0
    log_order: float = float("nan")
    coverage: float = float("nan")
    not_understood: float = float("nan")
    """The share of units that ops without a rule pin."""
    error: float = float("nan")
    control: float = float("nan")
    """The median relative change of the output when one tensor is left in its old place."""
    analysis: float = float("nan")
    forward: float = float("nan")
    unknown_ops: dict[str, int] = field(default_factory=dict)
    refuted: str = ""
    """What the analysis said of blocks that failed its own test."""
    failure: str = ""
    memory: float = float("nan")
    """Peak of the process, in GiB."""

    @property
    def status(self) -> str:
        if self.failure:
            return self.failure
        if not self.error <= TOLERANCE:  # also if it is nan
            return "output changed"
        if self.refuted:
            return "blocks refuted"
        if self.unknown_ops:
            return "unknown ops"
        if not self.blocks:
            return "nothing moves"
        return "ok" if self.control > VISIBLE else "control too weak"

    @property
    def preserved(self) -> bool:
        return self.error <= TOLERANCE

    @property
    def in_budget(self) -> bool:
        return self.analysis <= 3 * self.forward + 2

    def cells(self) -> tuple[str, ...]:
        unknown = ", ".join(f"{op} x {n}" for op, n in self.unknown_ops.items())
        return (
            *(self.model, self.size, self.front_end, f"{self.blocks:,}"),
            *(f"{self.movable_units:,}", f"{self.log_order:,.1f}", f"{self.coverage:.1%}"),
            f"{self.not_understood:.1%}",
            *(f"{self.error:.1e}", f"{self.control:.1e}"),
            *(f"{self.analysis:.2f}", f"{self.forward:.2f}", unknown or "none", self.status),
        )


@torch.no_grad()
def measure(row: Row) -> Row:
    """Measure one model; runs in a process of its own."""
    torch.set_num_threads(row.threads)
    torch.manual_seed(0)
    model, args, kwargs = SECTIONS[row.section].build(row.model)
    model.eval()
    randomise_deep(model, *args, **kwargs)
    model(*args, **kwargs)  # the warm-up
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RefutedWarning)
        symmetry = fr.analyze(model, args=args, kwargs=kwargs)
    analysis = time.perf_counter() - start
    refuted = [str(w.message) for w in caught if issubclass(w.category, RefutedWarning)]
    first = next(t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
    error, control = _moved(model, symmetry, args, kwargs)
    return replace(
        row,
        size=" x ".join(map(str, first.shape)),
        front_end=symmetry.front_end,
        blocks=symmetry.block_count,
        movable_units=symmetry.movable_units,
        log_order=symmetry.log_order,
        coverage=symmetry.coverage,
        not_understood=symmetry.not_understood,
        error=error,
        control=control,
        analysis=analysis,
        forward=statistics.median(seconds),
        unknown_ops=dict(symmetry.unknown_ops),
        refuted="; ".join(refuted),
        memory=peak_memory(),
    )


def _moved(
    model: nn.Module, symmetry: fr.Symmetry, args: object, kwargs: object
) -> tuple[float, float]:
    """How much the outputs change when everything moves, and when all but one tensor does."""
    model.double()
    expected = output_tensors(run_in_double_precision(model, args, kwargs))
    _forget(model)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(model)

    def change() -> float:
        _forget(moved)
        found = output_tensors(run_in_double_precision(moved, args, kwargs))
        return largest_error(expected, found)

    error = change()
    places, originals = dict(moved.named_parameters()), dict(model.named_parameters())
    changed = sorted(n for n, t in originals.items() if not torch.equal(t, places[n]))

    def change_without(name: str) -> float:
        kept = places[name].clone()
        places[name].copy_(originals[name])
        found = change()
        places[name].copy_(kept)
        return found

    return error, median_control(changed, change_without)


def median_control(names: list[str], change_without: Callable[[str], float]) -> float:
    """The median change where one of the moved tensors stays; 0 where nothing moves.

    Of a few that are drawn at random, as every one costs a run of the model; chance may draw those
    that do not matter, and then all of them are asked.
    """
    drawn = random.Random(0).sample(names, min(CONTROLS, len(names)))
    changes = [change_without(name) for name in drawn]
    if changes and statistics.median(changes) <= VISIBLE:
        changes += [change_without(name) for name in names if name not in drawn]
    return statistics.median(changes) if changes else 0.0


def _forget(model: nn.Module) -> None:
    """Some models keep what they compute from their weights until they are trained again."""
    model.train().eval()
