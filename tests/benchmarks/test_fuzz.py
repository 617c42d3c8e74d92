"""The fuzzing of random networks: what it measures, keeps, survives and says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import rows
from benchmarks.fuzz.__main__ import cells, report
from benchmarks.fuzz.rows import Row, failures_of, lost, measure, read
from benchmarks.fuzz.soundness import Verdict
from benchmarks.measuring.processes import Lost

RECIPE = "(('vector', 5, 6), ('each',))"
FINE = Verdict(
    raw_error=1e-16,
    error=1e-16,
    log_order=6.6,
    pinned=False,
    control=0.5,
    seconds=0.1,
    unknown_ops={},
    front_end="symbolic_trace",
)
NAN = float("nan")


def row(seed: int, verdict: Verdict | None = FINE, **changes: str) -> Row:
    return Row("odd", seed, "abc", RECIPE, verdict, **changes)


# rows


def test_failures_are_named_worst_first() -> None:
    wrong = replace(FINE, error=1e-3, raw_error=1e-3)
    assert row(0).failures == []
    assert row(0, wrong).failures == ["wrong", "wrong without test"]
    assert row(0, replace(wrong, error=0.0)).failures == ["wrong without test"]
    assert row(0, replace(wrong, error=float("inf"))).failures[0] == "wrong"
    assert row(0, replace(FINE, error=NAN, raw_error=NAN)).failures == []
    assert row(0, None, crash="TraceError: no").failures == ["crashed: TraceError: no"]


def test_rows_survive_being_written() -> None:
    for written in (row(3), row(4, None, crash="KeyError: 'x'", shrunk=RECIPE)):
        assert read(json.dumps(asdict(written))) == written


def test_the_table_counts_every_kind_of_row() -> None:
    measured = [
        *(row(seed) for seed in range(4)),
        row(4, replace(FINE, log_order=0.0, control=NAN)),
        row(5, replace(FINE, raw_error=1.0, pinned=True, control=0.0)),
        row(6, replace(FINE, error=1.0, raw_error=1.0, unknown_ops={"aten.cumsum": 2})),
        row(7, replace(FINE, error=NAN, raw_error=NAN, control=NAN)),
        row(8, None, crash="KeyError: 'x'"),
    ]
    counted = dict(zip(fuzz.HEADER, cells("odd", measured), strict=True))
    assert counted == {
        "networks": "9 odd",
        "seeds": "0 to 8",
        "with symmetry": "87.5%",
        "unknown ops": "12.5%",
        "test pinned": "1",
        "wrong without test": "2",
        "wrong": "1",
        "crashed": "1",
        "not judged": "1",
        "control visible": "83.3%",
        "median s": "0.10",
    }
    text = report(measured)
    assert "`aten.cumsum` (1)" in text
    assert [line.split()[3] for line in text.splitlines() if line.startswith("| odd")] == [*"865"]


def test_a_crash_of_the_analysis_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(recipe: object) -> Verdict:
        if "'flip'" in repr(recipe):
            raise KeyError("no such unit")
        return FINE

    monkeypatch.setattr(rows, "judge", broken)
    monkeypatch.setattr(rows, "draw", lambda choose, profile: FLIPPED)
    found = measure(Row("odd", 0, "abc"))
    assert found.failures == ["crashed: KeyError: 'no such unit'"]
    assert found.recipe == repr(FLIPPED)
    assert found.shrunk == "(('vector', 5, 6), ('flip',), ('each',))"
    assert failures_of(FLIPPED) == ["crashed: KeyError"]


FLIPPED = (("tokens", 4, 24), ("skip", (("linear", 24), ("flip",))), ("partial",))


def test_a_network_that_kills_its_process_can_be_drawn_again() -> None:
    found = lost(Lost(Row("odd", 7, "abc"), "the process died with exit code -11"))
    assert found.failures == ["crashed: the process died with exit code -11"]
    assert found.recipe == "draw(random.Random(7).choice, 'odd')"


# the whole program


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, table = tmp_path / "fuzz.jsonl", tmp_path / "fuzz.md"

    def run(count: int) -> int:
        options = ["--count", str(count), "--results", str(results), "--table", str(table)]
        monkeypatch.setattr(sys, "argv", ["fuzz", "--seed", "6", *options])
        return fuzz.main()

    results.write_text(json.dumps(asdict(replace(row(6), profile="ordinary"))) + "\n")
    assert run(2) == 0
    first, second = map(read, results.read_text().splitlines())
    assert (first.seed, first.commit) == (6, "abc")
    assert (second.profile, second.seed, second.failures) == ("odd", 7, [])
    assert "| 1 ordinary | 6 to 6 |" in table.read_text()
    monkeypatch.setattr(fuzz, "work_off", lambda work, tasks, **limits: [*tasks])
    assert run(2) == 0
    assert len(results.read_text().splitlines()) == 2


@pytest.mark.slow
def test_it_runs_as_a_program(tmp_path: Path) -> None:
    """Other processes find what they are to do, which they would not in a ``__main__``."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--count", "2"]
    command += ["--results", str(tmp_path / "fuzz.jsonl")]
    root = Path(fuzz.__file__).parents[2]
    # from the root, as a user runs it, also where the environment keeps that out of sys.path
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "| 1 odd " in run.stdout


def test_one_recipe_is_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "--recipe", RECIPE])
    assert fuzz.main() == 0
    printed = capsys.readouterr().out
    assert "log_order: 6.579" in printed
    assert "pinned: False" in printed
