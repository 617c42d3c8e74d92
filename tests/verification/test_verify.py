"""Verification: what is found, what is told apart, and in which precision."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kinds_by_hand import CASES
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import RebasedModule
from fxrebasin.errors import VerificationError
from fxrebasin.models.precision import relative_error
from fxrebasin.verification.rounding import rounding_noise
from fxrebasin.verification.verify import Verification

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
Step = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two layers, and something between them that a test decides on."""

    def __init__(self, between: Step | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.between = between
        self.enter, self.middle, self.leave = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).relu()
        if self.between is not None:
            h = self.between(self, h)
        return self.leave(self.middle(h).relu())


def rebase(between: Step | None = None) -> RebasedModule:
    a, b = Net(between, 1), Net(between, 2)
    return align(b, a)


def align(b: nn.Module, a: nn.Module) -> RebasedModule:
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert isinstance(aligned, RebasedModule)
    return aligned


def aligned_pair() -> tuple[Net, RebasedModule]:
    a, b = Net(seed=1), Net(seed=2)
    return b, align(b, a)


def test_what_is_right_passes_in_float64() -> None:
    b, aligned = aligned_pair()
    found = fr.verify(b, aligned, (X,))
    assert found.dtype == torch.float64
    assert found.error < 1e-12
    assert found.outputs == 1
    assert aligned.report.verification == found
    assert str(found) == f"relative output error {found.error:.1e} in float64"


def test_inputs_may_be_keywords() -> None:
    b, aligned = aligned_pair()
    assert fr.verify(b, aligned, (), {"x": X}).outputs == 1


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("enter.weight", "enter"),
        ("enter.bias", "enter"),
        ("middle.weight", "middle"),
        ("leave.weight", "leave"),
        ("leave.bias", "leave"),
    ],
)
def test_a_parameter_that_was_tampered_with_is_found_at_its_node(name: str, node: str) -> None:
    b, aligned = aligned_pair()
    with torch.no_grad():
        aligned.get_parameter(name).add_(0.1 * torch.rand(aligned.get_parameter(name).shape))
    with pytest.raises(VerificationError) as caught:
        fr.verify(b, aligned, (X,))
    text = str(caught.value)
    assert f"the first node whose value differs is {node!r}" in text
    assert "the permuted Net does not compute what Net computes" in text
    assert "relative error" in text
    assert "tolerance 1e-09 in torch.float64" in text


def test_a_parameter_that_was_permuted_alone_is_found() -> None:
    """The next layer's inputs were left behind."""
    b, aligned = aligned_pair()
    with torch.no_grad():
        aligned.get_parameter("middle.weight").copy_(b.middle.weight)
        b_order = aligned.report.permutation.flat("enter.weight[0]")
    assert b_order.tolist() != sorted(b_order.tolist())
    with pytest.raises(VerificationError, match="first node whose value differs is 'middle'"):
        fr.verify(b, aligned, (X,))


def test_verification_changes_nothing() -> None:
    b, aligned = aligned_pair()
    b.train()
    before = [copy.deepcopy(m.state_dict()) for m in (b, aligned)]
    state = torch.get_rng_state()
    fr.verify(b, aligned, (X,))
    for module, old in zip((b, aligned), before, strict=True):
        assert all(torch.equal(t, old[k]) for k, t in module.state_dict().items())
    assert b.training
    assert all(p.dtype == torch.float32 for p in aligned.parameters())
    assert torch.equal(torch.get_rng_state(), state)


# what tracing does


def draw(net: Net, h: Tensor) -> Tensor:
    return h + torch.rand(6)


def test_a_random_tensor_is_a_wrong_trace_not_a_wrong_permutation() -> None:
    with pytest.raises(VerificationError) as caught:
        rebase(draw)
    text = str(caught.value)
    assert "the traced graph of Net does not compute what Net computes" in text
    assert "even with its own weights" in text
    assert "torch.fx.wrap" in text
    assert "report" not in text


