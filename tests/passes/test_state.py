"""What passes hand on: example inputs, where a graph came from, which weights were read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidInputError, PassOrderError, TraceError, VerificationError
from fxrebasin.models import validation
from fxrebasin.passes import Falsify, Propagate, Refine, Rewrite, Solve, Trace, Verify
from fxrebasin.passes.base import Pass
from fxrebasin.passes.state import State, keep, state_of

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


@fx.wrap
def last_after_appending(tensors: list[Tensor]) -> Tensor:
    tensors.append(tensors[0] * 2)
    return tensors[-1]


class Broken(Net):
    """A graph can be traced, but not run; the model itself runs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(last_after_appending([self.enter(x)]))


def run(model: nn.Module, *steps: Pass) -> nn.Module:
    for step in steps:
        model = step(model).graph_module
    return model


# example inputs


def test_inputs_given_to_trace_are_those_of_all_passes() -> None:
    a, b = Net(), Net()
    solve = Solve(to=a, progress=False)
    emitted = run(b, Trace((X,)), Propagate(), Refine(), Falsify(), solve, Rewrite(), Verify())
    state = state_of(emitted)
    assert state.inputs is not None
    assert state.inputs[0][0] is X
    assert state.verification is not None
    assert state.verification.outputs == 1


def test_inputs_given_to_a_later_pass_first_are_those_of_the_passes_after_it() -> None:
    module = run(Net(), Trace(), Propagate((), {"x": X}), Refine(), Falsify())
    assert state_of(module).inputs == ((), {"x": X})


def test_a_pass_prefers_the_inputs_that_it_was_given() -> None:
    module = run(Net(), Trace((X,)))
    with pytest.raises(InvalidInputError, match=r"failed on shapes \[\(1, 7\)\]"):
        Propagate((torch.zeros(1, 7),))(module)
    assert state_of(run(module, Propagate(), Refine())).symmetry == fr.analyze(Net(), (X,))


@pytest.mark.parametrize("step", [Propagate(), Falsify(), Verify()])
def test_without_inputs_a_pass_says_who_can_be_given_them(step: Pass) -> None:
    a, name = Net(), type(step).__name__
    x, solve = (X,), Solve(to=a, progress=False)
    before: dict[str, list[Pass]] = {
        "Propagate": [Trace()],
        "Falsify": [Trace(), Propagate(x), Refine()],
        "Verify": [Trace(), Propagate(x), Refine(), solve, Rewrite()],
    }
    module = run(Net(), *before[name])
    state_of(module).inputs = None
    with pytest.raises(InvalidInputError) as caught:
        step(module)
    assert str(caught.value) == (
        f"{name} runs Net, and no pass was given example inputs; pass them to "
        f"Trace(args, kwargs), or to {name}(args, kwargs)"
    )


def test_a_model_without_inputs_needs_none() -> None:
    class Constant(Net):
        def forward(self, x: Tensor | None = None) -> Tensor:
            return super().forward(torch.arange(3.0)[None])

    module = run(Constant(), Trace(), Propagate(), Refine(), Falsify())
    symmetry = state_of(module).symmetry
    assert symmetry is not None
    assert symmetry.movable_units == 6


# front ends


@pytest.mark.parametrize(
    "steps", [(Trace((X,)), Propagate()), (Trace(), Propagate((X,)))], ids=["trace", "propagate"]
)
def test_where_a_graph_does_not_run_the_next_front_end_makes_one(steps: Sequence[Pass]) -> None:
    trace, propagate = steps
    traced = trace(Broken()).graph_module
    assert state_of(traced).origin.front_end == "symbolic_trace"
    result = propagate(traced)
    assert result.modified
    assert result.graph_module is not traced
    state = state_of(result.graph_module)
    assert state.origin.front_end != "symbolic_trace"
    assert "symbolic_trace gives a graph that does not run" in state.origin.notes[0]
    symmetry = state_of(run(result.graph_module, Refine(), Falsify())).symmetry
    assert symmetry == fr.analyze(Broken(), (X,))


def test_models_whose_graph_does_not_run_are_aligned_by_passes() -> None:
    a, b = Broken(), Broken()
    solve = Solve(to=a, progress=False)
    emitted = run(b, Trace(), Propagate((X,)), Refine(), Falsify(), solve, Rewrite(), Verify())
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert all(torch.equal(emitted.state_dict()[k], t) for k, t in aligned.state_dict().items())


def test_only_the_front_ends_that_were_asked_for_are_tried() -> None:
    with pytest.raises(InvalidInputError, match="last_after_appending"):
        run(Broken(), Trace((X,), front_ends=["symbolic_trace"]), Propagate())


def test_a_given_graph_that_does_not_run_is_not_replaced() -> None:
    graph = fx.symbolic_trace(Broken())
    with pytest.raises(InvalidInputError, match="last_after_appending"):
        run(graph, Trace((X,)), Propagate())


# weights


def test_weights_are_read_once_before_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def note(tensor: Tensor) -> bool:
        read.append(tensor)
        return True

    monkeypatch.setattr(validation, "is_finite", note)
    a, b = Net(), Net()
    fr.rebasin(b, to=a, args=(X,), progress=False)
    assert [id(t) for t in read] == [id(p) for model in (b, a) for p in model.parameters()]


def test_a_reference_that_trace_has_not_seen_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Net(), Net()
    module = run(b, Trace((X,), reference=b), Propagate(), Refine())
    with torch.no_grad():
        a.enter.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"'enter.bias' of the reference model A holds nan"):
        Solve(to=a, progress=False)(module)


def test_what_is_wrong_with_a_reference_is_found_first() -> None:
    a = Net()
    a.leave = nn.Linear(6, 3)
    with pytest.raises(ValueError, match=r"'leave.weight' has shape"):
        Trace((X,), reference=a)(Net())


# the state itself


def test_there_is_no_state_before_trace() -> None:
    for module in (Net(), fx.symbolic_trace(Net())):
        with pytest.raises(PassOrderError, match="run Trace first"):
            state_of(module)


def test_a_module_of_any_class_can_hold_a_state() -> None:
    for module in (Net(), fx.symbolic_trace(Net())):
        state = State(Net())
        keep(module, state)
        assert state_of(module) is state


def test_errors_of_other_kinds_are_not_taken_for_graphs_that_do_not_run() -> None:
    with pytest.raises(TraceError):
        run(Net(), Trace((X,), front_ends=[]))
    module = run(Net(), Trace((X,)), Propagate(), Refine(), Solve(to=Net(), progress=False))
    emitted = run(module, Rewrite())
    with torch.no_grad():
        emitted.get_parameter("enter.bias").add_(1)
    with pytest.raises(VerificationError):
        Verify()(emitted)
