"""A symmetry as one HTML page: the drawing, and tables of all that was found.

The page needs nothing besides itself, no script and no file, and follows the reader's choice of
light or dark. Long lists are folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from ..drawing.plot import svg_of_blocks
from .as_graph import block_graph
from .flows import flows
from .parts import AxisGroup, Block, Group, ParameterSymmetry, Pinned, Segment, cost_of_op

_TIMES = "\N{MULTIPLICATION SIGN}"
_FOLD = 4
_LONG = 60
_STYLE = """
:root { color-scheme: light dark; --ink: #2b2b2b; --faint: #6f6f6f; --rule: #dcdcd8;
  --ground: #ffffff; --band: #f5f5f2; --accent: #1f6f9f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e0; --faint: #a0a09a; --rule: #3c3c39; --ground: #1b1b1a; --band: #262624;
    --accent: #6fb3dc; }
}
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 82rem; color: var(--ink);
  background: var(--ground); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: 0.3rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 0.8rem 2.4rem; margin: 1.2rem 0; }
.numbers div { display: flex; flex-direction: column-reverse; }
.numbers dt { color: var(--faint); font-size: 0.85rem; }
.numbers sup { font-size: 0.7em; }
.numbers dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.drawing { overflow-x: auto; background: #ffffff; border: 1px solid var(--rule);
  border-radius: 6px; }
