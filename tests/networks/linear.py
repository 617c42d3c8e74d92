"""Linear layers, norms, branches and several outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Apply, Residual
from .registry import FLAT, S, f, given, network, real


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
