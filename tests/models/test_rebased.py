"""The emitted module: what it keeps, what it shares, what one can do with it."""

from __future__ import annotations

import copy
import io
import pickle
import random
import shutil
from collections.abc import Callable
from math import lgamma
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference
from fxrebasin import RebasedModule, Report
from fxrebasin.errors import InvalidInputError

torch.set_num_threads(1)

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    """A module of the user's own, with a method and a plain attribute."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.rand(n) + 0.5)
        self.note = "mine"

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by

    def largest(self) -> float:
        return float(self.by.detach().max())


class Net(nn.Module):
    """Unused layers first and last, ties, BatchNorm, dropout, buffers of all kinds."""

    steps: Tensor
    shift: Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.never = nn.Linear(2, 2)
        self.leave = nn.Linear(6, 2)
        self.enter = nn.Linear(3, 6)
        self.norm = nn.BatchNorm1d(6)
        self.scale = Scale(6)
        self.drop = nn.Dropout(0.5)
        self.one, self.two = nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.register_buffer("steps", torch.tensor(seed))
        self.register_buffer("shift", torch.rand(1), persistent=False)
        self.unused = nn.Parameter(torch.randn(3))
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.randn(6))  # type: ignore[union-attr]
            self.norm.running_var.copy_(torch.rand(6) + 0.5)  # type: ignore[union-attr]

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        x = self.scale(self.drop(self.norm(self.enter(x)).relu()))
        x = self.two(self.one(x).relu()).relu() + self.shift
        return self.leave(x) * gain


def pair() -> tuple[Net, Net]:
    return Net(1).eval(), Net(2).eval()


def rebase(b: nn.Module, a: nn.Module, **options: Any) -> RebasedModule:
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False, **options)
    assert isinstance(aligned, RebasedModule)
    return aligned


def outputs(model: Callable[[Tensor], Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [model(X)]


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that a careless rewrite could touch."""
    tensors: list[tuple[str, Tensor]] = [*model.named_parameters(remove_duplicate=False)]
    tensors += model.named_buffers(remove_duplicate=False)
    return {
        "tensors": {n: (id(t), t.data_ptr(), t.detach().clone().tolist()) for n, t in tensors},
        "grads": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: m.training for n, m in model.named_modules()},
        "modules": {n: (id(m), type(m), sorted(vars(m))) for n, m in model.named_modules()},
        "hooks": {n: list(m._forward_hooks.values()) for n, m in model.named_modules()},
        "loose": {n: set(m._non_persistent_buffers_set) for n, m in model.named_modules()},
    }


def test_the_function_is_that_of_b() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    assert difference(outputs(aligned), outputs(b)) < 1e-5
    assert not aligned.report.permutation.is_identity


def test_state_dict_keys_and_their_order() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    assert list(aligned.state_dict()) == list(b.state_dict())
    assert [n for n, _ in aligned.named_parameters()] == [n for n, _ in b.named_parameters()]
    assert [n for n, _ in aligned.named_buffers()] == [n for n, _ in b.named_buffers()]
    for name, tensor in b.state_dict().items():
        assert aligned.state_dict()[name].dtype == tensor.dtype
        assert aligned.state_dict()[name].shape == tensor.shape
    assert torch.equal(aligned.get_parameter("unused"), b.unused)
    assert torch.equal(aligned.get_parameter("never.weight"), b.never.weight)


def test_the_state_dict_is_the_permuted_one() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    expected = aligned.report.permutation.apply(b.state_dict())
    assert all(torch.equal(aligned.state_dict()[k], t) for k, t in expected.items())


def test_ties_stay() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    assert aligned.get_parameter("one.weight") is aligned.get_parameter("two.weight")
    assert not torch.equal(aligned.get_parameter("one.weight"), b.one.weight)


@pytest.mark.parametrize("training", [False, True])
def test_neither_model_is_changed(training: bool) -> None:
    a, b = pair()
    for model in (a, b):
        model.train(training)
        model.norm.train(not training)
        model.scale.register_forward_hook(lambda module, args, output: None)
        model.never.requires_grad_(False)
    torch.manual_seed(3)
    random.seed(3)
    before = snapshot(a), snapshot(b)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    rebase(b, a)
    assert (snapshot(a), snapshot(b)) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[index] # noqa: NPY002


