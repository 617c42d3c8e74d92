"""``torch.compile(model, backend=fxrebasin.backend(to=reference))``.

The compiled function computes what the model computes, with weights in the basin of the reference:
they are taken from the live parameters, permuted, at every call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from ..arguments import check_function, check_kind, refuse
from ..errors import InvalidArgumentError
from ..matching.solvers import Solver, coordinate_descent
from ..models.validation import check_state_dict, stored_tensors
from ..objectives import Objective, weights
from ..symmetry.group import Symmetry, check_symmetry
from .aligning import Aligner, Setup
from .inner import Compiled, compile_inner
from .pipeline import compile_with_passes
from .report import CompileReport, GraphReport

OPTIONS = ("to", "passes", "inner", "model", "symmetry", "objective", "solver", "seed")

_backends: weakref.WeakSet[Backend] = weakref.WeakSet()


class Backend:
    """A backend of ``torch.compile`` that aligns what it is given, or runs passes on it.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> compiled = torch.compile(b, backend=fr.backend(to=a, inner="eager"))
    >>> x = torch.randn(3, 4)
    >>> torch.allclose(compiled(x), b(x), atol=1e-5)
    True
    >>> len(fr.backend.report(compiled).parts)
    1

    The permutation is found once for the weights of a graph; a graph that is captured again, for
    other shapes or another mode, takes the same one if that passes verification. The eager model
    is not changed, and the compiled one follows it: optimizer steps and ``load_state_dict`` count
    in the next call, and gradients arrive at the model's own parameters. A copy of the permuted
    weights is kept. Each graph is aligned for itself: what crosses a graph break stays in place.

    Args:
        to: the reference, a model or its state dict, whose names are those of the compiled model.
        passes: instead of ``to``, passes to run on every captured graph: any of
            ``torch.fx.passes.infra``, or of this library, of which ``Trace()`` is the first.
        inner: the backend that compiles what comes out: a name that
            ``torch.compiler.list_backends`` knows, or a function.
        model: the model that is compiled. Its parameters are then told by identity, not by the
            names that Dynamo notes.
        symmetry: the group, if it is known; by default it is found on the graph.
        objective, solver, seed: as in :func:`fxrebasin.match`.

    Raises:
        InvalidArgumentError: an option makes no sense; while compiling, that an input of the graph
            is a parameter that the reference does not have.
        ArchitectureMismatchError, VerificationError: while compiling, as in
            :func:`fxrebasin.rebasin`.
    """

    def __init__(
        self,
        *,
        to: nn.Module | Mapping[str, torch.Tensor] | None = None,
        passes: Sequence[Callable[[fx.GraphModule], Any]] = (),
        inner: str | Callable[..., Any] = "inductor",
        model: nn.Module | None = None,
        symmetry: Symmetry | None = None,
        objective: Objective = weights,
        solver: Solver = coordinate_descent,
        seed: int = 0,
    ) -> None:
        check_kind(passes, (list, tuple), "passes", "a list of passes")
        if (to is None) == (not passes):
            raise InvalidArgumentError(
                "give either to=, the model to align with, or passes=; for both, give one backend "
                "to the other as inner="
            )
        if model is not None:
            check_kind(model, nn.Module, "model", "the torch.nn.Module that is compiled")
        if symmetry is not None:
            check_symmetry(symmetry)
        if not isinstance(inner, str):
            check_function(inner, "inner", "'inductor'")
        elif inner not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            refuse("inner", f"a backend that torch.compile knows ({known}) or a function", inner)
        check_function(objective, "objective", "fr.objectives.weights")
        check_function(solver, "solver", "fr.solvers.coordinate_descent")
        self.model, self.passes, self.inner = model, tuple(passes), inner
        self._aligner: Aligner | None = None
        if to is not None:
            setup = Setup(_state_dict(to), model, symmetry, objective, solver, seed)
            self._aligner = Aligner(setup)
        _backends.add(self)

    def __call__(
        self, graph_module: fx.GraphModule, example_inputs: Sequence[Any], **options: Any
    ) -> Compiled:
        """Compile a graph; called by Dynamo."""
        if self._aligner is None:
            build = partial(compile_inner, self.inner, options=options)
            return compile_with_passes(self.passes, graph_module, example_inputs, self.model, build)
        live = self._aligner.align(graph_module, example_inputs)
        inner = compile_inner(self.inner, graph_module, example_inputs, options)
        if live is None:
            return inner

        def run(*inputs: Any) -> Any:
            moved = live(inputs)
            result = inner(*moved)
            live.write_back(inputs, moved)
            return result

        run.backend = self  # type: ignore[attr-defined]  # lives as long as what it compiled
        return run

    @staticmethod
    def report(compiled: Any) -> CompileReport:
        """What was found for a compiled model, or by a backend; empty before the first call.

        Raises:
            InvalidArgumentError: it is neither.
        """
        if isinstance(compiled, Backend):
            aligner = compiled._aligner
            return CompileReport(tuple(aligner.reports()) if aligner else ())
        model = getattr(compiled, "_orig_mod", None)
        if not isinstance(model, nn.Module):
            advice = "give what torch.compile(model, backend=...) returned"
            refuse("compiled", "a compiled model or a backend", compiled, advice)
        owned = {id(tensor) for tensor in stored_tensors(model).values()}
        found: list[GraphReport] = []
        for backend in _backends:
            if backend._aligner is not None:
                found += backend._aligner.reports(owned)
        return CompileReport(tuple(found))


def _state_dict(to: object) -> Mapping[str, torch.Tensor]:
    if isinstance(to, nn.Module):
        return stored_tensors(to)
    if not isinstance(to, Mapping):
        advice = "load the weights first, as with safetensors.torch.load_file, and give these"
        refuse("to", "the reference model or its state dict", to, advice)
    check_state_dict(to, "to")
    return to


_by_options: weakref.WeakValueDictionary[tuple[Any, ...], Backend] = weakref.WeakValueDictionary()


def by_name(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Compiled:
    """What ``torch.compile(model, backend="fxrebasin", options={"to": reference})`` calls.

    Options are the arguments of :class:`Backend`; the mode goes to the inner backend.

    Raises:
        InvalidArgumentError: there is no reference and no passes, or an option is unknown.
    """
    given = dict(options or {})
    for name in given:
        if name not in OPTIONS:
            refuse("options", f"some of {', '.join(OPTIONS)}", name)
    if given.get("to") is None and not given.get("passes"):
        raise InvalidArgumentError(
            "backend='fxrebasin' needs to know what to align with: "
            "torch.compile(model, backend='fxrebasin', options={'to': reference})"
        )
    key = tuple(sorted((name, id(value)) for name, value in given.items()))
    backend = _by_options.get(key)
    if backend is None:
        backend = Backend(**given)
        _by_options[key] = backend
    return backend(graph_module, example_inputs, **({"mode": mode} if mode else {}))
