"""Networks whose kinds were worked out by hand: one for each way in which units can be acted upon.

Every network stands with what is expected of its blocks: per size, the text of their kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Case:
    """A network, inputs for it, and the kinds of its blocks."""

    make: Callable[[], nn.Module]
    inputs: Inputs
    kinds: tuple[str, ...]
    """Sorted, each as often as there are blocks of it; heads count once."""


def real(*shape: int) -> Inputs:
    return lambda: (torch.randn(*shape, generator=torch.Generator().manual_seed(7)),)


def words(length: int) -> Inputs:
    return lambda: (torch.randint(0, 11, (2, length), generator=torch.Generator().manual_seed(7)),)


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def mlp(*between: nn.Module | Callable[[Tensor], Tensor], widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for k, (n, m) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(n, m))
        if k < len(between):
            one = between[k]
            layers.append(one if isinstance(one, nn.Module) else Apply(one))
    return nn.Sequential(*layers)


class SwiGlu(nn.Module):
    def __init__(self, width: int = 8, hidden: int = 16, outputs: int = 4) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LowRank(nn.Module):
    """A layer and an update of rank 4."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(12, 20), nn.Linear(20, 5)
        self.a, self.b = nn.Parameter(torch.randn(4, 12)), nn.Parameter(torch.randn(20, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.base(x) + x @ self.a.T @ self.b.T))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.enter(x))
        means = h.mean((2, 3), keepdim=True)
        return self.leave(h * self.excite(F.relu(self.squeeze(means))).sigmoid()).mean((2, 3))


class Residual(nn.Module):
    """A block of convolutions with batch norm, around which its input is led."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 8, 1), nn.Linear(8, 3)
        self.one, self.two = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.norm_one, self.norm_two = nn.BatchNorm2d(6), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.enter(x))
        h = F.relu(h + self.norm_two(self.two(F.relu(self.norm_one(self.one(h))))))
        return self.leave(h.mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.each, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.each(F.relu(self.norm(self.enter(x)))))
        return self.leave(h).mean((2, 3))


class Rms(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Heads(nn.Module):
    """Attention; a projection for all three, or one for each, and perhaps fewer keys."""

    def __init__(self, width: int = 12, heads: int = 3, *, packed: bool = True) -> None:
        super().__init__()
        self.heads, self.packed = heads, packed
        count = 1 if packed else 3
        self.enter = nn.ModuleList(
            nn.Linear(width, width * 3 // count, bias=packed) for _ in range(count)
        )
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        if self.packed:
            q, k, v = self.enter[0](x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        else:
            three = (layer(x) for layer in self.enter)
            q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in three)
        if len(self.norms):
            q, k = self.norms[0](q), self.norms[1](k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class WrittenOut(nn.Module):
    """Attention as products and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (f(x).view(b, t, 3, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, d))


def attention_with_norms(*, affine: bool) -> nn.Module:
    made = Heads(packed=False)
    made.norms = nn.ModuleList(nn.RMSNorm(4, eps=1e-6, elementwise_affine=affine) for _ in range(2))
    return nn.Sequential(made, nn.Linear(12, 5))


