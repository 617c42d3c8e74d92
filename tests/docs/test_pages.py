"""The pages are true: their code runs, and every public name has its place among them."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from markdown_blocks import python_blocks, run_page

import fxrebasin

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
    run_page(page)


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
        assert f"({script.stem}.md)" in listed
        cells = re.findall(r"^# %%(.*)", script.read_text(), re.MULTILINE)
        assert cells[0] == " [markdown]"
        assert "" in cells


def test_every_public_name_has_a_place_in_the_reference() -> None:
    text = "\n".join(page.read_text() for page in DOCS.glob("pages/api/*.md"))
    placed = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    assert len(placed) == len(set(placed))
    assert set(placed) == set(public_names())


def public_names() -> Iterator[str]:
    """What ``fxrebasin.__all__`` lists, and where that is a module, what this one has."""
    for name in fxrebasin.__all__:
        found = getattr(fxrebasin, name)
        if not isinstance(found, types.ModuleType):
            yield f"fxrebasin.{name}"
        elif hasattr(found, "__all__"):
            # What is known by a shorter name is not told twice.
            short = {id(getattr(fxrebasin, other)) for other in fxrebasin.__all__}
            for inner in found.__all__:
                if id(getattr(found, inner)) not in short:
                    yield f"fxrebasin.{name}.{inner}"
        else:
            for inner, value in vars(found).items():
                if getattr(value, "__module__", "") == found.__name__ and inner[0] != "_":
                    yield f"fxrebasin.{name}.{inner}"
