"""The program `fxrebasin`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fxrebasin
from fxrebasin.cli.commands import app
from fxrebasin.cli.main import main


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"fxrebasin {fxrebasin.__version__}\n"


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "demo" in result.output


def test_main_runs_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fxrebasin", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("fxrebasin ")


def test_without_typer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"needs typer: pip install 'fxrebasin\[cli\]'"):
        main()


def test_the_demo_without_scikit_learn_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "barrier.png")])
    assert result.exit_code == 1
    assert "the demo needs sklearn: pip install 'fxrebasin[demo]'" in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "0"],
        ["--seed", "-1"],
        ["--output", "no/such/folder/barrier.png"],
        ["--output", "barrier.xyz"],
    ],
)
def test_wrong_options_of_the_demo_are_named_before_any_work(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 2
    assert options[0] in result.output


@pytest.mark.slow
def test_the_demo_lowers_both_barriers_and_draws_them(tmp_path: Path) -> None:
    from rich.console import Console

    from fxrebasin.cli.demo import run_demo

    target = tmp_path / "barrier.png"
    with (tmp_path / "output.txt").open("w") as file:
        console = Console(file=file, width=80)
        comparisons = run_demo(output=target, seed=0, epochs=2, console=console)
    assert [c.name for c in comparisons] == ["MLP", "ConvNet with BatchNorm"]
    for comparison in comparisons:
        assert comparison.after.barrier < 0.5 * comparison.before.barrier
        # Alignment changes no function, so the two lines share their ends. (The order of a
        # sum differs, hence not bit for bit.)
        assert comparison.after.losses[0] == comparison.before.losses[0]
        assert comparison.after.losses[-1] == pytest.approx(comparison.before.losses[-1], abs=1e-4)
    assert not comparisons[0].before.batch_norm_recomputed
    assert comparisons[1].before.batch_norm_recomputed
    assert target.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "output.txt").read_text()
    assert f"{comparisons[0].reduction:.1%} lower" in text
    assert max(map(len, text.splitlines())) <= 80
