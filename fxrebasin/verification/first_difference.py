"""Where two modules begin to differ, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ..models.copying import deep_copy
from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.precision import TOLERANCE, relative_error
from ..models.running import clone_tensors, run, unobserved
from ..models.validation import stored_tensors


def explain_difference(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    error: float,
    dtype: torch.dtype,
    *,
    noise: float | None = None,
) -> str:
    """Tell a wrong trace from a wrong permutation, and find the first node that differs.

    ``noise`` is what rounding alone does to the outputs, where that explains the difference.
    """
    name = type(original).__name__
    measured = f"(relative error {error:.2g}, tolerance {TOLERANCE[dtype]:.0e} in {dtype})"
    trace = deep_copy(rewritten)
    state = stored_tensors(original)
    with torch.no_grad():
        for key, tensor in stored_tensors(trace).items():
            if key in state:
                tensor.copy_(state[key])
    expected, traced = run(original, args, kwargs), run(trace, args, kwargs)
    errors = [relative_error(e, f) for e, f in zip(expected, traced, strict=False)]
    if len(expected) != len(traced) or not max(errors, default=0.0) <= TOLERANCE[dtype]:
        return (
            f"the traced graph of {name} does not compute what {name} computes, even with its own "
            f"weights {measured}: tracing baked something in that changes from call to call, such "
            "as a random tensor, or dropped a no_grad or autocast block. Move it into a leaf "
            "module or a function wrapped with torch.fx.wrap."
        )
    if noise is not None:
        return (
            f"{name} amplifies rounding so much that it cannot be verified: rounding every weight "
            f"differently changes its outputs by {noise:.1g} of their size {measured}. The model "
            "was not changed. Give shorter inputs, or permute the module itself with fr.match and "
            "permutation.apply_to instead."
        )
    node = None
    if isinstance(trace, fx.GraphModule) and isinstance(rewritten, fx.GraphModule):
        node = _first_difference(trace, rewritten, args, kwargs, dtype)
    at = f"; the first node whose value differs is {node!r}" if node else ""
    return (
        f"the permuted {name} does not compute what {name} computes {measured}{at}. "
        "The model was not changed. Please report this: a rule for an op near that node is wrong."
    )


class _Recorder(Interpreter):
    """Remembers the sorted entries of every value, which no permutation changes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, list[torch.Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "get_attr":
            tensors = [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]
            self.values[n.name] = [t.detach().double().flatten().sort()[0] for t in tensors]
        return value


def _first_difference(
    before: fx.GraphModule,
    after: fx.GraphModule,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    dtype: torch.dtype,
) -> str | None:
    recorders = []
    for module in (before, after):
        recorder = _Recorder(module)
        with unobserved(module):
            inputs = in_placeholder_order(module, clone_tensors(tuple(args)), clone_tensors(kwargs))
            recorder.run(*inputs, enable_io_processing=False)
        recorders.append(recorder.values)
    for name, values in recorders[0].items():
        for x, y in zip(values, recorders[1].get(name, []), strict=False):
            if not relative_error(x, y) <= TOLERANCE[dtype]:
                return name
    return None
