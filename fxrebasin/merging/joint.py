"""All models' permutations into a universe, relaxed to doubly stochastic matrices, by Frank-Wolfe.

What is maximised is the sum over pairs of models of the inner products of one with the other, both
mixed by their matrices:

    sum over a of  w_a (1 - w_a) <P_a A_a, mean over b != a of P_b A_b>

which is linear in the matrices of every axis of every model. Along a line on which all of them move
it is a polynomial, of a degree that is known, and so its highest point is found exactly.

Source: D. Crisostomi et al., "C2M3: Cycle-Consistent Multi-Model Merging", NeurIPS 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ..assignment import assign
from ..matching.inner_products import InnerProducts
from ..matching.relaxed import Relaxed, mixed, permutation_matrix
from ..matching.trees import Tree, trees_of
from ..symmetry.action import Indices, source_of, take
from ..symmetry.parts import AxisGroup, ParameterSymmetry
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .average import RunningMean, is_averaged
from .problem import Problem

ENOUGH = 1e-6
"""A step that gains less than this share of the objective has gained nothing."""

NOTHING = 1e-12
"""A share of the weight that rounding may take for none: there is no mean of such models."""

Sources = dict[tuple[str, tuple[int, ...]], Indices | None]
"""Per tensor and axes that move together, where entries come from but for what is mixed; None where
all stay."""

Matrices = Mapping[str, Tensor]
"""Of one model: per block, a doubly stochastic matrix."""


def maximise_jointly(
    problem: Problem,
    start: Sequence[Transform],
    order: Sequence[int],
    *,
    steps: int,
    spread: float,
    patience: int,
) -> list[Permutation]:
    """Find permutations of all models, of all blocks that are not nested, at once.

    Args:
        problem: the models.
        start: where to begin, and where nested blocks stay.
        order: of the models; the first of them stays where it is.
        steps: at most so many.
        spread: the share of the uniform matrix in the start.
        patience: how many steps in a row may gain nothing.

    Returns:
        The best that was met: one of the corners that steps went towards, or the end, rounded.
    """
    permutations = [Permutation(problem.symmetry, one.indices) for one in start]
    joint = Joint(problem, permutations, order)
    if not joint.trees:
        return permutations
    here = joint.start(spread)
    value, gradients = joint.evaluate(here, gradients=True)
    best: tuple[float, list[Permutation]] | None = None
    idle = 0
    bar = tqdm(desc="joint alignment", unit="step", disable=None if problem.progress else True)
    with bar:
        for _ in range(steps):
            corner = joint.rounded(gradients)
            towards = joint.matrices(corner)
            share, reached, there = joint.climb(here, towards, value)
            if best is None or there > best[0]:
                best = (there, corner)
            idle = 0 if reached - value > ENOUGH * abs(value) else idle + 1
            if share == 0 or idle >= patience:
                break
            here = joint.between(here, towards, share)
            value, gradients = joint.evaluate(here, gradients=True)
            bar.set_postfix(objective=f"{value:.6g}", refresh=False)
            bar.update()
    end = joint.rounded(here)
    if best is None or joint.evaluate(joint.matrices(end))[0] >= best[0]:
        return end
    return best[1]


class Joint:
    """The objective as a function of the matrices of all models but the first."""

    def __init__(
        self, problem: Problem, start: Sequence[Permutation], order: Sequence[int]
    ) -> None:
        self.problem, self.indices, self.order = problem, list(start), order
        self.sources: list[Sources] = [{} for _ in start]
        self.moving = [k for k in order[1:] if problem.weights[k]]
        first = problem.models[order[0]]
        products = problem.products(first, first)
        flat = [tree for tree in trees_of(products) if tree.is_flat and tree.terms]
        # Without what belongs to the first model, which need not be kept for this.
        self.trees = [replace(tree, costs={}, couplings=()) for tree in flat]
        self.names = [tree.root for tree in flat]
        self.like = torch.empty(0, device=products.device, dtype=_widest(products))
        self.degree = _degree(products, self.trees) * (1 if len(self.moving) < 2 else 2)

    def start(self, spread: float) -> list[Matrices]:
        """The matrices at the start, for every model; the first's are never mixed."""
        result = self.matrices(self.indices)
        for k in self.moving:
            result[k] = {
                name: matrix * (1 - spread) + spread / len(matrix)
                for name, matrix in result[k].items()
            }
        return result

    def matrices(self, corner: Sequence[Permutation]) -> list[Matrices]:
        return [
            {name: permutation_matrix(one.indices[name], self.like) for name in self.names}
            for one in corner
        ]

    def between(
        self, here: Sequence[Matrices], towards: Sequence[Matrices], share: float
    ) -> list[Matrices]:
        """The point on a line, from 0, here, to 1."""
        return [
            {name: torch.lerp(one[name], other[name], share) for name in self.names}
            for one, other in zip(here, towards, strict=True)
        ]

    def rounded(self, matrices: Sequence[Matrices | None]) -> list[Permutation]:
        """The permutations with the greatest inner products with some matrices."""
        result = list(self.indices)
        for k in self.moving:
            found = matrices[k]
            if found is not None:
                rows = {
                    name: assign(matrix[None], name=f"the gradient of block {name!r}").columns
                    for name, matrix in found.items()
                }
                new = {name: columns.cpu().numpy() for name, columns in rows.items()}
                result[k] = Permutation(self.problem.symmetry, {**self.indices[k].indices, **new})
        return result

    def evaluate(
        self, matrices: Sequence[Matrices], *, gradients: bool = False
    ) -> tuple[float, list[Matrices | None]]:
        """The objective, and its gradient for every model that moves."""
        problem, value = self.problem, 0.0
        found: list[Matrices | None] = [None] * len(problem)
        moves = [
            Mixture(permutation, matrices[k] if k in self.moving else {}, self.sources[k])
            for k, permutation in enumerate(self.indices)
        ]
        mean = RunningMean(problem.symmetry, problem.device)
        members = [k for k in self.order if problem.weights[k]]
        for k in members:
            mean.include(problem.models[k], moves[k].permute, problem.weights[k])
        for k in members:
            model, weight = problem.models[k], problem.weights[k]
            if 1 - weight < NOTHING:
                continue
            mean.exclude(model, moves[k].permute, weight)
            products = problem.products(model, mean)
            relaxed = Relaxed(products, self.indices[k].indices, self.trees)
            value += weight * (1 - weight) * relaxed.value(matrices[k])
            if gradients and k in self.moving:
                found[k] = relaxed.gradient(matrices[k])
            mean.include(model, moves[k].permute, weight)
        return value, found

    def climb(
        self, here: Sequence[Matrices], towards: Sequence[Matrices], value: float
    ) -> tuple[float, float, float]:
        """How far along a line the objective is highest; it there, and at the end of the line."""
        places = np.linspace(0, 1, self.degree + 1)
        values = [value]
        for place in places[1:].tolist():
            values.append(self.evaluate(self.between(here, towards, place))[0])
        share, highest = highest_point(places, np.array(values))
        return share, highest, values[-1]


