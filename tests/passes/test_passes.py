"""The passes: each alone, in torch's PassManager, and in the wrong order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

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
from fxrebasin.passes.base import Pass
from fxrebasin.passes.state import state_of
from fxrebasin.verification.verify import Verification

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net(seed: int, hidden: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))


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
        module = step(module).graph_module
    assert isinstance(module, fx.GraphModule)
    return module


def test_trace_gives_a_graph_that_shares_the_parameters() -> None:
    b = net(1)
    result = Trace()(b)
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
        Trace()(nn.ReLU())


def test_propagate_finds_units_and_constraints() -> None:
    traced = after(1, net(1), net(2))
    result = Propagate((X,))(traced)
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
    one, other = after(1, net(1), net(2)), after(1, net(1), net(2))
    Propagate((), {"input": X})(one)
    Propagate((X,))(other)
    groups = [state_of(Refine()(module).graph_module).symmetry for module in (one, other)]
    assert groups[0] == groups[1]


def test_refine_finds_the_symmetry() -> None:
    module = after(2, net(1), net(2))
    result = Refine()(module)
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
    manager = PassManager([*steps(a)])
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

    manager = PassManager([*steps(a)], run_checks_after_each_pass=True)
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
        (4, Rewrite(), "needs the result of Solve"),
        (4, Verify((X,)), "needs the result of Rewrite"),
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


BROKEN: dict[str, tuple[int, Callable[[fx.GraphModule], None]]] = {}
"""Per promise, after how many passes it is broken, and how."""


def breaks(
    count: int,
) -> Callable[[Callable[[fx.GraphModule], None]], Callable[[fx.GraphModule], None]]:
    def keep(breach: Callable[[fx.GraphModule], None]) -> Callable[[fx.GraphModule], None]:
        BROKEN[breach.__name__] = count, breach
        return breach

    return keep


@breaks(1)
def the_graph_is_not_well_formed(module: fx.GraphModule) -> None:
    node = next(iter(module.graph.find_nodes(op="output")))
    node.prepend(module.graph.create_node("call_module", "nowhere", (node,)))


@breaks(1)
def the_graph_has_parameters_of_its_own(module: fx.GraphModule) -> None:
    module.get_submodule("0").weight = nn.Parameter(torch.zeros(6, 3))


@breaks(2)
def a_parameter_has_no_units(module: fx.GraphModule) -> None:
    facts = state_of(module).facts
    assert facts is not None
    facts.parameters.pop()


@breaks(2)
def units_do_not_fit_the_parameter(module: fx.GraphModule) -> None:
    facts = state_of(module).facts
    assert facts is not None
    weight = facts.parameters[0]
    weight.coordinates[0] = weight.coordinates[0].repeat(5)[:, None]


@breaks(4)
def the_symmetry_is_not_the_one_that_was_tested(module: fx.GraphModule) -> None:
    state_of(module).symmetry = fr.analyze(net(1, hidden=5), args=(X,))


@breaks(5)
def the_objective_fell(module: fx.GraphModule) -> None:
    state = state_of(module)
    assert state.alignment is not None
    state.alignment = replace(state.alignment, objective_after=-math.inf)


@breaks(5)
def the_permutation_is_of_another_symmetry(module: fx.GraphModule) -> None:
    state_of(module).symmetry = fr.analyze(net(1, hidden=5), args=(X,))


@breaks(6)
def a_parameter_was_renamed(module: fx.GraphModule) -> None:
    module.get_submodule("2").register_parameter("weights", nn.Parameter(torch.zeros(2, 6)))


@breaks(6)
def a_parameter_has_another_dtype(module: fx.GraphModule) -> None:
    module.get_submodule("2").double()


@breaks(7)
def the_outputs_differ(module: fx.GraphModule) -> None:
    state_of(module).verification = Verification(0.1, torch.float64, 1)


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_pass_ensures_is_checked(name: str) -> None:
    count, breach = BROKEN[name]
    a = net(1)
    step, module = steps(a)[count - 1], after(count, net(2), a)
    step.ensures(module)
    breach(module)
    with pytest.raises((AssertionError, RuntimeError)):
        step.ensures(module)


def test_a_pass_checks_what_it_returns() -> None:
    class Careless(Rewrite):
        def call(self, graph_module: nn.Module) -> PassResult:
            result = super().call(graph_module)
            a_parameter_has_another_dtype(result.graph_module)
            return result

    with pytest.raises(AssertionError, match="weight"):
        Careless()(after(5, net(2), net(1)))


@pytest.mark.parametrize("name", fxrebasin.passes.__all__)
def test_every_pass_says_what_it_takes_and_gives(name: str) -> None:
    step = getattr(fxrebasin.passes, name)
    assert issubclass(step, PassBase)
    assert step.ensures is not Pass.ensures
    assert step.__module__ == f"fxrebasin.passes.{name.lower()}"
    for word in ("Takes:", "Gives:", "Requires:", "Ensures:", "Cost:", ">>> "):
        assert word in step.__doc__
