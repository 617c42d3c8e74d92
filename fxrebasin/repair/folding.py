"""Scales and shifts of channels, put into the weights and biases of a model.

    scale * (W x + b) + shift  =  (scale * W) x + (scale * b + shift)

>>> from torch import nn
>>> model, x = nn.Sequential(nn.Linear(2, 3)), torch.randn(4, 2)
>>> expected = 2 * model(x) + 1
>>> layer = Target(Slot("0.weight", 0), Slot("0.bias", 0))
>>> fold(model, (layer,), torch.full((3,), 2.0), torch.ones(3))
>>> torch.allclose(model(x), expected)
True
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .channels import Slot, stored_value
from .correcting import Goal
from .places import Place, Target


@torch.no_grad()
def fold(
    model: nn.Module,
    targets: Sequence[Target],
    scale: Tensor,
    shift: Tensor,
    *,
    shifted: Target | None = None,
) -> None:
    """Scale and shift what layers compute, in place.

    Args:
        model: stores what the slots name.
        targets: layers whose results are added; each is scaled, one of them shifted.
        scale, shift: ``[channels]``.
        shifted: a linear layer that reads the result, which takes the shift where none of the
            targets has a bias.
    """
    left: Tensor | None = shift
    for target in targets:
        _scale(stored_value(model, target.weight.name), target.weight, scale)
        if target.bias is not None:
            bias = stored_value(model, target.bias.name)
            _scale(bias, target.bias, scale)
            if left is not None:
                _add(bias, target.bias, left)
                left = None
    if left is not None and shifted is not None and shifted.bias is not None:
        weight = _in_order(stored_value(model, shifted.weight.name), shifted.weight)
        bias = stored_value(model, shifted.bias.name)
        wide = _wide(weight)
        _add(bias, shifted.bias, weight.to(wide) @ left.to(weight.device, wide))


@torch.no_grad()
def fold_statistics(model: nn.Module, place: Place, mean: Tensor, variance: Tensor) -> None:
    """Have a BatchNorm layer know what it is given, in place."""
    (target,) = place.targets
    assert target.bias is not None
    for slot, value in ((target.weight, mean), (target.bias, variance)):
        stored: Tensor = stored_value(model, slot.name)
        overwrite(stored, value)


def stored_goal(model: nn.Module, place: Place) -> Goal:
    """The mean and standard deviation that a BatchNorm layer takes its inputs to have."""
    (target,) = place.targets
    assert target.bias is not None
    mean, variance = (
        stored_value(model, slot.name).detach().double().cpu().clone()
        for slot in (target.weight, target.bias)
    )
    return Goal(mean, variance.sqrt(), variance == 0)


def names_written(places: Iterable[Place]) -> list[str]:
    """The stored tensors that corrections of places are put into."""
    targets = [t for p in places for t in (*p.targets, p.shifted) if t is not None]
    slots = [slot for target in targets for slot in (target.weight, target.bias)]
    return list(dict.fromkeys(slot.name for slot in slots if slot is not None))


def overwrite(stored: Tensor, value: Tensor) -> None:
    """Put other numbers into a stored tensor, also into one made in inference mode."""
    with torch.inference_mode(stored.is_inference()), torch.no_grad():
        stored.copy_(value)


def _in_order(stored: Tensor, slot: Slot) -> Tensor:
    """The weight of a linear layer, ``[channels, features]``."""
    weight = stored.detach().movedim(slot.axis, 0)
    return weight if slot.rows is None else weight[list(slot.rows)]


def _scale(stored: Tensor, slot: Slot, scale: Tensor) -> None:
    """In place; large weights of one layer in one go, without a copy."""
    weight = stored.detach()
    if slot.groups > 1:  # [inputs, channels / groups, ...], inputs in groups as well
        weight = weight.unflatten(0, (slot.groups, -1))
        factor = scale.view(slot.groups, 1, -1, *[1] * (weight.ndim - 3))
    else:
        weight = weight.movedim(slot.axis, 0)
        factor = scale.view(-1, *[1] * (weight.ndim - 1))
    precise = stored.dtype if stored.dtype.itemsize >= 4 else torch.float32
    factor = factor.to(precise).to(stored.device)
    if slot.rows is not None:
        index = torch.tensor(slot.rows, device=stored.device)
        weight[index] = (weight[index] * factor).to(stored.dtype)
    elif precise == stored.dtype:
        weight.mul_(factor)
    else:
        weight.copy_(weight * factor)


def _add(stored: Tensor, slot: Slot, shift: Tensor) -> None:
    lines = stored.detach().movedim(slot.axis, 0)
    rows = range(len(lines)) if slot.rows is None else slot.rows
    index = torch.tensor(rows, device=stored.device)
    added = shift.to(_wide(stored)).to(stored.device).view(-1, *[1] * (lines.ndim - 1))
    lines[index] = (lines[index] + added).to(stored.dtype)


def _wide(stored: Tensor) -> torch.dtype:
    """In what to add: some accelerators have no float64."""
    return torch.float32 if stored.device.type == "mps" else torch.float64
