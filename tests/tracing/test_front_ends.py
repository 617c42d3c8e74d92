"""Every model is run by the first front end that can; what it finds does not depend on which."""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.infra.pass_manager import PassManager

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import InvalidArgumentError, InvalidInputError, RuleError, TraceError
from fxrebasin.models.precision import in_double
from fxrebasin.models.running import run
from fxrebasin.passes import Falsify, Propagate, Refine, Rewrite, Solve, Trace, Verify
from fxrebasin.tracing.front_ends import FRONT_ENDS, FrontEnd

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """torch.export warns of the versions of its own parts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch")
        yield


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm, self.leave = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.norm(self.enter(x)).relu())


class ByShape(Plain):
    """Python asks for a shape in a way that symbolic tracing cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[1] - 2):
            x = self.norm(self.enter(x)).relu()
        return self.leave(x)


class ByValue(Plain):
    """Python asks for a value: only running the model tells."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        if h.sum().item() > -1e9:
            h = self.norm(h).relu()
        return self.leave(h)


class Listed(Plain):
    """Detection models take lists of images of different sizes."""

    def forward(self, xs: Any) -> Any:
        return [{"scores": super(Listed, self).forward(x)} for x in xs if x.numel() > 0]


MODELS: dict[str, tuple[type[Plain], tuple[Any, ...], str]] = {
    "Plain": (Plain, (X,), "symbolic_trace"),
    "ByShape": (ByShape, (X,), "export"),
    "ByValue": (ByValue, (X,), "eager"),
    "Listed": (Listed, ([X, X[:2]],), "export"),
}


def pair(kind: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        made.append(kind())
    return made[0], made[1]


@pytest.mark.parametrize("name", MODELS)
def test_the_first_front_end_that_can_is_used_and_named(name: str) -> None:
    kind, args, front_end = MODELS[name]
    symmetry = fr.analyze(kind(), args=args)
    assert symmetry.front_end == front_end
    assert symmetry.log_order == pytest.approx(math.lgamma(7))
    given_up = [n for n in FRONT_ENDS if any(note.startswith(n) for note in symmetry.notes)]
    assert given_up == list(FRONT_ENDS[: FRONT_ENDS.index(symmetry.front_end)])


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_all_front_ends_find_the_same(front_end: FrontEnd) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 4, 5),
        nn.GELU(),
        nn.Linear(5, 2),
    )
    args = (torch.zeros(2, 3, 6, 6),)
    first = fr.analyze(model, args)
    found = fr.analyze(model, args, front_ends=[front_end])
    assert found.front_end == front_end
    assert found.log_order == pytest.approx(first.log_order)
    assert found.coverage == first.coverage
    assert [(b.size, b.count) for b in found] == [(b.size, b.count) for b in first]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("inplace", [False, True])
def test_models_are_aligned_whatever_ran_them(name: str, inplace: bool) -> None:
    kind, args, front_end = MODELS[name]
    a, b = pair(kind)
    expected = run(copy.deepcopy(b).double(), in_double(args), {})
    kept = copy.deepcopy(b.state_dict())
    aligned = fr.rebasin(b, to=a, args=args, inplace=inplace, progress=False)
    assert isinstance(aligned, fx.GraphModule) == (front_end != "eager")
    assert aligned.report.symmetry.front_end == front_end
    assert aligned.report.objective_after > aligned.report.objective_before
    assert list(aligned.state_dict()) == list(b.state_dict())
    assert difference(run(copy.deepcopy(aligned).double(), in_double(args), {}), expected) < 1e-9
    changed = any(not torch.equal(v, kept[k]) for k, v in b.state_dict().items())
    assert changed == inplace
    if front_end == "eager":
        assert isinstance(aligned, kind)
        assert (aligned is b) == inplace


def test_what_control_flow_reads_is_reported() -> None:
    symmetry = fr.analyze(ByValue(), args=(X,))
    note = next(n for n in symmetry.notes if "reads values" in n)
    assert "_local_scalar_dense" in note
    assert "the answer holds for the path that the example inputs take" in note
    assert f"note: {note}" in str(symmetry)


class ReadsFeatures(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.leave(-h if h[0, 1] > 0 else h)


def test_what_control_flow_reads_stays_in_place() -> None:
    """Reading one unit pins it; the others may still be exchanged."""
    symmetry = fr.analyze(ReadsFeatures(), args=(X,))
    assert symmetry.movable_units == 5


class ComparesLayers(nn.Module):
    def __init__(self, kept: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 6), nn.Linear(3, 6)
        self.leave_one, self.leave_two = nn.Linear(6, 3), nn.Linear(6, 3)
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.one(x).relu(), self.two(x).relu()
        if torch.equal(x1[:, : self.kept], x2[:, :4]):
            return self.leave_one(x1)
        return self.leave_one(x1) - self.leave_two(x2)


@pytest.mark.parametrize(
    ("kept", "order"),
    [(4, math.lgamma(5) + 2 * math.lgamma(3)), (3, 2 * math.lgamma(7))],
)
def test_what_is_compared_as_a_whole_moves_together(kept: int, order: float) -> None:
    """Of unlike shapes nothing is compared; of like ones, what is compared stays that set."""
    symmetry = fr.analyze(ComparesLayers(kept), args=(X,))
    assert symmetry.front_end == "eager"
    assert symmetry.log_order == pytest.approx(order)
    assert symmetry.unknown_ops == {}
    assert any("reads values of tensors (at equal)" in note for note in symmetry.notes)


def test_exported_programs_and_graphs_are_taken_as_they_are() -> None:
    a, b = pair(Plain)
    exported = torch.export.export(b, (X,), strict=False)
    symmetry = fr.analyze(exported, args=(X,))
    assert symmetry.front_end == "given graph"
    assert symmetry.movable_units == 6
    assert [p.name for p in symmetry.parameters] == [n for n, _ in b.named_parameters()]
    found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    aligned = found.apply_to(b)
    assert difference(evaluate(aligned.double(), (X,)), evaluate(b.double(), (X,))) < 1e-9


def test_an_exported_graph_takes_other_batch_sizes() -> None:
    a, b = pair(ByShape)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    other = torch.randn(7, 3)
    assert torch.allclose(aligned(other), b(other), atol=1e-5)


@dataclass
class Encoded:
    features: Tensor
    extra: dict[str, list[Tensor]]


class Nested(Plain):
    def forward(  # type: ignore[override]
        self, batch: Mapping[str, Tensor], *, scale: tuple[Tensor, float]
    ) -> Encoded:
        h = self.norm(self.enter(batch["x"])).relu()
        return Encoded(self.leave(h) * scale[0], {"means": [h.mean(1), h.amax(1) * scale[1]]})


NESTED = {"batch": {"x": X}, "scale": (torch.ones(2), 2.0)}


@pytest.mark.parametrize("front_end", ["eager", "symbolic_trace"])
def test_inputs_and_outputs_may_be_nested(front_end: FrontEnd) -> None:
    a, b = pair(Nested)
    symmetry = fr.analyze(b, kwargs=NESTED, front_ends=[front_end])
    assert symmetry.movable_units == 6
    aligned = fr.rebasin(b, to=a, kwargs=NESTED, symmetry=symmetry, progress=False)
    expected, found = b(**NESTED), aligned(**NESTED)
    assert isinstance(found, Encoded)
    assert torch.allclose(found.features, expected.features, atol=1e-5)
    assert torch.allclose(found.extra["means"][1], expected.extra["means"][1], atol=1e-5)


def test_export_knows_no_outputs_but_registered_ones() -> None:
    with pytest.raises(TraceError, match=r"torch\.export.*Encoded'> in output"):
        fr.analyze(Nested(), kwargs=NESTED, front_ends=["export"])


class InDataclass(Plain):
    def forward(self, x: Tensor) -> Any:
        h = self.enter(x)
        return Encoded(self.leave(h), {"hidden": [h]})


def test_what_a_dataclass_holds_is_an_output() -> None:
    assert fr.analyze(InDataclass(), args=(X,)).movable_units == 0


class Broken(nn.Module):
    """A graph can be traced, but not run; the model itself runs."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.leave(last_after_appending([h]))


