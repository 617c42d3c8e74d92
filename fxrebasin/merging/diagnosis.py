"""What alignment has changed, layer by layer, and how it is shown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from ..arguments import check_text, refuse
from ..drawing.differences import Dumbbell, Match, draw_differences
from ..drawing.figures import save_figure
from ..drawing.tables import html_table, text_table
from ..errors import FileFormatError
from .tables import csv_text, finite, handed_over, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STILL = 0.02
"""Of all units: where fewer move, both models have their units in the same order."""
CLOSER = 0.01
"""Of the distance between the models: where alignment takes off less, it has not helped."""
COLLAPSED = 0.5
"""Of the ends' variance: where a layer half way has less, its activations have collapsed."""
AMBIGUOUS = 0.05
"""Of what a random exchange loses: where the least does not lose more, rivals can hardly be told
apart."""


@dataclass(frozen=True)
class ParameterChange:
    """One parameter in both models, before and after B was aligned with A.

    Args:
        name: of the parameter.
        entries: how many numbers it has.
        distance_before, distance_after: the L2 norm of the difference.
        cosine_before, cosine_after: of the angle between both, as vectors; None where one is zero.
        variance_before, variance_after: of what its layer returns half way between A and B, over
            the mean of the ends'; None where there is no data, or nothing that varies.
    """

    name: str
    entries: int
    distance_before: float
    distance_after: float
    cosine_before: float | None
    cosine_after: float | None
    variance_before: float | None = None
    variance_after: float | None = None


@dataclass(frozen=True)
class BlockMatch:
    """One block of units, and how B's were matched with A's.

    Args:
        name: of the block.
        units: how many there are, over all parents.
        moved: the share of them that are elsewhere than in B.
        gain: what the objective would lose if the block, and all that is nested in it, alone went
            back to where it is in B; None for nested blocks, which count with the outermost.
        margin: what the objective would lose if a unit exchanged its place with that unit of the
            same parent with which this costs least, all other blocks staying where they are; the
            median over units. 0 where units are alike; below 0 only where the permutation is no
            optimum of this objective. None for blocks that do not move alone: those with blocks
            inside, siblings that share a tensor, blocks of one unit.
        distinctness: the margin as a share of what exchanging two random units loses, the mean over
            all pairs: near 0 where the best match has a rival as good, near 1 where none comes
            close; None where there is no margin. It says how well the match is determined, not
            that it means something: untrained models reach 0.6, as every optimum fits its noise.
    """

    name: str
    units: int
    moved: float
    gain: float | None
    margin: float | None
    distinctness: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What alignment has changed, parameter by parameter and block by block.

    >>> change = ParameterChange("0.weight", 12, 2.0, 1.0, 0.1, 0.8)
    >>> block = BlockMatch("0.weight[0]", 4, 0.75, 3.5, 0.25, 0.5)
    >>> found = Diagnosis((change,), (block,), objective_before=1.0, objective_after=4.5)
    >>> found.distance_after, found.moved
    (1.0, 0.75)
    >>> print(found)
    objective 1 -> 4.5, distance 2 -> 1, 3 of 4 units moved
      parameter  distance        cosine
      0.weight     2 -> 1  0.10 -> 0.80
      block        units  moved  gain  margin  distinctness
      0.weight[0]      4    75%   3.5    0.25          0.50
    the weights have come 50.0% closer, where a few per cent come by chance, even between \