def when_gradients(net: Net, h: Tensor) -> Tensor:
    return h * 2 if torch.is_grad_enabled() else h


def test_what_depends_on_gradients_being_enabled_is_a_wrong_trace() -> None:
    with pytest.raises(VerificationError, match="the traced graph of Net"):
        rebase(when_gradients)


class Autocast(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def test_autocast_that_tracing_drops_is_found() -> None:
    with pytest.raises(VerificationError) as caught:
        fr.rebasin(Autocast(seed=1), to=Autocast(seed=2), args=(X,), progress=False)
    for part in ("Autocast", "torch.bfloat16", "torch.float32", "autocast", "apply_to"):
        assert part in str(caught.value)


def without_gradients(net: Net, h: Tensor) -> Tensor:
    with torch.no_grad():
        return h * 2


def test_no_grad_that_tracing_drops_is_found() -> None:
    with pytest.raises(VerificationError) as caught:
        rebase(without_gradients)
    for part in ("'enter.bias'", "Net", "no_grad", "apply_to"):
        assert part in str(caught.value)


def test_detach_survives_tracing() -> None:
    aligned = rebase(lambda net, h: h.detach())
    aligned(X).sum().backward()
    assert aligned.get_parameter("enter.weight").grad is None
    assert aligned.get_parameter("middle.weight").grad is not None


@pytest.mark.parametrize(
    "between",
    [
        lambda net, h: F.dropout(h, 0.5, net.training),
        lambda net, h: F.dropout(h, training=net.training),
        lambda net, h: h * 2 if net.training else h,
    ],
)
def test_what_depends_on_the_mode_is_right_in_eval_and_reported(between: Step) -> None:
    a, b = Net(between, 1).eval(), Net(between, 2).eval()
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert aligned.report.mode_dependent
    assert "report.permutation.apply_to" in str(aligned.report)
    torch.testing.assert_close(aligned(X), b(X))
    moved = aligned.report.permutation.apply_to(b)
    torch.testing.assert_close(moved(X), b(X))
    assert isinstance(moved, Net)


def test_nothing_is_reported_where_the_mode_does_not_matter() -> None:
    assert not rebase().report.mode_dependent
    assert not rebase(lambda net, h: h.tanh()).report.mode_dependent


# precision


class Float32Only(Net):
    """Will not run in float64: the constant has a dtype of its own."""

    constant: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.other = [torch.eye(6)]

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).relu().mm(self.other[0])
        return self.leave(self.middle(h).relu())


def test_models_that_do_not_run_in_float64_are_compared_in_their_own_dtype() -> None:
    with pytest.raises(RuntimeError):
        Float32Only(1).double()(X.double())
    found = fr.rebasin(Float32Only(1), to=Float32Only(2), args=(X,), progress=False)
    assert found.report.verification is not None
    assert found.report.verification.dtype == torch.float32
    assert 0 <= found.report.verification.error < 1e-4
    assert "in float32" in str(found.report.verification)


def test_a_wrong_model_is_found_in_its_own_dtype_too() -> None:
    b = Float32Only(1)
    aligned = fr.rebasin(b, to=Float32Only(2), args=(X,), progress=False)
    with torch.no_grad():
        aligned.get_parameter("middle.weight").mul_(1.1)
    with pytest.raises(VerificationError, match=r"'middle'") as caught:
        fr.verify(b, aligned, (X,))
    assert "torch.float32" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float64(dtype: torch.dtype) -> None:
    a, b = Net(seed=1).to(dtype), Net(seed=2).to(dtype)
    aligned = fr.rebasin(b, to=a, args=(X.to(dtype),), progress=False)
    assert aligned.report.verification is not None
    assert aligned.report.verification.dtype == torch.float64
    assert aligned.get_parameter("enter.weight").dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["GPT", "linear"])
