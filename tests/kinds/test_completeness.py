"""Nothing continuous is missed: directions that keep the outputs, counted by the Jacobian.

At random weights, the directions in which weights can move without changing any output are the
kernel of the Jacobian. Its dimension is that of the group that was found, and of translations, such
as of a bias against the one behind it, which no kind describes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kinds_by_hand import Heads, LowRank, SwiGlu, mlp
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
}
"""Networks, inputs, and in how many directions translations go."""


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_of_the_jacobian_is_the_tangent_space_of_the_group(name: str) -> None:
    make, draw, translations = CASES[name]
    torch.manual_seed(1)
    model = make().double().eval()
    generator = torch.Generator().manual_seed(2)
    x = draw(generator)
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    jacobian = jacrev(lambda given: functional_call(model, given, (x,)))(weights)
    rows = x.shape[0]
    matrix = torch.cat([j.reshape(rows, -1, weights[n].numel()) for n, j in jacobian.items()], 2)
    matrix = matrix.flatten(0, 1).detach()
    values = torch.linalg.svdvals(matrix)
    kernel = matrix.shape[1] - int((values > 1e-10 * values[0]).sum())
    symmetry = fr.analyze(model, (x[:2],))
    found = sum(b.count * symmetry.kinds.of(b.name).dimension(b.size) for b in symmetry)
    assert matrix.shape[0] >= matrix.shape[1]
    assert kernel == found + translations