class GroupedQueries(nn.Module):
    """Four heads of queries, for two of keys and values; torch may be told so."""

    def __init__(self, *, told: bool = False) -> None:
        super().__init__()
        self.told = told
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 6), nn.Linear(12, 6)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 3).transpose(1, 2)
        k, v = (layer(x).view(b, t, 2, 3).transpose(1, 2) for layer in (self.k, self.v))
        if not self.told:
            k, v = (y.repeat_interleave(2, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.told)
        return self.out(y.transpose(1, 2).reshape(b, t, -1))


class Decoder(nn.Module):
    """A language model of pre-norm blocks: of GPT's kind, or of Llama's."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module],
        *,
        gated: bool,
        tied: bool = False,
        layers: int = 1,
        width: int = 12,
    ) -> None:
        super().__init__()
        d = width
        self.tokens, self.places = nn.Embedding(11, d), nn.Embedding(6, d)
        self.attentions = nn.ModuleList(Heads(d, packed=not gated) for _ in range(layers))
        self.mlps = nn.ModuleList(
            SwiGlu(d, 20, d) if gated else mlp(nn.GELU(), widths=(d, 20, d)) for _ in range(layers)
        )
        self.norms = nn.ModuleList(norm(d) for _ in range(2 * layers + 1))
        self.head = nn.Linear(d, 11, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for k, (attention, wide) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * k](x))
            x = x + wide(self.norms[2 * k + 1](x))
        return self.head(self.norms[-1](x))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        d = 12
        self.embed, self.places = nn.Linear(9, d), nn.Parameter(torch.randn(5, d))
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.attention, self.norms = Heads(d), nn.ModuleList(nn.LayerNorm(d) for _ in range(3))
        self.mlp = mlp(nn.GELU(), widths=(d, 20, d))
        self.head = nn.Linear(d, 4)

    def forward(self, patches: Tensor) -> Tensor:
        b = patches.shape[0]
        x = torch.cat([self.token.expand(b, -1, -1), self.embed(patches)], 1) + self.places
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x)[:, 0])


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Encoder(nn.Module):
    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(5, 12), nn.Linear(12, 4)
        self.layer = nn.TransformerEncoderLayer(
            12, 3, 16, batch_first=True, norm_first=norm_first, activation=F.gelu
        )
        self.norm = nn.LayerNorm(12) if norm_first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.norm(self.layer(self.enter(x))))


class Recurrent(nn.Module):
    def __init__(self, cell: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = cell(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0])


class Distances(nn.Module):
    """Squared distances of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = mlp(nn.GELU(), widths=(6, 10, 4))

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x)
        return (z[:, None] - z[None]).pow(2).sum(-1)


class GroupNorms(nn.Module):
    def __init__(self, groups: int, after: Callable[[Tensor], Tensor] = torch.clone) -> None:
        super().__init__()
        self.enter, self.norm = nn.Conv2d(3, 8, 1), nn.GroupNorm(groups, 8)
        self.leave, self.after = nn.Conv2d(8, 4, 1), after

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.after(self.norm(self.enter(x)))).mean((2, 3))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def flattened() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))