@fx.wrap
def last_after_appending(tensors: list[Tensor]) -> Tensor:
    tensors.append(tensors[0] * 2)
    return tensors[-1]


def test_a_graph_that_does_not_run_is_given_up() -> None:
    symmetry = fr.analyze(Broken(), args=(X,))
    assert symmetry.front_end != "symbolic_trace"
    assert symmetry.movable_units == 6
    assert any("symbolic_trace gives a graph that does not run" in n for n in symmetry.notes)


def test_a_model_that_does_not_run_is_an_error_of_the_inputs() -> None:
    for kind in (Plain, ByShape, ByValue):
        with pytest.raises(InvalidInputError, match="does not run on"):
            fr.analyze(kind(), args=(torch.zeros(2, 5),))


def test_without_inputs_the_error_says_what_they_would_be_good_for() -> None:
    with pytest.raises(TraceError, match="Pass example inputs to have"):
        fr.analyze(ByShape())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a torch\.nn\.Module"):
        fr.analyze(lambda x: x, args=(X,))  # type: ignore[arg-type]


def test_the_passes_run_without_a_graph() -> None:
    a, b = pair(ByValue)
    manager = PassManager(
        [
            Trace((X,)),
            Propagate((X,)),
            Refine(),
            Falsify((X,)),
            Solve(to=a, progress=False),
            Rewrite(),
            Verify((X,)),
        ]
    )
    result = manager(b)
    assert type(result.graph_module) is ByValue
    assert torch.allclose(result.graph_module(X), b(X), atol=1e-5)