def test_weights_that_were_mixed_may_differ_by_what_storing_them_rounds(
    name: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model, inputs = CASES[name].make().to(dtype), CASES[name].inputs()
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    symmetry = fr.analyze(model, inputs, check=False)
    transform = fr.Transform.random(symmetry, torch.Generator().manual_seed(1))
    turned = transform.apply_to(model)
    found = fr.verify(model, turned, inputs, remade=True)
    assert found.dtype == torch.float64
    assert found.tolerance is not None
    assert found.error < found.tolerance < 5 * torch.finfo(dtype).eps
    with pytest.raises(VerificationError):
        fr.verify(model, turned, inputs)
    for parameter in symmetry.parameters:
        wrong, left = copy.deepcopy(turned), model.get_parameter(parameter.name)
        if len(parameter.shape) == 2 and parameter.groups:
            with torch.no_grad():
                wrong.get_parameter(parameter.name).copy_(left)
            with pytest.raises(VerificationError):
                fr.verify(model, wrong, inputs, remade=True)


def test_where_there_is_no_memory_for_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    b, aligned = aligned_pair()
    monkeypatch.setattr("fxrebasin.verification.verify.fits_in_memory", lambda model: False)
    assert fr.verify(b, aligned, (X,)).dtype == torch.float32


# outputs


def test_several_outputs_are_all_compared() -> None:
    class Several(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.trunk, self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
            h = self.trunk(x).relu()
            return {"one": self.one(h), "rest": [self.two(h), h.sum()]}

    b = Several(2)
    aligned = fr.rebasin(b, to=Several(1), args=(X,), progress=False)
    assert aligned.report.verification is not None
    assert aligned.report.verification.outputs == 3
    with torch.no_grad():
        aligned.get_parameter("two.bias")[3] += 1
    with pytest.raises(VerificationError, match="'two'"):
        fr.verify(b, aligned, (X,))


def test_nan_among_numbers_is_equal_to_nan() -> None:
    aligned = rebase(lambda net, h: h * torch.tensor([[math.nan], [1.0], [1.0], [1.0]]))
    assert aligned.report.verification == Verification(0.0, torch.float64, 1)


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 4.0], [1.0, 3.0], 0.25),
        ([1.0, -4.0], [2.0, -4.0], 0.25),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([math.nan, 2.0], [math.nan, 2.0], 0.0),
        ([math.nan, 2.0], [math.nan, 1.0], 0.5),
        ([math.nan, 2.0], [1.0, 2.0], math.inf),
        ([1.0, 2.0], [math.nan, 2.0], math.inf),
        ([math.inf, 2.0], [math.inf, 2.0], 0.0),
        ([math.inf, 2.0], [-math.inf, 2.0], math.inf),
        ([math.inf, 2.0], [1.0, 2.0], math.inf),
        ([1.0, 2.0], [1.0], math.inf),
        ([1.0, 2.0], [[1.0, 2.0]], math.inf),
        ([], [], 0.0),
        ([True, False], [True, False], 0.0),
        ([True, False], [False, False], 1.0),
        ([3, 4], [3, 8], 1.0),
        ([1 + 1j, 2.0], [1 + 1j, 2.0], 0.0),
    ],
)
def test_the_relative_error(expected: list[complex], found: list[complex], error: float) -> None:
    assert relative_error(torch.tensor(expected), torch.tensor(found)) == error


def test_errors_of_half_precision_do_not_overflow() -> None:
    big = torch.full((2,), 6e4, dtype=torch.float16)
    assert relative_error(big, -big) == 2.0


def test_another_number_of_outputs_is_found() -> None:
    b, aligned = aligned_pair()

    class Twice(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x), x

    twice = Twice()
    twice.load_state_dict(b.state_dict())
    with pytest.raises(VerificationError, match="Twice"):
        fr.verify(twice, aligned, (X,))


