"""Buffers that belong to units: masks of pruned weights, and those of which the user says so."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import f, real
from reliability import Case, Cases, X, check, made
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.propagation.movable import Movable

torch.set_num_threads(1)

PRUNED = Cases()

# masks of torch.nn.utils.prune move with the weights that they belong to; torch cannot copy what
# was pruned where gradients are recorded


def mlp(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(n, m) for n, m in pairwise(sizes)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())][:-1])


@PRUNED.model(f(8) + f(7))
@torch.no_grad()
def entries_of_weights_pruned() -> nn.Module:
    model = mlp(3, 8, 7, 2)
    for layer in model[::2]:
        prune.l1_unstructured(layer, "weight", 0.4)
    return model


@PRUNED.model(f(8) + f(7))
@torch.no_grad()
def nothing_pruned_yet() -> nn.Module:
    """Masks that are all ones today are others in another state dict."""
    model = mlp(3, 8, 7, 2)
    for layer in model[::2]:
        prune.identity(layer, "weight")
    return model


@PRUNED.model(f(8) + f(7))
@torch.no_grad()
def rows_pruned_and_biases() -> nn.Module:
    model = mlp(3, 8, 7, 2)
    prune.ln_structured(model[0], "weight", 3, n=2, dim=0)
    prune.random_unstructured(model[0], "bias", 3)
    prune.random_structured(model[2], "weight", 2, dim=1)
    return model


@PRUNED.model(f(6) + f(5), real(3, 6, 6)(2))
@torch.no_grad()
def kernels_pruned() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3), nn.Flatten())
    prune.random_unstructured(model[0], "weight", 0.3)
    prune.random_unstructured(model[2], "weight", 0.5)
    return nn.Sequential(model, nn.Unflatten(1, (5, 4)), nn.Flatten(), nn.Linear(20, 2))


@PRUNED.model(f(6))
@torch.no_grad()
def pruned_again() -> nn.Module:
    """Torch keeps one mask for a weight that was pruned twice."""
    model = mlp(3, 6, 2)
    prune.random_unstructured(model[0], "weight", 0.3)
    prune.l1_unstructured(model[0], "weight", 0.3)
    return model


@PRUNED.model(f(6))
@torch.no_grad()
def pruned_by_hand() -> nn.Module:
    """The names say what they are, whoever has given them."""

    class Pruned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight_orig = nn.Parameter(torch.randn(6, 3))
            self.register_buffer("weight_mask", torch.rand(6, 3) > 0.3)
            self.out = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight_orig * self.weight_mask  # type: ignore[operator]
            return self.out(F.linear(x, weight).tanh())

    return Pruned()


@pytest.mark.parametrize("case", PRUNED.each())
def test_masks_move_with_their_weights(case: Case) -> None:
    check(case)


def test_what_was_pruned_where_gradients_are_recorded_is_aligned() -> None:
    a, b = mlp(3, 6, 2), mlp(3, 6, 2)
    for model in (a, b):
        prune.random_unstructured(model[0], "weight", 0.3)
    aligned = fr.rebasin(b, to=a, args=(X.float(),), progress=False)
    assert difference([aligned(X.float())], [b(X.float())]) < 1e-6


def test_masks_do_not_vote() -> None:
    """Two seeds prune other entries: what is left of the weights decides."""
    a, b = (made(PRUNED["entries_of_weights_pruned"], seed) for seed in (1, 2))
    symmetry = fr.analyze(b, (X,))
    objective = fr.objectives.weights(symmetry, b.state_dict(), a.state_dict())
    assert not any(term.moves.name.endswith("mask") for term in objective.terms)


def test_a_mask_that_is_derived_from_the_configuration_stays() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 6)
            self.register_buffer("weight_mask", torch.ones(6, 3).tril())

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight * self.weight_mask  # type: ignore[operator]
            return F.linear(x, weight, self.bias)

    assert fr.analyze(nn.Sequential(Masked(), nn.Linear(6, 2)), (X,)).log_order == 0.0


# buffers of which the user says that they belong to units


class Quantised(nn.Module):
    """Features are replaced by a mean of the codes that are next to them."""

    codebook: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("codebook", torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        far = (self.encode(x).tanh().unsqueeze(1) - self.codebook).square().sum(-1)
        return self.decode((-far).softmax(-1) @ self.codebook)


class VectorAdapter(nn.Module):
    """VeRA: all layers share two random matrices, and train a vector for each of them."""

    shared_a: Tensor
    shared_b: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.register_buffer("shared_a", torch.randn(4, 6))
        self.register_buffer("shared_b", torch.randn(6, 4))
        self.scale_d, self.scale_b = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).tanh()
        adapted = self.scale_b * F.linear(self.scale_d * F.linear(h, self.shared_a), self.shared_b)
        return self.leave((self.inner(h) + adapted).tanh())


class Sloped(nn.Module):
    """A slope for every head, computed once and kept in the state dict."""

    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 3 * 6), nn.Linear(6, 2)
        self.register_buffer("slopes", 0.5 ** torch.arange(1.0, 4.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 2)).permute(2, 0, 3, 1, 4)
        far = torch.arange(x.shape[1], dtype=x.dtype)
        scores = q @ k.mT - (self.slopes * 2).view(-1, 1, 1) * (far[:, None] - far).abs()
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Frozen(nn.Module):
    """A first layer of random features that is never trained, its weight a buffer."""

    weight: Tensor
    keep: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(6, 3))
        self.register_buffer("keep", torch.tensor([True, False, True, True, False, True]))
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.linear(x, self.weight).tanh() * self.keep)


class Mask(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def masked_by_a_parametrization() -> nn.Module:
    model = mlp(3, 6, 2)
    parametrize.register_parametrization(model[0], "weight", Mask(torch.ones(6, 3)))
    return model


HEADS, TOKENS = f(3) + 3 * (f(2) + f(2)), real(5, 4)(2)

MOVABLE: dict[str, tuple[Any, Any, Movable, float]] = {
    "a codebook": (Quantised, X, "codebook", f(6) + f(5)),
    "one of the matrices of VeRA": (VectorAdapter, X, ["shared_a"], f(6)),
    "shared matrices of VeRA": (VectorAdapter, X, ["shared_a", "shared_b"], f(6) + f(6) + f(4)),
    "a pattern": (VectorAdapter, X, "shared_?", f(6) + f(6) + f(4)),
    "a predicate": (VectorAdapter, X, lambda name, b: b.ndim == 2, f(6) + f(6) + f(4)),
    "a slope per head": (Sloped, TOKENS, "slopes", HEADS),
    "weights and bits": (Frozen, X, ["weight", "keep"], f(6)),
    "a mask in a parametrization": (masked_by_a_parametrization, X, "*.mask", f(6)),
}


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
@pytest.mark.parametrize("name", MOVABLE)
def test_a_buffer_moves_where_the_user_says_so(name: str, front_end: Any) -> None:
    make, x, movable, log_order = MOVABLE[name]
    torch.manual_seed(0)
    model = make()
    options: dict[str, Any] = {"args": (x,), "front_ends": [front_end]}
    if front_end == "symbolic_trace" and name == "a slope per head":
        pytest.skip("a size is read while it is traced")
    assert fr.analyze(model, **options).log_order < log_order
    symmetry = fr.analyze(model, movable=movable, **options)
    assert symmetry.log_order == pytest.approx(log_order, abs=1e-9)
    drawn = randomise(copy.deepcopy(model))
    expected = evaluate(drawn, (x,))
    for seed in range(3):
        moves = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert difference(evaluate(moves.apply_to(drawn), (x,)), expected) < 1e-10
        loaded = copy.deepcopy(drawn)
        loaded.load_state_dict(moves.apply(drawn.state_dict()))
        assert difference(evaluate(loaded, (x,)), expected) < 1e-10


def codes(seed: int) -> Quantised:
    torch.manual_seed(seed)
    return Quantised()


def test_a_buffer_that_moves_is_in_files_votes_and_is_emitted(tmp_path: Path) -> None:
    b = codes(0)
    symmetry = fr.analyze(b, (X,), movable="codebook")
    assert fr.Symmetry.from_json(symmetry.to_json()) == symmetry
    hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(3))
    hidden.save(tmp_path / "hidden.safetensors")
    assert fr.Permutation.load(tmp_path / "hidden.safetensors") == hidden
    a = hidden.apply_to(b)
    assert not torch.equal(a.codebook, b.codebook)
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert aligned.report.permutation == hidden  # rows of the codebook are matched by nothing else
    assert torch.equal(aligned.state_dict()["codebook"], a.codebook)
    again = pickle.loads(pickle.dumps(aligned))
    assert difference([again(X)], [b(X)]) < 1e-6


def test_activations_are_matched_with_buffers_that_move() -> None:
    b = codes(0)
    symmetry = fr.analyze(b, (X,), movable="codebook")
    hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(3))
    batch = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    found = fr.activation_matching(
        b, to=hidden.apply_to(b), args=(batch,), symmetry=symmetry, progress=False
    )
    assert (found.permutation.flat("encode.weight[0]") == hidden.flat("encode.weight[0]")).all()


def test_an_explanation_names_the_buffer_that_pins() -> None:
    told = str(fr.analyze(codes(0), (X,)).explain("encode.weight", 0))
    assert "by the buffer codebook" in told
    assert "analyze(..., movable='codebook')" in told
    free = fr.analyze(codes(0), (X,), movable="codebook").explain("encode.weight", 0)
    assert free.pinned_by == ()
    assert ("codebook", 1) in free.moves_with


class Kinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("scale", torch.ones(6))
        self.register_buffer("order", torch.arange(6))
        self.register_buffer("cache", torch.rand(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x) * self.scale * self.cache)


TEXTS = {
    "bias": "movable: expected buffers of the model that can move, which are 'scale', found 'bias'",
    "*.scale": "which are 'scale', found '*.scale'",
    "out.weight": "found 'out.weight'; it is a parameter and moves without that",
    "order": "the buffer 'order' holds whole numbers (torch.int64)",
    "cache": "the buffer 'cache' is not in the state dict (persistent=False)",
}


@pytest.mark.parametrize("movable", TEXTS)
def test_names_of_no_buffer_that_can_move_are_refused(movable: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        fr.analyze(Kinds(), (X,), movable=movable)
    assert TEXTS[movable] in str(caught.value)


def test_a_pattern_leaves_out_what_cannot_move() -> None:
    found = fr.analyze(Kinds(), (X,), movable="*")
    assert [p.name for p in found.parameters if p.is_buffer] == ["order", "cache"]
    assert found.log_order == 0.0  # the cache still pins
    assert fr.analyze(Kinds(), (X,), movable=lambda name, buffer: False).log_order == 0.0


def test_what_moves_by_itself_may_be_named() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    assert fr.analyze(model, (X,), movable="1.running_mean") == fr.analyze(model, (X,))
