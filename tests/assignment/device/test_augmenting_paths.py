"""The assignment solver made of tensor operations: optimal, certified, and seldom waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import fxrebasin.assignment.device.augmenting_paths as engine
from fxrebasin.assignment.device.augmenting_paths import solve_augmenting_paths
from fxrebasin.assignment.device.fixed_point import GAIN_BITS, fixed_point, inverse, starting_prices

Kind = Callable[[int, torch.Generator], Tensor]


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def gaussian(n: int, g: torch.Generator) -> Tensor:
    return normal(n, n, generator=g)


def permuted_copy(n: int, g: torch.Generator) -> Tensor:
    a = normal(n, 5, generator=g)
    b = a[torch.randperm(n, generator=g)] + 0.3 * normal(n, 5, generator=g)
    return a @ b.T


def low_rank(n: int, g: torch.Generator, rank: int = 4) -> Tensor:
    return normal(n, rank, generator=g) @ normal(rank, n, generator=g)


def rank_one(n: int, g: torch.Generator) -> Tensor:
    return low_rank(n, g, rank=1)


def decaying_spectrum(n: int, g: torch.Generator) -> Tensor:
    rank = max(n // 4, 1)
    spectrum = torch.arange(1, rank + 1, dtype=torch.float64) ** -0.5
    norms = normal(2, n, 1, generator=g).exp()
    a, b = norms * normal(2, n, rank, generator=g)
    return (a * spectrum) @ b.T


def duplicates(n: int, g: torch.Generator) -> Tensor:
    rows, columns = torch.randint(5, (2, n), generator=g)
    return gaussian(5, g)[rows][:, columns]


def dead_rows(n: int, g: torch.Generator) -> Tensor:
    return gaussian(n, g) * (torch.rand(n, 1, generator=g) > 0.3)


def dead_rows_and_columns(n: int, g: torch.Generator) -> Tensor:
    return dead_rows(n, g) * (torch.rand(n, generator=g) > 0.3)


def constant(n: int, g: torch.Generator) -> Tensor:
    return torch.ones(n, n, dtype=torch.float64) * normal(1, generator=g)


def zero(n: int, g: torch.Generator) -> Tensor:
    return torch.zeros(n, n, dtype=torch.float64)


def small_integers(n: int, g: torch.Generator) -> Tensor:
    return torch.randint(4, (n, n), generator=g).double()


def outlier(n: int, g: torch.Generator) -> Tensor:
    costs = gaussian(n, g)
    costs.view(-1)[: min(n, 1)] = 1e6
    return costs


def far_from_zero(n: int, g: torch.Generator) -> Tensor:
    return gaussian(n, g) + 1e3


KINDS: list[Kind] = [
    gaussian,
    permuted_copy,
    low_rank,
    rank_one,
    decaying_spectrum,
    duplicates,
    dead_rows,
    dead_rows_and_columns,
    constant,
    zero,
    small_integers,
    outlier,
    far_from_zero,
]


def batch_of(kinds: list[Kind], n: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([kind(n, generator) for kind in kinds])


def assert_optimal(costs: Tensor, prices: Tensor | None = None) -> None:
    """A permutation of the value that scipy finds, and prices that prove it."""
    b, n, _ = costs.shape
    columns, found = solve_augmenting_paths(costs, prices=prices)
    assert columns.shape == found.shape == (b, n)
    assert (columns.dtype, found.dtype) == (torch.int64, torch.float64)
    assert torch.equal(columns.sort(1).values, torch.arange(n).expand(b, n))
    exact = costs.double()
    for k in range(b):
        value = exact[k, torch.arange(n), columns[k]].sum().item()
        rounding = 1e-15 * n * (exact[k].abs().max().item() if n else 0.0)
        rows, best = linear_sum_assignment(exact[k].numpy(), maximize=True)
        assert value == pytest.approx(exact[k, rows, best].sum().item(), rel=0, abs=rounding)
        row_prices = (exact[k] - found[k]).amax(1) if n else found[k]
        bound = (row_prices.sum() + found[k].sum()).item()
        assert bound == pytest.approx(value, rel=0, abs=rounding)


@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=4),
    n=st.integers(0, 16) | st.integers(0, 64),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    exponent=st.sampled_from([0, 0, -30, 30]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_mixed_batches(
    kinds: list[Kind], n: int, dtype: torch.dtype, exponent: int, seed: int
) -> None:
    costs = batch_of(kinds, n, seed=seed) if kinds else torch.zeros(0, n, n)
    assert_optimal((costs * 10.0**exponent).to(dtype))


@pytest.fixture
def without_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is handed to scipy, which would hide what the engine gets wrong."""
    monkeypatch.delattr(engine, "_finish_on_host")


@pytest.mark.usefixtures("without_the_host")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind(kind: Kind) -> None:
    assert_optimal(batch_of([kind], 60, seed=0).float())


@pytest.mark.usefixtures("without_the_host")
@pytest.mark.parametrize("kind", [gaussian, decaying_spectrum, dead_rows, permuted_copy])
def test_larger_problems(kind: Kind) -> None:
    assert_optimal(batch_of([kind], 230, seed=1).float())


@pytest.mark.usefixtures("without_the_host")
@pytest.mark.parametrize(("b", "n"), [(1024, 8), (48, 32), (7, 2), (3, 1), (3, 0), (0, 4)])
def test_heads(b: int, n: int) -> None:
    assert_optimal(torch.randn(b, n, n, generator=torch.Generator().manual_seed(0)))


