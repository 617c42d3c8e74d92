"""From what ops have done to the kind of every block.

Every op that a run has logged says of each block how the frames of its operands and results are
related. What is left free is the group: of frames that no statement caps, any matrix; of those
that only scale, the solutions of the equations that products and powers have set. A vector that
such a solution can make one is absorbed, if its block can then be mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..layouts.facts import Facts
from ..layouts.unread import Reading
from ..refinement.build import Refinement
from ..rules.acts import ACTS, Act
from ..symmetry.group import Symmetry
from ..symmetry.kinds import Absorption, BlockKind, Kinds, Mix
from .elements import solve
from .gauges import find_absorptions
from .nesting import with_nesting
from .reading import Log


def discover(facts: Facts, refinement: Refinement) -> Kinds:
    """The kinds of all blocks of a symmetry, and how their elements act.

    Args:
        facts: what running the model has found, the log of its ops included.
        refinement: the symmetry that was built from that.

    Returns:
        A kind for every block; permutations where nothing larger could be shown.

    Source:
        The groups of ReLU and tanh networks are those of Chen, Lu and Hecht-Nielsen (1993) and of
        Godfrey et al., "On the Symmetries of Deep Learning Models and their Internal
        Representations" (2022), section 3; that RMSNorm and LayerNorm let a residual stream be
        rotated once their weights are absorbed is shown by Ashkboos et al., "SliceGPT" (2024),
        section 3. Here they are found op by op, on any graph.
    """
    found = _discover(facts, refinement)
    return with_nesting(found, refinement.symmetry)


def _discover(facts: Facts, refinement: Refinement) -> Kinds:
    log = Log(facts, refinement)
    plain = solve(log.statements(()), refinement, facts)
    numbers = {p.name: number for number, p in enumerate(facts.parameters)}
    absorptions = find_absorptions(plain, facts, refinement.symmetry)
    while absorptions:
        vectors = [a.vector for a in absorptions]
        statements = log.statements({numbers[name] for name in vectors})
        found = solve(statements, refinement, facts, absorbed=vectors)
        kept = [a for a in absorptions if found.kinds.blocks[a.block].kind.mix is not Mix.NOT]
        if len(kept) == len(absorptions):
            return _absorbing(found.kinds, plain.kinds, absorptions)
        absorptions = find_absorptions(
            plain, facts, refinement.symmetry, only={a.vector for a in kept}
        )
    return plain.kinds


def _absorbing(found: Kinds, before: Kinds, absorptions: Sequence[Absorption]) -> Kinds:
    blocks: dict[str, BlockKind] = {}
    for name, kind in found.blocks.items():
        vectors = tuple(a.vector for a in absorptions if a.block == name)
        if vectors:
            kind = replace(kind, absorbed=vectors, before=before.blocks[name].kind)
        blocks[name] = kind
    return replace(found, blocks=blocks, absorptions=tuple(absorptions))


@dataclass(frozen=True, eq=False)
class FindKinds:
    """Finds the kinds of a symmetry when they are asked for; until then, nothing is computed."""

    facts: Facts
    refinement: Refinement

    @cached_property
    def _kinds(self) -> Kinds:
        return discover(self.facts, self.refinement)

    def __call__(self) -> Kinds:
        return self._kinds

    def __deepcopy__(self, memo: object) -> FindKinds:
        return self

    def __reduce__(self) -> tuple[type[Found], tuple[Kinds]]:
        """What was met in a run need not be written to a file: its conclusions are."""
        return Found, (self(),)


@dataclass(frozen=True, eq=False)
class Found:
    """Kinds that were found already."""

    kinds: Kinds

    def __call__(self) -> Kinds:
        return self.kinds


def with_kinds(symmetry: Symmetry, facts: Facts, refinement: Refinement) -> Symmetry:
    """A symmetry that can be asked for its kinds; its evidence is that of an analysis."""
    evidence = symmetry.evidence
    if evidence is None:
        return symmetry
    kept = replace(facts, reading=Reading())  # layouts of constants, which are not asked for
    has_odd_ops = any(ACTS.get(e.op) is Act.ODD or e.claim for e in facts.events)
    found = replace(evidence, find_kinds=FindKinds(kept, refinement), has_odd_ops=has_odd_ops)
    return replace(symmetry, evidence=found)
