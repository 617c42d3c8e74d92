"""What rules of the user's own claim: that an op commutes with what acts alike on its operands.

A signature may say that a block lies on operands and results; which axes belong together is known
to the rule alone. So all frames of the block are tied to one another, which claims no more.
"""

from __future__ import annotations

from ..layouts.events import CONSTANT, Event, Value
from ..symmetry.kinds import LINEAR, MONOMIAL, POSITIVE, SIGNED
from .scene import Scene

KINDS_OF_CLAIMS = {
    "signed": SIGNED,
    "positive": POSITIVE,
    "monomial": MONOMIAL,
    "linear": LINEAR,
}


def as_claimed(scene: Scene, event: Event) -> None:
    """One element acts on all frames of a block, if each value has one of them."""
    kind = KINDS_OF_CLAIMS[event.claim]
    values = {v.number: v for v in (*event.operands, *event.results)}
    found = {number: scene.on(value) for number, value in values.items()}
    if any(len(frames) > 1 for frames in found.values()):
        return
    if any(_is_uniform(v) for v in event.operands if not found[v.number]):
        return
    numbers = [frame.number for frames in found.values() for frame in frames]
    for number in numbers:
        scene.same(numbers[0], number)
        scene.cap(number, kind)
        if not kind.scale:
            scene.frames.fix_scale(number)
        if not kind.sign:
            scene.frames.fix_sign(number)


def _is_uniform(operand: Value) -> bool:
    """May it be the same for all units, so that nothing was said of how it is acted upon? Zeros are
    kept by whatever acts."""
    if operand.number == CONSTANT:
        return not operand.is_zero
    return 1 in operand.layout.shape
