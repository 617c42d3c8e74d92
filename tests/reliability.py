"""What the files ``test_reliability_*`` ask of every network that is unusual in some way."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from networks import around, real
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.models.copying import attributes
from fxrebasin.models.precision import to_double
from fxrebasin.models.reachable import leaves_of

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
    """All that no call may change: bits, modes, hooks, attributes, inputs, random numbers,
    settings."""

    def __init__(self, model: nn.Module, inputs: Iterable[Any]) -> None:
        self.model, self.inputs = model, tuple(inputs)
        self.before = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        modules = list(self.model.named_modules())
        return {
            "was replaced": {name: id(t) for name, t in named},
            "was written to": {name: bits(t) for name, t in named},
            "was moved in memory": {name: (t.data_ptr(), t.stride()) for name, t in named},
            "has a gradient or another": {name: _grad(t) for name, t in named if t.is_leaf},
            "was frozen or not": {name: t.requires_grad for name, t in named},
            "was changed": {
                **{f"the module {name!r}": id(m) for name, m in modules},
                **{f"the mode of {name!r}": m.training for name, m in modules},
                **{f"an attribute of {name!r}": _leaves(attributes(m)) for name, m in modules},
                **{f"a hook of {name!r}": _hooks(m) for name, m in modules},
                "an example input": _leaves(self.inputs),
                "the random state": _random_state(),
                "a setting": _settings(),
            },
        }

    def check(self) -> None:
        for what, now in self._read().items():
            before = self.before[what]
            changed = [k for k in {**before, **now} if before.get(k, ()) != now.get(k, ())]
            assert not changed, f"{changed[0]} {what}"


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _grad(tensor: Tensor) -> Any:
    return None if tensor.grad is None else (id(tensor.grad), bits(tensor.grad))


def _leaves(value: Any) -> list[tuple[str, Any]]:
    return [(path, _told(leaf)) for path, leaf in leaves_of(value, strict=False)]


def _told(leaf: Any) -> Any:
    if isinstance(leaf, torch.Generator):
        return bits(leaf.get_state())
    return (id(leaf), bits(leaf)) if isinstance(leaf, Tensor) else repr(leaf)


def _hooks(module: nn.Module) -> list[tuple[str, list[Any]]]:
    kinds = (name for name in vars(module) if name.endswith("_hooks"))
    return [(name, list(vars(module)[name].items())) for name in sorted(kinds)]


def _random_state() -> tuple[Any, ...]:
    arrays: Any = np.random.get_state()  # noqa: NPY002 - what models use
    return bits(torch.get_rng_state()), random.getstate(), arrays[1].tobytes(), arrays[2]


def _settings() -> tuple[Any, ...]:
    return (
        *(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        *(torch.get_default_device(), torch.is_autocast_enabled("cpu")),
        *(torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled),
    )


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