class Caching(ByValue):
    """Keeps what it computed; the user's own module must not."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


def test_running_eagerly_leaves_the_model_alone() -> None:
    model = Caching().train()
    hooks = len(model._forward_hooks)
    state = copy.deepcopy(model.state_dict())
    fr.analyze(model, args=(X,))
    assert model.last is None
    assert model.training
    assert len(model._forward_hooks) == hooks
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@torch.library.custom_op("front_ends::scaled", mutates_args=())
def scaled(x: Tensor, scale: Tensor) -> Tensor:
    return x * scale


class HoldsWhatCannotBeCopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.rand(6))
        self.op, self.lock = scaled, threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.leave(self.op(self.enter(x), self.scale))


class HoldsAndReads(HoldsWhatCannotBeCopied):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum().item() > -1e9 else -x)


@pytest.mark.parametrize("front_end", ["symbolic_trace", "eager"])
def test_copies_share_what_cannot_be_copied(front_end: FrontEnd) -> None:
    a, b = pair(HoldsWhatCannotBeCopied)
    symmetry = fr.analyze(b, args=(X,), rules={scaled: "... c, c -> ... c"}, front_ends=[front_end])
    assert symmetry.movable_units == 6
    found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    moved = found.apply_to(b)
    assert moved.lock is b.lock
    assert moved.enter is not b.enter
    assert difference(evaluate(moved.double(), (X,)), evaluate(b.double(), (X,))) < 1e-9


@pytest.mark.parametrize("kind", [HoldsWhatCannotBeCopied, HoldsAndReads])
def test_a_model_that_holds_a_lock_is_aligned(kind: type[nn.Module]) -> None:
    a, b = pair(kind)
    rules = {scaled: "... c, c -> ... c"}
    symmetry = fr.analyze(b, args=(X,), rules=rules)
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert aligned.report.objective_after > aligned.report.objective_before


def test_errors_of_rules_are_not_taken_for_errors_of_inputs() -> None:
    def rule(call: fr.Call, *args: Any, **kwargs: Any) -> Any:
        raise KeyError("a slip")

    for front_end in FRONT_ENDS:
        with pytest.raises(RuleError, match=r"the rule of aten.relu.default failed.*a slip"):
            fr.analyze(
                Plain(), args=(X,), rules={torch.ops.aten.relu: rule}, front_ends=[front_end]
            )


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_random_permutations_leave_the_function_unchanged(front_end: FrontEnd) -> None:
    model = randomise(Plain())
    symmetry = fr.analyze(model, args=(X.double(),), front_ends=[front_end])
    expected = evaluate(model, (X,))
    for seed in range(3):
        permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert difference(evaluate(permutation.apply_to(model), (X,)), expected) < 1e-10


def test_the_module_of_an_exported_program_is_aligned() -> None:
    """Its guards refuse every other batch size, at which the group is tested as well."""
    a, b = (nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)) for _ in "ab")
    x = torch.randn(4, 3)
    exported = torch.export.export(b, (x,)).module()
    aligned = fr.rebasin(exported, to=a, args=(x,), progress=False)
    assert aligned.report.symmetry.log_order == pytest.approx(math.log(720))
    assert difference([aligned(x)], [b(x)]) < 1e-5


def test_a_model_that_asserts_its_sizes_is_tested_at_these() -> None:
    class Asserting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape == (4, 3)
            return self.leave(self.enter(x).tanh())

    assert fr.analyze(Asserting(), (torch.randn(4, 3),)).log_order == pytest.approx(math.log(720))
