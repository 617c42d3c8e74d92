"""Complex, integer, boolean and scalar tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from networks import f, real
from reliability import Case, Cases, X, check, made
from torch import Tensor, nn

import fxrebasin as fr

torch.set_num_threads(1)

COMPLEX, INTEGER, SCALAR = Cases(), Cases(), Cases()

SEQUENCE = real(4, 3)(2)

# complex tensors


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)


@COMPLEX.model(f(6))
class ComplexGain(TwoLayers):
    """A complex parameter, of which a modulus is left."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(6, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x) * self.gain).abs())


class ComplexLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 3, dtype=torch.complex64))
        self.bias = nn.Parameter(torch.randn(6, dtype=torch.complex64))
        self.second = nn.Parameter(torch.randn(2, 6, dtype=torch.complex64))


@COMPLEX.model(f(6))
class ComplexWeights(ComplexLayers):
    def forward(self, x: Tensor) -> Tensor:
        h = x.to(self.first.dtype) @ self.first.t() + self.bias
        return (h.tanh() @ self.second.t()).abs()


@COMPLEX.model(f(6))
class ComplexOutput(ComplexLayers):
    """The squares of the hidden units are summed; what comes out is complex."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(self.first.dtype) @ self.first.t() + self.bias
        return (h * h) @ self.second.t()


@COMPLEX.hidden(f(6), SEQUENCE)
def spectrum_over_time(h: Tensor) -> Tensor:
    return torch.fft.rfft(h, dim=1).abs().mean(1)


@COMPLEX.hidden(0.0)
def spectrum_over_units(h: Tensor) -> Tensor:
    """Frequencies are no units, and every one of them reads all."""
    return torch.fft.fft(h, dim=1).abs()


@COMPLEX.hidden(f(6))
def made_of_two_functions(h: Tensor) -> Tensor:
    return torch.complex(h, h.cos()).abs() + torch.polar(h.exp(), h).angle()


@COMPLEX.hidden(f(6))
def multiplied_with_the_conjugate(h: Tensor) -> Tensor:
    z = torch.complex(h, h.sin())
    return (z.conj() * z).real


@COMPLEX.hidden(f(3))
def neighbours_turned(h: Tensor) -> Tensor:
    """As in rotary embeddings, with one angle for all: three pairs, each with an order inside."""
    turned = torch.view_as_complex(h.unflatten(1, (3, 2))) * 1j
    return torch.view_as_real(turned).flatten(1)


@pytest.mark.parametrize("case", COMPLEX.each())
def test_complex_tensors(case: Case) -> None:
    check(case)


def test_complex_weights_are_matched_by_their_real_inner_product() -> None:
    """Every hidden unit is found again, also where only the imaginary parts tell units apart."""
    a = made(COMPLEX["ComplexWeights"], 0)
    with torch.no_grad():
        for p in a.parameters():
            p.copy_(torch.complex(torch.ones_like(p.real), p.imag))
    symmetry = fr.analyze(a, args=(X,))
    hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    b = hidden.apply_to(a)
    found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    restored = found.apply(b.state_dict())
    assert all(torch.equal(restored[name], t) for name, t in a.state_dict().items())
    assert not torch.equal(b.get_parameter("first"), a.get_parameter("first"))


# integers and booleans


@INTEGER.hidden(f(6))
def signs_as_integers(h: Tensor) -> Tensor:
    return (h > 0).long().to(h.dtype) * h


@INTEGER.hidden(f(6))
def rounded_shifted_and_masked(h: Tensor) -> Tensor:
    whole = (h * 16).round().int()
    return ((whole >> 1) + (whole & 5) + torch.div(whole, 3, rounding_mode="floor")).to(h.dtype)


@INTEGER.hidden(f(6))
def bytes_in_between(h: Tensor) -> Tensor:
    return (h.abs() * 255).to(torch.uint8).to(h.dtype)


@INTEGER.hidden(f(6))
def conditions(h: Tensor) -> Tensor:
    both = (h > 0) & (h.cos() > 0.5)
    some, every = both.any(1, keepdim=True), (h > -1).all(1, keepdim=True)
    return torch.where(both | ~some, h, -h) * every


@INTEGER.hidden(f(6))
def number_of_active_units(h: Tensor) -> Tensor:
    return h * (h > 0).sum(1, keepdim=True)


@INTEGER.hidden(f(6))
def one_hot_of_a_count(h: Tensor) -> Tensor:
    count = F.one_hot((h > 0).sum(1), 7)
    return h * count[:, 3:].sum(1, keepdim=True)


@INTEGER.hidden(f(6), m=4)
def integer_matrix_product(h: Tensor) -> Tensor:
    whole = (h * 10).long()
    return (whole @ whole.t()).to(h.dtype)


@INTEGER.model(f(6), torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(0)).int())
class Tokens(nn.Module):
    """Tokens of 32 bits; one of them is padding, whose row is as good as any."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).tanh().sum(1))


@INTEGER.model(f(6))
class IntegerBuffers(TwoLayers):
    """Positions in a buffer of integers move nothing, and are read as they are."""

    order: Tensor
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([5, 1, 0, 2, 4, 3]))
        self.register_buffer("factor", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh().index_select(1, self.order) * self.factor)


@INTEGER.model(0.0)
class QuantisedByHand(nn.Module):
    """A weight in a buffer of bytes stays, and so do the units that are made by it."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.arange(-9, 9, dtype=torch.int8).reshape(6, 3))
        self.scale, self.head = nn.Parameter(torch.rand(6, 1)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x @ (self.weight.to(x.dtype) * self.scale).t()).tanh())


class Masked(TwoLayers):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() * mask[:, None])


@INTEGER.model(f(6), X, torch.tensor([True, False, True, True]))
class MaskedByAnInput(Masked):
    pass


@INTEGER.model(f(6), X, torch.tensor([1, 0, 2, 3]))
class WeightedByAnInput(Masked):
    pass


@pytest.mark.parametrize("case", INTEGER.each())
def test_integer_and_boolean_tensors(case: Case) -> None:
    check(case)


# scalars


@SCALAR.model(f(6))
class ScalarParameters(TwoLayers):
    """Without an axis, and with one of size one."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.gate = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x) * self.scale + self.shift).tanh() * self.gate)


@SCALAR.model(f(6), torch.tensor(0.3))
class ScalarInAndOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(1, 6), nn.Linear(6, 1)

    def forward(self, t: Tensor) -> Tensor:
        return self.head(self.first(t.reshape(1)).tanh()).squeeze()


class Timed(TwoLayers):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() * t)


@SCALAR.model(f(6), X, torch.tensor(0.3))
class ScalarBeside(Timed):
    pass


@SCALAR.model(f(6), X, torch.tensor(3))
class WholeScalarBeside(Timed):
    pass


@SCALAR.model(f(6) + f(5))
class Loss(TwoLayers):
    """The mean of squares of a layer that nothing follows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh()).square().mean()


@SCALAR.model(f(6), X[0])
class DotProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Linear(3, 6), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.dot(self.first(x).tanh(), self.weight)


@SCALAR.hidden(f(6))
def scaled_by_the_sum_of_all(h: Tensor) -> Tensor:
    return h * h.sum()


@SCALAR.hidden(f(5))
def scaled_by_one_entry(h: Tensor) -> Tensor:
    """Unit 2 of the first example has a part of its own."""
    return h * h[0, 2]


@pytest.mark.parametrize("case", SCALAR.each())
def test_scalar_tensors(case: Case) -> None:
    check(case)
