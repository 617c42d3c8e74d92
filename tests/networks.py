"""Small networks whose symmetry groups were worked out by hand.

Every network is registered with its inputs, the natural logarithm of the order of its group, and
its blocks. Both are written down independently of each other, so that a slip in one shows:

* ``log_order`` is a formula in ``f(n)``, which is ``log n!``;
* ``blocks`` is a sum of ``S(a, b, ...)``, symmetric groups that stand alone, and of
  ``wr(n, a, b, ...)``, the wreath product ``(S_a x S_b x ...) wr S_n``.

``incomplete`` says why fewer symmetries than these are found; what is found is sound regardless.

>>> S(6) + wr(4, 2, 3)
[(6, 1, 0), (4, 1, 0), (2, 4, 4), (3, 4, 4)]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Blocks = list[tuple[int, int, int]]
Inputs = Callable[[int], tuple[Tensor, ...]]
Factory = TypeVar("Factory", bound=Callable[[], nn.Module])


@dataclass(frozen=True, eq=False)
class Network:
    """A network and its group."""

    name: str
    factory: Callable[[], nn.Module]
    inputs: Inputs
    """From a batch size to example inputs."""
    log_order: float
    blocks: Blocks
    """Size, number of parents and size of the parent block (0: none) of every block."""
    unknown: tuple[str, ...] = ()
    """The ops that are not understood."""
    incomplete: str = ""
    """Why less than the whole group is found; empty where all of it is."""
    inert: tuple[str, ...] = ()
    """Parameters that move, but need not: where they are does not matter."""


NETWORKS: dict[str, Network] = {}


def network(
    inputs: Inputs,
    log_order: float,
    blocks: Blocks,
    *,
    unknown: tuple[str, ...] = (),
    incomplete: str = "",
    inert: tuple[str, ...] = (),
) -> Callable[[Factory], Factory]:
    """Register a class or function that makes a network."""

    def register(factory: Factory) -> Factory:
        name = factory.__name__
        assert name not in NETWORKS, name
        NETWORKS[name] = Network(
            name, factory, inputs, log_order, blocks, unknown, incomplete, inert
        )
        return factory

    return register


def f(n: int) -> float:
    """The logarithm of ``n!``."""
    return math.lgamma(n + 1)


def S(*sizes: int) -> Blocks:  # noqa: N802 - the symbol of the symmetric group
    return [(n, 1, 0) for n in sizes]


def wr(n: int, *sizes: int) -> Blocks:
    """``n`` copies of the product of S_a, S_b, ..., and permutations of the copies."""
    return [(n, 1, 0), *((size, n, n) for size in sizes)]


def real(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, *shape, generator=torch.Generator().manual_seed(7))


def words(length: int, vocabulary: int) -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(7)
    table = torch.randint(vocabulary, (8, length), generator=generator)
    return lambda n: table[:n]


def given(*inputs: Callable[[int], Tensor]) -> Inputs:
    return lambda n: tuple(x(n) for x in inputs)


FLAT = given(real(3))
SEQUENCE = given(real(4, 3))
IMAGE = given(real(3, 6, 6))
TOKENS = given(words(5, 7))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


class Residual(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


def around(function: Callable[[Tensor], Tensor], n: int, m: int | None = None) -> nn.Module:
    """``Linear(3, n)``, tanh, the function, ``Linear(m, 2)``."""
    return nn.Sequential(
        nn.Linear(3, n), nn.Tanh(), Apply(function), nn.Linear(n if m is None else m, 2)
    )


def around2d(*layers: nn.Module | Callable[[Tensor], Tensor], n: int, m: int) -> nn.Module:
    """A convolution to ``n`` channels, the layers, a convolution from ``m`` channels."""
    modules = [x if isinstance(x, nn.Module) else Apply(x) for x in layers]
    return nn.Sequential(nn.Conv2d(3, n, 3), nn.Tanh(), *modules, nn.Tanh(), nn.Conv2d(m, 2, 1))


# Linear layers


@network(FLAT, f(6) + f(5), S(6, 5))
def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)
    )


@network(given(real(4)), 3 * f(4), S(4, 4, 4))
def mlp_of_square_layers() -> nn.Module:
    """Nothing but the position in the network tells the axes apart."""
    layers = [m for _ in range(3) for m in (nn.Linear(4, 4), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(4, 4))


@network(FLAT, f(6) + f(8) + f(5), S(6, 8, 5))
def residual_mlp() -> nn.Module:
    """One class for the whole stream, one per hidden layer."""
    return nn.Sequential(
        nn.Linear(3, 6),
        Residual(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)),
        Residual(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)),
        nn.Linear(6, 2),
    )


@network(FLAT, f(5), S(5))
def residual_to_the_input() -> nn.Module:
    """The stream is the input itself: only the hidden layer moves."""
    return nn.Sequential(Residual(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)), nn.Linear(3, 2))


@network(FLAT, f(6) + f(5), S(6, 5))
def layer_norm_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Linear(6, 5),
        nn.LayerNorm(5),
        nn.Linear(5, 2),
    )


@network(FLAT, f(6), S(6))
def rms_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.RMSNorm(6), nn.GELU(), nn.Linear(6, 2))


@network(FLAT, f(6) + f(5), S(6, 5))
def batch_norm_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5, affine=False),
        nn.ReLU(),
        nn.Linear(5, 2),
    )


@network(FLAT, f(6), S(6))
def dropout_mlp() -> nn.Module:
    """In eval mode dropout is the identity."""
    return nn.Sequential(
        nn.Linear(3, 6), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.AlphaDropout(), nn.Linear(6, 2)
    )


@network(given(real(3), real(4)), f(5) + f(4) + f(6), S(5, 4, 6))
class ConcatOfBranches(nn.Module):
    """The axis of the joint layer is a sum of two blocks; two inputs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 5), nn.Linear(4, 4)
        self.joint, self.head = nn.Linear(9, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat([self.left(x).relu(), self.right(y).relu()], dim=1)
        return self.head(self.joint(both).relu())


@network(given(real(3), real(4)), f(6), S(6))
class SumOfBranches(nn.Module):
    """Two inputs whose features are added: one class."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"answer": self.head((self.left(x) + self.right(y)).relu())}


@network(FLAT, f(6) + f(5), S(6, 5))
class SeveralOutputs(nn.Module):
    """A trunk with two heads, one of them with a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one = nn.Linear(3, 6), nn.Linear(6, 2)
        self.hidden, self.two = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        h = self.trunk(x).relu()
        return self.one(h), {"two": [self.two(self.hidden(h).relu()), h.mean(1)]}


@network(FLAT, f(5), S(5))
class HiddenFeaturesAreAnOutput(nn.Module):
    """What the caller sees may not move; the layer after it may."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return self.head(self.second(h).tanh()), h


@network(FLAT, f(4) + f(5), S(4, 5))
class SomeHiddenFeaturesAreAnOutput(nn.Module):
    """Of six hidden units two are outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return self.head(self.second(h).tanh()), h[:, 1:3]


@network(FLAT, f(6), S(6))
def summed_over_units() -> nn.Module:
    """No layer follows: a symmetric function of the units is the output."""
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), Apply(lambda h: h.sum(1)))


