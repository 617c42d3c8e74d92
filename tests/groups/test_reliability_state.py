"""Dropout and other random ops, and buffers that forward updates."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import Apply, around, f, real
from reliability import Case, Cases, X, check, made
from torch import Tensor, nn
from torchvision.ops import DropBlock2d, StochasticDepth

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import VerificationError

torch.set_num_threads(1)

RANDOM, UPDATED = Cases(), Cases()

# random ops


@RANDOM.model(f(6))
def dropout_of_every_kind() -> nn.Module:
    """In eval mode they are the identity, whatever mode the user's model is in."""
    kinds = [nn.Dropout(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), StochasticDepth(0.5, "row")]
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), *kinds, nn.Linear(6, 2))


@RANDOM.model(f(6), real(3, 6, 6)(2))
def dropout_of_channels() -> nn.Module:
    kinds = [nn.Dropout2d(), DropBlock2d(0.5, 3), StochasticDepth(0.5, "batch")]
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), *kinds, nn.Conv2d(6, 2, 1))


@RANDOM.model(f(6) + f(5), real(4, 3)(2))
def dropout_between_recurrent_layers() -> nn.Module:
    recurrent = nn.LSTM(6, 5, num_layers=1, batch_first=True)
    first = Apply(lambda h: h[0])
    return nn.Sequential(nn.Linear(3, 6), nn.Dropout(), recurrent, first, nn.Linear(5, 2))


class Noise(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            h = h + torch.randn_like(h)
        return F.dropout(h, 0.5, self.training)


@RANDOM.model(f(6))
def noise_in_training_only() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), Noise(), nn.Linear(6, 2))


@RANDOM.hidden(0.0)
def dropout_that_is_never_off(h: Tensor) -> Tensor:
    """Which units are dropped depends on where they are, given the random numbers."""
    return F.dropout(h, 0.5)


@RANDOM.hidden(f(6))
def dropout_of_none_or_all(h: Tensor) -> Tensor:
    return F.dropout(h, 0.0) + F.dropout(h, 1.0)


@RANDOM.hidden(0.0, unknown=("aten.rand_like.default",))
def noise_per_entry(h: Tensor) -> Tensor:
    return h + torch.rand_like(h)


@RANDOM.hidden(0.0)
def noise_per_unit(h: Tensor) -> Tensor:
    return h * torch.randn(h.shape[1], dtype=h.dtype)


@RANDOM.hidden(f(6))
def noise_per_example(h: Tensor) -> Tensor:
    """All units of an example get the same, so they can change places."""
    return h * torch.randn(4, 1, dtype=h.dtype)


@RANDOM.hidden(f(6), keeps_dtype=True)
def noise_per_example_of_any_batch(h: Tensor) -> Tensor:
    """``torch.fx`` cannot trace a size that depends on the input's; ``torch.export`` can."""
    return h * torch.randn(h.shape[0], 1, dtype=h.dtype)


@RANDOM.hidden(0.0, unknown=("aten.bernoulli.default",))
def drawn_from_the_units(h: Tensor) -> Tensor:
    return torch.bernoulli(h.sigmoid())


@RANDOM.hidden(0.0)
def gumbel_softmax(h: Tensor) -> Tensor:
    return F.gumbel_softmax(h, dim=1)


@RANDOM.model(f(6))
def randomised_leaky_relu() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.RReLU(), nn.Linear(6, 2))


@RANDOM.model(f(6))
def randomised_leaky_relu_in_place() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.RReLU(inplace=True), nn.Linear(6, 2))


@RANDOM.hidden(0.0, aligns=False)
def randomised_leaky_relu_in_training(h: Tensor) -> Tensor:
    return F.rrelu(h, training=True)


@pytest.mark.parametrize("case", RANDOM.each())
def test_random_ops(case: Case) -> None:
    check(case)


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.RefutedWarning")
@pytest.mark.parametrize("dim", [0, 1])
def test_an_order_that_is_drawn_while_tracing_is_found(dim: int) -> None:
    def shuffled(h: Tensor) -> Tensor:
        return h.index_select(dim, torch.randperm((4, 6)[dim]))

    a, b = around(shuffled, 6), around(shuffled, 6)
    with pytest.raises(VerificationError, match="random"):
        fr.rebasin(b, to=a, args=(X,), progress=False)


def test_dropout_drops_in_train_mode_after_alignment() -> None:
    case = RANDOM["dropout_of_every_kind"]
    aligned = fr.rebasin(made(case, 1), to=made(case, 2), args=(X,), progress=False)
    aligned.train()
    torch.manual_seed(0)
    assert not torch.equal(aligned(X), aligned(X))
    aligned.eval()
    assert torch.equal(aligned(X), aligned(X))


