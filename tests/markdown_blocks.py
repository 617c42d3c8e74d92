"""Blocks of code in Markdown: they run, in order, and print what the page says they print."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r"  \[\S+:\d+(?:: .*)?\]$", re.MULTILINE)
_FIGURE = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")


def python_blocks(page: Path) -> Iterator[tuple[str, str | None]]:
    """Every block of Python of a page, and the output that stands below it."""
    for block in _BLOCK.finditer(page.read_text()):
        yield block[1], block[2]


def run_page(page: Path) -> dict[str, object]:
    """Run a page from top to bottom in one namespace, which is returned.

    Of outputs the text is compared, not figures and names of files, which differ between
    machines; a line of ``...`` stands for whatever follows.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    for source, output in python_blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, f"<{page.name}>", "exec"), namespace)
        if output is not None:
            shown, _, rest = output.partition("\n...\n")
            found, expected = _words(printed.getvalue()), _words(shown)
            if rest or output.endswith("\n...\n"):
                found = found[: len(expected)]
            assert found == expected, f"{page.name} prints:\n{printed.getvalue()}"
    return namespace


def _words(text: str) -> list[str]:
    return _FIGURE.sub("#", _PLACE.sub("", text)).split()