@network(FLAT, f(6), S(6))
def statistics_over_units() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        return torch.stack([h.amax(1), h.amin(1), h.std(1), h.norm(dim=1), h.logsumexp(1)], 1)

    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), Apply(forward))


@network(FLAT, f(6), S(6))
def largest_over_units() -> nn.Module:
    """``max`` with a dimension also returns where the maximum is, which is not used."""
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), Apply(lambda h: h.max(1).values))


@network(FLAT, f(6), S(6))
class GramMatrix(nn.Module):
    """Units that are only ever contracted with themselves; the batch axis is pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x).tanh()
        return h @ h.T


@network(given(real(3), real(4)), f(6), S(6))
class TwoTowers(nn.Module):
    """As in CLIP: the joint space moves, since only the similarity of the towers is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 6), nn.Linear(4, 6)
        self.temperature = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = F.normalize(self.left(x), dim=-1), F.normalize(self.right(y), dim=-1)
        return self.temperature.exp() * a @ b.t()


@network(given(real(3), real(4)), f(5) + f(4), S(5, 4))
class BilinearForm(nn.Module):
    """Two hidden spaces that meet in one weight ``(2, 5, 4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 5), nn.Linear(4, 4)
        self.form = nn.Parameter(torch.randn(2, 5, 4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("bi,oij,bj->bo", self.left(x).tanh(), self.form, self.right(y).tanh())


@network(given(real(3), real(4)), f(5) + f(4), S(5, 4))
class BilinearLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.form = nn.Linear(3, 5), nn.Linear(4, 4), nn.Bilinear(5, 4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.form(self.left(x).tanh(), self.right(y).tanh())
        return out


@network(FLAT, f(5) + f(4), S(5, 4))
class OuterProduct(nn.Module):
    """The head's axis is a product of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, 5), nn.Linear(3, 4), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        outer = self.left(x).tanh().unsqueeze(2) * self.right(x).tanh().unsqueeze(1)
        return self.head(outer.flatten(1))


# Sharing


@network(given(real(5)), 0.0, [])
class TiedToTheInput(nn.Module):
    """The first use pins the shared weight's axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


@network(FLAT, f(5), S(5))
class TiedLinears(nn.Module):
    """Rows are columns: one class that lies on both axes of the shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x).relu()).relu()).relu())


@network(FLAT, f(5), S(5))
class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(self.stem(x).relu()).relu()).relu())


@network(given(real(3), real(3)), f(5) + f(4), S(5, 4), inert=("tower.2.bias",))
class Siamese(nn.Module):
    """One tower for two inputs; its last bias cancels out."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head((self.tower(x) - self.tower(y.flip(0) * 2)).abs())


@network(FLAT, f(5), S(5))
class Autoencoder(nn.Module):
    """The decoder is the transposed encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T + self.bias).relu() @ self.weight


@network(FLAT, f(6) + f(5), S(6, 5))
class HiddenAutoencoder(nn.Module):
    """The same among hidden layers, with both axes free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.weight = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return self.head((F.linear(h, self.weight).relu() @ self.weight).relu())


@network(TOKENS, f(6) + f(8), S(6, 8))
class TiedLanguageModel(nn.Module):
    """The embedding is also the head; the vocabulary stays."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 6)
        self.position = nn.Parameter(torch.zeros(5, 6))
        self.block = Residual(nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))
        self.norm = nn.LayerNorm(6)
        self.lm_head = nn.Linear(6, 7, bias=False)
        self.lm_head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.norm(self.block(self.tokens(x) + self.position)))


@network(FLAT, f(6) + f(2), S(6, 2))
class LowRankUpdate(nn.Module):
    """LoRA: the rank is a hidden layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.down = nn.Parameter(torch.randn(2, 3))
        self.up = nn.Parameter(torch.zeros(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.base.weight + self.up @ self.down
        return self.head(F.linear(x, weight, self.base.bias).relu())


@network(FLAT, f(6) + f(5), S(6, 5))
class ParametersInAList(nn.Module):
    """A plain list holds the same parameter objects a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(5, 6))
        self.third = nn.Parameter(torch.randn(2, 5))
        self.weights = [self.first, self.second]

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(x, weight).relu()
        return F.linear(x, self.third)


@network(FLAT, f(6), S(6))
class UnusedParameters(nn.Module):
    """What the forward pass does not reach belongs to no block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.unused = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 6)
        self.also_unused = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu())


@network(FLAT, f(6) + f(4) + f(2), S(6, 4, 2))
class SlicedParameter(nn.Module):
    """Two layers are rows of one parameter, and told apart by the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.packed = nn.Linear(3, 6), nn.Parameter(torch.randn(6, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        one, two = F.linear(h, self.packed[:4]), F.linear(h, self.packed[4:])
        return self.head(torch.cat([one.relu(), two.tanh()], 1))


@network(FLAT, f(6), S(6))
def weight_normalised_mlp() -> nn.Module:
    normalised = nn.utils.parametrizations.weight_norm
    return nn.Sequential(normalised(nn.Linear(3, 6)), nn.ReLU(), normalised(nn.Linear(6, 2)))


@network(FLAT, f(6), S(6))
def spectrally_normalised_mlp() -> nn.Module:
    """The buffers u and v of the power iteration move along."""
    normalised = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), normalised(nn.Linear(6, 2)))


# Convolutions


