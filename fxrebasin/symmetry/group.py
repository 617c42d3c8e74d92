"""The symmetry group of a model: the contract between the compiler and the solvers.

A :class:`Block` is a set of units that may be permuted freely among themselves; a nested block has
one such set under every unit of its parent. A :class:`Segment` says how part of a parameter's axis
is made of blocks. Nothing here knows about graphs, ops or weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

import networkx as nx

from ..arguments import check_kind, check_path, check_text, check_whole
from ..errors import FileFormatError
from ..files import replacing
from .as_graph import block_graph
from .as_json import UNREADABLE, dumps, fingerprint_of, loads, what_lacks
from .as_spec import permutation_spec
from .contract import check
from .evidence import Evidence
from .explanation import Explanation, explain
from .flows import flows
from .kinds import SIGNED, Kinds
from .kinds_contract import check_kinds
from .parts import Block, ParameterSymmetry, Pinned, cost_of_op

_COLUMNS = ("block", "size", "log_order", "axes", "kind", "nested")


@dataclass(frozen=True)
class Symmetry:
    """Every permutation of hidden units that leaves the model's function unchanged."""

    blocks: Mapping[str, Block]
    parameters: tuple[ParameterSymmetry, ...]
    pinned: tuple[Pinned, ...] = ()
    unknown_ops: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[ParameterSymmetry, ...] = ()
    """How the model's outputs move with it, where they were left free."""
    front_end: str = ""
    """How the model was run: by ``symbolic_trace``, ``export`` or ``eager``."""
    notes: tuple[str, ...] = ()
    """What to know about the answer: the path that it holds for, what was pinned afterwards."""
    untouched: tuple[str, ...] = ()
    """The parameters that nothing that was run has met; other inputs may use them."""
    tested_at: str = field(default="", compare=False)
    """The sizes of inputs, besides the example's, at which it was tested."""
    units_not_understood: int = 0
    """How many units of parameters are pinned because an op that met them has no rule."""
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    """What :meth:`explain` answers from; not kept in JSON."""
    known_kinds: Kinds | None = field(default=None, repr=False, compare=False)
    """The kinds of blocks, where they were read from JSON; ask for :attr:`kinds`."""

    @property
    def log_order(self) -> float:
        """Natural logarithm of the order of the group: sum of log n! over blocks."""
        return math.fsum(block.log_order for block in self.blocks.values())

    @property
    def movable_units(self) -> int:
        return sum(block.units for block in self.blocks.values())

    @property
    def block_count(self) -> int:
        """Blocks of more than one unit, a nested one counted once per parent unit."""
        return sum(block.count for block in self.blocks.values())

    @cached_property
    def coverage(self) -> float:
        """The share of the parameters (not buffers) that some permutation moves."""
        sizes = [(math.prod(p.shape), p.moving_share) for p in self.parameters if not p.is_buffer]
        total = sum(n for n, _ in sizes)
        return sum(n * share for n, share in sizes) / total if total else 0.0

    @property
    def not_understood(self) -> float:
        """The share of units that an op without a rule pins, among these and those that move.

        Coverage counts entries of parameters, most of which move if either of their axes does; this
        counts units, and leaves out those that the model's mathematics keeps in place, and those
        that stay because such units do.
        """
        units = self.units_not_understood + self.movable_units
        return self.units_not_understood / units if units else 0.0

    @cached_property
    def kinds(self) -> Kinds:
        """The kind of every block: which group of matrices acts on its units.

        Permutations always do; with ReLU between, units can be scaled by positive numbers, with
        tanh they can change signs, and where all is linear, any matrix can mix them. They are
        found when they are first asked for, as by the test of the group, which signs are part of;
        that takes about a tenth of the analysis.

        >>> import torch, fxrebasin as fr
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> symmetry = fr.analyze(net, (torch.zeros(1, 4),))
        >>> found = symmetry.kinds.of("0.weight[0]")
        >>> found.describe(8), [str(cap) for cap in found.caps]
        ('signed S(8)', ['tanh allows signed S (at _1)'])

        A symmetry that was read from text which does not say has the kind S everywhere.
        """
        if self.known_kinds is not None:
            return self.known_kinds
        if self.evidence is None or self.evidence.find_kinds is None:
            return Kinds({})
        return self.evidence.find_kinds()

    @property
    def may_change_signs(self) -> bool:
        """Is it worth asking :attr:`kinds` for blocks whose units can change their signs?

        >>> import torch, fxrebasin as fr
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> fr.analyze(net, (torch.zeros(1, 4),)).may_change_signs
        True
        """
        if self.known_kinds is not None:
            return any(kind.kind == SIGNED for kind in self.known_kinds.blocks.values())
        return self.evidence is not None and self.evidence.has_odd_ops

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of the blocks and of how they move parameters: equal for models of one
        architecture, whatever their weights.

        >>> Symmetry({"hidden": Block("hidden", 8)}, ()).fingerprint[:12]
        '98fb639e1510'
        """
        return fingerprint_of(self)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks.values())

    def __len__(self) -> int:
        return len(self.blocks)

    def children(self, name: str) -> list[str]:
        """The blocks nested directly inside a block."""
        check_text(name, "name", "the name of a block")
        return list(self._children.get(name, ()))

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for block in self:
            if block.parent is not None:
                result.setdefault(block.parent, []).append(block.name)
        return result

    def explain(self, name: str, dim: int) -> Explanation:
        """Which block moves an axis of a parameter and what moves with it, or why it is pinned.

        >>> import torch, fxrebasin as fr
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> print(fr.analyze(net, (torch.zeros(1, 4),)).explain("1.weight", 1))
        1.weight[1], 8 entries
          moves with block 0.weight[0] (8 units), of the kind GL(8)
            and so does 0.weight[0], through _1 -> _0
            and so does 0.bias[0], through _1 -> _0

        Raises:
            InvalidArgumentError: there is no such axis, or the symmetry was read from JSON.
        """
        check_text(name, "name", "the name of a parameter")
        check_whole(dim, "dim")
        return explain(self, self.evidence, name, dim)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The blocks as a graph: nested ones, and the parameters that join them.

        See :func:`fxrebasin.symmetry.as_graph.block_graph` for the attributes of nodes and edges.
        """
        return block_graph(self)

    def plot(self, path: str | os.PathLike[str], *, title: str | None = None) -> None:
        """Draw the blocks so that the architecture is seen; ``.png``, ``.svg`` or ``.pdf``.

        Needs matplotlib, which the extra ``plot`` installs. Without a title, the size of the group
        stands above.
        """
        check_path(path)
        if title is not None:
            check_text(title, "title", "the text above the drawing")
        else:
            title = (
                f"{self.block_count:,} blocks, {self.movable_units:,} movable units, "
                f"log order {self.log_order:,.1f}"
            )
        from ..drawing.plot import plot_blocks  # here, so that importing the package stays quick

        plot_blocks(block_graph(self), flows(self), path, title=title)

    def save_html(self, path: str | os.PathLike[str], *, title: str | None = None) -> None:
        """Write a report as one HTML page: tables, the drawing and the pins."""
        check_path(path)
        if title is not None:
            check_text(title, "title", "the text above the page")
        from .as_html import html_report

        page = html_report(self, title=title)
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def to_permutation_spec(self) -> dict[str, tuple[str | None, ...]]:
        """The group as git-re-basin writes it: per parameter, a permutation's name per axis.

        Raises:
            UnsupportedSymmetryError: an axis moves in a way that this form cannot express.
        """
        return permutation_spec(self)

    def summary(self) -> dict[str, float]:
        return {
            "blocks": self.block_count,
            "movable units": self.movable_units,
            "log_order": self.log_order,
            "coverage": self.coverage,
            "not understood": self.not_understood,
        }

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for block in self:
            nested = f"in {block.parent}" if block.parent else ""
            times = f"{block.size} x {block.count}" if block.count > 1 else str(block.size)
            kind = self.kinds.describe(block.name, block.size)
            order = f"{block.log_order:,.1f}"
            rows.append((block.name, times, order, str(len(block.axes)), kind, nested))
        return rows

    def __str__(self) -> str:
        header = _COLUMNS
        rows = self._rows()
        shown = rows if len(rows) <= 60 else [*rows[:40], ("...",) * len(header), *rows[-10:]]
        widths = [max(len(r[k]) for r in [header, *shown]) for k in range(len(header))]
        lines = [
            "  ".join(
                cell.rjust(w) if 0 < k < 4 else cell.ljust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [header, *shown]
        ]
        reasons: dict[str, int] = {}
        for pin in self.pinned:
            reasons[pin.reason] = reasons.get(pin.reason, 0) + pin.units
        pins = [f"  {n:,} units: {why}" for why, n in sorted(reasons.items(), key=lambda r: -r[1])]
        if len(pins) > 8:
            pins = [*pins[:8], f"  and {len(pins) - 8} more causes in symmetry.pinned"]
        remarks = [
            f"not understood: {op} ({n} times), which pins {cost_of_op(self, op):,} units of "
            "parameters"
            for op, n in self.unknown_ops.items()
        ]
        remarks += [f"note: {note}" for note in self.notes]
        if self.tested_at:
            remarks.append(f"tested on inputs of other sizes too: {self.tested_at}")
        return "\n".join([repr(self), *lines, *(["pinned:", *pins] if pins else []), *remarks])

    def __repr__(self) -> str:
        lost = f", not understood {self.not_understood:.1%}" if self.not_understood else ""
        return (
            f"Symmetry({self.block_count:,} blocks, {self.movable_units:,} movable units, "
            f"log_order {self.log_order:,.1f}, coverage {self.coverage:.1%}{lost})"
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        head = "".join(f"<th>{h}</th>" for h in _COLUMNS)
        return f"<p>{self!r}</p><table><tr>{head}</tr>{cells}</table>"

    def to_json(self, *, indent: int | None = None) -> str:
        """The whole group as JSON text; :meth:`from_json` reads it back."""
        if indent is not None:
            check_whole(indent, "indent", least=0)
        return dumps(self, indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Symmetry:
        """Read a group written by :meth:`to_json`.

        Text of older versions, which has no digest, is read if it does not contradict itself.

        Raises:
            FileFormatError: the text is not such a group, was changed, or contradicts itself.
        """
        check_text(text, "text", "what Symmetry.to_json has written")
        try:
            symmetry = cls(**loads(text)._asdict())
            check(symmetry)
            check_kinds(symmetry, symmetry.known_kinds or Kinds({}))
        except UNREADABLE as error:
            raise FileFormatError(
                f"this is not a symmetry written as JSON: {what_lacks(error)}; "
                "write it again with Symmetry.to_json"
            ) from error
        return symmetry

    def __hash__(self) -> int:
        return hash((tuple(self.blocks.values()), self.parameters))


def check_symmetry(given: object, name: str = "symmetry") -> None:
    """Refuse what is no symmetry, such as the model that it is to be found for.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    expected, advice = "a Symmetry", "give fr.analyze(model, args=(x,))"
    if isinstance(getattr(given, "symmetry", None), Symmetry):
        advice = "give its .symmetry"
    check_kind(given, Symmetry, name, expected, advice)
