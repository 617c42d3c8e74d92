"""Parameters that are the same memory in another shape."""

from __future__ import annotations

import pytest
import torch
from networks import f, real
from torch import Tensor, nn

import fxrebasin as fr

torch.set_num_threads(1)

X = real(3)(4)


class AutoEncoder(nn.Module):
    """Two layers of one weight, made so behind the back of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.encoder, self.decoder = nn.Linear(6, 4, bias=False), nn.Linear(4, 6, bias=False)
        self.decoder.weight.data = self.encoder.weight.data.T

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(self.stem(x).tanh()).tanh()))


class DecoderFirst(AutoEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.decoder(self.stem(x).tanh()).tanh()))


class Flattened(AutoEncoder):
    """The same memory a third time, as a vector that is used as well."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.empty(0))
        self.flat.data = self.encoder.weight.data.view(-1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.flat.square().sum()


@pytest.mark.parametrize("kind", [AutoEncoder, DecoderFirst, Flattened])
def test_a_parameter_that_is_a_view_of_another_moves_as_that_does(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    symmetry = fr.analyze(model, (X,))
    assert symmetry.log_order == pytest.approx(f(6) + f(4))
    assert not [p for p in symmetry.pinned if "shared" in p.parameter or "coder" in p.parameter]
    permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    expected, moved = model(X), permutation.apply_to(model)
    assert not torch.equal(*(m.get_parameter("encoder.weight") for m in (moved, model)))
    assert torch.allclose(moved(X), expected, atol=1e-5)
    permutation.apply_(model)
    assert torch.allclose(model(X), expected, atol=1e-5)