def test_nothing_is_shared_with_either_model() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    mine = {t.data_ptr() for t in aligned.state_dict().values()}
    theirs = {t.data_ptr() for m in (a, b) for t in m.state_dict().values()}
    assert not mine & theirs


def test_modes_and_frozen_parameters_are_kept() -> None:
    a, b = pair()
    b.train()
    b.norm.eval()
    b.enter.weight.requires_grad_(False)
    aligned = rebase(b, a)
    assert {n: m.training for n, m in aligned.named_modules()} == {
        n: m.training for n, m in b.named_modules()
    }
    assert {n: p.requires_grad for n, p in aligned.named_parameters()} == {
        n: p.requires_grad for n, p in b.named_parameters()
    }


def test_in_place_the_tensors_of_b_are_permuted() -> None:
    a, b = pair()
    original = copy.deepcopy(b)
    parameters = dict(b.named_parameters())
    kept = {n: set(m._non_persistent_buffers_set) for n, m in b.named_modules()}
    aligned = rebase(b, a, inplace=True)
    assert {n: id(p) for n, p in b.named_parameters()} == {n: id(p) for n, p in parameters.items()}
    assert {n: id(p) for n, p in aligned.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }
    expected = aligned.report.permutation.apply(original.state_dict())
    assert all(torch.equal(b.state_dict()[k], t) for k, t in expected.items())
    assert difference(outputs(b), outputs(original)) < 1e-5
    assert difference(outputs(aligned), outputs(original)) < 1e-5
    assert {n: set(m._non_persistent_buffers_set) for n, m in b.named_modules()} == kept
    assert not aligned.report.permutation.is_identity


def test_the_state_dict_loads_into_the_users_class() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    fresh = Net(5).eval()
    fresh.load_state_dict(aligned.state_dict(), strict=True)
    fresh.shift.copy_(b.shift)
    assert difference(outputs(fresh), outputs(b)) < 1e-5


def test_the_users_state_dict_loads_into_the_emitted_module() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    aligned.load_state_dict(b.state_dict(), strict=True)
    assert difference(outputs(aligned), outputs(b)) < 1e-6


def test_the_users_modules_stay_what_they_are() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    assert isinstance(aligned, fx.GraphModule)
    scale = aligned.get_submodule("scale")
    assert isinstance(scale, Scale)
    assert scale is not b.scale
    assert scale.note == "mine"
    assert scale.largest() == b.scale.largest()
    assert {n: type(m) for n, m in aligned.named_modules() if n} == {
        n: type(m) for n, m in b.named_modules() if n
    }


def by_deepcopy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module)


def by_pickle(module: nn.Module) -> nn.Module:
    found: nn.Module = pickle.loads(pickle.dumps(module))
    return found


def by_saving(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle, by_saving])
def test_copies_keep_everything(copied: Callable[[nn.Module], nn.Module]) -> None:
    a, b = pair()
    aligned = rebase(b, a)
    twice = copied(copied(aligned))
    assert isinstance(twice, RebasedModule)
    assert list(twice.state_dict()) == list(b.state_dict())
    assert torch.equal(twice.state_dict()["enter.weight"], aligned.state_dict()["enter.weight"])
    assert twice.get_parameter("one.weight") is twice.get_parameter("two.weight")
    assert twice.get_parameter("one.weight") is not aligned.get_parameter("one.weight")
    assert torch.equal(outputs(twice)[0], outputs(aligned)[0])
    assert {n: type(m) for n, m in twice.named_modules() if n} == {
        n: type(m) for n, m in b.named_modules() if n
    }
    assert twice.training is False


@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
def test_copies_keep_modes(copied: Callable[[nn.Module], nn.Module]) -> None:
    a, b = pair()
    aligned = rebase(b, a).train()
    aligned.get_submodule("norm").eval()
    modes = {n: m.training for n, m in aligned.named_modules()}
    assert {n: m.training for n, m in copied(aligned).named_modules()} == modes


def test_a_deepcopy_keeps_the_report_and_a_pickle_has_none() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    assert isinstance(by_deepcopy(aligned).report, Report)
    assert by_pickle(aligned).report is None


def test_it_can_be_exported() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    exported = torch.export.export(aligned, (X,))
    assert difference(outputs(exported.module()), outputs(b)) < 1e-5


