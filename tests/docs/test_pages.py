"""The pages are true: their code runs, and prints what they say it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from markdown_blocks import python_blocks, run_page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [page for page in sorted(DOCS.rglob("pages/**/*.md")) if any(python_blocks(page))]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    assert len(run_page(page)) == len([*python_blocks(page)])


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_examples_are_notebooks_with_a_page_that_lists_them() -> None:
    listed = (DOCS / "pages/examples/index.md").read_text()
    assert len(EXAMPLES) == 6
    for script in EXAMPLES:
        assert f"(../../examples/{script.name})" in listed
        cells = re.findall(r"^# %%(.*)", script.read_text(), re.MULTILINE)
        assert cells[0] == " [markdown]"
        assert "" in cells
