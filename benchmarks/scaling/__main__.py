r"""How do the time and the memory of weight matching grow with the width and the depth?

Two networks of random weights are aligned, at several widths of one depth and several depths of
one width. The time is split into the steps of the descent, and a power law is fitted to each; from
those, and from arithmetic, follows what a model of 7 billion parameters would take.

    python -m benchmarks.scaling --table benchmarks/scaling/scaling.md \
        --plot benchmarks/scaling/scaling.png
    python -m benchmarks.scaling --families transformer --widths 64 128 256 512

Rows that were measured before are kept, and a second run measures what is missing. Networks that
take more than ten minutes are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.measuring.processes import Lost
from benchmarks.measuring.reporting import ROOT, commit, parser_of, write_atomically
from benchmarks.scaling.families import FAMILIES
from benchmarks.scaling.fits import Curve
from benchmarks.scaling.measuring import measure
from benchmarks.scaling.plot import draw
from benchmarks.scaling.rows import Key, Row, dumps, loads
from benchmarks.scaling.tables import document
from fxrebasin.drawing.figures import save_figure

WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
DEPTHS = (2, 4, 8, 16, 32, 64)
SHALLOW = 2
"""The depth at which the width grows."""
NARROW = 128
"""The width at which the depth grows."""


@dataclass(frozen=True)
class Wanted:
    """Networks that differ in one axis only."""

    family: str
    axis: str
    keys: tuple[Key, ...]


def wanted_curves(
    families: Sequence[str], widths: Sequence[int], depths: Sequence[int]
) -> list[Wanted]:
    """A curve per family and axis."""
    curves = []
    for family in families:
        over_widths = tuple((family, w, SHALLOW) for w in sorted(set(widths)))
        over_depths = tuple((family, NARROW, d) for d in sorted(set(depths)))
        curves += [Wanted(family, "width", over_widths), Wanted(family, "depth", over_depths)]
    return curves


def run(options: argparse.Namespace) -> list[Curve]:
    """Measure what is missing, small networks first, and keep it."""
    wanted = wanted_curves(options.families, options.widths, options.depths)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.touch()
    kept = map(loads, options.results.read_text().splitlines())
    done: dict[Key, Row] = {row.key: row for row in kept}
    missing = dict.fromkeys(key for curve in wanted for key in curve.keys)
    if not options.fresh:
        missing = dict.fromkeys(key for key in missing if key not in done)
    now = commit()
    with options.results.open("a") as file:
        for key in tqdm(sorted(missing, key=lambda key: key[1] ** 3 * key[2]), unit="network"):
            row = measure(Row(key[0], key[1], key[2], now, options.threads))
            if isinstance(row, Lost):
                tqdm.write(f"{key}: left out, {row.reason}", file=sys.stderr)
                continue
            done[key] = row
            print(dumps(row), file=file, flush=True)
    rows = [(w, tuple(done[key] for key in w.keys if key in done)) for w in wanted]
    return [Curve(w.family, w.axis, measured) for w, measured in rows if measured]


def main() -> int:
    parser = parser_of("scaling", __doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=tuple(FAMILIES))
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/scaling.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    parser.add_argument("--plot", type=Path, help="write the picture here")
    options = parser.parse_args()

    curves = run(options)
    text = document(curves)
    print(text)
    if options.table:
        write_atomically(options.table, text)
    if options.plot:
        save_figure(draw(curves), options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
