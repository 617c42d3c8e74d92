"""Blocks of code in Markdown: they run, in order, and print what the page says they print.

`python tests/markdown_blocks.py docs/pages/tutorial.md` writes what they print below them.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
_FIGURE = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")
_REST = "...\n"


def python_blocks(page: Path) -> Iterator[tuple[str, str | None]]:
    """Every block of Python of a page, and the output that stands below it."""
    for block in _BLOCK.finditer(page.read_text()):
        yield block[1], block[2]


def run_page(page: Path) -> list[str]:
    """Run a page from top to bottom in one namespace; what each block prints.

    Of outputs the text is compared, not figures, which differ between machines; ``...`` in the
    last line stands for whatever follows.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    outputs = []
    for source, expected in python_blocks(page):
        outputs.append(run_block(source, namespace))
        if expected is not None:
            found = cut_like(outputs[-1], expected)
            assert words(found) == words(expected), f"{page.name} prints:\n{outputs[-1]}"
    return outputs


def run_block(source: str, namespace: dict[str, object], name: str = "net.py") -> str:
    """What a block prints. Its lines are known by a name, as those of a file are."""
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, name, "exec"), namespace)
    return printed.getvalue()


def cut_like(output: str, expected: str) -> str:
    """As many lines of an output as are expected before the rest."""
    if not expected.endswith(_REST):
        return output
    shown = expected.count("\n") - 1
    return "".join(output.splitlines(keepends=True)[:shown]) + _REST


def words(text: str) -> list[str]:
    return _FIGURE.sub("#", text).split()


def write_outputs(page: Path) -> None:
    """Run a page and write below every block that has an output what it prints now."""
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__main__"}

    def with_output(block: re.Match[str]) -> str:
        output = run_block(block[1], namespace)
        if block[2] is None:
            return block[0]
        return f"```python\n{block[1]}```\n\n```text\n{cut_like(output, block[2])}```\n"

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        torch.manual_seed(0)
        text = _BLOCK.sub(with_output, text)
    page.write_text(text)


if __name__ == "__main__":
    for argument in [Path(argument).resolve() for argument in sys.argv[1:]]:
        write_outputs(argument)
