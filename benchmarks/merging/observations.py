"""What the study of MLPs by the author of rebasin saw, put to our figures.

Source: the results published beside the package rebasin (`snimu/rebasin-results`), MLPs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.merging.rows import Row

Figures = dict[tuple[int, float, str, int], dict[str, float]]
"""By width, decay, method and number of models."""


class Observation(NamedTuple):
    """One of them, and in how many cases it is so."""

    claim: str
    held: int
    cases: int

    @property
    def verdict(self) -> str:
        if self.held == self.cases:
            return "holds"
        return "does not hold" if 2 * self.held <= self.cases else "mostly holds"


def observations(
    figures: Figures, widths: Sequence[int], decays: Sequence[float], counts: Sequence[int]
) -> list[Observation]:
    """All of them, over all networks that were measured.

    Args:
        figures: of every network.
        widths, decays, counts: from the least to the greatest.
    """

    def of(name: str, width: int, decay: float, method: str, count: int) -> float:
        return figures[width, decay, method, count][name]

    def excess(width: int, decay: float, method: str, count: int) -> float:
        """By how much the merged network's loss exceeds the mean of its parents'."""
        return of("loss", width, decay, method, count) - of("loss", width, decay, "parents", count)

    def kept(name: str, width: int, decay: float, count: int) -> float:
        merged = of(name, width, decay, "aligned", count)
        return merged / of(name, width, decay, "parents", count)

    def told(claim: str, holds: Callable[[int, float, int], bool], *axes: Sequence[float]) -> None:
        cases = [holds(int(w), d, int(n)) for w in axes[0] for d in axes[1] for n in axes[2]]
        found.append(Observation(claim, sum(cases), len(cases)))

    low, high = decays[0], decays[-1]
    few, many = counts[0], counts[-1]
    found: list[Observation] = []
    told(
        "An aligned mean has a lower loss than a naive one",
        lambda w, d, n: excess(w, d, "aligned", n) < excess(w, d, "naive", n),
        *(widths, decays, counts),
    )
    told(
        "No decay, or the most: with the most the loss of the naive mean exceeds the parents' less",
        lambda w, _, n: excess(w, high, "naive", n) < excess(w, low, "naive", n),
        *(widths, [low], counts),
    )
    told(
        "The same of the aligned mean",
        lambda w, _, n: excess(w, high, "aligned", n) < excess(w, low, "aligned", n),
        *(widths, [low], counts),
    )
    told(
        "With the most decay the parents themselves are worse, in loss",
        lambda w, _, n: of("loss", w, high, "parents", n) > of("loss", w, low, "parents", n),
        *(widths, [low], [many]),
    )
    told(
        "The widest networks keep more of their parents' accuracy than the narrowest, aligned",
        lambda _, d, n: kept("accuracy", widths[-1], d, n) > kept("accuracy", widths[0], d, n),
        *([widths[0]], decays, counts),
    )
    told(
        "Of the most models the aligned mean is worse than of two, in accuracy",
        lambda w, d, _: kept("accuracy", w, d, many) < kept("accuracy", w, d, few),
        *(widths, decays, [few]),
    )
    told(
        "The aligned mean's outputs are less spread than the parents'",
        lambda w, d, n: kept("spread of outputs", w, d, n) < 1,
        *(widths, decays, counts),
    )
    told(
        "Its largest output is smaller",
        lambda w, d, n: kept("largest output", w, d, n) < 1,
        *(widths, decays, counts),
    )
    told(
        "Nine units of ten move, or more, also where decay is greatest",
        lambda w, d, n: of("units moved", w, d, "aligned", n) >= 0.9,
        *(widths, decays, counts),
    )
    told(
        "The most decay makes weights smaller, and their tails heavier",
        lambda w, _, n: (
            of("deviation of weights", w, high, "parents", n)
            < of("deviation of weights", w, low, "parents", n)
            and of("kurtosis of weights", w, high, "parents", n)
            > of("kurtosis of weights", w, low, "parents", n)
        ),
        *(widths, [low], [many]),
    )
    return found


def figures_of(rows: Sequence[Row], names: dict[str, tuple[int, float]]) -> Figures:
    """The figures of rows, by what their networks' names say."""
    return {(*names[row.network], row.method, row.seed): dict(row.figures) for row in rows}