def llama(norm: Callable[[int], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Decoder(norm, gated=True)


def gpt(*, tied: bool = False, layers: int = 1) -> Callable[[], nn.Module]:
    return lambda: Decoder(nn.LayerNorm, gated=False, tied=tied, layers=layers)


IMAGE = real(2, 3, 6, 6)
HEADS = ("GL(4)", "GL(4)", "S(3)")

CASES: dict[str, Case] = {
    "relu": Case(
        lambda: mlp(nn.ReLU(), nn.LeakyReLU(), widths=(6, 10, 8, 3)),
        real(4, 6),
        ("positive monomial", "positive monomial"),
    ),
    "slopes of one's own": Case(
        lambda: mlp(nn.PReLU(10), widths=(6, 10, 3)), real(4, 6), ("positive monomial",)
    ),
    "tanh": Case(lambda: mlp(nn.Tanh(), widths=(6, 10, 3)), real(4, 6), ("signed S(10)",)),
    "gelu": Case(lambda: mlp(nn.GELU(), widths=(6, 10, 3)), real(4, 6), ("S(10)",)),
    "linear": Case(lambda: mlp(widths=(6, 10, 3)), real(4, 6), ("GL(10)",)),
    "a bottleneck": Case(
        lambda: mlp(nn.ReLU(), nn.Identity(), nn.Tanh(), widths=(6, 10, 4, 9, 3)),
        real(4, 6),
        ("GL(4)", "positive monomial", "signed S(9)"),
    ),
    "squares": Case(lambda: mlp(torch.square, widths=(6, 10, 4)), real(4, 6), ("monomial",)),
    "cosines": Case(lambda: mlp(torch.cos, widths=(6, 10, 4)), real(4, 6), ("signed S(10)",)),
    "sines": Case(
        lambda: mlp(torch.sin, torch.sin, widths=(2, 10, 9, 1)),
        real(4, 2),
        ("signed S(10)", "signed S(9)"),
    ),
    "SwiGLU": Case(SwiGlu, real(4, 8), ("monomial",)),
    "an update of low rank": Case(LowRank, real(4, 12), ("GL(4)", "S(20)")),
    "squeeze and excite": Case(SqueezeExcite, IMAGE, ("positive monomial", "positive monomial")),
    "convolutions with batch norm": Case(
        convolutions, real(2, 3, 12, 12), ("monomial, 2 scales", "monomial, 2 scales")
    ),
    "a flattened feature map": Case(flattened, IMAGE, ("positive monomial",)),
    "a residual block": Case(Residual, IMAGE, ("monomial, 2 scales", "monomial, 2 scales")),
    "a depthwise convolution": Case(Depthwise, IMAGE, ("monomial, 3 scales",)),
    "GPT": Case(
        gpt(layers=2),
        words(6),
        ("O(11), keeps ones once 5 norms are absorbed", *HEADS, *HEADS, "S(20)", "S(20)"),
    ),
    "ViT": Case(
        VisionTransformer,
        real(2, 4, 9),
        ("GL(4)", "GL(4)", "O(11), keeps ones once 3 norms are absorbed", "S(20)", "S(3)"),
    ),
    "Llama": Case(
        llama(lambda n: nn.RMSNorm(n, eps=1e-6)),
        words(6),
        ("GL(4)", "GL(4)", "O(12) once 3 norms are absorbed", "S(3)", "monomial"),
    ),
    "Llama, its norms written out": Case(
        llama(Rms),
        words(6),
        ("GL(4)", "GL(4)", "O(12) once 3 norms are absorbed", "S(3)", "monomial"),
    ),
    "tied GPT": Case(
        gpt(tied=True),
        words(6),
        ("GL(4)", "GL(4)", "S(20)", "S(3)", "monomial, 2 scales"),
    ),
    "grouped queries": Case(GroupedQueries, real(2, 4, 12), ("GL(3)", "GL(3)", "S(2)", "S(2)")),
    "grouped queries, as torch has them": Case(
        lambda: GroupedQueries(told=True), real(2, 4, 12), ("GL(3)", "GL(3)", "S(2)", "S(2)")
    ),
    "norms of queries and keys": Case(
        lambda: attention_with_norms(affine=True),
        real(2, 4, 12),
        ("GL(12)", "GL(4)", "S(3)", "monomial"),
    ),
    "the same without weights": Case(
        lambda: attention_with_norms(affine=False),
        real(2, 4, 12),
        ("GL(12)", "GL(4)", "O(4)", "S(3)"),
    ),
    "attention written out": Case(WrittenOut, real(2, 4, 12), HEADS),
    "attention of torch": Case(TorchAttention, real(2, 4, 12), ("GL(12)", *HEADS)),
    "an encoder layer, norms first": Case(
        lambda: Encoder(norm_first=True),
        real(2, 4, 5),
        ("GL(4)", "GL(4)", "O(11), keeps ones once 3 norms are absorbed", "S(16)", "S(3)"),
    ),
    "an encoder layer, norms last": Case(
        lambda: Encoder(norm_first=False),
        real(2, 4, 5),
        ("GL(4)", "GL(4)", "S(16)", "S(3)", "monomial"),
    ),
    "RNN": Case(lambda: Recurrent(nn.RNN), real(2, 4, 5), ("signed S(7)",)),
    "LSTM": Case(lambda: Recurrent(nn.LSTM), real(2, 4, 5), ("signed S(7)",)),
    "GRU": Case(lambda: Recurrent(nn.GRU), real(2, 4, 5), ("signed S(7)",)),
    "distances": Case(Distances, real(3, 6), ("O(4)", "S(10)")),
    "group norm of one group": Case(
        lambda: GroupNorms(1), IMAGE, ("O(7), keeps ones once 1 norm is absorbed",)
    ),
    "group norm of two groups": Case(lambda: GroupNorms(2), IMAGE, ("S(2)", "monomial")),
    "group norm before relu": Case(
        lambda: GroupNorms(4, F.relu), IMAGE, ("S(4)", "positive monomial")
    ),
    "group norm of one group before relu": Case(
        lambda: GroupNorms(1, F.relu), IMAGE, ("positive monomial",)
    ),
    "group norm of every unit": Case(lambda: GroupNorms(8), IMAGE, ("S(8)",)),
}