def highest_point(places: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Where on [0, 1] the polynomial through some points is highest, and its value there.

    >>> share, height = highest_point(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0]))
    >>> f"{share:.6f} {height:.6f}"
    '0.500000 1.000000'
    """
    scale = float(np.abs(values).max()) or 1.0
    through = np.polynomial.Polynomial.fit(places, values / scale, len(places) - 1)
    turns = [float(z.real) for z in through.deriv().roots() if abs(z.imag) < 1e-6]
    inside = {turn: float(through(turn)) * scale for turn in turns if 0 < turn < 1}
    heights = {0.0: float(values[0]), 1.0: float(values[-1]), **inside}
    best = max(heights, key=heights.__getitem__)
    return best, heights[best]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A permutation in which some blocks are mixed by matrices instead."""

    permutation: Permutation
    matrices: Matrices
    sources: Sources
    """What is known already."""

    def permute(self, parameter: ParameterSymmetry, tensor: Tensor) -> Tensor:
        """One parameter's tensor, moved and mixed, as :meth:`fxrebasin.Permutation.permute`."""
        if not is_averaged(tensor):
            return tensor
        tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        for group in parameter.groups:
            source = self._source(parameter, group)
            moved = tensor if source is None else take(tensor, group.axes, source)
            tensor = self._mixed(moved, group)
        return tensor

    def _source(self, parameter: ParameterSymmetry, group: AxisGroup) -> Indices | None:
        key = (parameter.name, group.axes)
        if key not in self.sources:
            blocks, indices = self.permutation.symmetry.blocks, self.permutation.indices
            found = source_of(blocks, indices, parameter, group, still=self.matrices)
            stays = np.array_equal(found, np.arange(len(found)))
            self.sources[key] = None if stays else found
        return self.sources[key]

    def _mixed(self, tensor: Tensor, group: AxisGroup) -> Tensor:
        front = tuple(range(len(group.axes)))
        ahead = tensor.movedim(group.axes, front)
        flat = ahead.reshape(-1, *ahead.shape[len(front) :])
        for segment in group.segments:
            for d, name in enumerate(segment.blocks):
                if name in self.matrices:
                    place = segment.positions.swapaxes(0, d)
                    matrix = self.matrices[name].to(flat.device)
                    flat = mixed(flat, 0, place, matrix)
        return flat.reshape(ahead.shape).movedim(front, group.axes)


def _widest(products: InnerProducts) -> torch.dtype:
    double = any(term.a.dtype == torch.float64 for term in products.terms)
    return torch.float64 if double else torch.float32


def _degree(products: InnerProducts, trees: Sequence[Tree]) -> int:
    """How many matrices of one model an entry is multiplied by, at most."""
    names = {tree.root for tree in trees}
    degrees = (
        sum(
            max((sum(n in names for n in segment.blocks) for segment in group.segments), default=0)
            for group in term.moves.groups
        )
        for term in products.terms
    )
    return max(degrees, default=1)
