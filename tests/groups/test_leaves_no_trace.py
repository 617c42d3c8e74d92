"""No call changes what it is given, and none runs code of the user's but ``forward``."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import f
from reliability import Snapshot
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.models.copying import deep_copy

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
MODELS: dict[str, Callable[[], nn.Module]] = {}


def around(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), layer, nn.Linear(6, 2))


def inside(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    MODELS[layer.__name__] = lambda: around(layer())
    return layer


@inside
class Merging(nn.Linear):
    """Merges weights when its mode changes, as layers of low-rank adapters do."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.extra = nn.Parameter(torch.randn(6, 6))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += -self.extra if mode else self.extra
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + (0 if self.merged else self.extra), self.bias)


@inside
class Refusing(nn.Linear):
    """Whoever calls anything but forward is told so."""

    def __init__(self) -> None:
        super().__init__(6, 6)

    def refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("code of the user's was run")

    train = eval = double = float = half = _apply = to = load_state_dict = refuse

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


@inside
class Statistics(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(6)

    def reset_running_stats(self) -> None:
        if "ready" in vars(self):
            raise AssertionError("code of the user's was run")
        super().reset_running_stats()
        self.ready = True


@inside
class Keeping(nn.Linear):
    """Notes things on itself, in containers and beside what has no copies."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.seen: dict[str, Any] = {"lock": threading.Lock(), "shapes": [], "n": 0}
        self.source = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen["shapes"].append(tuple(x.shape))
        self.seen["n"] += 1
        torch.rand(1, generator=self.source)
        return super().forward(x)


@inside
class Drawing(nn.Linear):
    """Draws from every source of random numbers, and changes settings."""

    def __init__(self) -> None:
        super().__init__(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        torch.set_default_dtype(torch.float32)
        return super().forward(x)


@inside
class Replacing(nn.Linear):
    """Puts other numbers, flags and gradients into its own parameters."""

    def __init__(self) -> None:
        super().__init__(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.bias.data = self.bias.data * 1.0
        self.weight.requires_grad_(False)
        h = super().forward(x)
        self.weight.requires_grad_(True)
        return h


@inside
class Learning(nn.Linear):
    """Computes gradients in forward."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.weight.grad = torch.ones(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            super().forward(x.detach()).sum().backward()
        return super().forward(x)


@inside
class Counting(nn.Linear):
    count: Tensor

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return super().forward(x) * (1 if int(self.count) > 0 else 2)


@inside
class Failing(nn.Linear):
    """Fails after it has written to everything."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        self.bias.data.add_(1)
        torch.rand(1)
        raise RuntimeError("it fails")


def _alike(model: nn.Module) -> nn.Module:
    other = deep_copy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.1 * torch.ones_like(p).cumsum(0))
    return other


def calls(model: nn.Module, other: nn.Module) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every public function that is given a model."""
    state, to = model.state_dict(), other.state_dict()
    args: dict[str, Any] = {"args": (X,)}
    quiet: dict[str, Any] = {"progress": False}
    yield "analyze", lambda: fr.analyze(model, **args)
    for end in ("symbolic_trace", "export", "eager"):
        yield end, lambda end=end: fr.analyze(model, **args, front_ends=(end,))  # type: ignore[misc]
    yield "rebasin", lambda: fr.rebasin(model, to=other, **args, **quiet)
    yield "activations", lambda: fr.activation_matching(model, to=other, **args, **quiet)
    yield "verify", lambda: fr.verify(model, model, (X,))
    yield "interpolate", lambda: fr.interpolate(model, other, _loss, steps=3, loader=[X], **quiet)
    yield "repair", lambda: fr.recompute_batch_norm(model, [X, X])
    with contextlib.suppress(fr.errors.FxrebasinError):
        symmetry = fr.analyze(model, **args)
        drawn = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
        yield "match", lambda: fr.match(symmetry, state, to=to, **quiet)
        yield "weights", lambda: fr.weight_matching(symmetry, state_dict=state, to=to, **quiet)
        yield "apply_to", lambda: drawn.apply_to(model)
        yield "apply", lambda: drawn.apply(state)


def _loss(model: nn.Module) -> Tensor:
    result: Tensor = model(X).sum()
    return result


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(name: str, training: bool) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    for module in model.modules():
        module.training = training
    other = _alike(model)
    for call, function in calls(model, other):
        before, other_before = Snapshot(model, (X,)), Snapshot(other, ())
        with contextlib.suppress(fr.errors.FxrebasinError, RuntimeError):
            function()
        try:
            before.check()
            other_before.check()
        except AssertionError as error:
            raise AssertionError(f"{call}: {error}") from error


def test_merging_layers_keep_their_symmetry() -> None:
    model = around(Merging()).double().train()
    x = X.double()
    expected = model(x)
    symmetry = fr.analyze(model, (x,))
    assert symmetry.log_order == pytest.approx(2 * f(6))
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(model)
    torch.testing.assert_close(moved(x), expected)


class Cache:
    """Holds what was seen, as a cache of keys and values does."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))

    def forward(self, x: Tensor, cache: Cache, notes: dict[str, Any]) -> Tensor:
        cache.tensors.append(x)
        notes["steps"] = len(cache.tensors)
        cache.tensors[0].add_(1)
        result: Tensor = self.net(x)
        return result


def test_objects_among_the_inputs_are_not_changed() -> None:
    torch.manual_seed(0)
    model, other = Remembering(), Remembering()
    cache, notes = Cache(), {"steps": 0}
    cache.tensors.append(torch.zeros(2))
    before = Snapshot(model, (X, cache, notes))
    assert fr.analyze(model, (X, cache, notes)).log_order == pytest.approx(f(6))
    before.check()
    fr.rebasin(model, to=other, args=(X, cache, notes), progress=False)
    before.check()


def test_a_loader_that_fails_midway_leaves_statistics() -> None:
    model = around(nn.BatchNorm1d(6))

    def loader() -> Iterator[Tensor]:
        yield X
        raise OSError("no more")

    before = Snapshot(model, ())
    with pytest.raises(OSError, match="no more"):
        fr.recompute_batch_norm(model, loader(), inplace=True)
    before.check()
