"""The comparison with other programs: the reference is right, and the rows say what happened."""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.align import __main__ as align
from benchmarks.align import checkpoints, git_rebasin, runs, tables
from benchmarks.align.checkpoints import Pair, gain
from benchmarks.align.methods import METHODS, Solution, as_high
from benchmarks.align.plain_spec import PlainSpec, flat_spec, plain_spec
from benchmarks.align.rows import Row, dumps, loads
from benchmarks.align.runs import Task, change, in_turn


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(width, hidden, 3, padding=1), nn.BatchNorm2d(hidden)
        self.two = nn.Conv2d(hidden, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))


def small_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)
    )


def small_resnet() -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    return nn.Sequential(nn.Conv2d(3, 12, 3), Block(12, 10), Block(12, 8), *head)


SMALL = {"mlp": (small_mlp, (8,)), "resnet": (small_resnet, (3, 8, 8))}


def small(name: str, seed: int) -> tuple[nn.Module, Tensor]:
    factory, shape = SMALL[name]
    torch.manual_seed(seed)
    return factory().eval(), torch.randn(2, *shape)


@pytest.fixture(params=SMALL)
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(checkpoints, "build", small)
    return checkpoints.random_pair(request.param)


def symmetry_of(name: str) -> fr.Symmetry:
    network = NETWORKS[name]
    return fr.analyze(network.factory().eval(), args=network.inputs(2))


# the plain spec


def test_one_permutation_per_axis_is_a_special_case_of_parts() -> None:
    symmetry = symmetry_of("ResidualConvolutions")
    spec, parts = plain_spec(symmetry), flat_spec(symmetry)
    assert spec.whole
    assert not parts.whole
    assert spec.sizes == parts.sizes
    for name, found in spec.parts.items():
        listed = [(p.axis, p.permutation, p.positions.tolist()) for p in found]
        assert listed == [(p.axis, p.permutation, p.positions.tolist()) for p in parts.parts[name]]


@pytest.mark.parametrize(
    "name", ["mlp_of_square_layers", "DenseConnections", "convolution_flattened", "CalledTwice"]
)
def test_a_tensor_is_permuted_as_the_symmetry_says(name: str) -> None:
    symmetry = symmetry_of(name)
    permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    spec = plain_spec(symmetry)
    assert list(spec.sizes) == list(symmetry.blocks)
    taken = {block: permutation.indices[block][0] for block in spec.sizes}
    for parameter in symmetry.parameters:
        if not parameter.is_buffer:
            state = {parameter.name: torch.randn(parameter.shape)}
            found = git_rebasin.permuted(spec, taken, parameter.name, state)
            assert torch.equal(found, permutation.permute(parameter, state[parameter.name]))


def test_nested_blocks_stay_in_place() -> None:
    symmetry = symmetry_of("torch_attention")
    spec = plain_spec(symmetry)
    nested = {b.name for b in symmetry if b.parent} | {b.parent for b in symmetry if b.parent}
    assert nested
    assert set(spec.sizes) == set(symmetry.blocks) - nested
    assert {p.permutation for parts in spec.parts.values() for p in parts} == set(spec.sizes)


# the reference


def matched(pair: Pair, spec: PlainSpec, max_sweeps: int = 100) -> tuple[float, int]:
    """What the reference gains, as it permutes by itself, and after how many sweeps."""
    a, b = pair.a.state_dict(), pair.b.state_dict()
    found = git_rebasin.match(spec, b, to=a, max_sweeps=max_sweeps)
    moved = {name: git_rebasin.permuted(spec, found.permutations, name, b) for name in spec.parts}
    return gain(pair, b | moved), found.sweeps


def test_every_sweep_of_the_reference_gains_until_the_last(pair: Pair) -> None:
    spec = plain_spec(fr.analyze(pair.b, args=(pair.inputs,)))
    assert matched(pair, spec, max_sweeps=0) == (0.0, 0)
    converged, sweeps = matched(pair, spec)
    assert sweeps > 2
    gains = [matched(pair, spec, max_sweeps=k)[0] for k in range(sweeps + 1)]
    assert all(before < after for before, after in itertools.pairwise(gains[:-1]))
    assert gains[-2] == gains[-1] == converged


def test_one_permutation_is_the_best_of_all() -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).eval()

    one = Pair(build(0), build(1), torch.randn(2, 3))
    b = one.b.state_dict()
    all_gains = []
    for order in itertools.permutations(range(5)):
        taken = torch.tensor(order)
        moved = {"0.weight": b["0.weight"][taken], "0.bias": b["0.bias"][taken]}
        moved |= {"2.weight": b["2.weight"][:, taken], "2.bias": b["2.bias"]}
        all_gains.append(gain(one, moved))
    spec = plain_spec(fr.analyze(one.b, args=(one.inputs,)))
    assert matched(one, spec)[0] == pytest.approx(max(all_gains), rel=1e-6)


