"""The kernel for scans of costs, run by Triton's interpreter: the same as tensor operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import fxrebasin.assignment.device.augmenting_paths as engine
import fxrebasin.assignment.device.kernels as kernels
from benchmarks.assignment.kinds import KINDS, matrix
from fxrebasin.errors import SlowerWarning

triton = pytest.importorskip("triton", reason="Triton comes with torch for some platforms only")


@pytest.fixture
def interpreted() -> type:
    if not triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is off")
    from fxrebasin.assignment.device.fused import FusedPasses

    return FusedPasses


@pytest.fixture
def fuse(interpreted: type, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, problems of all sizes take the kernel."""

    def start() -> None:
        given = kernels.Kernels(interpreted, lambda gains, prices: pytest.fail("is for small ones"))
        monkeypatch.setattr(engine, "kernels", lambda device: given)
        monkeypatch.setattr(engine, "SMALL_UP_TO", 0)

    return start


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("batch", "n"), [(3, 5), (1, 2), (2, 17)])
def test_the_same_solutions(kind: str, batch: int, n: int, fuse: Callable[[], None]) -> None:
    costs = torch.stack([torch.from_numpy(matrix(kind, n, seed=s)) for s in range(batch)])
    columns, prices = engine.solve_augmenting_paths(costs)
    fuse()
    fused_columns, fused_prices = engine.solve_augmenting_paths(costs)
    assert torch.equal(columns, fused_columns)
    assert torch.equal(prices, fused_prices)


def test_more_sources_and_targets_than_a_program_holds(
    fuse: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxrebasin.assignment.device.fused.MOST_SOURCES", 4)
    monkeypatch.setattr("fxrebasin.assignment.device.fused.MOST_TARGETS", 2)
    costs = torch.from_numpy(matrix("gauss", 11))[None]
    expected = engine.solve_augmenting_paths(costs)
    fuse()
    assert all(map(torch.equal, engine.solve_augmenting_paths(costs), expected))


def test_the_flag_tells_when_nothing_gets_closer(interpreted: type) -> None:
    gains = torch.tensor([[[5, 0], [0, 5]]])
    prices = torch.tensor([[5, 5]])
    search = interpreted(gains, prices, torch.zeros_like(prices), torch.tensor([[-1, 1]]), far=100)
    assert search.run(1).item() == 1
    assert search.distances.tolist() == [[0, 5]]
    assert search.run(1).item() == 0
    assert search.previous.tolist() == [[0, 0]]


def test_no_kernel_for_the_processor() -> None:
    assert kernels.kernels(torch.device("cpu")) is None


def test_a_compiler_that_fails_is_reported(
    interpreted: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> torch.Tensor:
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr(torch, "zeros", fail)
    kernels.kernels.cache_clear()
    with pytest.warns(SlowerWarning, match="RuntimeError: no C compiler$"):
        assert kernels.kernels(torch.device("cuda")) is None
    kernels.kernels.cache_clear()