# buffers that forward updates


class Updating(nn.Module):
    """A hidden layer, a buffer of numbers that are no statistics, and a counter."""

    average: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("steps", torch.tensor(0))

    def hidden(self, x: Tensor) -> Tensor:
        return self.first(x).tanh()


@UPDATED.model(f(6))
class MovingAverage(Updating):
    """Statistics that go by the name that batch norm gives them move with their units."""

    running_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.running_mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        self.steps.add_(1)
        return self.head(h - self.running_mean)


@UPDATED.model(0.0)
class MovingAverageOfUnknownKind(Updating):
    """Any other buffer of numbers stays as it is, and so do the units that meet it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.average.lerp_(h.detach().mean(0), 0.1)
        return self.head(h - self.average)


@UPDATED.model(f(6))
class OverwrittenBeforeItIsRead(Updating):
    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.average.copy_(h.detach().mean(0))
        return self.head(h - self.average)


@UPDATED.model(f(6))
class Counter(Updating):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x) * self.steps.add_(1))


@UPDATED.model(f(6), real(4, 3)(2))
class Cache(Updating):
    """Keys and values of earlier tokens are kept like this; here all of them are written first."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, 8, 6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.cache[:, : h.shape[1]] = h.detach()
        return self.head(h + self.cache[:, : h.shape[1]].mean(1, keepdim=True))


@UPDATED.model(f(6))
class Queue(Updating):
    """Written to, and read by nobody."""

    queue: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", torch.randn(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.queue[:4] = h.detach()
        return self.head(h)


@UPDATED.model(f(6) + f(5))
def batch_norm_without_statistics() -> nn.Module:
    first, second = (nn.BatchNorm1d(n, track_running_stats=False) for n in (6, 5))
    return nn.Sequential(
        nn.Linear(3, 6), first, nn.Tanh(), nn.Linear(6, 5), second, nn.Linear(5, 2)
    )


@UPDATED.model(f(6))
class AlwaysTraining(nn.Module):
    """Batch norm that normalises by the batch, and updates its statistics, in any mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm
        h = F.batch_norm(
            self.first(x), n.running_mean, n.running_var, n.weight, n.bias, training=True
        )
        return self.head(h.tanh())


@pytest.mark.parametrize("case", UPDATED.each())
def test_buffers_that_forward_updates(case: Case) -> None:
    check(case)


def test_statistics_of_a_permuted_model_go_on_as_those_of_the_original() -> None:
    """After three more batches the one is still the permuted other."""
    case = UPDATED["MovingAverage"]
    model = randomise(made(case, 0))
    permutation = fr.Permutation.random(
        fr.analyze(made(case, 0), args=(X,)), torch.Generator().manual_seed(1)
    )
    moved = permutation.apply_to(model)
    for seed in range(3):
        batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).double()
        assert torch.allclose(moved(batch), model(batch), rtol=1e-10)
    expected = permutation.apply(model.state_dict())
    assert not torch.equal(expected["running_mean"], model.state_dict()["running_mean"])
    for name, tensor in moved.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])


def test_an_aligned_module_updates_its_own_buffers_only() -> None:
    case = UPDATED["MovingAverage"]
    b = made(case, 1)
    before = copy.deepcopy(b.state_dict())
    aligned = fr.rebasin(b, to=made(case, 2), args=(X,), progress=False)
    steps = aligned.get_buffer("steps").item()
    aligned(X)
    assert aligned.get_buffer("steps").item() == steps + 1
    assert aligned.get_buffer("running_mean").abs().sum() > 0
    assert all(torch.equal(t, before[name]) for name, t in b.state_dict().items())


REPLACED = Cases()


@REPLACED.model(f(6))
class ReplacedBeforeItIsRead(Updating):
    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.average = h.detach().mean(0)
        return self.head(h - self.average)


@REPLACED.model(f(6), aligns=False)
class ReplacedAfterItIsRead(Updating):
    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        self.steps = self.steps + 1
        return self.head(h * self.steps)


@pytest.mark.parametrize("case", REPLACED.each())
def test_buffers_that_are_replaced_by_another_tensor(case: Case) -> None:
    check(case)


def test_a_model_that_replaces_a_buffer_goes_on_doing_so() -> None:
    """A graph of symbolic_trace would return the same at every call."""
    a, b = ReplacedAfterItIsRead(), ReplacedAfterItIsRead()
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert aligned.report.symmetry.front_end != "symbolic_trace"
    for _ in range(2):
        assert torch.allclose(aligned(X), b(X), atol=1e-5)