def test_it_can_be_compiled_without_graph_breaks() -> None:
    a, b = pair()
    compiled = torch.compile(rebase(b, a), fullgraph=True, backend="aot_eager")
    assert difference(outputs(compiled), outputs(b)) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_can_be_compiled_by_inductor() -> None:
    a, b = pair()
    compiled = torch.compile(rebase(b, a), fullgraph=True)
    assert difference(outputs(compiled), outputs(b)) < 1e-5


def test_it_can_be_trained() -> None:
    """One step moves it exactly as the same step moves B, up to the permutation."""
    a, b = pair()
    aligned = rebase(b, a)
    permutation = aligned.report.permutation
    for model in (aligned, b):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(X).square().mean().backward()
        optimizer.step()
    moved = permutation.apply(b.state_dict())
    for name, tensor in aligned.state_dict().items():
        torch.testing.assert_close(tensor, moved[name])
    assert aligned.get_parameter("enter.weight").grad is not None


def test_train_and_eval_switch_dropout_and_batch_norm() -> None:
    a, b = pair()
    aligned = rebase(b, a).train()
    mean = aligned.get_buffer("norm.running_mean").clone()
    torch.manual_seed(0)
    one = aligned(X)
    two = aligned(X)
    assert not torch.allclose(one, two)
    assert not torch.equal(aligned.get_buffer("norm.running_mean"), mean)
    assert aligned.get_buffer("norm.num_batches_tracked").item() == 2
    aligned.eval()
    assert torch.equal(aligned(X), aligned(X))
    assert not aligned.report.mode_dependent


def test_inputs_keep_their_names_and_defaults() -> None:
    a, b = pair()
    aligned = rebase(b, a)
    with torch.no_grad():
        assert torch.allclose(aligned(x=X, gain=3.0), b(X, gain=3.0), atol=1e-5)
        assert torch.allclose(aligned(X), b(X), atol=1e-5)


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, gain: float = 1.0) -> Tensor:
        h = self.enter(x).relu()
        return self.leave(h if mask is None else h * mask) * gain


def test_inputs_that_were_left_out_keep_their_names() -> None:
    a, b = Optional(), Optional()
    aligned = rebase(b, a)
    with torch.no_grad():
        torch.testing.assert_close(aligned(X, mask=None, gain=2.0), b(X, mask=None, gain=2.0))
        torch.testing.assert_close(aligned(X, None), b(X))
        with pytest.raises(AssertionError, match="mask"):
            aligned(X, torch.ones(4, 1))


def test_the_report() -> None:
    a, b = pair()
    report = rebase(b, a).report
    assert report.symmetry == fr.analyze(b, args=(X,))
    assert report.permutation is report.alignment.permutation
    assert report.objective_after > report.objective_before
    assert report.sweeps >= 1
    assert report.verification is not None
    assert report.verification.error < 1e-9
    names = ["trace", "propagate", "refine", "falsify", "solve", "rewrite", "verify"]
    assert list(report.seconds) == names
    assert all(seconds >= 0 for seconds in report.seconds.values())
    text = str(report)
    for part in (repr(report.symmetry), "objective", "verified: relative output error", "solve"):
        assert part in text
    assert "eval path only" not in text


def test_an_emitted_module_can_be_aligned_again() -> None:
    a, b = pair()
    once = rebase(b, a)
    twice = rebase(once, a)
    assert twice.report.permutation.is_identity
    assert list(twice.state_dict()) == list(b.state_dict())
    other = rebase(a, once)
    assert list(other.state_dict()) == list(a.state_dict())


def test_graph_modules_are_taken_as_they_are() -> None:
    a, b = (fx.symbolic_trace(m) for m in pair())
    for module in (a, b):
        module.register_parameter("extra", nn.Parameter(torch.ones(2)))
    aligned = rebase(b, a)
    assert list(aligned.state_dict()) == list(b.state_dict())
    assert difference(outputs(aligned), outputs(b)) < 1e-5


class WithState(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"calls": 3}