def test_whole_numbers_are_solved_exactly() -> None:
    whole = torch.randint(2**40, (4, 50, 50), generator=torch.Generator().manual_seed(0))
    columns, _ = solve_augmenting_paths(whole.double())
    for costs, found in zip(whole, columns, strict=True):
        rows, best = linear_sum_assignment(costs.numpy(), maximize=True)
        assert costs[rows, found].sum() == costs[rows, best].sum()


def test_differences_far_below_float32() -> None:
    costs = batch_of([gaussian, low_rank], 40, seed=2)
    columns, _ = solve_augmenting_paths(1.0 + 2.0**-40 * costs)
    for k, found in enumerate(columns):
        rows, best = linear_sum_assignment(costs[k].numpy(), maximize=True)
        value, most = costs[k, rows, found].sum().item(), costs[k, rows, best].sum().item()
        assert value == pytest.approx(most, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_any_prices_are_a_start(scale: float) -> None:
    costs = batch_of([gaussian, decaying_spectrum, constant, zero], 40, seed=3)
    generator = torch.Generator().manual_seed(0)
    assert_optimal(costs, prices=scale * normal(4, 40, generator=generator))


def test_prices_of_a_similar_problem_are_a_start() -> None:
    costs = batch_of([gaussian, decaying_spectrum, duplicates], 50, seed=4)
    _, prices = solve_augmenting_paths(costs)
    assert_optimal(costs, prices=prices)
    assert_optimal(costs + 0.01 * batch_of([gaussian] * 3, 50, seed=5), prices=prices)


@pytest.mark.parametrize("passes", [0, 1])
def test_what_takes_too_long_is_finished_on_the_host(
    passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over = []
    finish = engine._finish_on_host

    def counted(matching: Any) -> Any:
        handed_over.append(int((matching.target_of < 0).any(1).sum()))
        return finish(matching)

    monkeypatch.setattr(engine, "_finish_on_host", counted)
    monkeypatch.setattr(engine, "PASSES_PER_DOUBLING", passes)
    easy = torch.eye(60, dtype=torch.float64)
    costs = torch.stack([easy, *batch_of([*KINDS, rank_one, rank_one], 60, seed=6)])
    assert_optimal(costs)
    assert len(handed_over) == 1
    assert 0 < handed_over[0] < len(costs)


def test_the_same_result_in_every_run() -> None:
    costs = batch_of([gaussian, duplicates, zero], 30, seed=7)
    given, state = costs.clone(), torch.get_rng_state()
    first, second = solve_augmenting_paths(costs), solve_augmenting_paths(costs)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(costs, given)
    assert torch.equal(torch.get_rng_state(), state)


def test_strided_input() -> None:
    assert_optimal(batch_of([gaussian, low_rank], 24, seed=8).transpose(1, 2)[:, ::2, 12:])


WAITING = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2"}
"""Operations of which the host must know the result, or its shape, before it goes on."""


def times_waited(run: Callable[[], object]) -> int:
    """How often the host would wait for a device."""
    with torch.autograd.profiler.profile() as profile:
        run()
    names = [event.name.removeprefix("aten::") for event in profile.function_events]
    return sum(name in WAITING for name in names)


def test_the_host_seldom_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        call = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *args: calls.update([name]) or call(*args))

    count("_best_sources")
    count("_augment")
    costs = batch_of([gaussian, low_rank, permuted_copy], 64, seed=9)
    waited = times_waited(lambda: solve_augmenting_paths(costs))
    passes, phases = calls["_best_sources"], calls["_augment"]
    assert passes >= engine.PASSES_PER_WAIT * phases > 0
    assert waited == passes // engine.PASSES_PER_WAIT + phases + 1


def test_waiting_is_seen() -> None:
    flags = torch.tensor([True, False])
    assert times_waited(lambda: bool(flags.any())) == 1
    assert times_waited(lambda: [flags.any().item(), flags.nonzero(), flags[flags]]) == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_integers_stand_for_the_costs(kind: Kind) -> None:
    costs = batch_of([kind], 20, seed=10)
    problems = fixed_point(costs)
    assert problems.gains.min() >= 0
    assert problems.gains.max() <= 2**GAIN_BITS + 2**4
    spread = (costs - costs.min()).max().item()
    found = problems.gains.double() * problems.unit
    torch.testing.assert_close(found, costs - costs.min(), rtol=0, atol=2.0**-51 * spread)


def test_starting_prices_leave_few_conflicts() -> None:
    problems = fixed_point(batch_of([decaying_spectrum, low_rank], 80, seed=11))
    prices = starting_prices(problems, None)
    assert prices.min() >= 0
    assert prices.max() <= 2**GAIN_BITS
    wanted = (problems.gains - prices[:, None]).argmax(2)
    without = problems.gains.argmax(2)
    for k in range(2):
        assert len(wanted[k].unique()) > 1.3 * len(without[k].unique())


def test_inverse_of_a_partial_matching() -> None:
    columns = torch.tensor([[2, -1, 0], [0, 1, 2]])
    assert inverse(columns).tolist() == [[2, -1, 0], [0, 1, 2]]
    assert inverse(torch.tensor([[1, 2, -1]])).tolist() == [[-1, 0, 1]]
