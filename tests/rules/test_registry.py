"""Rules that users write: for ops, functions, methods and types of module."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import InvalidArgumentError, RefutedWarning, RuleError, SignatureError
from fxrebasin.rules import registry
from fxrebasin.rules.registry import rule_book
from fxrebasin.tracing.front_ends import FRONT_ENDS, FrontEnd

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@torch.library.custom_op("fxrebasin_test_rules::scaled_norm", mutates_args=())
def scaled_norm(x: Tensor, scale: Tensor | None, power: float) -> Tensor:
    """An op that nothing is known of."""
    y = x / x.abs().pow(power).mean(-1, keepdim=True)
    return y.clone() if scale is None else y * scale


@scaled_norm.register_fake
def _(x: Tensor, scale: Tensor | None, power: float) -> Tensor:
    return torch.empty_like(x)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """Pointwise, but written with sums that are not."""
    return torch.diff(x.cumsum(1), prepend=torch.zeros_like(x[:, :1])) * gate


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.act(self.enter(x)))

    def act(self, h: Tensor) -> Tensor:
        return h


class WithOp(Net):
    def act(self, h: Tensor) -> Tensor:
        return scaled_norm(h, self.scale, 2.0)


class WithoutScale(Net):
    def act(self, h: Tensor) -> Tensor:
        return scaled_norm(h, None, 2.0)


class WithFunction(Net):
    def act(self, h: Tensor) -> Tensor:
        return gated(h, gate=self.scale)


class WithMethod(Net):
    def act(self, h: Tensor) -> Tensor:
        return h.cumsum(1).flip(1).cumsum(1).flip(1)


class Opaque(nn.Module):
    """A layer of the user's own, with code that pins."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        totals = x.cumsum(1)
        again = torch.cat([totals[:, :1], totals.diff(dim=1)], 1)
        return F.linear(again, self.weight, self.bias)


class WithModule(Net):
    def __init__(self) -> None:
        super().__init__()
        self.opaque, self.leave = Opaque(), nn.Linear(5, 2)

    def act(self, h: Tensor) -> Tensor:
        return self.opaque(h)


def six() -> float:
    return math.lgamma(7)


def holds(model: nn.Module, symmetry: fr.Symmetry) -> bool:
    model = randomise(model)
    expected = evaluate(model, (X,))
    return all(
        difference(
            evaluate(
                fr.Permutation.random(symmetry, torch.Generator().manual_seed(s)).apply_to(model),
                (X,),
            ),
            expected,
        )
        < 1e-10
        for s in range(3)
    )


SIGNATURES: dict[str, tuple[type[nn.Module], Any, str, float]] = {
    "op": (WithOp, scaled_norm, "... c, c -> ... c", six()),
    "overload packet": (
        WithOp,
        torch.ops.fxrebasin_test_rules.scaled_norm,
        "... c, c -> ... c",
        six(),
    ),
    "overload": (
        WithOp,
        torch.ops.fxrebasin_test_rules.scaled_norm.default,
        "... c, c -> ... c",
        six(),
    ),
    "absent operand": (WithoutScale, scaled_norm, "... c, c -> ... c", six()),
    "function": (WithFunction, gated, "... c, c -> ... c", six()),
    "module": (WithModule, Opaque, "n i, weight: o i, bias: o -> n o", six() + math.lgamma(6)),
}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_frees_what_was_not_understood(name: str, front_end: FrontEnd) -> None:
    kind, target, text, log_order = SIGNATURES[name]
    if front_end == "export" and name in ("function", "module"):
        with pytest.raises(fr.errors.TraceError, match="have rules of their own"):
            fr.analyze(kind(), (X,), rules={target: text}, front_ends=[front_end])
        return
    without = fr.analyze(kind(), (X,), front_ends=[front_end, "eager"])
    assert without.log_order < log_order - 1
    model = kind()
    symmetry = fr.analyze(model, (X,), rules={target: text}, front_ends=[front_end])
    assert symmetry.front_end == front_end
    assert symmetry.log_order == pytest.approx(log_order)
    assert symmetry.unknown_ops == {}
    assert holds(model, symmetry)


