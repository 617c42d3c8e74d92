"""Does the rewritten module compute what the original computes?

The reference is the user's own module, run eagerly, not its trace: what tracing bakes in is
found here as well, and told apart from a wrong permutation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import VerificationError
from ..models.inputs import in_placeholder_order, takes_nested_inputs
from ..models.outputs import output_tensors
from ..models.precision import coarsest_dtype, real_dtype
from ..tracing.symbolic import deep_copy, unobserved

MoveOutputs = Callable[[list[torch.Tensor]], list[torch.Tensor]]
M = TypeVar("M", bound=nn.Module)

TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
}
"""Largest relative difference of an output that rounding may cause, per dtype.

A permutation changes the order of sums, nothing else. The error of one sum is about the square
root of its length times the machine epsilon (2e-16, 1e-7, 8e-3, 1e-3); deep networks amplify it by
one to three orders of magnitude (measured: 3e-6 at most in float32 over 80 torchvision
classifiers, 2e-15 at most in float64 over some twenty of them). One tensor left in its old place
changed their outputs by 1e-2 or more; see ``benchmarks/coverage/coverage.md``.
"""


SEED = 0x5EED


@dataclass(frozen=True)
class Verification:
    """What was compared, and how well it agreed."""

    error: float
    """Largest difference of an output, relative to the largest entry of that output."""
    dtype: torch.dtype
    outputs: int

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"relative output error {self.error:.1e} in {name}"


def verify(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    move_outputs: MoveOutputs | None = None,
) -> Verification:
    """Run both modules in eval mode on the same inputs and compare every output.

    The comparison is made in float64 where memory allows and the model runs in it, else in the
    dtype of its weights, as for exported graphs, which hold the dtypes that they were made with.
    Neither module is changed.

    Args:
        original: the user's module.
        rewritten: a module that should compute the same.
        args, kwargs: example inputs.
        move_outputs: what the rewriting does to the outputs, where they were left free.

    Raises:
        VerificationError: an output differs; names the first fx node whose value does.
    """
    kwargs = dict(kwargs or {})
    if isinstance(rewritten, fx.GraphModule):
        inputs = {str(node.target) for node in rewritten.graph.find_nodes(op="placeholder")}
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k in inputs}
    _check_traits(original, rewritten, args, kwargs)
    dtype = dtype_of(original)
    is_exported = isinstance(rewritten, fx.GraphModule) and takes_nested_inputs(rewritten.graph)
    if dtype != torch.float64 and not is_exported and _fits_in_memory(original):
        try:
            wide = _in_double(original, rewritten, args, kwargs)
            return _compare(*wide, torch.float64, move_outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, VerificationError):
                raise
    return _compare(original, rewritten, args, kwargs, dtype, move_outputs)


def _compare(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    dtype: torch.dtype,
    move_outputs: MoveOutputs | None,
) -> Verification:
    original = deep_copy(original)
    rewritten = deep_copy(rewritten)
    with coarsest_dtype(dtype) as coarsest:
        before = [t.clone() for t in original.buffers()]
        expected = run(original, args, kwargs)
        found = run(rewritten, args, kwargs)
    dtype = coarsest.dtype
    if move_outputs is not None:
        expected = move_outputs(expected)
    errors = [relative_error(e, f) for e, f in zip(expected, found, strict=False)]
    error = max(errors, default=0.0)
    if len(expected) != len(found) or not error <= TOLERANCE[dtype]:
        raise VerificationError(_explain(original, rewritten, args, kwargs, error, dtype))
    names = [name for name, _ in original.named_buffers()]
    now = original.buffers()
    changed = [n for n, old, new in zip(names, before, now, strict=True) if not _same(old, new)]
    if changed:
        _compare_again(original, rewritten, args, kwargs, TOLERANCE[dtype], changed)
    return Verification(error, dtype, len(expected))


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())


def _compare_again(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    tolerance: float,
    changed: Sequence[str],
) -> None:
    """Where forward changes buffers, the second call may depend on the first."""
    both = zip(run(original, args, kwargs), run(rewritten, args, kwargs), strict=True)
    if not all(relative_error(e, f) <= tolerance for e, f in both):
        name = type(original).__name__
        raise VerificationError(
            f"{name} changes the buffers {', '.join(map(repr, changed))} in forward, and its "
            "second call returns something else than that of the traced graph: a buffer that is "
            "replaced (self.steps = self.steps + 1), not written to (self.steps.add_(1)), is not "
            "replaced in the graph; permute the module itself with fr.match and "
            "permutation.apply_to instead"
        )


def _check_traits(
    original: nn.Module, rewritten: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> None:
    """Tracing drops autocast and no_grad blocks: compare output dtypes and who gets gradients."""
    name = type(original).__name__
    advice = "permute the module itself with fr.match and permutation.apply_to instead"
    try:
        expected, reached = _traits(deep_copy(original), args, kwargs, gradients=True)
        gradients = True
    except RuntimeError:  # it writes to what gradients would need, or to a parameter
        expected, reached = _traits(deep_copy(original), args, kwargs, gradients=False)
        gradients = False
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


def _traits(
    model: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], *, gradients: bool
) -> tuple[list[torch.dtype], set[str]]:
    """The dtypes of the outputs, and the parameters that their gradients reach."""
    with unobserved(model, gradients=gradients):
        reseed(model)
        outputs = model(*cloned(args), **cloned(kwargs))
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


def relative_error(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value; inf where shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    wide = torch.complex128 if expected.is_complex() else torch.float64
    expected, found = expected.detach().to(wide), found.detach().to(wide)
    both_nan = expected.isnan() & found.isnan()
    difference = torch.where(both_nan | (expected == found), 0.0, (expected - found).abs())
    scale = expected.abs().nan_to_num(0.0, 0.0).max()
    worst = float(difference.max() / scale) if scale > 0 else float(difference.max())
    return worst if worst == worst else float("inf")


def run(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a model returns in eval mode, from copies of the inputs and one seed."""
    with unobserved(model):
        reseed(model)
        return [t.detach() for t in output_tensors(model(*cloned(args), **cloned(kwargs)))]


