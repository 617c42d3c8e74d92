"""The README's Python blocks run, in order, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from markdown_blocks import run_page

README = Path(__file__).parents[2] / "README.md"
PACKAGE = README.parent / "fxrebasin"
INSIDE = README.parent / "docs/pages/inside/index.md"
ROOMS = sorted(PACKAGE.glob("*/README.md"))


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    run_page(README)
    assert (tmp_path / "barrier.png").stat().st_size > 10_000


@pytest.mark.parametrize("readme", ROOMS, ids=lambda path: path.parent.name)
def test_the_readme_of_a_room_is_true(readme: Path) -> None:
    text = readme.read_text()
    run_page(readme)
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|md))`", text)
    assert named
    for name in named:
        assert any((root / name).exists() for root in (readme.parent, PACKAGE, README.parent)), name
    for folder in re.findall(r"`((?:\w+/)+)`", text):
        roots = (readme.parent, PACKAGE, README.parent)
        assert any((root / folder).is_dir() for root in roots), folder


def test_rooms_with_an_idea_of_their_own_have_a_page() -> None:
    listed = INSIDE.read_text()
    linked = set(re.findall(r"fxrebasin/(\w+)/README\.md", listed))
    assert linked == {path.parent.name for path in ROOMS}


def test_how_it_is_built_is_the_tree() -> None:
    _, way = INSIDE.read_text().split("```text\nfxrebasin/\n")
    tree, _ = way.split("\ntests/", 1)
    shown = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(shown) == len(set(shown))
    assert set(shown) == rooms


def test_the_example_has_fifteen_lines() -> None:
    block = re.search(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    lines = [line for line in block[1].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_commands_are_the_ones_that_are_tested() -> None:
    text = README.read_text()
    assert "pip install -e '.[demo]' && fxrebasin demo" in text
    assert "pip install -e '.[test]' && pytest" in text


def test_it_fits_a_screen() -> None:
    assert README.read_text().count("\n") <= 80, "what is new belongs on a page in docs/pages/"


def test_links_and_names_lead_to_what_exists() -> None:
    """Also where the pages are read in the repository, without having been built."""
    for page in (README, *sorted((README.parent / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for name in re.findall(r"`((?:benchmarks|tests|fxrebasin)/[\w/.]+)`", page.read_text()):
            assert (README.parent / name).exists(), f"{page.name}: {name}"