@network(IMAGE, f(6) + f(4), S(6, 4))
def convolution_flattened() -> nn.Module:
    """The units of the first linear layer's columns are blocks of height x width."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4), nn.ReLU(), nn.Linear(4, 2)
    )


@network(IMAGE, f(6) + f(4), S(6, 4))
def convolution_pooled_and_flattened() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )


@network(IMAGE, f(6), S(6))
def convolution_pooled_globally() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


@network(given(real(3, 9)), f(6) + f(4), S(6, 4))
def convolution_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 3),
        nn.BatchNorm1d(6),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 4, 2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@network(given(real(3, 4, 4, 4)), f(6) + f(4), S(6, 4))
def convolution_3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(6, 4, 1),
        nn.AvgPool3d(2),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@network(IMAGE, f(4) + 2 * f(3), S(4, 3, 3))
class DenseConnections(nn.Module):
    """As in DenseNet: every layer reads all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.third, self.norm, self.head = (
            nn.Conv2d(7, 3, 1),
            nn.BatchNorm2d(10),
            nn.Conv2d(10, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x).relu()
        b = self.second(a).relu()
        c = self.third(torch.cat([a, b], 1)).relu()
        return self.head(self.norm(torch.cat([a, b, c], 1)).relu())


@network(IMAGE, f(6) + f(3), S(6, 3))
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        gate = self.excite(self.squeeze(h.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(h * gate)


@network(IMAGE, f(3) + 3 * f(4), wr(3, 4))
def group_norm() -> nn.Module:
    """Channels within groups, and groups as a whole."""
    return around2d(nn.GroupNorm(3, 12), n=12, m=12)


@network(IMAGE, f(6), S(6))
def group_norm_of_one_group() -> nn.Module:
    return around2d(nn.GroupNorm(1, 6), n=6, m=6)


@network(IMAGE, f(2) + 2 * f(4) + 2 * f(2), wr(2, 4, 2))
def group_norms_that_do_not_divide_each_other() -> nn.Module:
    """Halves (0-5, 6-11) and thirds (0-3, 4-7, 8-11) of twelve channels.

    Exchanging the halves exchanges the outer thirds. In a half, four channels lie in an outer
    third and two in the middle one.
    """
    return around2d(nn.GroupNorm(2, 12), nn.Tanh(), nn.GroupNorm(3, 12), n=12, m=12)


@network(IMAGE, f(6), S(6))
def instance_norm() -> nn.Module:
    return around2d(nn.InstanceNorm2d(6, affine=True), n=6, m=6)


@network(IMAGE, f(6), S(6))
def instance_norm_with_statistics() -> nn.Module:
    return around2d(nn.InstanceNorm2d(6, affine=True, track_running_stats=True), n=6, m=6)


@network(IMAGE, f(6), S(6))
def batch_norm_without_statistics() -> nn.Module:
    return around2d(nn.BatchNorm2d(6, track_running_stats=False), n=6, m=6)


@network(IMAGE, f(6), S(6))
def layer_norm_of_images() -> nn.Module:
    """An affine of shape (C, H, W): channels move, height and width stay."""
    return around2d(nn.LayerNorm((6, 4, 4)), n=6, m=6)


@network(IMAGE, 0.0, [])
def local_response_norm() -> nn.Module:
    """Each channel is divided by the power of its neighbours: their order counts."""
    return around2d(nn.LocalResponseNorm(3), n=6, m=6)


@network(IMAGE, f(4) + 4 * f(2) + 4 * f(3), wr(4, 2, 3))
def grouped_convolution() -> nn.Module:
    return around2d(nn.Conv2d(8, 12, 3, groups=4), n=8, m=12)


@network(IMAGE, f(6), S(6))
def depthwise_convolution() -> nn.Module:
    return around2d(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), n=6, m=6)


@network(IMAGE, f(6) + 6 * f(2), wr(6, 2))
def depthwise_convolution_with_multiplier() -> nn.Module:
    return around2d(nn.Conv2d(6, 12, 3, groups=6), n=6, m=12)


@network(
    IMAGE,
    f(2) + 2 * (f(4) + f(2) + 2 * (f(2) + f(2))),
    [*wr(2, 4, 2), (2, 4, 2), (2, 4, 2)],
)
def grouped_convolutions_in_a_row() -> nn.Module:
    """Two groups, each of which feeds two of four groups: three levels."""
    return around2d(nn.Conv2d(8, 8, 1, groups=2), nn.Tanh(), nn.Conv2d(8, 8, 1, groups=4), n=8, m=8)


@network(IMAGE, f(2) + 2 * f(4) + 2 * f(3), wr(2, 4, 3))
class WeightStandardisation(nn.Module):
    """The weight of a grouped convolution is normalised per output channel before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(6, 2, 1)
        self.weight = nn.Parameter(torch.randn(6, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / self.weight.std((1, 2, 3), keepdim=True)
        return self.head(F.conv2d(self.stem(x).tanh(), weight, groups=2).tanh())


@network(IMAGE, f(6) + f(4), S(6, 4))
def transposed_convolution() -> nn.Module:
    return around2d(nn.ConvTranspose2d(6, 4, 3, stride=2), n=6, m=4)


@network(IMAGE, f(4) + 4 * f(2) + 4 * f(3), wr(4, 2, 3))
def grouped_transposed_convolution() -> nn.Module:
    return around2d(nn.ConvTranspose2d(8, 12, 3, groups=4, output_padding=0), n=8, m=12)


@network(IMAGE, f(6), S(6))
def prelu_per_channel() -> nn.Module:
    return around2d(nn.PReLU(6), n=6, m=6)


@network(IMAGE, f(4), S(4))
def pixel_shuffle() -> nn.Module:
    """Four channels of 2 x 2 pixels each: the pixels of a channel have their places."""
    return around2d(nn.PixelShuffle(2), n=16, m=4)


@network(IMAGE, f(4), S(4))
def pixel_unshuffle() -> nn.Module:
    return around2d(nn.PixelUnshuffle(2), n=4, m=16)


@network(IMAGE, f(6), S(6))
def channel_shuffle() -> nn.Module:
    return around2d(nn.ChannelShuffle(2), n=6, m=6)


@network(IMAGE, 2 * f(2) + 2 * f(2) + 2 * f(2), [*wr(2, 2), *wr(2, 2)])
def channel_shuffle_between_groups() -> nn.Module:
    """Four channels, one for every pair of a group before and a group after the shuffle.

    Their places follow from those of the groups; the channels before and after are free.
    """
    return around2d(
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Tanh(),
        nn.ChannelShuffle(2),
        nn.Conv2d(4, 4, 1, groups=2),
        n=4,
        m=4,
    )


@network(
    IMAGE,
    2 * f(2) + 4 * f(4) + 4 * f(2),
    [*wr(2, 4), *wr(2, 4), (2, 4, 2)],
    incomplete="a block inside a product of two others cannot be written down",
)
def channel_shuffle_between_larger_groups() -> nn.Module:
    """The same with two channels for every pair of groups, which can be exchanged."""
    return around2d(
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Tanh(),
        nn.ChannelShuffle(2),
        nn.Conv2d(8, 8, 1, groups=2),
        n=8,
        m=8,
    )


@network(IMAGE, f(4) + f(4) + f(5), S(4, 4, 5))
class PaddedShortcut(nn.Module):
    """ResNet's option A: four channels become the middle ones of eight, the others are new."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(8, 2, 1)
        self.one, self.two = nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.Conv2d(5, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        shortcut = F.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head((shortcut + self.two(self.one(h).relu())).relu())


@network(IMAGE, 2 * f(4) + 2 * f(6), S(4, 4, 6, 6))
class ResidualConvolutions(nn.Module):
    """Two residual blocks, the second with a downsampling shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.one = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True),
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        )  # fmt: skip
        self.two = nn.Sequential(
            nn.Conv2d(4, 6, 3, 2, padding=1), nn.BatchNorm2d(6), nn.ReLU(True),
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.downsample = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.one(x)
        y += x
        y = F.relu(y, inplace=True)
        return self.head(torch.flatten(self.pool((self.two(y) + self.downsample(y)).relu_()), 1))


@network(IMAGE, f(4) + f(5) + f(6), S(4, 5, 6))
class SkipConcatenation(nn.Module):
    """As in U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.up, self.head = nn.Conv2d(9, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x).relu()
        b = F.interpolate(self.down2(F.max_pool2d(a, 2)).relu(), scale_factor=2, mode="nearest")
        return self.head(self.up(torch.cat([b, a], 1)).relu())


@network(IMAGE, f(4), S(4))
class PooledWithIndices(nn.Module):
    """Where the maxima were decides where the pixels go back to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, where = F.max_pool2d(self.first(x).tanh(), 2, return_indices=True)
        return self.last(F.max_unpool2d(h, where, (2, 2)))


@network(IMAGE, f(6), S(6))
def free_scale_of_channels() -> nn.Module:
    return around2d(Scale(6, 1, 1), Scale(1, 6, 1, 1), n=6, m=6)


@network(FLAT, f(6), S(6))
def free_scale_of_features() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), Scale(6), Scale(), Scale(1), nn.ReLU(), nn.Linear(6, 2))


class Scale(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


@network(IMAGE, f(6) + f(8), S(6, 8))
class LayerScale(nn.Module):
    """A ConvNeXt block: depthwise convolution, channels last, layer scale (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.scale = Scale(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return self.head(x + self.scale(y))


@network(IMAGE, f(4), S(4))
def unfolded_by_hand() -> nn.Module:
    """im2col: every channel becomes nine columns."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Unfold(3), Apply(lambda h: h.transpose(1, 2)),
        nn.Linear(36, 2),
    )  # fmt: skip


# Movement of units

APART = "units from different operands of a concatenation are kept apart, even if made alike"


@network(FLAT, f(4) + f(2), S(4, 2))
class SlicedByPosition(nn.Module):
    """The first four hidden units and the last two go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(3, 6), nn.Linear(4, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.one(h[:, :4]) + self.two(h[:, 4:])


@network(FLAT, f(5), S(5))
class OneUnitIsTheGate(nn.Module):
    """Unit 3 multiplies the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.head(h) * h[:, 3:4]


@network(FLAT, f(6), S(6))
def flipped() -> nn.Module:
    """The next layer's columns follow in the reverse order."""
    return around(lambda h: h.flip(1), 6)


@network(FLAT, f(6), S(6))
def rolled() -> nn.Module:
    return around(lambda h: torch.roll(h, 2, 1), 6)


@network(
    FLAT,
    f(3) + 2 * 3 * f(2),
    wr(3, 2, 2),
    incomplete="units that meet their mirror images move as whole pairs, never inside one",
)
def added_to_their_mirror_images() -> nn.Module:
    """Pairs {k, 5-k} move as such; inside, each layer has a choice of its own."""
    return around(lambda h: h + h.flip(1), 6)


@network(
    FLAT,
    f(3) + 3 * f(2),
    wr(3, 2),
    incomplete="units that meet their mirror images move as whole pairs, never inside one",
)
def added_to_twice_their_mirror_images() -> nn.Module:
    """The permutations that commute with the reversal."""
    return around(lambda h: h + 2 * h.flip(1), 6)


@network(FLAT, 0.0, [])
def multiplied_with_their_neighbours() -> nn.Module:
    """Only rotations and reflections of the circle are left, which are no products of S_n."""
    return around(lambda h: h * h.roll(1, 1), 6)


@network(FLAT, f(6), S(6))
def concatenated_relu() -> nn.Module:
    """CReLU: both halves of the next layer's columns are the same units."""
    return around(lambda h: torch.cat([h.relu(), (-h).relu()], 1), 6, 12)


@network(FLAT, f(6) + 6 * f(3), wr(6, 3))
def repeated() -> nn.Module:
    """The three columns that read the same unit can be exchanged, too."""
    return around(lambda h: h.repeat(1, 3), 6, 18)


@network(FLAT, f(6) + 6 * f(2), wr(6, 2))
def repeated_one_by_one() -> nn.Module:
    return around(lambda h: h.repeat_interleave(2, dim=1), 6, 12)


@network(FLAT, 2 * f(4), S(4, 4))
def halves_treated_differently() -> nn.Module:
    """One producer, two activations: not one block."""

    def forward(h: Tensor) -> Tensor:
        a, b = h.chunk(2, 1)
        return torch.cat([a.relu(), b.sigmoid()], 1)

    return around(forward, 8)


@network(FLAT, f(8), S(8), incomplete=APART)
def halves_put_together_again() -> nn.Module:
    """Both halves take the same path: still one block."""
    return around(lambda h: torch.cat(h.chunk(2, 1), 1), 8)


@network(FLAT, f(8), S(8), incomplete=APART)
def halves_exchanged() -> nn.Module:
    return around(lambda h: torch.cat([h[:, 4:], h[:, :4]], 1), 8)


@network(FLAT, f(8), S(8), incomplete=APART)
def halves_treated_alike() -> nn.Module:
    """The same function of both halves, so that all eight can be exchanged."""
    return around(lambda h: torch.cat([h[:, :4].relu(), h[:, 4:].relu()], 1), 8)


@network(FLAT, f(6) + f(5), S(6, 5))
class ConcatenatedWithItsSum(nn.Module):
    """``cat([x, x + f(x)])``: two copies of one block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(12, 2)
        self.inner = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return self.head(torch.cat([h, h + self.inner(h)], 1))


@network(FLAT, f(6), S(6))
def gated_linear_unit() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 12), nn.GLU(), nn.Linear(6, 2))


@network(FLAT, f(3), S(3))
def gated_by_neighbours() -> nn.Module:
    """Even units gate odd ones."""
    return around(lambda h: h[:, ::2] * h[:, 1::2].sigmoid(), 6, 3)


@network(FLAT, f(6), S(6))
class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


@network(FLAT, f(4) + 4 * f(3), wr(4, 3))
def maxout() -> nn.Module:
    """Four pieces of three units each."""
    return nn.Sequential(
        nn.Linear(3, 12), Apply(lambda h: h.view(-1, 4, 3).amax(2)), nn.Linear(4, 2)
    )


@network(FLAT, f(4) + 4 * f(3), wr(4, 3))
def maxout_with_positions() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 12), Apply(lambda h: h.view(-1, 4, 3).max(2)[0]), nn.Linear(4, 2)
    )


@network(FLAT, f(2) + 2 * f(4), wr(2, 4))
def softmax_in_groups() -> nn.Module:
    return around(lambda h: h.view(-1, 2, 4).softmax(2).flatten(1), 8)


@network(FLAT, f(2) + f(4), S(2, 4))
def softmax_both_ways() -> nn.Module:
    """Rows and columns of a 2 x 4 table of units: whole rows and whole columns move."""
    return around(lambda h: (lambda t: t.softmax(2) + t.softmax(1))(h.view(-1, 2, 4)).flatten(1), 8)


@network(FLAT, 2 * f(3), S(3, 3))
def rows_with_different_fates() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        table = h.view(-1, 2, 3)
        return table[:, 0] * table[:, 1].amax(1, keepdim=True)

    return around(forward, 6, 3)


@network(FLAT, f(2), S(2))
def added_to_their_transpose() -> nn.Module:
    """Unit k meets unit 3k mod 5: 0 and 5 meet themselves, 1, 3, 4, 2 are a cycle.

    The two are free; the cycle could be turned, which is no product of symmetric groups.
    """
    return around(lambda h: h + h.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6).exp(), 6)


def attend(rows: Tensor) -> Tensor:
    return (rows @ rows.mT).softmax(-1) @ rows


@network(FLAT, f(2), S(2), incomplete="what exchanges rows and columns at once is no block")
def attention_of_units_in_another_order() -> nn.Module:
    """A 3 x 4 table of units, shuffled, attends to itself and is added to the unshuffled one.

    Of the 144 permutations of rows and columns two commute with the shuffle.
    """
    order = [3, 1, 2, 0, 5, 4, 6, 8, 7, 11, 10, 9]
    return around(lambda h: attend(h[:, order].view(-1, 3, 4)).flatten(1) + h, 12)


@network(FLAT, f(2), S(2), incomplete="what exchanges rows and columns at once is no block")
def attention_of_units_the_other_way() -> nn.Module:
    """The same with columns that attend, and their table is flattened as 4 x 3."""
    return around(lambda h: attend(h.view(-1, 3, 4).mT).flatten(1) + h, 12)


@network(FLAT, f(3), S(3), incomplete="units whose pairs are summed in part are pinned")
def products_summed_in_other_rows() -> nn.Module:
    """All pairs of A0-A2 and B0-B3, rolled, so that a row holds A1 B3 and A2 with the other B.

    B0, B1 and B2 are alike; A0, A1 and A2 could be turned, which is no product of S_n.
    """

    def forward(h: Tensor) -> Tensor:
        pairs = (h[:, :3, None] * h[:, None, 3:]).flatten(1)
        return pairs.roll(5, 1).view(-1, 3, 4).sum(2)

    return around(forward, 7, 3)


@network(FLAT, f(3) + f(2), S(3, 2))
class PartOfATableIsAnOutput(nn.Module):
    """Column 1 of a 3 x 4 table of units is seen, and of its rows the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return self.head(h), attend(h.view(-1, 3, 4).mT).flatten(1)[:, 3:5].sum(1)


# Ops whose result depends on the order


@network(FLAT, f(6), S(6))
def softmax_over_units() -> nn.Module:
    return around(lambda h: h.softmax(1), 6)


@network(FLAT, f(6), S(6))
def log_softmax_over_units() -> nn.Module:
    return around(lambda h: F.log_softmax(h, dim=1), 6)


@network(FLAT, 0.0, [])
def argmax_over_units() -> nn.Module:
    """The index of a unit is an output."""
    return nn.Sequential(nn.Linear(3, 6), Apply(lambda h: h.argmax(1)))


@network(FLAT, f(6), S(6))
def sorted_units() -> nn.Module:
    """The first layer's rows can move alone: sorting undoes it."""
    return around(lambda h: h.sort(1)[0], 6)


@network(FLAT, f(6), S(6))
def top_units() -> nn.Module:
    """The same with those that are left."""
    return around(lambda h: h.topk(2, 1)[0], 6, 2)


@network(FLAT, 0.0, [])
def cumulated_units() -> nn.Module:
    return around(lambda h: h.cumsum(1), 6)


@network(FLAT, 0.0, [])
def units_averaged_in_windows() -> nn.Module:
    return around(lambda h: F.avg_pool1d(h.unsqueeze(1), 3, 1).squeeze(1), 6, 4)


@network(FLAT, f(3) + 3 * f(2), wr(3, 2), incomplete="pooling pins the positions that it pools")
def units_averaged_in_pairs() -> nn.Module:
    """Windows that do not overlap would be groups."""
    return around(lambda h: F.avg_pool1d(h.unsqueeze(1), 2).squeeze(1), 6, 3)


@network(FLAT, 0.0, [])
def multiplied_with_positions() -> nn.Module:
    return around(lambda h: h * torch.arange(6), 6)


@network(FLAT, 0.0, [])
def units_looked_up() -> nn.Module:
    """An index into the units that depends on the input."""
    return around(lambda h: h.gather(1, (h[:, :2] > 0).long()), 6, 2)


# Constants


class Masked(nn.Module):
    def __init__(self, mask: Tensor, persistent: bool = True) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("mask", mask, persistent)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() * self.mask)


@network(FLAT, f(6), S(6), incomplete="buffers of numbers may come to hold others")
def masked_by_a_uniform_buffer() -> nn.Module:
    return Masked(torch.full((6,), 0.5), persistent=False)


@network(FLAT, 0.0, [])
def masked_by_a_buffer() -> nn.Module:
    return Masked(torch.arange(6.0))


@network(
    FLAT,
    f(2) + f(4),
    S(2, 4),
    incomplete="a constant that is not uniform pins, also where some of its entries are equal",
)
def masked_by_zeros_and_ones() -> nn.Module:
    return Masked(torch.tensor([1.0, 0.5, 0.5, 1.0, 0.5, 0.5]))


@network(FLAT, f(6), S(6))
class HandmadeBatchNorm(nn.Module):
    """Statistics in buffers, which are uniform at first and something else once trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h = (self.first(x) - self.running_mean) * (self.running_var + 1e-5).rsqrt()
        return self.head(h.relu())


@network(FLAT, f(6), S(6))
def index_order_given_by_a_buffer() -> nn.Module:
    """A fixed permutation of the hidden units."""
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    return around(lambda h: h[:, order], 6)


# In-place ops; fx cannot trace assignments to a proxy's items, but functions that contain them


def set_slice(h: Tensor, start: int, stop: int, value: Tensor | float) -> Tensor:
    h[:, start:stop] = value
    return h


def add_to_slice(h: Tensor, value: Tensor) -> Tensor:
    h[:, 1:] += value
    return h


torch.fx.wrap("set_slice")
torch.fx.wrap("add_to_slice")


@network(FLAT, f(6), S(6))
def in_place_activations() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        h.mul_(2).sigmoid_()
        h += 1
        h.clamp_(0, 1.6)
        return h.masked_fill_(h < 1.2, 0.5)

    return around(forward, 6)


@network(FLAT, f(5), S(5))
class AddedToAllButOne(nn.Module):
    """``h[:, 1:] += y``: unit 0 is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(3, 5), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        add_to_slice(h, self.second(x).tanh())
        return self.head(h)


@network(SEQUENCE, f(6), S(6))
class AddedToAllButOneToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        h[:, 1:].add_(self.second(x)[:, 1:].tanh())
        return self.head(h)


@network(FLAT, f(4) + f(2), S(4, 2))
class AssignedToSlices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 6)
        h[:, :4].copy_(self.first(x).tanh())
        set_slice(h, 4, 6, self.second(x).tanh())
        return self.head(h)


@network(FLAT, f(4) + 2 * f(2), S(4, 2, 2))
def partly_overwritten() -> nn.Module:
    """Of six units two become constants: neither their rows nor their columns matter."""
    return around(lambda h: set_slice(h, 1, 3, 0.5), 6)


@network(FLAT, f(2) + f(4), S(2, 4))
class WrittenThroughAView(nn.Module):
    """Everything is scaled and squashed, and the first two units a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h.t().mul_(3)
        h.unflatten(1, (2, 3)).tanh_()
        h.view(-1, 3, 2)[:, 0].sigmoid_()
        return self.head(h)


# Attention


class Attention(nn.Module):
    """By hand, in several spellings: 3 heads of 2 features in a stream of 5."""

    def __init__(self, width: int = 6, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(5, width), nn.Linear(5, width)
        self.v, self.out = nn.Linear(5, width), nn.Linear(width, 5)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))


def stream(block: nn.Module, width: int = 5) -> nn.Module:
    """A residual stream around a block."""
    return nn.Sequential(nn.Linear(3, width), Residual(block), nn.Linear(width, 2))


# In all of these the keys' bias does not matter: softmax ignores what is added to all scores.
ATTENTION = f(5) + f(3) + 3 * (f(2) + f(2))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2), inert=("1.0.k.bias",))
def attention_by_einsum() -> nn.Module:
    return stream(Attention())


@network(SEQUENCE, f(5) + f(4) + f(4), S(5, 4, 4), inert=("1.0.k.bias",))
def attention_of_one_head() -> nn.Module:
    return stream(Attention(4, 1))


@network(SEQUENCE, f(5) + f(4), S(5, 4), inert=("1.0.k.bias",))
def attention_of_heads_of_one_feature() -> nn.Module:
    return stream(Attention(4, 4))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2))
def attention_from_a_fused_projection() -> nn.Module:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).chunk(3, -1)
            q, k, v = (y.view(b, t, 3, 2).transpose(1, 2) for y in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, 6))

    return stream(Fused())


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2))
def attention_from_a_fused_projection_per_head() -> nn.Module:
    """(h 3 d): every head has its query, key and value rows next to each other."""

    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, 6).transpose(1, 2).chunk(3, -1)
            scores = (q @ k.transpose(-2, -1) / 2**0.5).softmax(-1)
            return self.out((scores @ v).transpose(1, 2).reshape(b, t, 6))

    return stream(Fused())


@network(
    SEQUENCE, f(5) + 6 * f(2), S(5, *[2] * 6), inert=tuple(f"1.0.k.{h}.bias" for h in range(3))
)
def attention_head_by_head() -> nn.Module:
    """Every head has parameters of its own, which stay where they are."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.k = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.v = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.out = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            heads = []
            for q, k, v in zip(self.q, self.k, self.v, strict=True):
                scores = (q(x) @ k(x).transpose(1, 2)).softmax(-1)
                heads.append(scores @ v(x))
            return self.out(torch.cat(heads, -1))

    return stream(Loop())


@network(SEQUENCE, f(5) + 2 * f(3) + 3 * f(2) + 3 * f(2), S(5) + wr(3, 2) + wr(3, 2))
class TalkingHeads(nn.Module):
    """The scores are mixed over heads: those that score and those that read are different."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.q, self.k, self.v = (nn.Linear(5, 6, bias=False) for _ in range(3))
        self.mix, self.out = nn.Parameter(torch.randn(3, 3)), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = (p(x).unflatten(2, (3, 2)) for p in (self.q, self.k, self.v))
        scores = torch.einsum("bqhd,bkhd,hg->bgqk", q, k, self.mix).softmax(-1)
        return self.head(x + self.out(torch.einsum("bgqk,bkgd->bqgd", scores, v).flatten(2)))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2), inert=("1.0.k.bias",))
def attention_with_relative_position_bias() -> nn.Module:
    """The columns of the bias table are heads."""

    class Biased(Attention):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(7, 3))
            index = torch.arange(4)[:, None] - torch.arange(4) + 3
            self.register_buffer("index", index)
            self.index: Tensor

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (self.split(p(x)).transpose(1, 2) for p in (self.q, self.k, self.v))
            bias = self.table[self.index.view(-1)].view(4, 4, 3).permute(2, 0, 1)
            scores = (q @ k.transpose(-2, -1) + bias).softmax(-1)
            return self.out((scores @ v).transpose(1, 2).flatten(2))

    return stream(Biased())


class Rotary(Attention):
    """3 heads of 4 features, of which the first ``rotated`` are turned in pairs."""

    def __init__(self, rotated: int = 4) -> None:
        super().__init__(12, 3)
        self.rotated = rotated
        angles = torch.arange(4.0)[:, None] * torch.tensor([1.0, 0.3]).repeat(2)
        self.register_buffer("cos", angles.cos()[:, None, :rotated], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None, :rotated], persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        x, rest = x[..., : self.rotated], x[..., self.rotated :]
        a, b = x.chunk(2, -1)
        return torch.cat([x * self.cos + torch.cat([-b, a], -1) * self.sin, rest], -1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.einsum("bqhd,bkhd->bhqk", self.turn(q), self.turn(k)).softmax(-1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))


@network(SEQUENCE, f(5) + f(3) + 3 * f(4), S(5) + wr(3, 4))
def rotary_attention() -> nn.Module:
    """Heads move, and values in them; queries and keys have fixed frequencies."""
    return stream(Rotary())


@network(SEQUENCE, f(5) + f(3) + 3 * f(2) + 3 * f(4), S(5) + wr(3, 2, 4), inert=())
def partly_rotary_attention() -> nn.Module:
    """Two of four query and key features are turned; the others move inside each head."""
    return stream(Rotary(2))


@network(SEQUENCE, f(5) + f(3) + f(4) + 3 * f(4), S(5, 4) + wr(3, 4), inert=("1.0.k.bias",))
def attention_with_normalised_queries_and_keys() -> nn.Module:
    """The norms' weights are shared by the heads: one permutation of features for all of them."""

    class Normalised(Attention):
        def __init__(self) -> None:
            super().__init__(12, 3)
            self.q_norm, self.k_norm = Rms(4), Rms(4)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            scores = torch.einsum("bqhd,bkhd->bhqk", self.q_norm(q), self.k_norm(k)).softmax(-1)
            return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))

    return stream(Normalised())


class Rms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class GroupedQueries(nn.Module):
    """2 key and value heads, 3 query heads for each, 4 features."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = nn.Linear(5, 24), nn.Linear(24, 5)
        self.k, self.v = nn.Linear(5, 8, bias=False), nn.Linear(5, 8)

    def repeat(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(3, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 6, 4).transpose(1, 2)
        k, v = (self.repeat(p(x).view(b, t, 2, 4).transpose(1, 2)) for p in (self.k, self.v))
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, 24))


GROUPED_QUERIES = f(5) + f(2) + 2 * (f(3) + f(4) + f(4))


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_repeating() -> nn.Module:
    """Groups, query heads in a group, and features: those of a group's queries follow its keys."""
    return stream(GroupedQueries())


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_expanding() -> nn.Module:
    class Expanding(GroupedQueries):
        def repeat(self, x: Tensor) -> Tensor:
            b, h, t, d = x.shape
            return x[:, :, None].expand(b, h, 3, t, d).reshape(b, h * 3, t, d)

    return stream(Expanding())


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_torch() -> nn.Module:
    class Fused(GroupedQueries):
        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q = self.q(x).view(b, t, 6, 4).transpose(1, 2)
            k, v = (p(x).view(b, t, 2, 4).transpose(1, 2) for p in (self.k, self.v))
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            return self.out(y.transpose(1, 2).reshape(b, t, 24))

    return stream(Fused())


class SelfAttention(nn.Module):
    def __init__(self, weights: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, **options)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=self.weights)[0]
        return y


# As above with a stream of 6.
TORCH_ATTENTION = f(6) + f(3) + 3 * (f(2) + f(2))


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention() -> nn.Module:
    return stream(SelfAttention(), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention_with_weights() -> nn.Module:
    return stream(SelfAttention(weights=True), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention_with_learned_key() -> nn.Module:
    """One more key and value, which are parameters of shape (1, 1, h d), and one of zeros."""
    return stream(SelfAttention(add_bias_kv=True, add_zero_attn=True), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
class TorchAttentionWithMask(nn.Module):
    """The mask is a constant that tells tokens apart, not heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.register_buffer("mask", torch.ones(4, 4).triu(1).bool())
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y, _ = self.attention(x, x, x, attn_mask=self.mask, need_weights=False)
        return self.head(x + y)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
class AveragedAttentionWeightsAreAnOutput(nn.Module):
    """The mean over heads does not tell heads apart."""

    def __init__(self, average: bool = True) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.average = average

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y, weights = self.attention(x, x, x, average_attn_weights=self.average)
        return self.head(x + y), weights


@network(SEQUENCE, f(6) + 6 * f(2), S(6, *[2] * 6))
def attention_weights_are_an_output() -> nn.Module:
    """Heads are seen from outside; features in them are not."""
    return AveragedAttentionWeightsAreAnOutput(average=False)


@network(given(real(4, 3), real(5, 3)), 2 * f(6) + f(3) + 6 * f(2), S(6, 6) + wr(3, 2, 2))
class CrossAttention(nn.Module):
    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.keys = nn.Linear(3, sizes.get("kdim", 6))
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, **sizes)
        self.values = nn.Linear(3, sizes["vdim"]) if sizes else self.keys

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.stem(x)
        z, _ = self.attention(x, self.keys(y), self.values(y), need_weights=False)
        return self.head(x + z)


@network(
    given(real(4, 3), real(5, 3)),
    f(6) + f(4) + f(5) + f(3) + 6 * f(2),
    S(6, 4, 5) + wr(3, 2, 2),
    inert=("keys.bias",),
)
def cross_attention_of_other_widths() -> nn.Module:
    return CrossAttention(kdim=4, vdim=5)


@network(SEQUENCE, TORCH_ATTENTION + f(5), S(6, 5) + wr(3, 2, 2))
def encoder_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 3, 5, batch_first=True)
    return nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2))


@network(SEQUENCE, TORCH_ATTENTION + f(5), S(6, 5) + wr(3, 2, 2))
def encoder_layer_with_norms_first() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 3, 5, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2))


@network(
    given(real(4, 3), real(5, 3)),
    2 * f(6) + 2 * (f(3) + 6 * f(2)) + f(5),
    S(6, 6, 5) + wr(3, 2, 2) + wr(3, 2, 2),
)
class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.memory, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)
        self.layer = nn.TransformerDecoderLayer(6, 3, 5, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x), self.memory(y)))


@network(
    given(real(4, 3), real(5, 3)),
    2 * f(4) + 3 * (f(2) + 4 * f(2)) + 2 * f(3),
    S(4, 4, 3, 3) + 3 * wr(2, 2, 2),
)
class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.source, self.target, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)
        self.transformer = nn.Transformer(4, 2, 1, 1, 3, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.transformer(self.source(x), self.target(y)))


@network(SEQUENCE, f(5) + f(8), S(5, 8))
class TokenMixing(nn.Module):
    """MLP-Mixer: tokens stay, since they come from the input; the layer over them moves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.down(self.up(x.mT).relu()).mT)


@network(SEQUENCE, f(5) + f(6), S(5, 6))
class LearnedTokens(nn.Module):
    """Tokens that are parameters (as a class token, registers or latents) and get pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.latents = nn.Parameter(torch.randn(1, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores = (self.latents @ x.mT).softmax(-1)
        return self.head((scores @ x).tanh().mean(1))


@network(SEQUENCE, f(5), S(5))
class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 5))
        self.position = nn.Parameter(torch.zeros(1, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(x.tanh()[:, 0] + x.tanh().mean(1))


@network(FLAT, f(3) + 3 * f(4), wr(3, 4))
class MixtureOfExperts(nn.Module):
    """All experts on all inputs, weighted by a gate: experts, and hidden units in each."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.up, self.down = nn.Parameter(torch.randn(3, 3, 4)), nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bd,edh->ebh", x, self.up).relu()
        outputs = torch.bmm(hidden, self.down)
        return torch.einsum("be,ebo->bo", self.gate(x).softmax(1), outputs)


# Embeddings


@network(TOKENS, f(5), S(5))
def embedded_tokens() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(7, 5, padding_idx=0), Apply(lambda h: h.mean(1)), nn.Linear(5, 2)
    )


@network(TOKENS, f(5), S(5))
def embedding_bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 5), nn.Linear(5, 2))


