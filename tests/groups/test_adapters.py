"""Adapters and reparametrisations: low-rank pairs, weight and spectral norms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise

torch.set_num_threads(1)

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(0))
SIGNAL = torch.randn(8, 3, 9, generator=torch.Generator().manual_seed(0))


def f(*sizes: int) -> float:
    return math.fsum(math.lgamma(n + 1) for n in sizes)


def check(model: nn.Module, x: Tensor, log_order: float) -> fr.Symmetry:
    """The group has this order, and no tensor moves in vain; power iterations are at rest."""
    symmetry = fr.analyze(model, args=(x,), check=False)
    assert symmetry.log_order == pytest.approx(log_order, abs=1e-9)
    assert not symmetry.unknown_ops
    randomise(model)
    expected = evaluate(model, (x,))
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(model)
    assert difference(evaluate(moved, (x,)), expected) < 1e-12
    originals = dict(model.named_parameters())
    changed = [n for n, t in moved.named_parameters() if not torch.equal(t, originals[n])]
    assert changed
    for name in changed:
        tensor = moved.get_parameter(name)
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.copy_(originals[name])
            assert difference(evaluate(moved, (x,)), expected) > 1e-9, name
            tensor.copy_(kept)
    return symmetry


class LowRank(nn.Module):
    """A frozen linear layer with a trained product of two narrow ones added: LoRA."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float = 2.0) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, outputs, bias=False)})
        self.dropout = nn.Dropout(0.1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        added = self.lora_B["default"](self.lora_A["default"](self.dropout(x)))
        return self.base_layer(x) + added * self.scale


def test_the_rank_of_an_adapter_moves_by_itself() -> None:
    model = nn.Sequential(LowRank(3, 6, 4), nn.Tanh(), LowRank(6, 2, 5))
    symmetry = check(model, X, f(6, 4, 5))
    (rank,) = (b for b in symmetry if b.size == 4)
    assert set(rank.axes) == {
        ("0.lora_A.default.weight", 0), ("0.lora_B.default.weight", 1),
    }  # fmt: skip
    (hidden,) = (b for b in symmetry if b.size == 6)
    assert ("0.base_layer.weight", 0) in hidden.axes
    assert ("0.lora_B.default.weight", 0) in hidden.axes


class AdaptedAttention(nn.Module):
    """Adapters on queries and values, as is usual; two heads of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.q, self.k, self.v = LowRank(5, 6, 4), nn.Linear(5, 6, bias=False), LowRank(5, 6, 4)
        self.out = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        q, k, v = (p(x).unflatten(-1, (2, 3)).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(x + self.out(mixed.transpose(1, 2).flatten(2)))


def test_adapters_follow_the_heads_that_they_add_to() -> None:
    """The stream, heads with features inside, and two ranks."""
    check(AdaptedAttention(), SEQUENCE, f(5) + f(2) + 2 * f(3, 3) + f(4, 4))


class Parallel(nn.Module):
    """A bottleneck beside a layer, as in Houlsby's adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.down, self.up = nn.Linear(6, 4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.head(x + self.up(self.down(x).relu()))


def test_a_bottleneck_is_a_block() -> None:
    check(Parallel(), X, f(6, 4))


class Decomposed(LowRank):
    """DoRA: the adapted weight is normalised per output and given a length of its own."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__(inputs, outputs, rank)
        self.magnitude = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        narrow, wide = (self.get_parameter(f"lora_{k}.default.weight") for k in "AB")
        weight = self.base_layer.weight + self.scale * wide @ narrow
        length = torch.linalg.vector_norm(weight, dim=1)
        return nn.functional.linear(
            x, weight * (self.magnitude / length)[:, None], self.base_layer.bias
        )


def test_lengths_follow_the_outputs_that_they_belong_to() -> None:
    check(nn.Sequential(Decomposed(3, 6, 4), nn.Tanh(), Decomposed(6, 2, 5)), X, f(6, 4, 5))


def linears(wrap: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    return nn.Sequential(
        wrap(nn.Linear(3, 6)), nn.Tanh(), wrap(nn.Linear(6, 5)), nn.Tanh(), wrap(nn.Linear(5, 2))
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weight_norm_of_linear_layers(dim: int) -> None:
    """Lengths per output, or per input."""
    check(linears(lambda layer: parametrizations.weight_norm(layer, dim=dim)), X, f(6, 5))


def test_weight_norm_of_convolutions() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv1d(3, 6, 3)), nn.Tanh(),
        parametrizations.weight_norm(nn.ConvTranspose1d(6, 5, 3)), nn.Tanh(),
        parametrizations.weight_norm(nn.Conv1d(5, 2, 1)),
    )  # fmt: skip
    check(model, SIGNAL, f(6, 5))


def test_weight_norm_with_hooks() -> None:
    """The older form, which computes the weight before each call."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = linears(torch.nn.utils.weight_norm)
    check(model, X, f(6, 5))


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_weight_norm_of_grouped_convolutions(kind: type[nn.Module], dim: int) -> None:
    """(S_3 x S_2) wr S_2: channels that go in and out, group by group.

    Lengths along the second axis, which both groups share, tie the channels on it: those that
    come in, or those that go out where it is transposed.
    """
    model = nn.Sequential(
        nn.Conv1d(3, 6, 1), nn.Tanh(),
        parametrizations.weight_norm(kind(6, 4, 3, groups=2), dim=dim), nn.Tanh(),
        nn.Conv1d(4, 2, 1),
    )  # fmt: skip
    tied = {(nn.Conv1d, 1): f(2, 3, 2, 2), (nn.ConvTranspose1d, 1): f(2, 3, 3, 2)}
    check(model, SIGNAL, tied.get((kind, dim), f(2) + 2 * f(3, 2)))


@pytest.mark.parametrize("normalised", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_moves_the_vectors_of_its_iteration(
    normalised: Callable[[nn.Module], nn.Module],
) -> None:
    """They are buffers: in eval mode the largest singular value is taken from where they are."""
    model = nn.Sequential(
        nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(),
        normalised(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 2),
    )  # fmt: skip
    check(model, X, f(6, 5, 4))


def test_spectral_norm_of_a_convolution() -> None:
    """Its right vector has an entry per channel and place of the kernel."""
    model = nn.Sequential(
        nn.Conv1d(3, 6, 1), nn.Tanh(),
        parametrizations.spectral_norm(nn.Conv1d(6, 4, 3)), nn.Tanh(), nn.Conv1d(4, 2, 1),
    )  # fmt: skip
    check(model, SIGNAL, f(6, 4))
