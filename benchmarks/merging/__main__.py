"""What is a merged model worth? Trained networks, aligned, averaged and repaired in many ways.

Every study trains its networks, or reads weights that others have trained, once: they stay in a
cache, ``~/.cache/fxrebasin`` or what ``FXREBASIN_CACHE`` names. Rows that were measured before are
kept, and a second run measures what is missing. A study whose data cannot be downloaded is left
out, and says so.

    python -m benchmarks.merging --page benchmarks/merging
    python -m benchmarks.merging barrier repair --fresh
    python -m benchmarks.merging.zoo --help
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.measuring.reporting import (
    ROOT,
    commit,
    parser_of,
    provenance,
    write_atomically,
)
from benchmarks.merging import (
    study_ani,
    study_barrier,
    study_collapse,
    study_decay,
    study_many,
    study_proteins,
    study_repair,
)
from benchmarks.merging.packages import UnavailableError
from benchmarks.merging.rows import Results, as_csv

STUDIES: dict[str, ModuleType] = {
    "ani": study_ani,
    "barrier": study_barrier,
    "repair": study_repair,
    "collapse": study_collapse,
    "many": study_many,
    "decay": study_decay,
    "proteins": study_proteins,
}


def write(results: Results, options: argparse.Namespace) -> None:
    """The page of all that has been measured, its pictures and its figures."""
    rows = [row for name in STUDIES for row in results.of(name)]
    parts = [
        "# Merged models",
        provenance([row.commit for row in rows], [options.threads])
        + " Trainings and measurements are seeded; figures differ a little between machines. "
        "`python -m benchmarks.merging` measures all of it, `merging.csv` has every figure.",
    ]
    for name, study in STUDIES.items():
        if found := results.of(name):
            study.draw(found, options.page)
            parts.append(study.section(found).rstrip())
    write_atomically(options.page / "merging.md", "\n\n".join(parts) + "\n")
    write_atomically(options.page / "merging.csv", as_csv(rows))


def main() -> int:
    parser = parser_of("merging", __doc__)
    parser.add_argument("studies", nargs="*", default=[*STUDIES], help=", ".join(STUDIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/merging.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--page", type=Path, help="write Markdown, CSV and pictures to this folder")
    options = parser.parse_args()
    if unknown := set(options.studies) - set(STUDIES):
        parser.error(f"there is no study {sorted(unknown)[0]!r}; there are {', '.join(STUDIES)}")

    torch.set_num_threads(options.threads)
    results = Results(options.results, commit=commit(), fresh=options.fresh)
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
