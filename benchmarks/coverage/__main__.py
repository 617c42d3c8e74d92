"""Which models are understood, how completely, and how fast?

Every model is given random weights, analysed, and permuted at random in all of its blocks; the
permuted copy must compute what the model computes, in float64. As a control of the test's own
power, the copy is also run with one moved tensor left in its old place, for a few tensors drawn at
random: that must be visible in the output. Where most of those do not matter, every moved tensor
is tried. Each model runs in a process of its own; rows that passed are kept, and a second run
continues where the first one stopped.

    python -m benchmarks.coverage --sections classification --models resnet18 vit_b_16
    python -m benchmarks.coverage --fresh --table benchmarks/coverage/coverage.md
"""

from __future__ import annotations

import sys

from benchmarks.coverage.rows import CONTROLS, Row, measure
from benchmarks.coverage.sections import SECTIONS
from benchmarks.measuring.kept_rows import add_options, measure_rows
from benchmarks.measuring.reporting import markdown_table, parser_of, provenance

HEADER = (
    *("model", "input", "front end", "blocks", "movable units", "log order", "coverage"),
    *("not understood", "error", "control", "analysis (s)", "forward (s)", "unknown ops", "status"),
)
LEGEND = (
    "Coverage: the share of the entries of parameters that move. Not understood: the share of "
    "units that ops without a rule pin, among these and those that move. "
    "Error: the largest change of an output relative to the largest entry of that output, in "
    "float64, when all blocks are permuted at random. Control: the same if one moved tensor is "
    f"left in its old place: the median of {CONTROLS} drawn at random, or of all where most of "
    "those do not matter (some tensors, such as biases before a norm, may lie anywhere). "
    "`python -m benchmarks.coverage` measures this table."
)


def summary(rows: list[Row]) -> str:
    """One line: how many pass, the largest error, and who is slow."""
    passed = [row for row in rows if row.status == "ok"]
    kept = sum(row.preserved for row in rows)
    worst = max((row.error for row in passed), default=float("nan"))
    least = min((row.coverage for row in passed), default=float("nan"))
    slow = [row.model for row in rows if not row.in_budget]
    return (
        f"{len(passed)} of {len(rows)} models pass; the function is preserved by {kept}; largest "
        f"error {worst:.1e}, smallest coverage {least:.1%}; analysis takes at most 3 forward "
        f"passes + 2 s for {len(rows) - len(slow)} of {len(rows)}"
        f"{': not for ' + ', '.join(slow) if slow else ''}."
    )


def document(rows: list[Row]) -> str:
    """All sections as Markdown."""
    notes = provenance((row.commit for row in rows), (row.threads for row in rows))
    parts = ["# Coverage", f"{notes}\n{LEGEND}"]
    for key, section in SECTIONS.items():
        mine = [row for row in rows if row.section == key]
        if mine:
            table = markdown_table(HEADER, [row.cells() for row in mine])
            parts += [f"## {section.title}", summary(mine), table]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = parser_of("coverage", __doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    add_options(parser, "coverage", gibibytes=12, seconds=1800)
    options = parser.parse_args()
    models = ((key, name) for key in options.sections for name in SECTIONS[key].names())
    return measure_rows(parser, options, models, Row, measure, document)


if __name__ == "__main__":
    sys.exit(main())
