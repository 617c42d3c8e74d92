"""What tracing can lose besides values: dtypes of outputs, and who gets gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InvalidInputError, VerificationError
from ..models.copying import deep_copy
from ..models.outputs import output_tensors
from ..models.running import clone_tensors, unobserved


def check_traits(
    original: nn.Module, rewritten: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> None:
    """Tracing drops autocast and no_grad blocks: compare output dtypes and who gets gradients."""
    name = type(original).__name__
    advice = "permute the module itself with fr.match and permutation.apply_to instead"
    gradients = True
    try:
        expected, reached = _traits(deep_copy(original), args, kwargs, gradients=True)
    except Exception:  # it writes to what gradients would need, or has an op without any
        gradients = False
    if not gradients:
        try:
            expected, reached = _traits(deep_copy(original), args, kwargs, gradients=False)
        except Exception as error:
            raise _not_running(name, error) from error
    try:
        found, now_reached = _traits(deep_copy(rewritten), args, kwargs, gradients=gradients)
    except RuntimeError as error:
        raise VerificationError(
            f"{name} runs where gradients are recorded, but its traced graph does not ({error}): "
            f"a no_grad block in forward does not survive tracing; {advice}"
        ) from error
    for k, (e, f) in enumerate(zip(expected, found, strict=False)):
        if e != f:
            raise VerificationError(
                f"output {k} of {name} is {e}, but {f} in the traced graph: an autocast block in "
                f"forward, or a cast that depends on one, does not survive tracing; {advice}"
            )
    if reached != now_reached:
        changed = sorted(reached ^ now_reached)[0]
        raise VerificationError(
            f"gradients reach {changed!r} in the traced graph of {name} but not in {name} itself, "
            f"or the other way round: a no_grad block in forward does not survive tracing; {advice}"
        )


def _not_running(name: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"{name} does not run on the example inputs: {type(error).__name__}: {error}"
    )


def _traits(
    model: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], *, gradients: bool
) -> tuple[list[torch.dtype], set[str]]:
    """The dtypes of the outputs, and the parameters that their gradients reach."""
    with unobserved(model, gradients=gradients):
        outputs = model(*clone_tensors(args), **clone_tensors(kwargs))
    tensors = output_tensors(outputs)
    names = {id(p): name for name, p in model.named_parameters()}
    pending = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(pending)
    reached = {names[id(t)] for t in tensors if id(t) in names}
    while pending:
        node = pending.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in names:
            reached.add(names[id(variable)])
        for above, _ in node.next_functions:
            if above is not None and above not in seen:
                seen.add(above)
                pending.append(above)
    return [t.dtype for t in tensors], reached
