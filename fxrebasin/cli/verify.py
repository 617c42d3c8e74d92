"""``fxrebasin verify``: do two checkpoints compute the same?"""

from __future__ import annotations

import torch
from torch import nn

import fxrebasin as fr

from ..errors import VerificationError
from ..models.precision import TOLERANCE, largest_error
from ..models.running import run
from .options import A, B, Example, Model, Seed
from .output import Answer, Output
from .parents import read_all


def verify(
    a: A, b: B, *, model: Model = None, seed: Seed = 0, example: Example, output: Output
) -> Answer:
    """Say whether A and B compute the same, and whether B is A with its units in another order.

    The exit code is 1 where they do not compute the same.
    """
    subject, (first, second) = read_all([a, b], model, example, output)
    modules = (first.module, second.module)
    try:
        error = fr.verify(*modules, subject.args, subject.kwargs).error
        is_same = True
    except VerificationError:
        error = largest_error(*(run(m, subject.args, subject.kwargs) for m in modules))
        is_same = False
    symmetry = fr.analyze(second.module, subject.args, subject.kwargs)
    states = [x.module.state_dict() for x in (second, first)]
    found = fr.match(symmetry, states[0], to=states[1], seed=seed, progress=output.progress)
    gap = _gap(found.apply_to(second.module), first.module)
    dtype = next(first.module.parameters()).dtype
    is_permuted = gap <= TOLERANCE[dtype]
    data = {
        "same_function": is_same,
        "relative_error": error,
        "same_up_to_permutation": is_permuted,
        "moved_units": found.moved_units,
        "largest_relative_difference_of_weights": gap,
    }
    order = "yes" if is_permuted else "not by what was found"
    shown = (
        f"same function: {'yes' if is_same else 'no'}, outputs differ by {error:.1e} of their size",
        f"same weights but for the order of units: {order} ({found!r}, weights differ by "
        f"{gap:.1e} of their size)",
    )
    return Answer(data, shown, is_fine=is_same)


def _gap(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of an entry, relative to the largest entry of its tensor."""
    largest = 0.0
    others = other.state_dict()
    for name, tensor in one.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            x, y = tensor.double(), others[name].double()
            size = float(y.abs().max()) or 1.0
            largest = max(largest, float((x - y).abs().max()) / size)
    return largest
