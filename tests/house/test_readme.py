"""The README's Python blocks run, in order, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert (tmp_path / "barrier.png").stat().st_size > 10_000
    assert (tmp_path / "b-to-a.safetensors").exists()


def test_the_example_has_fifteen_lines() -> None:
    block = re.search(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    lines = [line for line in block[1].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_commands_are_the_ones_that_are_tested() -> None:
    text = README.read_text()
    assert "pip install -e '.[demo]' && fxrebasin demo" in text
    assert "pip install -e '.[test]' && pytest" in text


def test_what_it_shows_and_names_exists() -> None:
    text = README.read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    files = re.findall(r"`((?:benchmarks|tests|fxrebasin)/[\w/.]+)`", text)
    assert pictures and files
    for target in (*pictures, *files):
        assert (README.parent / target).exists(), target
