"""Which statement speaks for which family of ops: a line each."""

from __future__ import annotations

from collections.abc import Callable

from ..layouts.events import Event
from ..rules.acts import ACTS, Act
from . import contractions, movements, norms, pointwise
from .claims import as_claimed
from .norms import Ledger
from .scene import Scene

PLAIN: dict[Act, Callable[[Scene, Event], None]] = {
    Act.ADDITION: pointwise.addition,
    Act.ATTENTION: contractions.attention,
    Act.CONTRACTION: contractions.contraction,
    Act.CONVOLUTION: contractions.convolution,
    Act.EVEN: pointwise.even,
    Act.LOOK_UP: movements.look_up,
    Act.MOVEMENT: movements.movement,
    Act.ODD: pointwise.odd,
    Act.POOLING: movements.pooling,
    Act.POSITIVE: pointwise.positive,
    Act.POSITIVE_POOLING: movements.positive_pooling,
    Act.POWER: pointwise.power,
    Act.QUOTIENT: pointwise.quotient,
    Act.UNION: movements.union,
}

WITH_LEDGER: dict[Act, Callable[[Scene, Event, Ledger], None]] = {
    Act.BATCH_NORM: norms.batch_norm,
    Act.GROUP_NORM: norms.group_norm,
    Act.LAYER_NORM: norms.layer_norm,
    Act.LENGTH: norms.length,
    Act.POSITIVE_REDUCTION: norms.largest,
    Act.PRODUCT: norms.product_with_vectors,
    Act.RMS_NORM: norms.rms_norm,
    Act.SPREAD: norms.spread,
    Act.SUM: norms.total,
}


def squares(event: Event) -> bool:
    """Is every entry of the result the square of one of the operand?"""
    if ACTS.get(event.op) is Act.PRODUCT and len(event.operands) == 2:
        return event.operands[0].number == event.operands[1].number >= 0
    return ACTS.get(event.op) is Act.POWER and pointwise.exponent_of(event) == 2


def state(scene: Scene, event: Event, ledger: Ledger) -> None:
    """Say of the frames of one block what an op says; of what it leaves out, permutations hold."""
    act = ACTS.get(event.op) if event.exact else None
    if event.claim:
        as_claimed(scene, event)
    elif squares(event):
        ledger.squares[event.results[0].number] = event
        scene.say_nothing([*event.operands, *event.results])
    elif act in PLAIN:
        PLAIN[act](scene, event)
    elif act in WITH_LEDGER:
        WITH_LEDGER[act](scene, event, ledger)
    if act is not Act.SUM:
        for operand in event.operands:
            if operand.number in ledger.squares:
                norms.power_two(scene, ledger.squares[operand.number])
    for value in (*event.operands, *event.results):
        for frame in scene.on(value):
            if frame.number not in scene.spoken:
                scene.forbid(frame.number)
