"""What a search of the group has found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..arguments import check_flag, check_function, check_kind, check_whole
from ..drawing.tables import html_table
from ..errors import InvalidArgumentError
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .inner_products import InnerProducts


@dataclass(frozen=True)
class Round:
    """One kick out of an optimum and the descent that followed."""

    kick: str
    objective: float
    gained: float
    """By how much it exceeded the best until then; 0 where it did not."""
    seconds: float


@dataclass(frozen=True)
class Alignment:
    """The result of aligning model B with model A."""

    permutation: Transform
    """A :class:`fxrebasin.Permutation`, unless signs changed or units were mixed."""
    objective_before: float
    objective_after: float
    history: tuple[float, ...]
    """The objective after each whole sweep of the first descent."""
    converged: bool
    seconds: float
    gains: Mapping[str, float]
    """Per block without parent, what the objective would lose if that block, and what is nested in
    it, alone went back to where it is in B."""
    rounds: tuple[Round, ...] = ()
    """What a budget was spent on."""
    upper_bound: float | None = None
    """What no permutation can exceed, if it was asked for."""

    @property
    def sweeps(self) -> int:
        return len(self.history)

    def __str__(self) -> str:
        state = "converged" if self.converged else "not converged"
        bound = "" if self.upper_bound is None else f" (at most {self.upper_bound:,.4f})"
        found = f", {len(self.rounds)} rounds of search" if self.rounds else ""
        return (
            f"objective {self.objective_before:,.4f} -> {self.objective_after:,.4f}{bound} "
            f"in {self.sweeps} sweeps, {state}{found}, {self.seconds:.1f} s; {self.permutation!r}"
        )

    def _repr_html_(self) -> str:
        blocks = self.permutation.symmetry.blocks
        rows = [
            (name, f"{blocks[name].units:,}" if name in blocks else "", f"{gain:,.4g}")
            for name, gain in self.gains.items()
        ]
        return html_table(str(self), ("block", "units", "objective gained by it"), rows)


def check_start(start: Transform | None, symmetry: Symmetry) -> None:
    """Refuse to begin at a permutation of other blocks.

    Raises:
        InvalidArgumentError: blocks are missing, unknown or of other sizes.
    """
    if start is not None:
        advice = "give the .permutation of what a solver returned"
        check_kind(start, Transform, "start", "a Permutation, a Transform or None", advice)
    shapes = {block.name: (block.count, block.size) for block in symmetry}
    if start is not None and {n: x.shape for n, x in start.indices.items()} != shapes:
        raise InvalidArgumentError(
            "start: expected a permutation of the blocks of this symmetry, found one of others; "
            "give one that was found with the same symmetry"
        )


def check_searched(start: Transform | None, blocks: Collection[str]) -> None:
    """Refuse to begin where the search cannot come to.

    Args:
        start: where it is to begin.
        blocks: those of which more than permutations is searched.

    Raises:
        InvalidArgumentError: signs change or units are mixed in others.
    """
    beyond = () if start is None else (*start.signs, *start.matrices)
    for block in beyond:
        if block not in blocks:
            raise InvalidArgumentError(
                f"start: expected a permutation of block {block!r}, of which nothing else is "
                f"searched, found {start!r}; ask for the group that it is from, as group='linear'"
            )


def check_products(found: object) -> None:
    """Refuse what an objective returned, if it is not what a solver takes.

    Raises:
        InvalidArgumentError: it is not.
    """
    check_kind(found, InnerProducts, "objective", "a function that returns InnerProducts")


def check_alignment(found: object) -> None:
    """Refuse what a solver returned, if it is no alignment.

    Raises:
        InvalidArgumentError: it is none.
    """
    check_kind(found, Alignment, "solver", "a function that returns an Alignment")


def check_search(
    objective: object, start: object, seed: object, callback: object, progress: object
) -> None:
    """Refuse what makes no sense among that which every solver is given.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    advice = "give what fr.objectives.weights(symmetry, b, a) returns"
    check_kind(objective, InnerProducts, "objective", "InnerProducts", advice)
    assert isinstance(objective, InnerProducts)
    check_start(start, objective.symmetry)  # type: ignore[arg-type]
    check_whole(seed, "seed", least=0)
    if callback is not None:
        check_function(callback, "callback", "one that takes a Step, or None")
    check_flag(progress, "progress")