def test_a_function_on_layouts_takes_the_ops_own_arguments() -> None:
    seen: list[Any] = []

    def rule(call: fr.Call, x: fr.Layout, scale: fr.Layout, power: float) -> fr.Layout:
        seen.append((x.shape, scale.shape, power, call.shape))
        return call.merge(x, scale, call.reduce(x, [-1], keepdim=True))

    symmetry = fr.analyze(WithOp(), (X,), rules={scaled_norm: rule})
    assert seen == [((4, 6), (6,), 2.0, (4, 6))]
    assert symmetry.log_order == pytest.approx(six())


@pytest.mark.parametrize("front_end", ["symbolic_trace", "eager"])
def test_a_rule_for_a_method_of_tensors(front_end: FrontEnd) -> None:
    def rule(call: fr.Call, x: fr.Layout, dim: int) -> fr.Layout:
        return call.pin(x, "sums so far", [dim])

    symmetry = fr.analyze(
        WithMethod(), (X,), rules={torch.Tensor.cumsum: rule}, front_ends=[front_end]
    )
    reasons = {p.reason.partition(" (at ")[0] for p in symmetry.pinned}
    assert "sums so far" in reasons
    assert symmetry.unknown_ops == {}


@pytest.mark.parametrize("front_end", ["symbolic_trace", "eager"])
def test_a_rule_for_a_module_reads_what_it_stores(front_end: FrontEnd) -> None:
    def rule(call: fr.Call, x: fr.Layout) -> fr.Layout:
        return call.signature(
            "n i, o i, o -> n o", x, call.parameter("weight"), call.parameter("bias")
        )

    symmetry = fr.analyze(WithModule(), (X,), rules={Opaque: rule}, front_ends=[front_end])
    assert symmetry.log_order == pytest.approx(six() + math.lgamma(6))
    assert holds(WithModule(), symmetry)


def test_a_rule_for_a_module_holds_for_its_subclasses() -> None:
    class Finer(Opaque):
        pass

    model = WithModule()
    model.opaque = Finer()
    text = "n i, weight: o i, bias: o -> n o"
    assert fr.analyze(model, (X,), rules={Opaque: text}).log_order == pytest.approx(
        six() + math.lgamma(6)
    )


def test_a_rule_asks_for_what_the_module_does_not_store() -> None:
    def rule(call: fr.Call, x: fr.Layout) -> fr.Layout:
        return call.parameter("kernel")

    with pytest.raises(InvalidArgumentError, match=r"asks for 'kernel'.*\['bias', 'weight'\]"):
        fr.analyze(WithModule(), (X,), rules={Opaque: rule})


def test_move_runs_a_view_on_the_units() -> None:
    def rule(call: fr.Call, x: fr.Layout, scale: fr.Layout, power: float) -> fr.Layout:
        return call.merge(*call.move(x, lambda t: t.flip(1)), scale)

    with pytest.warns(RefutedWarning):
        symmetry = fr.analyze(WithOp(), (X,), rules={scaled_norm: rule})
    assert holds(WithOp(), symmetry)


# how far rules reach


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    for target in (scaled_norm, gated, Opaque, torch.ops.aten.relu):
        try:
            fr.unregister_rule(target)
        except InvalidArgumentError:
            continue


@pytest.mark.usefixtures("clean")
def test_registered_rules_hold_until_they_are_forgotten() -> None:
    before = fr.analyze(WithOp(), (X,)).log_order
    fr.register_rule(scaled_norm, "... c, c -> ... c")
    assert fr.analyze(WithOp(), (X,)).log_order == pytest.approx(six())
    fr.unregister_rule(scaled_norm)
    assert fr.analyze(WithOp(), (X,)).log_order == before
    with pytest.raises(InvalidArgumentError, match="no rule was registered"):
        fr.unregister_rule(scaled_norm)


@pytest.mark.usefixtures("clean")
def test_a_rule_can_be_registered_by_decoration() -> None:
    @fr.register_rule(scaled_norm)
    def rule(call: fr.Call, x: fr.Layout, scale: fr.Layout, power: float) -> fr.Layout:
        return call.merge(x, scale)

    assert rule.__name__ == "rule"
    assert fr.analyze(WithOp(), (X,)).log_order == pytest.approx(six())