def reseed(model: nn.Module) -> None:
    """Give both modules one random state, and not the one that the model was traced in: random
    numbers that tracing baked in must not come out right by chance."""
    torch.default_generator.manual_seed(SEED)
    for device in {p.device for p in model.parameters() if p.device.type == "cuda"}:
        torch.cuda.default_generators[device.index].manual_seed(SEED)


def cloned(inputs: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda t: t.detach().clone(), inputs)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The coarsest dtype among the weights, float32 if there are none."""
    dtypes = {real_dtype(p.dtype) for p in model.parameters()} & set(TOLERANCE)
    return max(dtypes, key=lambda d: TOLERANCE[d], default=torch.float32)


def _in_double(
    original: nn.Module, rewritten: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[nn.Module, nn.Module, Any, Any]:
    wide = in_double((tuple(args), kwargs))
    return to_double(deep_copy(original)), to_double(deep_copy(rewritten)), *wide


def in_double(inputs: Any) -> Any:
    """Nested inputs with their floating point tensors in float64."""

    def widen(t: torch.Tensor) -> torch.Tensor:
        return _widened(t.detach())

    return tree_map_only(torch.Tensor, widen, inputs)


def to_double(model: M) -> M:
    """In place, as ``nn.Module.double``, which leaves complex tensors as they are."""
    return model._apply(_widened)


def _widened(t: torch.Tensor) -> torch.Tensor:
    return t.double() if t.is_floating_point() else t.to(torch.complex128) if t.is_complex() else t


def _fits_in_memory(model: nn.Module) -> bool:
    """Is there room for both modules in float64, and as much again for activations?"""
    tensors = [*model.parameters(), *model.buffers()]
    needed = 4 * 8 * sum(t.numel() for t in tensors)
    device = tensors[0].device if tensors else torch.device("cpu")
    if device.type == "cuda":
        return needed < torch.cuda.mem_get_info(device)[0]
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return needed < 2**32
    return needed < free


def _explain(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    error: float,
    dtype: torch.dtype,
) -> str:
    """Tell a wrong trace from a wrong permutation, and find the first node that differs."""
    name = type(original).__name__
    measured = f"(relative error {error:.2g}, tolerance {TOLERANCE[dtype]:.0e} in {dtype})"
    trace = deep_copy(rewritten)
    state = original.state_dict()
    trace.load_state_dict({k: state[k] for k in trace.state_dict() if k in state}, strict=False)
    expected, traced = run(original, args, kwargs), run(trace, args, kwargs)
    errors = [relative_error(e, f) for e, f in zip(expected, traced, strict=False)]
    if len(expected) != len(traced) or not max(errors, default=0.0) <= TOLERANCE[dtype]:
        return (
            f"the traced graph of {name} does not compute what {name} computes, even with its own "
            f"weights {measured}: tracing baked something in that changes from call to call, such "
            "as a random tensor, or dropped a no_grad or autocast block. Move it into a leaf "
            "module or a function wrapped with torch.fx.wrap."
        )
    node = None
    if isinstance(trace, fx.GraphModule) and isinstance(rewritten, fx.GraphModule):
        node = _first_difference(trace, rewritten, args, kwargs, dtype)
    at = f"; the first node whose value differs is {node!r}" if node else ""
    return (
        f"the permuted {name} does not compute what {name} computes {measured}{at}. "
        "The model was not changed. Please report this: a rule for an op near that node is wrong."
    )


class _Recorder(fx.Interpreter):
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
            inputs = in_placeholder_order(module, cloned(tuple(args)), cloned(kwargs))
            recorder.run(*inputs, enable_io_processing=False)
        recorders.append(recorder.values)
    for name, values in recorders[0].items():
        for x, y in zip(values, recorders[1].get(name, []), strict=False):
            if not relative_error(x, y) <= TOLERANCE[dtype]:
                return name
    return None
