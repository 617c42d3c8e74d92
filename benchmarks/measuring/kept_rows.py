"""Tables of one row per model, which a second run continues where the first one stopped."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from tqdm import tqdm

from benchmarks.measuring.processes import Lost, run_apart
from benchmarks.measuring.reporting import ROOT, commit, write_atomically

Key = tuple[str, str]
"""A section of the table, and the name of a model."""


class Measured(Protocol):
    """A dataclass, of what was measured of a model, that also has the field ``failure``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def section(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def status(self) -> str: ...


R = TypeVar("R", bound=Measured)


def add_options(parser: ArgumentParser, name: str, *, gibibytes: float, seconds: int) -> None:
    """What such a benchmark is asked for, with the limits of one model."""
    parser.add_argument("--models", nargs="+", default=["*"], help="names or patterns (vit_*)")
    parser.add_argument("--results", type=Path, default=ROOT / f"build/benchmarks/{name}.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=gibibytes, help="GiB per model")
    parser.add_argument("--timeout", type=int, default=seconds, help="seconds per model")


def measure_rows(
    parser: ArgumentParser,
    options: Namespace,
    models: Iterable[Key],
    make: Callable[..., R],
    measure: Callable[[R], R],
    document: Callable[[list[R]], str],
) -> int:
    """Measure the models that are asked for, print the tables, and write them; the exit status.

    Args:
        parser, options: with :func:`add_options`.
        models: all that there are.
        make: of section, model, commit and threads, or of a row's fields by name, a row.
        measure: fills a row that was made; in a process of its own, of which whatever goes wrong
            becomes the status of the row.
        document: the tables.
    """
    wanted = [key for key in models if any(fnmatch(key[1], p) for p in options.models)]
    if not wanted:
        parser.error(f"no model is called {' or '.join(options.models)}")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.touch()
    done = {} if options.fresh else _passed(options.results, make)
    now = commit()
    with options.results.open("a") as file:
        for key in (progress := tqdm(wanted, unit="model")):
            if key not in done:
                progress.set_description(key[1])
                row = make(*key, now, options.threads)
                limits = {"gibibytes": options.memory, "seconds": options.timeout}
                found = run_apart(measure, row, **limits)
                if isinstance(found, Lost):
                    found = replace(row, failure=found.reason)
                done[key] = found
                print(json.dumps(asdict(done[key])), file=file, flush=True)
    rows = [done[key] for key in wanted]
    print(document(rows))
    if options.table:
        write_atomically(options.table, document(rows))
    return int(any(row.status != "ok" for row in rows))


def _passed(results: Path, make: Callable[..., R]) -> dict[Key, R]:
    """The rows of earlier runs that need not be measured again; of two, the later one counts."""
    kept: Sequence[R] = [make(**json.loads(line)) for line in results.read_text().splitlines()]
    latest = {(row.section, row.model): row for row in kept}
    return {key: row for key, row in latest.items() if row.status == "ok"}