@pytest.mark.usefixtures("clean")
def test_rules_of_a_call_leave_nothing_behind() -> None:
    known = dict(rule_book().own)
    fr.analyze(WithOp(), (X,), rules={scaled_norm: "... c, c -> ... c"})
    fr.analyze(WithFunction(), (X,), rules={gated: "... c, c -> ... c"}, front_ends=["eager"])
    assert dict(rule_book().own) == known
    assert WithFunction.forward.__globals__["gated"] is gated
    assert "forward" not in vars(WithModule().opaque)


@pytest.mark.usefixtures("clean")
def test_rules_of_a_call_come_before_registered_and_built_in_ones() -> None:
    class Relu(Net):
        def act(self, h: Tensor) -> Tensor:
            return h.relu()

    def pins(call: fr.Call, x: fr.Layout) -> fr.Layout:
        return call.pin(x, "by order")

    assert fr.analyze(Relu(), (X,)).movable_units == 6
    fr.register_rule(torch.ops.aten.relu, pins)
    assert fr.analyze(Relu(), (X,)).movable_units == 0
    assert fr.analyze(Relu(), (X,), rules={torch.ops.aten.relu: "... -> ..."}).movable_units == 6


def test_rules_reach_alignment() -> None:
    a, b = WithOp(), WithOp()
    symmetry = fr.analyze(b, args=(X,), rules={scaled_norm: "... c, c -> ... c"})
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert aligned.report.symmetry.movable_units == 6
    assert torch.allclose(aligned(X), b(X), atol=1e-5)


def test_a_book_looks_an_op_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[Any] = []
    monkeypatch.setattr(registry, "find_rule", looked_up.append)
    book = rule_book({torch.ops.aten.relu: "... -> ..."})
    for _ in range(2):
        assert book.of_op(torch.ops.aten.relu.default) is not None
        assert book.of_op(torch.ops.aten.exp.default) is None
    assert looked_up == [torch.ops.aten.exp.default]


# what is wrong


def test_a_wrong_rule_is_refuted() -> None:
    class Cumulative(Net):
        def act(self, h: Tensor) -> Tensor:
            return h.cumsum(1)

    with pytest.warns(RefutedWarning, match=r"1 blocks were refuted.*enter.weight\[0\]"):
        symmetry = fr.analyze(Cumulative(), (X,), rules={torch.ops.aten.cumsum: "n c -> n c"})
    assert symmetry.movable_units == 0
    assert any("refuted" in note for note in symmetry.notes)
    assert holds(Cumulative(), symmetry)
    believed = fr.analyze(
        Cumulative(), (X,), rules={torch.ops.aten.cumsum: "n c -> n c"}, check=False
    )
    assert believed.movable_units == 6


def test_wrong_strings_are_named_with_a_caret() -> None:
    with pytest.raises(SignatureError) as caught:
        fr.analyze(WithOp(), (X,), rules={scaled_norm: "... c, (c -> ... c"})
    assert "^" in str(caught.value)
    with pytest.raises(SignatureError):
        fr.register_rule(scaled_norm, "... c")


def test_a_rule_with_another_shape_than_the_op() -> None:
    with pytest.raises(RuleError, match=r"result 0 has shape \(6,\), but its shape is \(4, 6\)"):
        fr.analyze(WithOp(), (X,), rules={scaled_norm: lambda call, x, scale, power: scale})


def test_what_cannot_have_a_rule() -> None:
    for target in ("aten.relu", 3, nn.Module, int):
        with pytest.raises(InvalidArgumentError, match="cannot have a rule; expected an op"):
            fr.register_rule(target, "... -> ...")
    with pytest.raises(InvalidArgumentError, match="should be a signature or a function"):
        fr.register_rule(scaled_norm, 3)  # type: ignore[arg-type]


@pytest.mark.usefixtures("clean")
def test_functions_with_rules_are_leaves_of_the_graph() -> None:
    fr.register_rule(gated, "... c, c -> ... c")
    aligned = fr.rebasin(WithFunction(), to=WithFunction(), args=(X,), progress=False)
    assert isinstance(aligned, fx.GraphModule)
    assert any(node.target is gated for node in aligned.graph.nodes)
