"""The one-call interface: the passes, composed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase

from .graph_module import META, RebasedModule
from .matching import weight_matching
from .passes import Propagate, Refine, Rewrite, Solve, Trace, Verify
from .permutation import Permutation
from .report import State, state_of
from .rewriting import emit
from .symmetry import Symmetry
from .validation import check_parameters, check_same_architecture


def analyze(
    model: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Symmetry:
    """Find every permutation of hidden units that leaves a model's function unchanged.

    The model is traced and run once on the example inputs, in eval mode, on a copy that shares
    its parameters; its own mode, hooks, caches and the random state stay as they are. What is not
    understood is pinned, never guessed; ``symmetry.pinned`` says what and why.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> fr.analyze(net, args=(torch.zeros(1, 4),))
    Symmetry(1 blocks, 8 movable units, log_order 10.6, coverage 96.6%)

    Args:
        model: any module that ``torch.fx`` can trace, or a ``GraphModule``.
        args, kwargs: example inputs; only their shapes matter, unless control flow depends on
            their values. A batch of one is enough.

    Raises:
        InvalidParameterError: a parameter is not finite, not dense, on the meta device, ...
        TraceError: ``torch.fx`` cannot trace the model.
        InvalidInputError: the model does not run on the example inputs.
    """
    traced = _run([Trace(args, kwargs), Propagate(args, kwargs), Refine()], model)
    symmetry = state_of(traced, "symmetry").symmetry
    assert symmetry is not None
    return symmetry


def match(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    seed: int = 0,
    max_sweeps: int = 100,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Permutation:
    """The permutation of one state dict that brings it closest to another; nothing is mutated.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    >>> aligned = b.load_state_dict(found.apply(b.state_dict()))

    Arguments and errors are those of :func:`fxrebasin.weight_matching`, which also returns how
    the objective rose.
    """
    return weight_matching(
        symmetry,
        state_dict,
        to=to,
        seed=seed,
        max_sweeps=max_sweeps,
        device=device,
        progress=progress,
    ).permutation


def rebasin(
    model_b: nn.Module,
    *,
    to: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    inplace: bool = False,
    seed: int = 0,
    max_sweeps: int = 100,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> RebasedModule:
    """Bring model B into the basin of model A: same function as B, weights aligned with A's.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> x = torch.randn(3, 4)
    >>> aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    >>> torch.allclose(aligned(x), b(x), atol=1e-5)
    True

    Args:
        model_b: the model to permute; unchanged unless ``inplace``.
        to: the reference, model A, of the same architecture; never changed.
        args, kwargs: example inputs for both analysis and verification.
        inplace: permute the tensors of ``model_b`` itself; the result shares them.
        seed: of the solver; the result is deterministic for a seed.
        max_sweeps: the solver's iteration limit.
        device: where cost matrices are computed; by default where A is.
        progress: show a progress bar.

    Returns:
        A ``GraphModule`` with the state dict keys of ``model_b``, in its order, verified against
        ``model_b`` run eagerly. ``result.report`` holds symmetry, permutation, objective before
        and after, sweeps and times.

    Raises:
        ArchitectureMismatchError: A and B have different parameters.
        VerificationError: the result does not compute what B computes; nothing was changed.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`analyze`.
    """
    check_parameters(model_b, "model B")
    check_parameters(to, "the reference model A")
    check_same_architecture(model_b, to)
    solve = Solve(to=to, seed=seed, max_sweeps=max_sweeps, device=device, progress=progress)
    passes = [
        Trace(args, kwargs),
        Propagate(args, kwargs),
        Refine(),
        solve,
        Rewrite(),
        Verify(args, kwargs),
    ]
    emitted = _run(passes, model_b)
    state = state_of(emitted, "alignment")
    if inplace:
        assert state.alignment is not None
        state.alignment.permutation.apply_(model_b)
        emitted = emit(model_b, emitted)
    assert isinstance(emitted, RebasedModule)
    emitted.meta[META] = state.report()
    return emitted


def _run(passes: Sequence[PassBase], model: nn.Module) -> fx.GraphModule:
    module: Any = model
    seconds: dict[str, float] = {}
    for step in passes:
        start = time.perf_counter()
        result = step(module)
        assert result is not None
        module = result.graph_module
        seconds[type(step).__name__.lower()] = time.perf_counter() - start
    state: State = state_of(module)
    state.seconds = seconds
    return module