@network(TOKENS, f(5), S(5))
class OneHotTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(7, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        one_hot = F.one_hot(x, 7).to(self.first.weight.dtype)
        return self.head(self.first(one_hot).tanh().mean(1))


# Recurrent networks


class Recurrent(nn.Module):
    """Hidden states are no outputs."""

    def __init__(self, rnn: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y)


@network(SEQUENCE, f(5), S(5))
def lstm() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, batch_first=True), 5)


@network(lambda n: (real(4, 3)(n).transpose(0, 1),), f(5), S(5))
def lstm_with_time_first() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5), 5)


@network(SEQUENCE, 4 * f(5), S(5, 5, 5, 5))
def lstm_of_two_layers_both_ways() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True), 10)


@network(SEQUENCE, f(5) + f(4), S(5, 4))
def lstm_with_projection() -> nn.Module:
    return Recurrent(nn.LSTM(3, 5, batch_first=True, proj_size=4), 4)


@network(SEQUENCE, 2 * f(5), S(5, 5))
def gru_of_two_layers() -> nn.Module:
    return Recurrent(nn.GRU(3, 5, 2, batch_first=True), 5)


@network(SEQUENCE, 2 * f(5), S(5, 5))
def rnn_both_ways() -> nn.Module:
    return Recurrent(nn.RNN(3, 5, batch_first=True, bidirectional=True, bias=False), 10)