.drawing svg { display: block; margin: auto; max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--faint); font-weight: 500; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
tbody tr:hover { background: var(--band); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 0.87em ui-monospace, monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); }
p.note { color: var(--faint); }
""".strip()


def html_report(symmetry: Group, *, title: str | None = None) -> str:
    """A page about a symmetry, as HTML text.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> page = html_report(fr.analyze(net, args=(torch.zeros(1, 2),)), title="A small network")
    >>> "<title>A small network</title>" in page and "<svg" in page
    True

    Args:
        symmetry: what :func:`fxrebasin.analyze` returned.
        title: the heading; any text.

    Returns:
        One self-contained document. Without matplotlib it says so where the drawing would be.
    """
    heading = escape(title if title is not None else "Permutation symmetry")
    sections = [
        _numbers(symmetry),
        *(f"<p>Note: {escape(note)}</p>" for note in symmetry.notes),
        f"{_drawing(symmetry)}",
        f"<h2>Blocks</h2>{_blocks(symmetry)}",
        f"<h2>Parameters and buffers</h2>{_tensors(symmetry, symmetry.parameters)}",
        f"<h2>Outputs of the model</h2>{_outputs(symmetry)}",
        f"<h2>Pinned units</h2>{_pins(symmetry.pinned)}",
        f"<h2>Ops that are not understood</h2>{_unknown_ops(symmetry)}",
    ]
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{heading}</h1>\n{body}\n</body>\n</html>\n"
    )


def _numbers(symmetry: Group) -> str:
    entries = {
        "blocks": f"{symmetry.block_count:,}",
        "movable units": f"{symmetry.movable_units:,}",
        "log of the number of permutations": f"{symmetry.log_order:,.1f}",
        "number of permutations": _power_of_ten(symmetry.log_order),
        "share of the parameters that moves": f"{symmetry.coverage:.1%}",
        "share of units that ops without a rule pin": f"{symmetry.not_understood:.1%}",
    }
    if symmetry.front_end:
        entries["run by"] = escape(symmetry.front_end)
    items = (f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in entries.items())
    return f'<dl class="numbers">{"".join(items)}</dl>'


def _power_of_ten(log_order: float) -> str:
    if log_order < math.log(1e6):
        return f"{round(math.exp(log_order)):,}"
    return f"about 10<sup>{log_order / math.log(10):,.0f}</sup>"


def _drawing(symmetry: Group) -> str:
    try:
        drawing = svg_of_blocks(block_graph(symmetry), flows(symmetry))
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return f'<p class="note">There is no drawing: {escape(str(error))}</p>'
    return f'<div class="drawing" role="img" aria-label="The blocks as a graph">{drawing}</div>'


def _blocks(symmetry: Group) -> str:
    if not symmetry.blocks:
        return '<p class="note">No units can move.</p>'

    def row(block: Block) -> tuple[str, ...]:
        axes = [f"<code>{escape(name)}[{dim}]</code>" for name, dim in block.axes]
        return (
            f"<code>{escape(block.name)}</code>",
            f"{block.size:,}",
            f"{block.count:,}",
            f"<code>{escape(block.parent)}</code>" if block.parent else "",
            f"{block.log_order:,.1f}",
            escape(symmetry.kinds.describe(block.name, block.size)),
            _folded(axes, "axes"),
        )

    head = ("block", "#size", "#times", "nested in", "#log order", "kind", "moves")
    return _table(head, [row(block) for block in symmetry.blocks.values()])


def _outputs(symmetry: Group) -> str:
    if not any(output.groups for output in symmetry.outputs):
        return '<p class="note">They stay as they are.</p>'
    return _tensors(symmetry, symmetry.outputs)


def _tensors(symmetry: Group, tensors: Sequence[ParameterSymmetry]) -> str:
    def row(parameter: ParameterSymmetry) -> tuple[str, ...]:
        names = "<br>".join(f"<code>{escape(name)}</code>" for name in parameter.names)
        shape = f" {_TIMES} ".join(str(n) for n in parameter.shape) or "scalar"
        moves = "<br>".join(_group(symmetry, group) for group in parameter.groups)
        return names, "buffer" if parameter.is_buffer else "", shape, moves or "stays"

    table = _table(("name", "", "shape", "moves"), [row(tensor) for tensor in tensors])
    return _behind(table, f"{len(tensors):,} tensors", len(tensors))


def _group(symmetry: Group, group: AxisGroup) -> str:
    axes = " and ".join(str(axis) for axis in group.axes)
    parts = [_segment(symmetry, segment) for segment in group.segments]
    start = f"axis {axes}: " if len(group.axes) == 1 else f"axes {axes}, jointly: "
    return start + (_folded(parts, "segments") if len(parts) > 1 else "".join(parts))


def _segment(symmetry: Group, segment: Segment) -> str:
    """The product of blocks that a segment is, with its copies."""
    if not segment.blocks:
        return f"{segment.positions.size:,} pinned"
    blocks = (symmetry.blocks[name] for name in segment.blocks)
    factors = [f"<code>{escape(block.name)}</code> ({block.size:,})" for block in blocks]
    copies = segment.positions.shape[-1]
    if copies > 1:
        factors.append(f"{copies:,} copies")
    return f" {_TIMES} ".join(factors)


def _pins(pinned: Sequence[Pinned]) -> str:
    if not pinned:
        return '<p class="note">Nothing is pinned.</p>'
    groups: dict[str, list[Pinned]] = {}
    for pin in pinned:
        groups.setdefault(pin.reason, []).append(pin)
    rows = []
    for reason, pins in sorted(groups.items(), key=lambda g: (-sum(p.units for p in g[1]), g[0])):
        axes = [f"<code>{escape(p.parameter)}[{p.dim}]</code>: {p.units:,}" for p in pins]
        total = sum(p.units for p in pins)
        rows.append((escape(reason), f"{total:,}", f"{len(pins):,}", _folded(axes, "axes")))
    return _table(("each of these", "#units", "#axes", "where"), rows)


def _unknown_ops(symmetry: Group) -> str:
    if not symmetry.unknown_ops:
        return '<p class="note">None: every op has a rule.</p>'
    rows = []
    for op, times in symmetry.unknown_ops.items():
        cost = cost_of_op(symmetry, op)
        rows.append((f"<code>{escape(op)}</code>", f"{times:,}", f"{cost:,}"))
    return _table(("op", "#times", "#units of parameters pinned by it"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells; columns whose heading begins with # are numbers."""
    classes = [' class="number"' if name.startswith("#") else "" for name in head]

    def line(tag: str, cells: Iterable[str]) -> str:
        pairs = zip(cells, classes, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in pairs) + "</tr>"

    top = line("th", (escape(name.removeprefix("#")) for name in head))
    body = "\n".join(line("td", row) for row in rows)
    return (
        f'<div class="scroll"><table><thead>{top}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _folded(items: Sequence[str], noun: str) -> str:
    """HTML items on a line each, folded if there are many."""
    return _behind("<br>".join(items), f"{len(items):,} {noun}", len(items), _FOLD)


def _behind(content: str, summary: str, count: int, limit: int = _LONG) -> str:
    if count <= limit:
        return content
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
