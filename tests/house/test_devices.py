"""Everything on an accelerator, where there is one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import NETWORKS, Network
from torch import nn

import fxrebasin as fr
from benchmarks.assignment.kinds import KINDS, matrix
from benchmarks.measuring.random_weights import randomise
from fxrebasin.assignment import Engine, assign, solve_dense, solve_on_device, solve_sparse
from fxrebasin.errors import InvalidParameterError

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5),
        )
        .eval()
        .cuda()
    )  # fmt: skip


def test_a_model_on_the_accelerator() -> None:
    a, b = net(1), net(2)
    x = torch.randn(4, 3, 4, 4, device="cuda")
    on_the_processor = fr.analyze(net(2).cpu(), args=(x.cpu(),))
    state = torch.cuda.get_rng_state()
    symmetry = fr.analyze(b, args=(x,))
    assert symmetry == on_the_processor
    aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert {t.device.type for t in aligned.state_dict().values()} == {"cuda"}
    with torch.no_grad():
        torch.testing.assert_close(aligned(x), b(x), rtol=1e-3, atol=1e-4)
    assert aligned.report.objective_after > aligned.report.objective_before


def test_transforms_on_the_accelerator() -> None:
    model, x = net(1), torch.randn(4, 3, 4, 4, device="cuda")
    symmetry = fr.analyze(model, args=(x,))
    drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(0), scales=True)
    moved = drawn.apply_to(model)
    assert {t.device.type for t in moved.state_dict().values()} == {"cuda"}
    with torch.no_grad():
        torch.testing.assert_close(moved(x), model(x), rtol=1e-3, atol=1e-4)


def test_solving_elsewhere_than_the_weights() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(torch.randn(1, 3, 4, 4, device="cuda"),))
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    moved = planted.apply(a.state_dict())
    assert {t.device.type for t in moved.values()} == {"cuda"}
    for device in ("cpu", "cuda", None):
        found = fr.match(symmetry, moved, to=a.state_dict(), device=device, progress=False)
        assert found.compose(planted).is_identity
    on_cpu = {k: t.cpu() for k, t in moved.items()}
    found = fr.match(symmetry, on_cpu, to=a.state_dict(), progress=False)
    assert found.compose(planted).is_identity


def test_the_reference_may_be_on_another_device() -> None:
    a, b = net(1), net(2)
    x = torch.randn(4, 3, 4, 4, device="cuda")
    aligned = fr.rebasin(b, to=a.cpu(), args=(x,), progress=False)
    assert {t.device.type for t in aligned.state_dict().values()} == {"cuda"}


def test_a_model_on_several_devices_is_refused() -> None:
    b = net(2)
    assert isinstance(b, nn.Sequential)
    b[0].cpu()
    with pytest.raises(InvalidParameterError, match="several devices"):
        fr.analyze(b, args=(torch.randn(1, 3, 4, 4),))


@pytest.mark.parametrize("engine", [solve_on_device, solve_sparse, None])
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("batch", "n"), [(5, 7), (3, 64), (1, 300)])
def test_assignment_on_the_accelerator(
    kind: str, batch: int, n: int, engine: Engine | None
) -> None:
    costs = torch.stack([torch.from_numpy(matrix(kind, n, seed=s)) for s in range(batch)])
    expected = assign(costs, engine=solve_dense)
    found = assign(costs.cuda(), engine=engine, certify=True)
    assert found.columns.is_cuda
    assert found.columns.sort(dim=1).values.tolist() == [list(range(n))] * batch
    scale = costs.double().abs().sum(dim=(1, 2)) / n
    assert found.gap is not None
    assert bool(((found.value.cpu() - expected.value).abs() <= 1e-12 * scale).all())
    assert bool((found.gap.cpu() <= 1e-12 * scale).all())
    again = assign(costs.cuda(), engine=engine, warm=found)
    assert torch.equal(again.columns, found.columns)


class MaskedAttention(nn.Module):
    """Two heads, from a fused projection; the mask hides the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(8, 96), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.into(x).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        mask = x.new_zeros(x.shape[1], x.shape[1])
        mask[:, -1] = -1e4
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(h.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_kernel_of_attention(dtype: torch.dtype) -> None:
    model = MaskedAttention().to("cuda", dtype)
    x = torch.randn(2, 8, 8, device="cuda", dtype=dtype)
    symmetry = fr.analyze(model, args=(x,))
    assert not symmetry.unknown_ops
    assert sorted((b.size, b.count) for b in symmetry) == [(2, 1), (16, 2), (16, 2)]


EVERY = [pytest.param(n, id=n.name) for n in NETWORKS.values()]


def on_accelerator(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(x.cuda() for x in inputs)


ON_THE_PROCESSOR = {"multiplied_with_positions"}
"""These make tensors on the processor in forward."""
OTHER_KERNELS = {"torch_attention_with_learned_key"}
"""The processor's kernel of attention hides a concatenation that costs these some symmetry."""


@pytest.mark.parametrize("network", EVERY)
def test_the_group_is_that_of_the_processor(network: Network) -> None:
    if network.name in ON_THE_PROCESSOR | OTHER_KERNELS:
        pytest.skip("is another network there")
    torch.manual_seed(0)
    model = network.factory()
    here = fr.analyze(model, args=network.inputs(2))
    there = fr.analyze(model.cuda(), args=on_accelerator(network.inputs(2)))
    assert there.unknown_ops == here.unknown_ops
    assert there.log_order == here.log_order
    assert sorted(map(shape_of, there)) == sorted(map(shape_of, here))


def shape_of(block: fr.Block) -> tuple[int, int, list[tuple[str, int]]]:
    return block.size, block.count, sorted(block.axes)


@pytest.mark.parametrize("network", EVERY)
def test_aligning_on_the_accelerator(network: Network) -> None:
    torch.manual_seed(0)
    b = network.factory()
    symmetry = fr.analyze(b, args=network.inputs(2))
    b, a = (randomise(copy.deepcopy(b), seed) for seed in (1, 2))
    options: dict[str, Any] = {
        "state_dict": b.state_dict(),
        "to": a.state_dict(),
        "budget": fr.Budget(rounds=5),
        "bound": True,
        "progress": False,
    }
    here = fr.weight_matching(symmetry, **options)
    there = fr.weight_matching(symmetry, **options, device="cuda")
    assert there.objective_before == pytest.approx(here.objective_before)
    assert there.upper_bound == pytest.approx(here.upper_bound)
    assert there.history[0] == pytest.approx(here.history[0])
    assert there.objective_after >= there.history[-1] - 1e-9 * abs(there.history[-1])
