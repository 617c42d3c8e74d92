"""Nothing continuous is missed: directions that keep the outputs, counted by the Jacobian.

At random weights, the directions in which weights can move without changing any output are the
kernel of the Jacobian. Its dimension is that of the group that was found, and of translations, such
as of a bias against the one behind it, which no kind describes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kinds_by_hand import Decoder, Heads, LowRank, Recurrent, SwiGlu, mlp
from torch import nn
from torch.func import functional_call, jacrev

import fxrebasin as fr

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]

Draw = Callable[[torch.Generator], torch.Tensor]


def batch(*shape: int) -> Draw:
    return lambda g: torch.randn(*shape, generator=g, dtype=torch.float64)


def words(g: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 11, (40, 6), generator=g)


class Norm(nn.BatchNorm2d):
    """Written out where statistics are asked for derivatives, which the op does not have."""

    written_out = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.written_out:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        shape = (1, -1, 1, 1)
        y = (x - self.running_mean.view(shape)) * (self.running_var + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape)


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 1), Norm(4), nn.ReLU(), nn.Conv2d(4, 3, 1))


def low_rank() -> nn.Module:
    made = LowRank()
    made.base.requires_grad_(False)
    return made


CASES: dict[str, tuple[Callable[[], nn.Module], Draw, int]] = {
    "relu": (lambda: mlp(nn.ReLU(), widths=(4, 6, 3)), batch(400, 4), 0),
    "tanh": (lambda: mlp(nn.Tanh(), widths=(4, 6, 3)), batch(40, 4), 0),
    "gelu": (lambda: mlp(nn.GELU(), widths=(4, 6, 3)), batch(40, 4), 0),
    # the bias of the first layer against that of the second
    "linear": (lambda: mlp(widths=(5, 2, 3)), batch(40, 5), 2),
    # of a layer that is not trained, or else the update is one of its own weight
    "an update of low rank": (low_rank, batch(120, 12), 0),
    "SwiGLU": (lambda: SwiGlu(4, 6, 3), batch(80, 4), 0),
    # the bias of keys, which does nothing, and that of values against that of the output
    "attention": (lambda: Heads(6, 2), batch(60, 4, 6), 12),
    # the biases of both layers of a cell
    "LSTM": (lambda: Recurrent(nn.LSTM), batch(40, 6, 5), 28),
    # a bias before the norm, its mean and its bias are one shift; its variance and weight one scale
    "convolutions": (convolutions, lambda g: 9 * batch(40, 2, 2, 2)(g), 12),
    # of tokens against places
    "Llama": (lambda: Decoder(lambda n: nn.RMSNorm(n, 0.01), gated=True, width=6), words, 6),
    # means of what is written: by 11 tokens, 6 places, 6 + 1 of attention, 20 + 1 of the MLP; those
    # of what is read, against biases: 18 + 20; 6 of what the head reads, against the bias of the
    # norm; of two norms' biases, 12; of keys, 6, and of values, 6; of tokens against places, 5 more
    "GPT": (lambda: Decoder(nn.LayerNorm, gated=False, width=6), words, 118),
}
"""Networks, inputs, and in how many directions translations go."""


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_of_the_jacobian_is_the_tangent_space_of_the_group(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, draw, translations = CASES[name]
    torch.manual_seed(1)
    model = make().double().eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.7)
    generator = torch.Generator().manual_seed(2)
    x = draw(generator)
    weights: dict[str, torch.Tensor] = {
        **{n: p for n, p in model.named_parameters() if p.requires_grad},
        **{n: b for n, b in model.named_buffers() if b.is_floating_point()},
    }
    monkeypatch.setattr(Norm, "written_out", True)
    jacobian = jacrev(lambda given: functional_call(model, given, (x,)))(weights)
    rows = x.shape[0]
    matrix = torch.cat([j.reshape(rows, -1, weights[n].numel()) for n, j in jacobian.items()], 2)
    matrix = matrix.flatten(0, 1).detach()
    values = torch.linalg.svdvals(matrix)
    kernel = matrix.shape[1] - int((values > 1e-10 * values[0]).sum())
    monkeypatch.setattr(Norm, "written_out", False)
    symmetry = fr.analyze(model, (x[:2],))
    found = sum(b.count * symmetry.kinds.of(b.name).dimension(b.size) for b in symmetry)
    assert matrix.shape[0] >= matrix.shape[1]
    assert kernel == found + translations
