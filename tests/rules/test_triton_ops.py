"""A rule for an op that launches a kernel of Triton on an accelerator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.testing.check import check_rule

triton = pytest.importorskip("triton", reason="Triton comes with torch for some platforms only")
tl = pytest.importorskip("triton.language")

torch.set_num_threads(1)


@triton.jit
def add_and_clip(x, shift, out, n, width: tl.constexpr):  # type: ignore[no-untyped-def,name-defined]
    places = tl.program_id(0) * width + tl.arange(0, width)
    inside = places < n
    total = tl.load(x + places, mask=inside) + tl.load(shift + places, mask=inside)
    tl.store(out + places, tl.maximum(total, 0.0), mask=inside)


@torch.library.triton_op("fxrebasin_test_triton::shifted_relu", mutates_args=())
def shifted_relu(x: Tensor, shift: Tensor) -> Tensor:
    """Without a device, what the kernel computes; with a sort, which no rule sees through."""
    shifts = shift.expand_as(x).contiguous()
    if x.is_cuda:
        out = torch.empty_like(x)
        launch = torch.library.wrap_triton(add_and_clip)
        launch[(triton.cdiv(x.numel(), 64),)](x, shifts, out, x.numel(), width=64)
        return out
    ranked = (x + shifts).sort(dim=-1)
    return torch.empty_like(x).scatter(-1, ranked.indices, ranked.values).relu()


RULE = "n c, c -> n c"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        self.shift = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(shifted_relu(self.enter(x), self.shift))


def test_the_rule_is_sound_and_loses_nothing() -> None:
    op = torch.ops.fxrebasin_test_triton.shifted_relu
    x, shift = torch.randn(2, 3).double(), torch.randn(3).double()
    check = check_rule(op, x, shift, rule=RULE)
    assert check.sound and not check.lost, str(check)


def test_units_go_through_the_op() -> None:
    model, x = Net(), torch.randn(4, 3)
    assert not fr.analyze(model, args=(x,)).blocks
    op = torch.ops.fxrebasin_test_triton.shifted_relu
    symmetry = fr.analyze(model, args=(x,), rules={op: RULE})
    (block,) = symmetry
    through = {("enter.weight", 0), ("enter.bias", 0), ("shift", 0), ("leave.weight", 1)}
    assert set(block.axes) == through
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(
        randomise(model)
    )
    assert difference(evaluate(moved, (x,)), evaluate(model, (x,))) < 1e-12


def test_aligning_through_the_op() -> None:
    b, x = Net(), torch.randn(4, 3)
    op = torch.ops.fxrebasin_test_triton.shifted_relu
    planted = fr.Permutation.random(
        fr.analyze(b, args=(x,), rules={op: RULE}), torch.Generator().manual_seed(1)
    )
    a = planted.apply_to(b)
    symmetry = fr.analyze(b, args=(x,), rules={op: RULE})
    aligned = fr.rebasin(b, to=a, args=(x,), symmetry=symmetry, progress=False)
    for name, tensor in a.state_dict().items():
        assert torch.equal(aligned.state_dict()[name], tensor)
