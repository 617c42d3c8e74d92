"""Which group each block is aligned over: what is asked for, as far as its kind allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from ...arguments import refuse
from ...symmetry.group import Symmetry
from ...symmetry.kinds import SIGNED, Mix
from ...symmetry.transform import Subgroup

Step = Literal["signed", "orthogonal"]
"""What the step of a block is, where it is more than an assignment."""


SUBGROUPS: tuple[Subgroup, ...] = get_args(Subgroup)
"""From the smallest to the largest."""


def check_group(given: object, name: str = "group") -> None:
    """Refuse what is not the name of a part of the group.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if not isinstance(given, str) or given not in SUBGROUPS:
        refuse(name, "'permutations', 'signed' or 'linear'", given)


def steps_of(symmetry: Symmetry, group: Subgroup) -> Mapping[str, Step]:
    """The blocks that are aligned over more than permutations.

    Of kinds that hold arbitrary matrices, the orthogonal ones are searched: once weights are
    canonical (:func:`fxrebasin.canonicalise`), no others are left. Scales are not searched. A block
    in which others are nested is permuted.

    Kinds are not found where no op lets signs change.
    """
    if group == "permutations" or (group == "signed" and not symmetry.may_change_signs):
        return {}
    found: dict[str, Step] = {}
    for block in symmetry:
        kind = symmetry.kinds.of(block.name)
        if symmetry.children(block.name):
            continue
        if group == "linear" and kind.kind.mix is not Mix.NOT:
            found[block.name] = "orthogonal"
        elif kind.signs and (group == "linear" or kind.kind == SIGNED):
            found[block.name] = "signed"
    return found
