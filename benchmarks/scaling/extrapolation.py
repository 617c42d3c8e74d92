"""From the measured rows to a model that is too large to measure, and to a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scaling.fits import fit, interpolated, seconds_per_problem
from benchmarks.scaling.llama import FLOAT32, Llama
from benchmarks.scaling.rows import Row

SPARSE_FROM = 512
"""Rows from which on assignment problems are solved by another engine, which the fit is of."""


@dataclass(frozen=True)
class Gpu:
    """What the data sheet of a GPU promises; by default, of an H100 SXM."""

    name: str = "H100 SXM"
    flops: float = 67e12
    """Per second, in float32 without tensor cores."""
    bandwidth: float = 3.35e12
    """Bytes per second, of its memory."""
    link: float = 64e9
    """Bytes per second, to the host and back, in each direction."""
    share: float = 0.7
    """Of those rates that large products and copies reach: assumed."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of one sweep that computes every cost matrix and solves every problem."""

    products: float
    assignment: float
    evaluation: float
    rest: float

    @property
    def total(self) -> float:
        return self.products + self.assignment + self.evaluation + self.rest

    @property
    def dominant(self) -> str:
        steps = ("products", "assignment", "evaluation", "rest")
        return max(steps, key=lambda step: float(getattr(self, step)))


class Extrapolation:
    """Estimates for a model, from all rows; rates are those of the row with most FLOPs.

    Raises:
        ValueError: the rows are of networks too small to tell how assignment grows.
    """

    def __init__(self, rows: Sequence[Row], model: Llama) -> None:
        self.model = model
        self.largest = max(rows, key=lambda row: row.flops)
        self.measured = seconds_per_problem(rows)
        law = fit({n: s for n, s in self.measured.items() if n >= SPARSE_FROM})
        if law is None:
            raise ValueError(
                f"to extrapolate, assignment problems of two sizes from {SPARSE_FROM} on must have "
                f"been measured, got {list(self.measured)}; measure larger widths"
            )
        self.law = law

    @property
    def rate(self) -> float:
        """FLOPs per second that the products reached, gathering included."""
        return self.largest.flops / self.largest.products

    def seconds_to_solve(self, size: int) -> float:
        """One assignment problem."""
        return interpolated(self.measured, self.law, size)

    def on_cpu(self) -> Estimate:
        """On the machine that was measured, if its memory were large enough."""
        growth = self.model.parameters / self.largest.parameters
        return Estimate(
            self.model.flops / self.rate,
            self.seconds_to_solve_all(),
            self.largest.evaluation * growth,
            self.largest.rest * growth,
        )

    def seconds_to_solve_all(self) -> float:
        return sum(
            block.count * block.batch * self.seconds_to_solve(block.size)
            for block in self.model.blocks
        )

    def on_gpu(self, gpu: Gpu) -> Estimate:
        """With products and evaluation on a GPU and assignment on the same CPU: a model.

        Products take as long as their FLOPs or their operands, whichever is longer; evaluation
        reads both models once; cost matrices travel to the host.
        """
        operands = sum(2 * FLOAT32 * b.count * b.entries for b in self.model.blocks)
        products = max(self.model.flops / gpu.flops, operands / gpu.bandwidth)
        both = 2 * FLOAT32 * self.model.parameters
        return Estimate(
            products / gpu.share,
            self.seconds_to_solve_all(),
            both / gpu.bandwidth / gpu.share,
            self.model.matrix_bytes / gpu.link / gpu.share,
        )