def test_extra_state_is_kept() -> None:
    a, b = (nn.Sequential(WithState(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in "ab")
    aligned = rebase(b, a)
    assert list(aligned.state_dict()) == list(b.state_dict())
    assert aligned.state_dict()["0._extra_state"] == {"calls": 3}


class Caching(nn.Module):
    last: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave, self.last = nn.Linear(3, 5), nn.Linear(5, 2), None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.enter(x).relu()
        return self.leave(self.last)


@pytest.mark.parametrize("ran_before", [False, True])
def test_models_that_keep_what_they_computed(ran_before: bool) -> None:
    a, b = Caching(), Caching()
    if ran_before:
        b(X)
    kept = b.last
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert isinstance(aligned, Caching)  # a graph would keep nothing
    assert b.last is kept
    assert difference(outputs(aligned), outputs(b)) < 1e-5
    assert aligned.last is not None and b.last is not None
    assert difference([aligned.last], [b.last]) < 1e-5  # people read it: its units stay in place
    assert b(X).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    a, b = (m.to(dtype) for m in pair())
    aligned = fr.rebasin(b, to=a, args=(X.to(dtype),), progress=False)
    for name, tensor in b.state_dict().items():
        assert aligned.state_dict()[name].dtype == tensor.dtype
    with torch.no_grad():
        assert aligned(X.to(dtype)).dtype == dtype


def features(seed: int) -> nn.Module:
    """A graph of torchvision's own kind, with one for training beside it."""
    torch.manual_seed(seed)
    backbone = torchvision.models.resnet18(num_classes=4)
    found: nn.Module = create_feature_extractor(backbone, {"layer1": "low", "layer2": "high"})
    return found.eval()


def test_modules_that_extract_features_are_emitted_copied_and_pickled() -> None:
    a, b = features(1), features(2)
    x = torch.randn(1, 3, 32, 32)
    aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    symmetry = aligned.report.symmetry
    assert symmetry.log_order == pytest.approx(2 * lgamma(65) + 2 * lgamma(129), rel=1e-12)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(b)
    modules = [aligned, copy.deepcopy(aligned), pickle.loads(pickle.dumps(aligned)), moved]
    modules += [copy.deepcopy(moved), pickle.loads(pickle.dumps(moved))]
    for module in modules:
        found = module.eval()(x)
        assert list(found) == ["low", "high"]
        assert difference(list(found.values()), list(b(x).values())) < 1e-4
        assert list(module.state_dict()) == list(b.state_dict())


class ForOneSize(nn.Module):
    """Control flow on shapes, which torch.fx cannot trace and torch.export bakes in."""

    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 100:
            return x
        return self.leave(self.body(self.enter(x)).relu())


def exported(body: Callable[[Tensor], Tensor]) -> Any:
    a, b = ForOneSize(body), ForOneSize(body)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert aligned.report.symmetry.front_end == "export"
    return aligned, b


def again(module: Any) -> list[Any]:
    return [module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))]


def test_an_exported_graph_that_holds_for_other_sizes_runs_at_these() -> None:
    aligned, b = exported(lambda h: h)
    for module in again(aligned):
        assert difference([module(X[:5])], [b(X[:5])]) < 1e-5


def test_an_exported_graph_says_for_which_shapes_it_was_made() -> None:
    aligned, b = exported(lambda h: h.reshape(len(h), 4, 2).flatten(1))
    text = (
        r"exported for inputs of shapes \(8, 3\), found \(5, 3\), for which it fails: shape .*; "
        r"use the model itself, permuted, aligned\.report\.permutation\.apply_to\(model_b\), or"
    )
    for module in again(aligned):
        assert difference([module(X)], [b(X)]) < 1e-5
        with pytest.raises(InvalidInputError, match=text):
            module(X[:5])


def test_an_exported_graph_with_a_size_baked_in_is_not_run_at_another() -> None:
    """It would run, and divide by the number of other examples."""
    aligned, b = exported(lambda h: h - h.sum(0) / len(h))
    for module in again(aligned):
        assert difference([module(X)], [b(X)]) < 1e-5
        with pytest.raises(InvalidInputError, match="it computes something else than the model"):
            module(X[:5])
    moved = aligned.report.permutation.apply_to(b)
    assert difference([moved(X[:5])], [b(X[:5])]) < 1e-5


def test_errors_at_the_right_shapes_are_left_as_they_are() -> None:
    aligned, _ = exported(lambda h: h)
    with pytest.raises(TypeError, match="positional argument"):
        aligned(X, X)
    with pytest.raises(RuntimeError, match="same dtype"):
        aligned(X.double())
