"""Put a symmetry group to the test, and pin what fails.

What the analysis concludes is checked where it counts: generators of the claimed group are applied
to a copy of the model with random weights, and its outputs are compared. A permutation that keeps
them equal there keeps them equal everywhere but on a set of weights of measure zero (wherever the
function is analytic in the weights: the Schwartz-Zippel argument).

Every block contributes two generators under each of its parents: a cycle through all its units and
the exchange of two neighbours on that cycle. They generate its whole symmetric group. All blocks
are tried at once; only where that fails are they halved until single ones are found.

Where the kind of a block has signs, they change with it: what solvers search by default is tested
as a whole. Larger groups are tested where they are used (see ``kinds/checking.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..symmetry.action import Indices
from ..symmetry.group import Symmetry
from ..symmetry.kinds import PERMUTATIONS, SIGNED, BlockKind, Cap
from ..symmetry.parts import Block
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .other_sizes import vary
from .trials import Trial, Trials, prepare_trials

ROUNDS = 8
"""How often blocks are pinned before all are."""

Pin = Callable[[Sequence[str]], Symmetry]
"""Pins the units of the blocks of these names, and gives the group that is left."""


@dataclass(frozen=True, eq=False)
class Falsification:
    """What a test has left of a group."""

    symmetry: Symmetry
    refuted: tuple[str, ...] = ()
    """The names of blocks whose permutations changed what the model computes."""
    was_tested: bool = True
    """False where the model does not run with other weights."""
    only_here: tuple[str, ...] = ()
    """The names of blocks that are refuted by inputs of other sizes than the example's."""
    sizes: str = ""
    """Of the inputs besides the example's on which it was tested; empty where none run."""
    unsigned: bool = False
    """Were signs refuted, so that blocks are permuted only?"""


def falsify(
    symmetry: Symmetry,
    pin: Pin,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    random_weights: bool = True,
    seed: int = 0,
) -> Falsification:
    """Test a group, and pin blocks until nothing that is left of it is refuted.

    Args:
        symmetry: the group that an analysis claims.
        pin: pins the units of the blocks of these names, and gives the group that is left.
        model, args, kwargs: what the group was found for; neither is changed.
        random_weights: test with other weights than the model's own.
        seed: of weights and generators.
    """
    if not symmetry.blocks:
        return Falsification(symmetry)
    moving = {name for p in symmetry.parameters if p.groups for name in p.names}
    ways = prepare_trials(
        model, args, kwargs, random_weights=random_weights, seed=seed, moving=moving
    )
    if not ways:
        return Falsification(symmetry, was_tested=False)
    others, sizes = Trials(iter(())), ""
    if not symmetry.outputs:  # which are described at the sizes of the example
        others, sizes = _other_trials(ways, args, kwargs, seed)
    if _holds(symmetry, ways, others, seed):
        return Falsification(symmetry, sizes=sizes)
    symmetry, refuted = _pin_offenders(symmetry, pin, ways, seed)
    symmetry, only_here = _pin_offenders(symmetry, pin, others, seed)
    unsigned = bool(_signed(symmetry)) and not _holds(symmetry, ways, others, seed)
    symmetry = without_signs(symmetry) if unsigned else symmetry
    return Falsification(symmetry, refuted, only_here=only_here, sizes=sizes, unsigned=unsigned)


def without_signs(symmetry: Symmetry) -> Symmetry:
    """The same group, with permutations only where there were signs and nothing else."""
    kinds = symmetry.kinds
    only = Cap(PERMUTATIONS, "a test with random weights")
    permuted = {name: BlockKind(caps=(*kinds.of(name).caps, only)) for name in _signed(symmetry)}
    factors = {place: f for place, f in kinds.factors.items() if f.block not in permuted}
    known = replace(kinds, blocks={**kinds.blocks, **permuted}, factors=factors)
    return replace(symmetry, known_kinds=known)


def _signed(symmetry: Symmetry) -> list[str]:
    if not symmetry.may_change_signs:
        return []
    return [block.name for block in symmetry if symmetry.kinds.of(block.name).kind == SIGNED]


