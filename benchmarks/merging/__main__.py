"""What is a merged model worth? Trained networks, aligned, averaged and repaired in many ways.

Every study trains its networks, or reads weights that others have trained, once: they stay in a
cache, ``~/.cache/fxrebasin`` or what ``FXREBASIN_CACHE`` names. Rows that were measured before are
kept, those of ``--results`` and else those of the page's own table, and a run measures what is
missing. Of a study that ``--results`` has no rows of, the page's section and picture stay.
A study whose data cannot be downloaded is left out, and says so.

    python -m benchmarks.merging --page benchmarks/merging
    python -m benchmarks.merging barrier repair --fresh
    python -m benchmarks.merging.zoo --help
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.measuring.reporting import (
    ROOT,
    commit,
    machine,
    parser_of,
    write_atomically,
)
from benchmarks.merging import (
    study_ani,
    study_barrier,
    study_collapse,
    study_decay,
    study_many,
    study_memory,
    study_proteins,
    study_repair,
)
from benchmarks.merging.packages import UnavailableError
from benchmarks.merging.rows import Results, as_csv, from_csv, measured_at

STUDIES: dict[str, ModuleType] = {
    "ani": study_ani,
    "barrier": study_barrier,
    "repair": study_repair,
    "collapse": study_collapse,
    "many": study_many,
    "memory": study_memory,
    "decay": study_decay,
    "proteins": study_proteins,
}

TABLE = "merging.csv"


def write(results: Results, options: argparse.Namespace) -> None:
    """The page of all that has been measured, its pictures and its figures."""
    page = options.page / "merging.md"
    rows = [row for name in STUDIES for row in results.of(name)]
    parts = [
        "# Merged models",
        f"Last measured on {machine()}, with {options.threads} thread"
        f"{'s' if options.threads > 1 else ''}; written on {datetime.date.today().isoformat()}. "
        "Trainings and measurements are seeded; figures differ a little between machines. "
        "`python -m benchmarks.merging` measures all of it; `merging.csv` has every figure, and at "
        "which commit it was measured.",
    ]
    for name, study in STUDIES.items():
        if found := results.of(name):
            section = f"{study.section(found).rstrip()}\n\n{measured_at(found)}"
            if name in results.begun:
                study.draw(found, options.page)
            parts.append(section if name in results.begun else _kept(page, section))
    write_atomically(page, "\n\n".join(parts) + "\n")
    write_atomically(options.page / TABLE, as_csv(rows))


def _kept(page: Path, section: str) -> str:
    """The section of this title that a page has, with all its digits; else the given one."""
    title = section.partition("\n")[0]
    written = page.read_text().split("\n## ") if page.exists() else []
    sections = (f"## {text}".rstrip() for text in written)
    return next((text for text in sections if text.startswith(f"{title}\n")), section)


def main() -> int:
    parser = parser_of("merging", __doc__)
    parser.add_argument("studies", nargs="*", default=[*STUDIES], help=", ".join(STUDIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/merging.jsonl")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what is kept of the studies"
    )
    parser.add_argument("--page", type=Path, help="write Markdown, CSV and pictures to this folder")
    options = parser.parse_args()
    if unknown := set(options.studies) - set(STUDIES):
        parser.error(f"there is no study {sorted(unknown)[0]!r}; there are {', '.join(STUDIES)}")

    torch.set_num_threads(options.threads)
    table = options.page / TABLE if options.page else None
    results = Results(
        options.results,
        commit=commit(),
        fresh=options.studies if options.fresh else (),
        table=from_csv(table.read_text()) if table and table.exists() else (),
    )
    for name in options.studies:
        try:
            STUDIES[name].run(results)
        except UnavailableError as error:
            print(f"the study {name!r} is left out: {error}", file=sys.stderr)
        print(STUDIES[name].section(results.of(name)))
    if options.page:
        options.page.mkdir(parents=True, exist_ok=True)
        write(results, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