untrained models; whether the loss barrier fell is measured by fr.interpolate

    Args:
        parameters: of both models, in the order of the model.
        blocks: the blocks of units, in the order of the symmetry.
        objective_before, objective_after: what was maximised, of B as it was and as it is aligned.
    """

    parameters: tuple[ParameterChange, ...]
    blocks: tuple[BlockMatch, ...]
    objective_before: float
    objective_after: float

    @property
    def distance_before(self) -> float:
        """The L2 distance between all parameters of A and B."""
        return math.sqrt(sum(parameter.distance_before**2 for parameter in self.parameters))

    @property
    def distance_after(self) -> float:
        """The L2 distance between all parameters of A and B aligned."""
        return math.sqrt(sum(parameter.distance_after**2 for parameter in self.parameters))

    @property
    def moved(self) -> float:
        """The share of all units that are elsewhere than in B; 0 where none can move."""
        units = sum(block.units for block in self.blocks)
        return sum(block.moved * block.units for block in self.blocks) / units if units else 0.0

    @property
    def advice(self) -> tuple[str, ...]:
        """What the figures say, in sentences: did alignment help, and what may be done next.

        >>> still = BlockMatch("0.weight[0]", 4, 0.0, 0.0, None, None)
        >>> Diagnosis((), (still,), objective_before=1.0, objective_after=1.0).advice[0]
        'next to no unit moved: both models have their units in the same order already, as \
fine-tunes of a common ancestor have, and can be merged as they are'
        """
        return tuple(
            sentence
            for sentence in (self._of_moves(), self._of_rivals(), self._of_variances())
            if sentence
        )

    def _of_moves(self) -> str:
        if not self.blocks:
            return "the symmetry has no block of units that can move, so there is nothing to align"
        if self.moved < STILL:
            return (
                "next to no unit moved: both models have their units in the same order already, "
                "as fine-tunes of a common ancestor have, and can be merged as they are"
            )
        if self.objective_after < self.objective_before:
            return (
                "the objective fell: this permutation was found for other models or by another "
                "objective, or b and a have changed places: b is the one that was permuted"
            )
        before = self.distance_before
        closer = 1 - self.distance_after / before if before else 0.0
        if closer < CLOSER:
            return (
                f"alignment did not help: {self.moved:.0%} of the units moved, and the weights "
                f"have come {closer:.1%} closer; what these models have in common is no "
                "permutation that this objective finds; try fr.activation_matching"
            )
        return (
            f"the weights have come {closer:.1%} closer, where a few per cent come by chance, even "
            "between untrained models; whether the loss barrier fell is measured by fr.interpolate"
        )

    def _of_rivals(self) -> str:
        known = [b for b in self.blocks if b.distinctness is not None]
        unsure = [b for b in known if (b.distinctness or 0.0) < AMBIGUOUS]
        if not unsure or self.moved < STILL:
            return ""
        return (
            f"in {len(unsure)} of {len(known)} blocks, {unsure[0].name!r} among them, most units "
            "have a rival that would do as well: they are alike, or the models have little in "
            "common there"
        )

    def _of_variances(self) -> str:
        ratios = {x.name: x.variance_after for x in self.parameters if x.variance_after is not None}
        if not ratios:
            return ""
        name = min(ratios, key=lambda n: ratios[n])
        if ratios[name] >= COLLAPSED:
            return ""
        return (
            f"half way between A and B aligned, activations vary {ratios[name]:.2g} times as much "
            f"as at the ends in the layer of {name!r}: their variance collapses, so measure "
            "BatchNorm statistics afresh (fr.recompute_batch_norm), or repair the activations"
        )

    def __str__(self) -> str:
        tables = [
            text_table(*self._parameter_table(), left=1, indent="  "),
            text_table(_BLOCK_HEAD, map(_block_row, self.blocks), left=1, indent="  "),
        ]
        return "\n".join([self._headline(), *tables, *self.advice])

    def _repr_html_(self) -> str:
        parameters = html_table(self._headline(), *self._parameter_table())
        blocks = html_table("; ".join(self.advice), _BLOCK_HEAD, map(_block_row, self.blocks))
        return parameters + blocks

    def _parameter_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows; variances only where there is one."""
        rows = [_parameter_row(parameter) for parameter in self.parameters]
        shown = len(_PARAMETER_HEAD) - (not any(row[-1] for row in rows))
        return _PARAMETER_HEAD[:shown], [row[:shown] for row in rows]

    def _headline(self) -> str:
        units = sum(block.units for block in self.blocks)
        return (
            f"objective {self.objective_before:.4g} -> {self.objective_after:.4g}, "
            f"distance {self.distance_before:.4g} -> {self.distance_after:.4g}, "
            f"{round(self.moved * units):,} of {units:,} units moved"
        )

    def to_csv(
        self, path: str | os.PathLike[str] | None = None, *, table: str = "parameters"
    ) -> str:
        """Write one of the two tables as comma-separated values, with all digits.

        Args:
            path: a file to write as well; it appears complete or not at all.
            table: ``"parameters"``, a row for each, or ``"blocks"``, a row per block.

        Returns:
            The text. What does not apply is empty.

        Raises:
            InvalidArgumentError: there is no such table, or ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        check_text(table, "table", "'parameters' or 'blocks'")
        if table not in ("parameters", "blocks"):
            refuse("table", "'parameters' or 'blocks'", table)
        kind, rows = (
            (ParameterChange, self.parameters)
            if table == "parameters"
            else (BlockMatch, self.blocks)
        )
        head = [field.name for field in fields(kind)]
        return handed_over(csv_text(head, map(astuple, rows)), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write all of it as JSON text. What does not apply, or is no number, becomes null.

        Args:
            path: a file to write as well; it appears complete or not at all.

        Returns:
            The text, which :meth:`from_json` reads.

        Raises:
            InvalidArgumentError: ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        content = {
            "parameters": [_finite(asdict(parameter)) for parameter in self.parameters],
            "blocks": [_finite(asdict(block)) for block in self.blocks],
            "objective_before": finite(self.objective_before),
            "objective_after": finite(self.objective_after),
            "advice": self.advice,
        }
        return handed_over(json.dumps(content), path)

    @classmethod
    def from_json(cls, text: str) -> Diagnosis:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidArgumentError: it is no text.
            FileFormatError: it is not such a diagnosis.
        """
        content = read_json(text, "Diagnosis")
        try:
            return cls(
                tuple(ParameterChange(**row) for row in content["parameters"]),
                tuple(BlockMatch(**row) for row in content["blocks"]),
                float(content["objective_before"]),
                float(content["objective_after"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                "text: expected a diagnosis that fxrebasin wrote, found JSON without one: "
                f"{error!r}; write it again with Diagnosis.to_json"
            ) from error

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, title: str | None = None
    ) -> Figure:
        """Draw the cosine of every parameter before and after, the variance half way where it was
        measured, and what moved in every block.

        Args:
            path: where to write the picture; the ending chooses the format (png, svg, pdf ...).
                It appears there complete or not at all.
            title: a line above the panels.

        Returns:
            The matplotlib figure. Neither pyplot nor any global setting is touched.

        Raises:
            ModuleNotFoundError: matplotlib is missing (``pip install 'fxrebasin[plot]'``).
            InvalidArgumentError: the ending is unknown.
        """
        cosines = [Dumbbell(x.name, x.cosine_before, x.cosine_after) for x in self.parameters]
        variances = [Dumbbell(x.name, x.variance_before, x.variance_after) for x in self.parameters]
        matches = [Match(b.name, b.units, b.moved, b.distinctness) for b in self.blocks]
        figure = draw_differences(cosines, variances, matches, title=title or "")
        if path is not None:
            save_figure(figure, path)
        return figure


_PARAMETER_HEAD = ("parameter", "distance", "cosine", "variance half way")
_BLOCK_HEAD = ("block", "units", "moved", "gain", "margin", "distinctness")


def _parameter_row(parameter: ParameterChange) -> tuple[str, ...]:
    return (
        parameter.name,
        f"{parameter.distance_before:.4g} -> {parameter.distance_after:.4g}",
        _change(parameter.cosine_before, parameter.cosine_after),
        _change(parameter.variance_before, parameter.variance_after),
    )


def _change(before: float | None, after: float | None) -> str:
    sides = ("" if side is None else f"{side:.2f}" for side in (before, after))
    return "" if before is None and after is None else " -> ".join(sides)


def _block_row(block: BlockMatch) -> tuple[str, ...]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        block.name,
        f"{block.units:,}",
        f"{block.moved:.0%}",
        shown(block.gain, ".4g"),
        shown(block.margin, ".3g"),
        shown(block.distinctness, ".2f"),
    )


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: finite(v) if isinstance(v, float) else v for name, v in row.items()}