@pytest.mark.parametrize("method", ["plain", "ours"])
def test_a_planted_permutation_is_found(pair: Pair, method: str) -> None:
    symmetry = fr.analyze(pair.a, args=(pair.inputs,))
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    found = METHODS[method](replace(pair, b=planted.apply_to(pair.a)), 0)
    assert found.permutation is not None
    assert found.permutation.compose(planted).is_identity
    for name, tensor in pair.a.state_dict().items():
        assert torch.equal(found.state[name], tensor)


@pytest.mark.parametrize("method", ["plain", "ours"])
def test_the_function_is_kept_and_the_pair_too(pair: Pair, method: str) -> None:
    before = {name: tensor.clone() for name, tensor in pair.b.state_dict().items()}
    found = METHODS[method](pair, 0)
    assert change(pair, found) < 1e-12
    assert change(pair, found, batch_statistics=True) < 1e-12
    assert gain(pair, found.state) > 0
    assert (found.blocks, found.units) in [(2, 48), (3, 30)]
    for name, tensor in pair.b.state_dict().items():
        assert torch.equal(before[name], tensor)


def test_the_objective_is_that_of_weight_matching(pair: Pair) -> None:
    symmetry = fr.analyze(pair.b, args=(pair.inputs,))
    a, b = pair.a.state_dict(), pair.b.state_dict()
    found = fr.weight_matching(symmetry, b, to=a, progress=False)
    gained = gain(pair, found.permutation.apply(b))
    assert gained == pytest.approx(found.objective_after - found.objective_before, rel=1e-5)


def test_vectors_are_told_apart_from_matrices(pair: Pair) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in pair.b.state_dict().items()}
    both = checkpoints.objective(pair, pair.b.state_dict())
    matrices = checkpoints.objective(pair, pair.b.state_dict(), matrices=True)
    both_models = zip(pair.a.parameters(), pair.b.parameters(), strict=True)
    expected = sum(float((p * q).sum().detach()) for p, q in both_models if p.ndim == 1)
    assert both - matrices == pytest.approx(expected, rel=1e-4)
    assert gain(pair, state) == -both


def test_running_statistics_that_stay_behind_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "build", small)
    pair = checkpoints.random_pair("resnet")
    found = METHODS["plain"](pair, 0)
    kept = {n: t for n, t in pair.b.state_dict().items() if "running" in n}
    behind = replace(found, state=found.state | kept)
    assert change(pair, behind) > 1e-3
    assert change(pair, behind, batch_statistics=True) < 1e-12
    wrong = replace(
        behind, state=behind.state | {"1.two.weight": pair.b.state_dict()["1.two.weight"]}
    )
    assert change(pair, wrong, batch_statistics=True) > 1e-3


# rows


ROW = Row("mlp", "ours", 0.0, "abc", 2)


def test_methods_run_in_turn_and_failures_are_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[tuple[str, int]] = []

    def noted(pair: Pair, seed: int) -> Solution:
        called.append(("noted", seed))
        return Solution(pair.b.state_dict(), 1.0, 2.0, seed, 2, 48)

    def broken(pair: Pair, seed: int) -> Solution:
        called.append(("broken", seed))
        raise NotImplementedError("LayerNorm\nis not known")

    def endless(pair: Pair, seed: int) -> Solution:
        time.sleep(60)
        raise AssertionError

    monkeypatch.setattr(checkpoints, "build", small)
    tried = {"noted": noted, "broken": broken, "endless": endless}
    for name, method in tried.items():
        monkeypatch.setitem(METHODS, name, method)
    rows = tuple(replace(ROW, method=name, threads=torch.get_num_threads()) for name in tried)
    found = {row.method: row for row in in_turn(Task(rows, limit=1, repeats=2))}
    assert called == [("noted", 0), ("broken", 0), ("noted", 1)]
    assert found["broken"].status == "NotImplementedError: LayerNorm"
    assert found["endless"].status == "TimeLimitError: not done after 1 s"
    assert found["noted"].status == "kept"
    assert (found["noted"].blocks, found["noted"].units) == (2, 48)
    assert (found["noted"].solve, found["noted"].sweeps) == ((2.0, 2.0), (0, 1))
    assert (found["noted"].gains, found["noted"].recovered) == ((0.0, 0.0), ())
    assert "('mlp', 'broken', 0.0)" in capsys.readouterr().err


def test_planted_permutations_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "build", small)
    row = replace(ROW, model="resnet", noise=0.01, threads=torch.get_num_threads())
    (found,) = in_turn(Task((row,), limit=60, repeats=1))
    assert found.recovered == (1.0,)
    assert found.gains[0] == pytest.approx(found.planted_gain, rel=1e-6)
    assert "100.0%" in tables.planted_document([found])


def test_ours_is_stopped_where_the_others_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    end = METHODS["ours"](pair, 0)
    assert gain(pair, as_high(pair, 0, 0.0).state) < gain(pair, end.state)
    half = gain(pair, end.state) / 2
    assert half <= gain(pair, as_high(pair, 0, half).state) < gain(pair, end.state)
    monkeypatch.setitem(METHODS, "plain", METHODS["ours without sweeps"])
    row = replace(ROW, method="plain", threads=torch.get_num_threads())
    (found,) = in_turn(Task((row,), limit=60, repeats=2))
    assert len(found.as_high) == len(found.solve) == 2
    assert all(seconds > 0 for seconds in found.as_high + found.as_high_by_matrices)