class Chaotic(nn.Module):
    """A recurrent net whose weights are so large that it amplifies rounding at every step."""

    def __init__(self, seed: int, gain: float, steps: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.steps, n = steps, 48
        self.enter, self.leave = nn.Linear(3, n), nn.Linear(n, 2)
        drawn = torch.randn(n, n, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(drawn * gain / n**0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).tanh()
        for _ in range(self.steps):
            h = (h @ self.weight.T).tanh()
        return self.leave(h)


def chaotic(gain: float, steps: int) -> tuple[nn.Module, fr.Permutation]:
    torch.manual_seed(0)
    model = Chaotic(0, gain, steps).double()
    symmetry = fr.analyze(model, (X.double(),))
    assert symmetry.movable_units == 48
    return model, fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))


def test_chaotic_models_are_verified_by_what_rounding_does_to_them() -> None:
    model, permutation = chaotic(2.0, 140)
    found = fr.verify(model, permutation.apply_to(model), (X.double(),))
    assert 1e-9 < found.error <= (found.tolerance or 0) <= 1e-2


def test_a_wrong_permutation_of_a_chaotic_model_is_found() -> None:
    model, permutation = chaotic(2.0, 140)
    wrong = permutation.apply_to(model)
    with torch.no_grad():
        wrong.get_parameter("enter.bias").mul_(1 + 1e-5)
    with pytest.raises(VerificationError):
        fr.verify(model, wrong, (X.double(),))


class Choosing(nn.Module):
    """Returns a whole number, which rounding alone decides on, beside what it computes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x)
        digits = (y.double() * 2.0**60).long() % 7
        return y, digits


def test_whole_numbers_that_rounding_changes_allow_nothing_more() -> None:
    one, other = Choosing(), Choosing()
    with torch.no_grad():
        other.layer.bias.mul_(1 + 1e-3)
    with pytest.raises(VerificationError, match="does not compute"):
        fr.verify(one, other, (X,))
    x = X.double()
    noises = [
        rounding_noise(one.double(), (x,), {}, one(x), whole_numbers=whole)
        for whole in (False, True)
    ]
    assert noises[0] < 1e-12 < 1 <= noises[1]


def test_where_rounding_is_all_there_is_nothing_can_be_verified() -> None:
    model, permutation = chaotic(4.0, 300)
    with pytest.raises(VerificationError, match="amplifies rounding so much that it cannot be ver"):
        fr.verify(model, permutation.apply_to(model), (X.double(),))


class Returning(nn.Module):
    """Returns something that a test decides on."""

    def __init__(self, what: Callable[[Tensor], object], seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.what = nn.Linear(3, 4), what

    def forward(self, x: Tensor) -> object:
        return self.what(self.layer(x))


@pytest.mark.parametrize(
    ("one", "other", "complaint"),
    [
        (lambda y: y * math.nan, lambda y: y * math.nan, "nothing can be compared"),
        (lambda y: y / 0, lambda y: y / 0, "nothing can be compared|does not compute"),
        (lambda y: y[:0], lambda y: y[:0], "nothing can be compared"),
        (lambda y: {"a": y}, lambda y: {"b": y}, r"at \['a'\]"),
        (lambda y: (y, "cat"), lambda y: (y, "dog"), "'cat'"),
        (lambda y: (y, 3), lambda y: (y, 4), "there is 3"),
        (lambda y: (y, None), lambda y: (y, y), "does not compute"),
        (lambda y: (y, 10**10), lambda y: (y, 10**10 + 1), "10000000000"),
        (
            lambda y: (y * 0).long() + 10**10,
            lambda y: (y * 0).long() + 10**10 + 1,
            "does not compute",
        ),
    ],
)
def test_where_nothing_agrees_nothing_is_certified(
    one: Callable[[Tensor], object], other: Callable[[Tensor], object], complaint: str
) -> None:
    with pytest.raises(VerificationError, match=complaint):
        fr.verify(Returning(one), Returning(other), (X,))


def test_without_tensors_nothing_is_certified() -> None:
    with pytest.raises(fr.errors.InvalidInputError, match="no tensor is found"):
        fr.verify(Returning(lambda y: "cat"), Returning(lambda y: "cat", 1), (X,))
