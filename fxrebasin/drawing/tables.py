"""Results as tables: aligned text, and HTML.

>>> print(text_table(("t", "loss"), [("0.0", "1"), ("0.5", "12.5")]))
  t  loss
0.0     1
0.5  12.5
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def text_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 0, indent: str = ""
) -> str:
    """Columns of text, the first ``left`` of them to the left, all others to the right."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]

    def one(line: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return (indent + "  ".join(cells)).rstrip()

    return "\n".join(map(one, lines))


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One table, its texts escaped.

    >>> html_table("a < b", ("t",), [("0",)])
    '<table><caption>a &lt; b</caption><thead><tr><th>t</th></tr></thead>\
<tbody><tr><td>0</td></tr></tbody></table>'
    """

    def row(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<thead>{row('th', head)}</thead><tbody>{body}</tbody></table>"
    )