def test_what_is_never_reached_takes_for_ever(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ROW, method="plain", gains=(1e9,), matrix_gains=(0.0,))
    found = runs.raced(row, pair, 0, limit=60)
    assert found.as_high == (math.inf,)
    assert all(map(math.isfinite, found.as_high_by_matrices))

    def endless(*_: object, **options: object) -> Solution:
        time.sleep(60)
        raise AssertionError

    monkeypatch.setattr(runs, "as_high", endless)
    assert runs.raced(row, pair, 0, limit=1).as_high == (math.inf,)


def test_a_long_method_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "build", small)
    monkeypatch.setattr(runs, "LONG", 0)
    row = replace(ROW, threads=torch.get_num_threads())
    (found,) = in_turn(Task((row,), limit=60, repeats=3))
    assert len(found.solve) == 1


MEASURED = replace(
    ROW, together="mlp 1", discovery=(1.0, 1.0), solve=(1.0, 3.0), gains=(8.0, 10.0),
    matrix_gains=(6.0,), blocks=3, units=8, movable_units=10, error=1e-9, sweeps=(2, 3),
)  # fmt: skip


def test_rows_survive_being_written() -> None:
    written = replace(MEASURED, memory=1.5, planted_gain=2.0, batch_error=0.0)
    assert loads(dumps(written)) == written


def test_only_what_ran_together_is_compared() -> None:
    other = replace(
        MEASURED, method="plain", discovery=(2.0,), solve=(4.0,), gains=(3.0,), matrix_gains=(4.0,)
    )
    apart = replace(other, method="rebasin", together="mlp 2")
    failed = replace(ROW, method="broken", together="mlp 1", failure="KeyError: 'x'")
    found = tables.ratios([MEASURED, other, apart, failed])
    assert found == [("mlp", "plain", "4.00 x", "3.00 x", "-", "-", "3.0000 x", "1.5000 x")]
    raced = replace(other, as_high=(0.5,), as_high_by_matrices=(0.25,))
    assert tables.ratios([MEASURED, raced])[0][4:6] == ("8.00 x", "16.00 x")
    (wrong,) = tables.ratios([MEASURED, replace(raced, error=0.5)])
    assert wrong[2:] == ("4.00 x", "3.00 x", *["function changed"] * 4)


def test_most_runs_say_whether_ours_ever_gains_as_much() -> None:
    other = replace(MEASURED, method="plain", solve=(4.0, 4.0, 4.0))
    once = replace(other, as_high=(0.5, math.inf, math.inf), as_high_by_matrices=(math.inf, 1, 2))
    assert tables.ratios([MEASURED, once])[0][4:6] == ("never", "2.00 x")


def test_the_table_says_how_much_moves_and_what_failed() -> None:
    changed = replace(MEASURED, method="plain", error=0.5, units=5, movable_units=0)
    failed = replace(ROW, method="rebasin", failure="KeyError: 'x'")
    text = tables.document([MEASURED, changed, failed])
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:5] == "| mlp"]
    cells = dict(zip(tables.HEADER, lines[0], strict=True))
    assert (cells["units"], cells["solve (s)"], cells["gained"]) == ("8 (80%)", "2.00", "9.0")
    assert [line[-1] for line in lines[:3]] == ["kept", "changed by 5.0e-01", "KeyError: 'x'"]
    left_behind = replace(changed, batch_error=1e-9)
    assert left_behind.status == "statistics left behind (5.0e-01)"
    assert lines[1][4] == "5 (50%)"


def test_it_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, table = tmp_path / "align.jsonl", tmp_path / "align.md"
    results.write_text(dumps(MEASURED) + "\n")
    asked: list[str] = []

    def measure(task: Task) -> list[Row]:
        asked.extend(f"{row.model} {row.method}" for row in task.rows)
        return [replace(MEASURED, method=row.method, together=row.together) for row in task.rows]

    def run(*arguments: str) -> int:
        options = ["--models", "mlp", "--results", str(results), "--table", str(table)]
        monkeypatch.setattr(sys, "argv", ["align", *options, *arguments])
        return align.main()

    def with_memory(row: Row) -> Row:
        asked.append(f"memory of {row.method}")
        return replace(row, memory=7.0)

    monkeypatch.setattr(align, "measure", measure)
    monkeypatch.setattr(align, "with_memory", with_memory)
    assert run("--methods", "ours", "plain") == 0
    assert asked == ["mlp plain", "memory of ours", "memory of plain"]
    asked.clear()
    assert run("--methods", "ours", "plain") == 0
    assert asked == []
    assert "4.00 x" not in table.read_text()
    assert run("--methods", "ours", "plain", "--fresh") == 0
    assert asked == ["mlp ours", "mlp plain", "memory of ours", "memory of plain"]
    assert "| mlp   |   plain | 1.00 x |" in table.read_text()
    assert len(results.read_text().splitlines()) == 8
