"""What the files ``test_reliability_*`` ask of every network that is unusual in some way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from networks import around, real
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.models.precision import to_double

torch.set_num_threads(1)

X = real(3)(4)
Maker = TypeVar("Maker", bound=Callable[[], nn.Module])
Hidden = TypeVar("Hidden", bound=Callable[[Tensor], Tensor])


@dataclass(frozen=True, eq=False)
class Case:
    """A network, example inputs, and the logarithm of the order of its group, by hand."""

    name: str
    factory: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    log_order: float
    unknown: tuple[str, ...] = ()
    """The ops that are not understood."""
    aligns: bool = True
    """Can it be aligned by ``fr.rebasin``?"""
    keeps_dtype: bool = False
    """Is its graph an exported one that names dtypes, so that it cannot be run in another?"""
    wrong: str = ""
    """Why the test fails at present; empty where it passes."""


class Cases(dict[str, Case]):
    """The cases of a file; its methods are decorators that add one."""

    def model(self, log_order: float, *inputs: Tensor, **options: Any) -> Callable[[Maker], Maker]:
        """A class or function that makes a network."""

        def register(factory: Maker) -> Maker:
            name = factory.__name__
            assert name not in self, name
            self[name] = Case(name, factory, inputs or (X,), log_order, **options)
            return factory

        return register

    def hidden(
        self, log_order: float, *inputs: Tensor, n: int = 6, m: int | None = None, **options: Any
    ) -> Callable[[Hidden], Hidden]:
        """A function of ``n`` hidden units to ``m`` features, between two linear layers."""

        def register(function: Hidden) -> Hidden:
            def factory() -> nn.Module:
                return around(function, n, m)

            factory.__name__ = function.__name__
            self.model(log_order, *inputs, **options)(factory)
            return function

        return register

    def each(self) -> Iterable[Any]:
        return [
            pytest.param(
                case,
                id=name,
                marks=[pytest.mark.xfail(strict=True, reason=case.wrong)] if case.wrong else [],
            )
            for name, case in self.items()
        ]


def made(case: Case, seed: int) -> nn.Module:
    """A model whose modules are in train and in eval mode by turns."""
    torch.manual_seed(seed)
    model = case.factory()
    for k, module in enumerate(model.modules()):
        module.training = k % 2 == 0
    return model


class Snapshot:
    """All that analysing and aligning must not change."""

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        self.model, self.inputs = model, tuple(inputs)
        self.modes = [module.training for module in model.modules()]
        self.tensors = [*model.named_parameters(), *model.named_buffers()]
        self.values = [t.detach().clone() for _, t in self.tensors]
        self.requires = [t.requires_grad for _, t in self.tensors]
        self.given = [x.clone() for x in self.inputs]
        self.random = torch.get_rng_state()

    def check(self) -> None:
        now = [*self.model.named_parameters(), *self.model.named_buffers()]
        assert [name for name, _ in now] == [name for name, _ in self.tensors]
        for (name, t), (_, before), value in zip(now, self.tensors, self.values, strict=True):
            assert t is before, f"{name} was replaced"
            assert torch.equal(t, value), f"{name} was written to"
            assert t.grad is None, f"{name} has a gradient"
        assert [t.requires_grad for _, t in now] == self.requires, "a parameter was frozen or not"
        assert [m.training for m in self.model.modules()] == self.modes, "a mode was changed"
        for x, value in zip(self.inputs, self.given, strict=True):
            assert torch.equal(x, value), "an example input was written to"
        assert torch.equal(torch.get_rng_state(), self.random), "random numbers were drawn"


def outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """What a copy of the model returns: forward may write to its buffers, and draw numbers."""
    torch.manual_seed(11)
    return evaluate(copy.deepcopy(model), inputs)


def in_single(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """What a model of one output returns in its own precision."""
    torch.manual_seed(11)
    with torch.no_grad():
        return [copy.deepcopy(model).eval()(*(x.float() for x in inputs))]


def check(case: Case) -> None:
    """The group is the one worked out by hand, its elements keep the function, nothing is hurt."""
    model, other = made(case, 1), made(case, 2)
    before, other_before = Snapshot(model, case.inputs), Snapshot(other, ())
    symmetry = fr.analyze(model, args=case.inputs)
    before.check()
    assert sorted(symmetry.unknown_ops) == sorted(case.unknown)
    assert symmetry.log_order == pytest.approx(case.log_order, abs=1e-9)
    random = randomise(copy.deepcopy(model))
    expected = outputs(random, case.inputs)
    for seed in range(4):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(
            random
        )
        error = difference(outputs(moved, case.inputs), expected)
        assert error < 1e-10, "a permuted model computes something else"
    before, other_before = Snapshot(model, case.inputs), Snapshot(other, ())
    if case.aligns:
        aligned = fr.rebasin(model, to=other, args=case.inputs, progress=False)
        before.check()
        other_before.check()
        if case.keeps_dtype:
            assert difference(in_single(aligned, case.inputs), in_single(model, case.inputs)) < 1e-5
        else:
            found = outputs(to_double(aligned).eval(), case.inputs)
            assert difference(found, outputs(to_double(model).eval(), case.inputs)) < 1e-10