@network(SEQUENCE, f(5), S(5))
class LastStates(nn.Module):
    """The final states are read, not the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, c) = self.rnn(x)
        return self.head(torch.cat([h[-1], c[-1]], 1))


@network(SEQUENCE, 0.0, [])
class StatesAreOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        return self.head(y), h


@network(SEQUENCE, f(5), S(5))
class UnrolledCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 5)
        for t in range(4):
            h = self.cell(x[:, t], h)
        return self.head(h)


# Ops that move units, with a skip around them


class Skipped(nn.Module):
    """``Linear(3, 12)`` and a function; the head reads its result joined with what went in."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, half: bool) -> None:
        super().__init__()
        self.function, self.joins_halves = function, half
        self.stem, self.head = nn.Linear(3, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.function(x)
        return self.head(torch.cat([h[:, :6], x[:, 6:]], 1) if self.joins_halves else h + x)


@network(FLAT, 2 * f(3), S(3, 3))
class PairsWrittenAlternately(nn.Module):
    """Of the pairs (gated, gate) the first three reach ``head`` in pairs; of the others it sees
    what went in, at the same places. ``tail`` sees all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.tail = nn.Linear(3, 12), nn.Linear(12, 2), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = x[:, 1::2]
        pairs = torch.stack([x[:, ::2] * gate.tanh(), gate], 2).flatten(1)
        return self.head(torch.cat([pairs[:, :6], x[:, 6:]], 1)) + self.tail(pairs)


@network(FLAT, 3 * f(2), S(2, 2, 2))
def shuffled_and_gated() -> nn.Module:
    """The gated pairs are (0, 2), (4, 6), (8, 10), (1, 3), (5, 7), (9, 11), and the head sees 6 to
    11 as well: of each two pairs it sees no unit, the gate, or both."""
    return Skipped(lambda h: F.glu(h.view(-1, 3, 4).transpose(1, 2).flatten(1), 1), half=True)


@network(FLAT, f(3) + f(2) + 3 * f(2), [*wr(3, 2), *S(2)])
def gram_matrix_of_columns_repeated() -> nn.Module:
    """Three columns; of the four rows the head sees the first, twice, and the last two as they
    went in. The two inputs of the head that are the same number can be exchanged as well."""

    def forward(h: Tensor) -> Tensor:
        h = h.view(-1, 4, 3)
        return (h @ (h.transpose(1, 2) @ h)).flatten(1)[:, :6].repeat_interleave(2, 1)

    return Skipped(forward, half=True)


@network(
    FLAT,
    f(4) + math.log(3),
    S(4),
    incomplete="rows that can only be shifted in a circle are no block",
)
def gram_matrix_of_rows_shifted() -> nn.Module:
    """Four columns. Rows are added to the ones before them: all three can be shifted."""

    def forward(h: Tensor) -> Tensor:
        h = h.view(-1, 3, 4)
        return (h @ h.transpose(1, 2) @ h).roll(1, 1).flatten(1)

    return Skipped(forward, half=False)


@network(
    FLAT, f(4) + 2 * f(2), S(4, 2, 2), incomplete="units of a sum that no other is like are pinned"
)
def shifted_and_folded() -> nn.Module:
    """Sums 11 + 10, 0 + 9, 1 + 8, 2 + 7, 3 + 6 and 4 + 5; the head sees 6 to 11 as well."""

    def forward(h: Tensor) -> Tensor:
        h = h.roll(1, 1)
        return h[:, :6] + h[:, 6:].flip(1)

    return Skipped(forward, half=True)
