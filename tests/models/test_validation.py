"""Bad inputs: what is said, and that nothing was changed."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxrebasin as fr
from fxrebasin.errors import (
    ArchitectureMismatchError,
    FxrebasinError,
    InvalidArgumentError,
    InvalidInputError,
    InvalidParameterError,
    TraceError,
    VerificationError,
)
from fxrebasin.models.running import unobserved
from fxrebasin.models.validation import check_parameters, check_same_architecture, stored_tensors

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net(hidden: int = 6, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def rebase(b: nn.Module, a: nn.Module, *args: Any, **options: Any) -> fr.Aligned:
    return fr.rebasin(b, to=a, args=args or (X,), progress=False, **options)


def says(caught: pytest.ExceptionInfo[Exception], *parts: str) -> None:
    for part in parts:
        assert part in str(caught.value), str(caught.value)


# two architectures


def test_the_first_parameter_that_differs_is_named_with_both_shapes() -> None:
    with pytest.raises(ArchitectureMismatchError) as caught:
        rebase(net(6), net(7))
    says(caught, "'0.weight'", "(6, 3)", "(7, 3)", "model A", "model B")


@pytest.mark.parametrize("bigger", ["A", "B"])
def test_a_parameter_that_one_model_lacks_is_named(bigger: str) -> None:
    small, large = net(), net()
    large.append(nn.Linear(2, 2))
    b, a = (small, large) if bigger == "A" else (large, small)
    with pytest.raises(ArchitectureMismatchError) as caught:
        rebase(b, a)
    says(caught, f"model {bigger} has '3.weight'", "(2, 2)", "same architecture")


def test_buffers_are_part_of_the_architecture() -> None:
    b, a = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in "ba")
    a[1] = nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(ArchitectureMismatchError, match=r"model B has '1.running_mean'"):
        rebase(b, a)


def test_the_same_parameters_in_other_classes_are_the_same_architecture() -> None:
    class Other(nn.Sequential):
        pass

    check_same_architecture(net(), Other(*net()))


def test_stored_tensors_have_all_their_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    assert list(stored_tensors(model)) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias",
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    ]  # fmt: skip


# parameters


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["A", "B"])
def test_parameters_that_are_not_finite_are_named(bad: float, which: str) -> None:
    b, a = net(), net()
    with torch.no_grad():
        (a if which == "A" else b).get_parameter("2.weight")[1, 3] = bad
    with pytest.raises(InvalidParameterError) as caught:
        rebase(b, a)
    says(caught, "'2.weight'", f"model {which}", "nan or inf")


def test_parameters_that_are_not_finite_cannot_be_analysed() -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = math.nan
    with pytest.raises(InvalidParameterError, match=r"'0.bias' of the model holds nan"):
        fr.analyze(model, args=(X,))


def test_large_finite_parameters_pass() -> None:
    model = net().half()
    nn.init.constant_(model.get_parameter("0.weight"), 6e4)
    check_parameters(model)
    double = net().double()
    nn.init.constant_(double.get_parameter("0.weight"), 1e308)
    check_parameters(double)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch is moving quantisation elsewhere
def test_quantised_parameters_are_named() -> None:
    model = net()
    quantised = torch.quantize_per_tensor(torch.randn(6, 3), 0.1, 0, torch.qint8)
    model[0].weight = nn.Parameter(quantised, requires_grad=False)
    with pytest.raises(InvalidParameterError) as caught:
        fr.analyze(model, args=(X,))
    says(caught, "'0.weight'", "quantised", "qint8")


def test_sparse_parameters_are_named() -> None:
    model = net()
    model[0].weight = nn.Parameter(torch.eye(6, 3).to_sparse())
    with pytest.raises(InvalidParameterError) as caught:
        fr.analyze(model, args=(X,))
    says(caught, "'0.weight'", "sparse", "to_dense")


def test_meta_parameters_are_named() -> None:
    with pytest.raises(InvalidParameterError, match=r"'0.weight' of the model is on the meta dev"):
        fr.analyze(net().to("meta"), args=(X,))
    with pytest.raises(InvalidParameterError, match="model A"):
        rebase(net(), net().to("meta"))


def test_parameters_that_are_not_initialised_are_named() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(InvalidParameterError, match=r"'0.weight'.*not initialised"):
        fr.analyze(model, args=(X,))


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.BatchNorm1d(3, affine=False)])
def test_models_without_parameters(model: nn.Module) -> None:
    with pytest.raises(InvalidParameterError, match="has no parameters"):
        fr.analyze(model, args=(X,))


def test_parameters_on_several_devices_are_named() -> None:
    """A second device, as far as there is none: one parameter says that it is elsewhere."""

    class Elsewhere(nn.Parameter):
        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("cuda:1")

    model = net()
    model[2].weight = Elsewhere(torch.zeros(2, 6))
    with pytest.raises(InvalidParameterError) as caught:
        check_parameters(model, "model B")
    says(caught, "model B", "'0.weight' on cpu", "'2.weight' on cuda:1", "one device")


# tracing


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        if x.sum() > 0:  # the line to be named
            x = -x
        return self.leave(x)


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branching = Branching()

    def forward(self, x: Tensor) -> Tensor:
        return self.branching(x)


@pytest.mark.parametrize("factory", [Branching, Inside])
def test_what_cannot_be_traced_is_named_by_file_and_line(factory: type[nn.Module]) -> None:
    lines, first = inspect.getsourcelines(Branching)
    line = first + next(k for k, text in enumerate(lines) if "to be named" in text)
    with pytest.raises(TraceError) as caught:
        fr.analyze(factory(), args=(X,), front_ends=["symbolic_trace"])
    says(caught, factory.__name__, f"{Path(__file__).name}, line {line}", "if x.sum() > 0")
    says(caught, "torch.fx.wrap", "GraphModule")
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.__cause__ is not None


def test_a_ready_graph_is_the_way_out() -> None:
    model = Branching()
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_module("leave", (graph.call_module("enter", (x,)),)))
    assert fr.analyze(fx.GraphModule(model, graph), args=(X,)).movable_units == 6


# inputs


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, gain: float = 1.0) -> Tensor:
        h = self.enter(x).relu()
        if mask is not None:
            h = h * mask
        return self.leave(h) * gain


Call = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]


def analyse(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fr.analyze(model, args=args, kwargs=kwargs)


def align(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fr.rebasin(model, to=copy.deepcopy(model), args=args, kwargs=kwargs, progress=False)


CALLS = [analyse, align]


@pytest.mark.parametrize("call", CALLS)
def test_inputs_of_the_wrong_shape_name_node_and_shapes(call: Call) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call(net(), (torch.zeros(4, 5),), {})
    says(caught, "does not run on the example inputs", "(4, 5)", "_0")


@pytest.mark.parametrize("call", CALLS)
def test_missing_inputs_are_named(call: Call) -> None:
    with pytest.raises(InvalidInputError, match=r"input 'input' is missing"):
        call(net(), (), {})
    with pytest.raises(InvalidInputError, match=r"input 'x' is missing .*\['mask'\]"):
        call(TwoInputs(), (), {"mask": torch.ones(6)})


@pytest.mark.parametrize("call", CALLS)
def test_too_many_inputs_are_counted(call: Call) -> None:
    with pytest.raises(InvalidInputError, match=r"2 example inputs were given, .* takes 1"):
        call(net(), (X, X), {})


@pytest.mark.parametrize("call", CALLS)
def test_inputs_that_the_model_does_not_have_are_named(call: Call) -> None:
    with pytest.raises(InvalidInputError, match="'nonsense'"):
        call(net(), (X,), {"nonsense": 1})
    with pytest.raises(InvalidInputError, match="'x'"):
        call(TwoInputs(), (X,), {"x": X})


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X,), {}),
        ((), {"x": X}),
        ((X,), {"gain": 2.0}),
        ((X, None), {}),
        ((X,), {"mask": None}),
        ((X, torch.ones(4, 1)), {}),
        ((X,), {"mask": torch.ones(4, 1), "gain": 2.0}),
    ],
)
def test_optional_inputs_can_be_left_out(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    found = call(TwoInputs(), args, kwargs)
    symmetry = found if isinstance(found, fr.Symmetry) else found.report.symmetry
    assert symmetry.movable_units == 6


def test_options_that_make_no_sense() -> None:
    with pytest.raises(InvalidArgumentError, match="max_sweeps"):
        rebase(net(), net(), solver=partial(fr.solvers.coordinate_descent, max_sweeps=-1))


def test_every_error_has_one_base_and_a_builtin_one() -> None:
    for error, builtin in (
        (ArchitectureMismatchError, ValueError),
        (InvalidParameterError, ValueError),
        (InvalidInputError, ValueError),
        (InvalidArgumentError, ValueError),
        (TraceError, RuntimeError),
        (VerificationError, RuntimeError),
    ):
        assert issubclass(error, FxrebasinError)
        assert issubclass(error, builtin)


# nothing was changed


@pytest.mark.parametrize("fails", [False, True])
def test_what_runs_unobserved_leaves_no_trace(fails: bool) -> None:
    model = net()
    model[1].eval()
    random = torch.get_rng_state()
    try:
        with unobserved(model):
            assert not any(m.training for m in model.modules())
            assert not torch.is_grad_enabled()
            torch.rand(3)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.equal(torch.get_rng_state(), random)


def poisoned() -> nn.Module:
    model = net()
    with torch.no_grad():
        model.get_parameter("2.bias")[0] = math.nan
    return model


class Random(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x) + torch.rand(6))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[Any, ...]]] = {
    "another architecture": (net, lambda: net(7), (X,)),
    "nan in A": (net, poisoned, (X,)),
    "nan in B": (poisoned, net, (X,)),
    "untraceable": (Branching, Branching, ()),
    "wrong inputs": (net, net, (torch.zeros(4, 5),)),
    "no inputs": (net, net, ()),
    "a wrong trace": (Random, Random, (X,)),
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_after_an_error_nothing_has_changed(name: str, inplace: bool) -> None:
    make_b, make_a, args = CASES[name]
    b, a = make_b().train(), make_a().train()
    kept = copy.deepcopy((b.state_dict(), a.state_dict()))
    identities = [[id(p) for p in m.parameters()] for m in (b, a)]
    attributes = [[sorted(vars(x)) for x in m.modules()] for m in (b, a)]
    random = torch.get_rng_state()
    with pytest.raises(FxrebasinError):
        fr.rebasin(b, to=a, args=args, progress=False, inplace=inplace)
    for model, state in zip((b, a), kept, strict=True):
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor.nan_to_num(), state[key].nan_to_num()), key
    assert [[id(p) for p in m.parameters()] for m in (b, a)] == identities
    assert [[sorted(vars(x)) for x in m.modules()] for m in (b, a)] == attributes
    assert all(x.training for m in (b, a) for x in m.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_is_no_state_dict() -> None:
    model: Any = net()
    nothing: Any = None
    symmetry = fr.analyze(model, args=(X,))
    state = model.state_dict()
    for call, text in (
        (lambda: fr.weight_matching(symmetry, model, to=state), "state_dict: .*Sequential; give"),
        (lambda: fr.weight_matching(symmetry, state, to=model), r"give to\.state_dict\(\)"),
        (
            lambda: fr.Permutation.identity(symmetry).apply(model),
            r"give state_dict\.state_dict\(\)",
        ),
        (
            lambda: fr.Permutation.identity(symmetry).apply(nothing),
            "found NoneType; give a state dict",
        ),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            call()
