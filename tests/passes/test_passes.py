"""The passes: each alone, in torch's PassManager, and in the wrong order."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest
import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult
from torch.fx.passes.infra.pass_manager import PassManager

import fxrebasin as fr
import fxrebasin.passes
from fxrebasin.errors import (
    ArchitectureMismatchError,
    InvalidInputError,
    InvalidParameterError,
    PassOrderError,
    TraceError,
    VerificationError,
)
from fxrebasin.passes import Falsify, Propagate, Refine, Rewrite, Solve, Trace, Verify
from fxrebasin.passes.state import state_of

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net(seed: int, hidden: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))


Pass = Callable[..., PassResult | None]


def steps(a: nn.Module) -> list[Pass]:
    return [
        Trace((X,)),
        Propagate((X,)),
        Refine(),
        Falsify((X,)),
        Solve(to=a, progress=False),
        Rewrite(),
        Verify((X,)),
    ]


def after(count: int, b: nn.Module, a: nn.Module) -> fx.GraphModule:
    """The module after the first passes."""
    module: nn.Module = b
    for step in steps(a)[:count]:
        result = step(module)
        assert isinstance(result, PassResult)
        module = result.graph_module
    assert isinstance(module, fx.GraphModule)
    return module


def test_trace_gives_a_graph_that_shares_the_parameters() -> None:
    b = net(1)
    result = Trace()(b)  # type: ignore[arg-type]
    assert result is not None
    assert result.modified
    traced = result.graph_module
    assert isinstance(traced, fx.GraphModule)
    assert id(traced) != id(b)
    assert all(p is b.get_parameter(n) for n, p in traced.named_parameters())
    assert state_of(traced).model is b
    assert torch.equal(traced(X), b(X))
    traced.graph.lint()


def test_trace_requires_parameters_that_can_move() -> None:
    with pytest.raises(InvalidParameterError):
        Trace()(nn.ReLU())  # type: ignore[arg-type]


def test_propagate_finds_units_and_constraints() -> None:
    traced = after(1, net(1), net(2))
    result = Propagate((X,))(traced)
    assert result is not None
    assert result.graph_module is traced
    assert not result.modified
    found = state_of(traced).facts
    assert found is not None
    assert [p.name for p in found.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert isinstance(found.graph, nx.MultiGraph)
    assert found.unknown_ops == {}
    with pytest.raises(InvalidInputError):
        Propagate((torch.zeros(1, 7),))(traced)


def test_propagate_takes_keyword_inputs() -> None:
    traced = after(1, net(1), net(2))
    Propagate((), {"input": X})(traced)
    Refine()(traced)
    assert state_of(traced).symmetry == fr.analyze(net(1), args=(X,))


def test_refine_finds_the_symmetry() -> None:
    module = after(2, net(1), net(2))
    result = Refine()(module)
    assert result is not None
    assert result.graph_module is module
    assert not result.modified
    assert state_of(module).symmetry == fr.analyze(net(1), args=(X,))


def test_falsify_keeps_what_is_right() -> None:
    module = after(3, net(1), net(2))
    found = state_of(module).symmetry
    result = Falsify((X,))(module)
    assert result is not None
    assert result.graph_module is module
    assert not result.modified
    assert state_of(module).symmetry == found == fr.analyze(net(1), args=(X,))


def test_solve_finds_an_alignment() -> None:
    a, b = net(1), net(2)
    module = after(4, b, a)
    result = Solve(to=a, seed=3, progress=False)(module)
    assert result is not None
    assert not result.modified
    alignment = state_of(module).alignment
    assert alignment is not None
    expected = fr.match(
        fr.analyze(b, args=(X,)), b.state_dict(), to=a.state_dict(), seed=3, progress=False
    )
    assert alignment.permutation == expected


def test_solve_requires_the_same_architecture() -> None:
    module = after(4, net(1), net(2))
    with pytest.raises(ArchitectureMismatchError):
        Solve(to=net(2, hidden=7), progress=False)(module)


def test_rewrite_emits_the_permuted_module() -> None:
    a, b = net(1), net(2)
    module = after(5, b, a)
    result = Rewrite()(module)
    assert result is not None
    assert result.modified
    emitted = result.graph_module
    assert isinstance(emitted, fr.RebasedModule)
    assert emitted is not module
    alignment = state_of(module).alignment
    assert alignment is not None
    expected = alignment.permutation.apply(b.state_dict())
    assert all(torch.equal(emitted.state_dict()[k], t) for k, t in expected.items())


def test_verify_checks_what_was_emitted() -> None:
    module = after(6, net(2), net(1))
    result = Verify((X,))(module)
    assert result is not None
    assert result.graph_module is module
    assert not result.modified
    found = state_of(module).verification
    assert found is not None
    assert (found.dtype, found.outputs) == (torch.float64, 1)
    assert found.error < 1e-12
    with torch.no_grad():
        module.get_parameter("0.bias").add_(1)
    with pytest.raises(VerificationError):
        Verify((X,))(module)


def test_the_passes_together_are_the_one_call() -> None:
    a, b = net(1), net(2)
    module = after(len(steps(a)), b, a)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert all(torch.equal(module.state_dict()[k], t) for k, t in aligned.state_dict().items())


def test_in_torchs_pass_manager() -> None:
    a, b = net(1), net(2)
    manager = PassManager(steps(a))
    result = manager(b)
    assert result.modified
    module = result.graph_module
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert isinstance(module, fr.RebasedModule)
    assert all(torch.equal(module.state_dict()[k], t) for k, t in aligned.state_dict().items())
    assert state_of(module).verification is not None


def test_in_torchs_pass_manager_with_checks_after_every_pass() -> None:
    a, b = net(1), net(2)
    checked = []

    def lint(module: nn.Module) -> None:
        checked.append(module)
        if isinstance(module, fx.GraphModule):
            module.graph.lint()

    manager = PassManager(steps(a), run_checks_after_each_pass=True)
    manager.add_checks(lint)
    emitted = manager(b).graph_module
    assert isinstance(emitted, fr.RebasedModule)
    assert torch.allclose(emitted(X), b(X), atol=1e-6)
    assert len(checked) >= len(steps(a))
    assert checked[-1] is emitted


def test_a_pass_manager_can_repeat_passes_that_modify_nothing() -> None:
    b = net(2)
    traced = after(1, b, net(1))
    manager = PassManager([Propagate((X,)), Refine()], steps=3)
    assert not manager(traced).modified
    assert state_of(traced).symmetry == fr.analyze(b, args=(X,))


@pytest.mark.parametrize(
    ("count", "early", "missing"),
    [
        (0, Propagate((X,)), "run Trace first"),
        (0, Refine(), "run Trace first"),
        (0, Rewrite(), "run Trace first"),
        (0, Verify((X,)), "run Trace first"),
        (0, Solve(to=net(1)), "run Trace first"),
        (1, Refine(), "needs the result of Propagate"),
        (2, Falsify((X,)), "needs the result of Refine"),
        (1, Solve(to=net(1)), "needs the result of Refine"),
        (2, Solve(to=net(1)), "needs the result of Refine"),
        (2, Rewrite(), "needs the result of Solve"),
        (3, Rewrite(), "needs the result of Solve"),
        (3, Verify((X,)), "needs the result of"),
    ],
)
def test_a_pass_that_comes_too_early_says_what_it_needs(
    count: int, early: PassBase, missing: str
) -> None:
    b = net(2)
    module = after(count, b, net(1)) if count else fx.symbolic_trace(b)
    with pytest.raises(PassOrderError, match=missing):
        early(module)


def test_verifying_before_rewriting_is_too_early() -> None:
    """Else it would compare the model with itself."""
    module = after(5, net(2), net(1))
    with pytest.raises(PassOrderError, match="Rewrite"):
        Verify((X,))(module)


def test_a_pass_manager_wraps_the_error() -> None:
    manager = PassManager([Trace(), Refine()])
    with pytest.raises(Exception, match="running the 'Refine' pass") as caught:
        manager(net(1))
    assert isinstance(caught.value.__cause__, PassOrderError)
    assert "Propagate" in str(caught.value.__cause__)


def test_an_untraceable_model_in_a_pass_manager() -> None:
    class Branching(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input if input.sum() > 0 else -input)

    with pytest.raises(Exception, match="running the 'Trace' pass") as caught:
        PassManager([Trace()])(Branching(3, 2))
    assert isinstance(caught.value.__cause__, TraceError)


@pytest.mark.parametrize("name", fxrebasin.passes.__all__)
def test_every_pass_says_what_it_takes_and_gives(name: str) -> None:
    step = getattr(fxrebasin.passes, name)
    assert issubclass(step, PassBase)
    assert step.__module__ == f"fxrebasin.passes.{name.lower()}"
    for word in ("Takes:", "Gives:", "Requires:", "Ensures:", "Cost:", ">>> "):
        assert word in step.__doc__