def _holds(symmetry: Symmetry, trials: Trials, others: Trials, seed: int) -> bool:
    """Does no generator fail, all blocks at once, with random signs where there are any?

    At other sizes the cycles alone are tried, which leave no set of units in its place: what holds
    for the example and not there are seldom single exchanges.
    """
    moves = _draw_generators(symmetry, np.random.default_rng(seed))
    cycles: Transform
    exchanges: Transform
    cycles, exchanges = _generators(symmetry, moves, list(symmetry))
    if _signed(symmetry):
        drawn = Transform.random(symmetry, torch.Generator().manual_seed(seed), group="signed")
        signs = Transform(symmetry, Transform.identity(symmetry).indices, drawn.signs)
        cycles, exchanges = signs.compose(cycles), signs.compose(exchanges)
    if _is_refuted(cycles, trials) or (others and _is_refuted(cycles, others)):
        return False
    return not _is_refuted(exchanges, trials)


def _pin_offenders(
    symmetry: Symmetry, pin: Pin, ways: Trials, seed: int
) -> tuple[Symmetry, tuple[str, ...]]:
    """Pin blocks until no trial refutes what is left; the names of those that were pinned."""
    refuted: list[str] = []
    for attempt in range(ROUNDS + 1):
        blocks = find_offenders(symmetry, ways, seed=seed + attempt)
        if not blocks:
            break
        if attempt == ROUNDS:
            blocks = list(symmetry)
        names = [block.name for block in blocks]
        refuted += names
        symmetry = pin(names)
    return symmetry, tuple(refuted)


def _other_trials(
    ways: Trials, args: Sequence[Any], kwargs: Mapping[str, Any], seed: int
) -> tuple[Trials, str]:
    """Trials on inputs of the first other sizes at which the model runs, and these sizes."""
    for (other_args, other_kwargs), sizes in vary(args, kwargs):
        others = ways.on(other_args, other_kwargs, seed=seed)
        if others:
            return others, sizes
    return Trials(iter(())), ""


def find_offenders(
    symmetry: Symmetry, trials: Trials | Sequence[Trial], *, seed: int = 0
) -> list[Block]:
    """The blocks whose permutations change what the model computes; empty if none are found, or
    nothing can be tried."""
    if not trials or not symmetry.blocks:
        return []
    generators = _draw_generators(symmetry, np.random.default_rng(seed))
    return _search(symmetry, trials, generators, list(symmetry))


def _draw_generators(
    symmetry: Symmetry, rng: np.random.Generator
) -> tuple[dict[str, Indices], dict[str, Indices]]:
    """Per block, under each of its parents, a cycle through all units and an exchange of two."""
    cycles, exchanges = {}, {}
    for block in symmetry:
        identity = np.tile(np.arange(block.size, dtype=np.int64), (block.count, 1))
        order = rng.permuted(identity, axis=1)
        cycles[block.name], exchanges[block.name] = identity.copy(), identity.copy()
        np.put_along_axis(cycles[block.name], order, np.roll(order, -1, axis=1), axis=1)
        np.put_along_axis(exchanges[block.name], order[:, :2], order[:, 1::-1], axis=1)
    return cycles, exchanges


def _search(
    symmetry: Symmetry,
    trials: Trials | Sequence[Trial],
    generators: tuple[dict[str, Indices], dict[str, Indices]],
    blocks: list[Block],
) -> list[Block]:
    """Halve the blocks until single ones are found. Permutations that change nothing one by one
    change nothing together, so a failure that neither half shows is laid at all of them."""
    tried = _generators(symmetry, generators, blocks)
    if not any(_is_refuted(permutation, trials) for permutation in tried):
        return []
    if len(blocks) == 1:
        return blocks
    half = len(blocks) // 2
    found = [
        *_search(symmetry, trials, generators, blocks[:half]),
        *_search(symmetry, trials, generators, blocks[half:]),
    ]
    return found or blocks


def _generators(
    symmetry: Symmetry, moves: tuple[dict[str, Indices], dict[str, Indices]], blocks: list[Block]
) -> tuple[Permutation, Permutation]:
    """The cycles of some blocks, and the exchanges after these: little moves in between."""
    still = Permutation.identity(symmetry).indices
    cycles, exchanges = (
        Permutation(symmetry, {**still, **{b.name: of[b.name] for b in blocks}}) for of in moves
    )
    return cycles, exchanges.compose(cycles)


def _is_refuted(permutation: Transform, trials: Trials | Sequence[Trial]) -> bool:
    return all(trial.refutes(permutation) for trial in trials)
