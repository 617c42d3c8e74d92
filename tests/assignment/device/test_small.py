"""The kernel that solves small problems whole, run by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fxrebasin.assignment.device.augmenting_paths as engine
from benchmarks.assignment.kinds import KINDS, matrix
from fxrebasin.assignment import solve_dense, solve_on_device
from fxrebasin.assignment.device.fixed_point import fixed_point
from fxrebasin.assignment.device.kernels import Kernels

triton = pytest.importorskip("triton", reason="Triton comes with torch for some platforms only")


@pytest.fixture
def kernels() -> Kernels:
    if not triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is off")
    from fxrebasin.assignment.device.fused import FusedPasses
    from fxrebasin.assignment.device.small import solve_small

    return Kernels(FusedPasses, solve_small)


def problems(kind: str, batch: int, n: int) -> Tensor:
    return torch.stack([torch.from_numpy(matrix(kind, n, seed=s)) for s in range(batch)])


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("batch", "n"), [(3, 5), (1, 2), (2, 11)])
def test_prices_prove_every_integer_solution(
    kind: str, batch: int, n: int, kernels: Kernels
) -> None:
    gains = fixed_point(problems(kind, batch, n)).gains
    generator = torch.Generator().manual_seed(n)
    for first in (gains.amax(1), torch.randint(2**59, (batch, n), generator=generator)):
        given = first.clone()
        columns, prices = kernels.solve_small(gains, first)
        assert torch.equal(first, given)
        assert torch.equal(columns.sort(1).values, torch.arange(n).expand(batch, n))
        utilities = (gains - prices[:, None]).amax(2)
        taken = gains.gather(2, columns[..., None])[..., 0]
        assert torch.equal(utilities, taken - prices.gather(1, columns))
        assert int(prices.min()) >= -(2**59)
        assert int(prices.max()) <= 2**60 + 16


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_engine_for_devices_takes_it(
    kind: str, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = problems(kind, 2, 12)
    without = engine.solve_augmenting_paths(costs)[0]
    monkeypatch.setattr(engine, "kernels", lambda device: kernels)
    found = solve_on_device(costs)
    assert torch.equal(found.columns, without)
    assert torch.allclose(found.value, solve_dense(costs).value)
    nearby = costs + 0.01 * torch.randn(costs.shape, generator=torch.Generator().manual_seed(0))
    again = solve_on_device(nearby, warm=found)
    assert torch.allclose(again.value, solve_dense(nearby).value)
    assert again.gap is not None
    assert float((again.gap / again.value.abs()).max()) < 1e-12
