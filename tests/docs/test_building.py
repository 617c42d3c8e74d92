"""What becomes of docstrings and scripts on the pages. Needs the extra `docs`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BUILDING = Path(__file__).parents[2] / "docs/building"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, BUILDING / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_cells_become_text_and_code() -> None:
    pytest.importorskip("mkdocs")
    script = "# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nx = 1\n\n# %%\ny = 2\n"
    page = load("generated_pages").as_page(script)
    assert page == "# Title\n\nWords.\n\n```python\nx = 1\n```\n\n```python\ny = 2\n```\n"


def test_docstrings_become_markdown() -> None:
    griffe = pytest.importorskip("griffe")
    docstrings = load("docstrings")
    extensions = griffe.load_extensions(docstrings.MarkdownDocstrings())
    package = griffe.load(
        "fxrebasin",
        search_paths=[BUILDING.parents[1]],
        extensions=extensions,
        allow_inspection=False,
    )
    match = package["match"].docstring.value
    assert ":func:" not in match
    assert "```pycon\n>>> import torch" in match
    assert "[`analyze`][fxrebasin.analyze]" in package["rebasin"].docstring.value
    assert package["repair"].is_function  # not the folder of that name
    arguments = package["analyze"].docstring.parse("google")
    names = [p.name for section in arguments if section.kind == "parameters" for p in section.value]
    assert names[:3] == ["model", "args", "kwargs"]


def test_short_cells_of_tables_are_kept_on_a_line() -> None:
    pytest.importorskip("mkdocs")
    table = f"| a b | c |\n| :-- | --: |\n| {'word ' * 9}| -1e-3 |\n"
    head, line, row = load("generated_pages").with_figures_kept_together(table).splitlines()
    assert head == '| <span class="figure">a b</span> | <span class="figure">c</span> |'
    assert line == "| :-- | --: |"
    assert row.startswith("| word ")
    assert row.endswith('| <span class="figure">-1e-3</span> |')
